"""What the customs desk of the shared table lets through and refuses."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rankd.kernels.table import (
    MAX_VALUE_BYTES,
    Cell,
    CellRead,
    CellWrite,
    NotATableError,
    Spans,
    Table,
    TableFullError,
    TableReader,
    TableRows,
)
from rankd.kernels.table_writer import TableWriter

NONE = np.empty(0, np.int64)
CELLS = (
    Cell("f32"),
    Cell("i64", timed=True),
    Cell("bool"),
    Cell("code"),
    Cell("vector", 3),
    Cell("text"),
    Cell("set", timed=True),
    Cell("map"),
    Cell("f64", timed=True),
    Cell("vector", 3, element="f16"),
    Cell("vector", 5, True, "i8"),
)
LIMITS: dict[str, int] = {"max_rows": 10_000, "max_bytes": 1 << 26}


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[TableWriter]:
    table = TableWriter.create(str(tmp_path / "t"), CELLS, **LIMITS)
    yield table
    table.close()


def numbers(rows: TableRows, column: int) -> list[float]:
    values = rows.columns[column]
    assert not isinstance(values, Spans)
    return [float(value) for value in values]


def test_numbers_have_defaults_divisors_and_expire(writer: TableWriter) -> None:
    rows = np.arange(2)
    times = CellWrite(1, rows, np.array([3_000, 5_000]), NONE, times_ms=np.array([100, 200]))
    writer.stage(["a", "b"], [CellWrite(0, rows[:1], np.array([1.5], np.float32), NONE), times], 300).publish()
    reading = writer.reading([CellRead(0, missing=7.0), CellRead(1, divisor=1000.0, missing=-1.0, ttl_ms=150)])
    rows_read = reading.read(["a", "b", "c"], 250)
    assert numbers(rows_read, 0) == [1.5, 7.0, 7.0]
    assert numbers(rows_read, 1) == [-1.0, 5.0, -1.0]


def test_large_batches_cross_the_heaps_segments(writer: TableWriter) -> None:
    ids = [f"id {i}" for i in range(40)]
    lengths = np.full(40, MAX_VALUE_BYTES // 2, np.int64)
    texts = np.arange(int(lengths.sum()), dtype=np.uint8)
    for _ in range(3):
        writer.stage(ids[::2], [CellWrite(5, np.arange(20), texts[: 20 * lengths[0]], NONE, lengths[:20])], 1).publish()
        writer.stage(ids, [CellWrite(5, np.arange(40), texts, NONE, lengths)], 1).publish()
    column = writer.reading([CellRead(5)]).read(ids, 0).columns[0]
    assert isinstance(column, Spans)
    assert column.lengths.tolist() == lengths.tolist()
    assert np.array_equal(column.data, texts)


def test_columns_outlive_what_they_came_from(tmp_path: Path) -> None:
    writer = TableWriter.create(str(tmp_path / "t"), CELLS, **LIMITS)
    writer.stage(["a"], [CellWrite(0, np.arange(1), np.array([2.5], np.float32), NONE)], 1).publish()
    rows = writer.reading([CellRead(0)]).read(["a"], 0)
    writer.close()
    del writer
    assert numbers(rows, 0) == [2.5]


def test_dictionary(tmp_path: Path) -> None:
    writer = TableWriter.create(str(tmp_path / "t"), (), **LIMITS)
    reader = TableReader(str(tmp_path / "t"))
    texts = [f"text {i}" * (1 + i % 4) for i in range(3_000)]
    codes = writer.intern([*texts, "", "text 0", ""])
    assert sorted(set(codes.tolist())) == list(range(3_001))
    assert codes[-3:].tolist() == [codes[-1], codes[0], codes[-1]]
    writer.close()
    writer = TableWriter.attach(str(tmp_path / "t"), (), **LIMITS)
    assert writer.intern(["another"]).tolist() == [3_001]
    for table in (writer, reader):
        assert table.codes([*texts, "", "unknown", "another"]).tolist() == [*codes[:-2].tolist(), -1, 3_001]
        assert table.texts(codes) == [*texts, "", "text 0", ""]
        with pytest.raises(ValueError, match=r"codes\[1\]: no text has the code 3002"):
            table.texts(np.array([0, 3_002], np.int32))
    writer.close()


def test_dictionary_is_all_or_none(tmp_path: Path) -> None:
    writer = TableWriter.create(str(tmp_path / "t"), (), max_rows=3, max_bytes=1 << 20)
    writer.intern(["a", "b"])
    with pytest.raises(TableFullError, match="max_rows is reached") as caught:
        writer.intern(["c", "d"])
    assert caught.value.limit == "max_rows"
    assert writer.codes(["a", "b", "c", "d"]).tolist() == [0, 1, -1, -1]


def test_what_is_staged_has_room(tmp_path: Path) -> None:
    writer = TableWriter.create(str(tmp_path / "t"), (Cell("f32"),), max_rows=3, max_bytes=1 << 20)
    first, second = writer.stage(["a", "b"], [], 1), writer.stage(["c"], [], 2)
    with pytest.raises(TableFullError, match="max_rows"):
        writer.stage(["d"], [], 3)
    first.drop()
    third = writer.stage(["c", "d"], [], 3)
    del first
    third.publish()
    second.publish()
    assert sorted(writer.ids(0, 10)[0]) == ["c", "d"]
    assert writer.reading(()).read(["c", "d"], 0).written_ms.tolist() == [3, 3]
    with pytest.raises(ValueError, match="the batch was published or dropped"):
        second.publish()


def test_a_batch_that_is_let_go_of_is_dropped(tmp_path: Path) -> None:
    writer = TableWriter.create(str(tmp_path / "t"), (Cell("f32"),), max_rows=1, max_bytes=1 << 20)
    for id_ in "abc":
        writer.stage([id_], [], 1)
    writer.stage(["d"], [], 1).publish()
    assert len(writer) == 1


def test_keys_and_ids(writer: TableWriter) -> None:
    ids = [f"item {i}" for i in range(500)]
    writer.stage(ids, [], 1, np.arange(500)).publish()
    writer.stage(ids[:2], [], 2, np.array([-1, 2**40 - 2])).publish()
    assert writer.keys([ids[0], ids[1], "", "x"]).tolist() == [0, 2**40 - 2, -1, -1]
    assert writer.keys(ids[2:]).tolist() == list(range(2, 500))
    assert sorted(all_ids(writer)) == sorted(ids)


def all_ids(table: Table, between: Callable[[], None] = lambda: None) -> list[str]:
    seen: list[str] = []
    place, generation = -1, 0
    while place:
        some, place, generation = table.ids(max(place, 0), 64, generation)
        assert len(some) <= 64
        seen += some
        between()
    return seen


def test_ids_that_are_there_all_the_time_are_not_missed_when_the_index_grows(writer: TableWriter) -> None:
    ids = [f"item {i}" for i in range(500)]
    writer.stage(ids, [], 1).publish()
    more = iter(range(500, 10_000, 100))

    def grow() -> None:
        start = next(more, None)
        if start is not None:
            writer.stage([f"item {i}" for i in range(start, start + 100)], [], 2).publish()
            writer.stage(ids[:100], [], 3).publish()

    assert set(ids) <= set(all_ids(writer, grow))


def test_readers_see_what_other_threads_publish(writer: TableWriter) -> None:
    over = threading.Event()
    wrong: list[object] = []
    ids = [f"item {i}" for i in range(200)]
    reading = writer.reading([CellRead(1, "stored"), CellRead(4)])

    def look() -> None:
        while not over.is_set():
            rows = reading.read(ids, 0)
            stamps, vectors = rows.columns
            assert not isinstance(stamps, Spans) and not isinstance(vectors, Spans)
            found = rows.found
            wrong.extend(np.flatnonzero(found & (vectors != stamps[:, None].astype(np.float32)).any(axis=1)).tolist())

    thread = threading.Thread(target=look)
    thread.start()
    for stamp in range(300):
        positions = np.arange(200)
        numbers = CellWrite(1, positions, np.full(200, stamp), NONE)
        vectors = CellWrite(4, positions, np.full((200, 3), stamp, np.float32), NONE)
        writer.stage(ids, [numbers, vectors], stamp).publish()
    over.set()
    thread.join()
    assert wrong == []


def test_header(tmp_path: Path) -> None:
    path, mark, boot = str(tmp_path / "t"), bytes(range(32)), bytes(range(32, 64))
    writer = TableWriter.create(path, CELLS, fingerprint=mark, set_id=2**64 - 1, **LIMITS)
    reader = TableReader(path)
    assert (reader.cells, reader.fingerprint, reader.set_id) == (CELLS, mark, 2**64 - 1)
    assert (reader.applied, reader.is_retired, reader.is_clean, reader.boot) == (0, False, False, bytes(32))
    writer.set_applied(2**63)
    writer.set_clean(True, boot)
    writer.retire()
    writer.flush()
    assert (reader.applied, reader.is_retired, reader.is_clean, reader.boot) == (2**63, True, True, boot)
    assert reader.used_bytes == writer.used_bytes > 4096
    with pytest.raises(ValueError, match="boot: expected 32 bytes, got 1"):
        writer.set_clean(True, b"x")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    for open_it in (lambda: TableReader(path), lambda: TableWriter.attach(path, CELLS, **LIMITS)):
        with pytest.raises(FileNotFoundError, match="No such file"):
            open_it()
    writer = TableWriter.create(path, CELLS, **LIMITS)
    for open_again in (TableWriter.attach, TableWriter.create):
        with pytest.raises(NotATableError, match="in use") as caught:
            open_again(path, CELLS, **LIMITS)
        assert caught.value.reason == "in use"
    writer.close()
    with pytest.raises(NotATableError, match="other layout"):
        TableWriter.attach(path, CELLS[1:], **LIMITS)
    with pytest.raises(NotATableError, match="other layout"):
        TableWriter.attach(path, CELLS, fingerprint=b"\1" * 32, **LIMITS)
    rows = Path(path + ".rows")
    rows.write_bytes(rows.read_bytes().replace(b"rktable1", b"rktable2"))
    with pytest.raises(NotATableError, match="not a table"):
        TableReader(path)
    with pytest.raises(OSError) as failed:
        TableWriter.create(str(tmp_path / "no" / "t"), CELLS, **LIMITS)
    assert failed.value.errno == errno.ENOENT


def test_after_close_nothing_works(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    writer = TableWriter.create(path, CELLS, **LIMITS)
    reading, staged = writer.reading(()), writer.stage(["a"], [], 1)
    writer.close()
    writer.close()
    for use in (lambda: len(writer), lambda: reading.read([], 0), staged.publish, lambda: writer.delete(["a"])):
        with pytest.raises(ValueError, match="is closed"):
            use()
    del staged
    TableWriter.attach(path, CELLS, **LIMITS).close()  # the lock is gone, too


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (CellWrite(11, NONE, NONE, NONE), r"cells\[0\].cell: expected one of 11 cells, got 11"),
        (CellWrite(0, np.zeros(1, np.int32), NONE, NONE), r"cells\[0\].rows: expected a C-contiguous"),
        (CellWrite(0, np.zeros(1, np.int64), np.zeros(1), NONE), r"cells\[0\].values: expected .* float32"),
        (CellWrite(4, np.zeros(1, np.int64), np.zeros((1, 2), np.float32), NONE), "expected values of 1 rows"),
        (CellWrite(5, np.zeros(1, np.int64), np.zeros(1, np.uint8), NONE, NONE), "lengths: expected 1 elements, got 0"),
        (CellWrite(5, np.zeros(1, np.int64), np.zeros(1, np.uint8), NONE, np.array([2])), "a table cannot take"),
        (CellWrite(0, np.array([1]), np.zeros(1, np.float32), NONE), "a table cannot take"),
        (
            CellWrite(7, NONE, np.zeros(0, np.int32), NONE, NONE, np.zeros(1, np.float32)),
            "map_values: expected 0 elements",
        ),
    ],
)
def test_writes_that_are_refused(writer: TableWriter, write: CellWrite, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        writer.stage(["a"], [write], 1)
    assert len(writer) == 0


def test_other_refusals(writer: TableWriter, tmp_path: Path) -> None:
    path = str(tmp_path / "u")
    with pytest.raises(ValueError, match="a table cannot take"):
        writer.stage([""], [], 1)
    with pytest.raises(ValueError, match="a table cannot take"):
        writer.stage(["x" * 65_537], [], 1)
    with pytest.raises(ValueError, match="written_ms: expected 1 elements, got 2"):
        writer.stage(["a"], [], np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"cells\[0\].part: expected one of number, .*, ratio, got 'all'"):
        writer.reading([CellRead(0, "all")])
    with pytest.raises(ValueError, match=r"cells\[0\].cell: expected one of 11 cells, got -1"):
        writer.reading([CellRead(-1)])
    with pytest.raises(ValueError, match=r"cells\[0\].kind: expected one of f32"):
        TableWriter.create(path, [Cell("f8")], **LIMITS)
    with pytest.raises(ValueError, match=r"cells\[0\].element: expected one of f32, f16, i8, got 'i4'"):
        TableWriter.create(path, [Cell("vector", 2, element="i4")], **LIMITS)
    with pytest.raises(ValueError, match="a table cannot take"):
        TableWriter.create(path, [Cell("f32", element="f16")], **LIMITS)
    with pytest.raises(ValueError, match="a table cannot take"):
        writer.stage(["a"], [], 2**61)
    with pytest.raises(ValueError, match="a table cannot take"):
        TableWriter.create(path, [Cell("f32", 2)], **LIMITS)
    with pytest.raises(ValueError, match="fingerprint: expected 32 bytes, got 2"):
        TableWriter.create(path, CELLS, fingerprint=b"ab", **LIMITS)
    with pytest.raises(TypeError, match="use TableReader"):
        Table()
    with pytest.raises(UnicodeEncodeError):
        writer.find(["\ud800"])
    assert not Path(path + ".rows").exists()
