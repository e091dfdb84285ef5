"""The shared table beside a dictionary that does the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankd.kernels.table import Cell, CellRead, CellWrite, Spans, Table, TableReader
from rankd.kernels.table_writer import TableWriter

NONE = np.empty(0, np.int64)
I64_MISSING = np.iinfo(np.int64).min
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
IDS = [
    "a",
    "bcdefghijklm",
    "é" * 6,
    "é" * 6 + "n",
    "\0",
    "one-that-is-rather-long",
    "z" * 65_536,
    "twelve-bytes",
    "13-bytes-long",
]

DTYPES: Mapping[str, type[np.generic]] = {
    "f32": np.float32,
    "f64": np.float64,
    "i64": np.int64,
    "bool": np.int8,
    "code": np.int32,
    "vector": np.float32,
    "text": np.uint8,
    "set": np.int32,
    "map": np.int32,
}
floats = st.floats(width=32, allow_nan=False)
members = st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=5).map(sorted)
VALUES = (
    floats,
    st.integers(I64_MISSING + 1, 2**63 - 1),
    st.integers(0, 1),
    st.integers(0, 2**31 - 1),
    st.lists(floats, min_size=3, max_size=3),
    st.binary(max_size=20) | st.binary(min_size=60, max_size=300),
    members,
    members.flatmap(lambda keys: st.tuples(*(st.tuples(st.just(key), floats) for key in keys)).map(list)),
    st.floats(allow_nan=False),
    st.lists(st.floats(width=16, allow_nan=False), min_size=3, max_size=3),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=5, max_size=5),
)

# What is said of a batch's rows: by id, by cell, a value or None to clear it, and when (None: the row's time).
Row = Mapping[int, tuple[Any, int | None]]
moments = st.none() | st.none() | st.integers(-2, 5)


def said_of(c: int) -> st.SearchStrategy[tuple[Any, int | None]]:
    clears = st.tuples(st.none(), moments | st.just(I64_MISSING))
    return st.tuples(VALUES[c], moments) | st.tuples(VALUES[c], st.none()) | clears


rows_of_cells = st.fixed_dictionaries({}, optional={c: said_of(c) for c in range(len(CELLS))})
full_rows = st.fixed_dictionaries({c: st.tuples(st.none() | VALUES[c], st.none()) for c in range(len(CELLS))})
ids_of_rows = st.integers(0, len(IDS) - 1).map(lambda i: IDS[i])  # not shown: one is long
batches = st.dictionaries(ids_of_rows, rows_of_cells, min_size=1, max_size=6) | st.dictionaries(
    ids_of_rows, full_rows, min_size=1, max_size=3
)
deletes = st.lists(ids_of_rows, max_size=4)
kinds_of_steps = st.sampled_from(["write", "write", "write", "absolute", "drop", "delete", "attach"])
steps = st.lists(st.tuples(kinds_of_steps, batches, st.integers(0, 4), deletes), max_size=12)


def as_bytes(values: Sequence[float]) -> list[float]:
    """What a vector of i8 gives back."""
    numbers = np.array(values, np.float32)
    scale = (np.abs(numbers).max() / np.float32(127)).view(np.int32) & np.int32(~0x7F)
    scale = scale.view(np.float32)
    if not scale:
        return [0.0] * len(values)
    whole = np.rint(np.clip(numbers / scale, -127, 127)).astype(np.int8)
    assert np.abs(whole.astype(np.float64) * scale - numbers).max() <= scale * 0.502 or scale < 1e-30
    return (whole.astype(np.float32) * scale).tolist()  # type: ignore[no-any-return]


def cell_write(c: int, rows: Sequence[Row], now_ms: int) -> CellWrite:
    """What a batch says of one cell."""
    kind, width = CELLS[c].kind, CELLS[c].width
    positions = [i for i, row in enumerate(rows) if c in row and row[c][0] is not None]
    clears = [i for i, row in enumerate(rows) if c in row and row[c][0] is None]
    values = [rows[i][c][0] for i in positions]
    lengths = map_values = None
    if kind in ("text", "set", "map"):
        lengths = np.array([len(value) for value in values], np.int64)
        values = [element for value in values for element in value]
    if kind == "map":
        map_values = np.array([number for _, number in values], np.float32)
        values = [key for key, _ in values]
    array = np.array(values, DTYPES[kind])
    array = array.reshape(-1, width) if width else array
    return CellWrite(
        c,
        np.array(positions, np.int64),
        array,
        np.array(clears, np.int64),
        lengths,
        map_values,
        moments_of(c, rows, positions, now_ms),
        moments_of(c, rows, clears, now_ms),
    )


def moments_of(c: int, rows: Sequence[Row], positions: Sequence[int], now_ms: int) -> NDArray[np.int64] | None:
    """Times of some rows' cell; None if they are all the rows' own."""
    given = [rows[i][c][1] for i in positions]
    return None if all(t is None for t in given) else np.array([now_ms if t is None else t for t in given], np.int64)


def stored(c: int, column: NDArray[Any] | Spans, i: int) -> Any:
    """The plain value of row i, None where there is none."""
    kind = CELLS[c].kind
    if isinstance(column, Spans):
        start, length = int(column.offsets[i]), int(column.lengths[i])
        data = column.data[start : start + length]
        if length < 0:
            return None
        if column.values is not None:
            return list(zip(data.tolist(), column.values[start : start + length].tolist(), strict=True))
        return data.tobytes() if kind == "text" else data.tolist()
    value = column[i]
    if kind == "vector":
        return None if np.isnan(value[0]) else value.tolist()
    return None if np.isnan(value) or (value == {"i64": I64_MISSING}.get(kind, -1) and kind[0] != "f") else value.item()


class Oracle:
    """By id: latest time, key, values, and when each was set or cleared."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, int, dict[int, Any], dict[int, int]]] = {}
        self.late: dict[int, int] = {}  # of the last batch, by cell

    def write(self, batch: Mapping[str, Row], now_ms: int, key: int, is_absolute: bool) -> int:
        """How much was late."""
        self.late = {}
        for id_, row in batch.items():
            latest, _, values, times = self.rows.get(id_, (now_ms, 0, {}, {}))
            latest = max(latest, now_ms)
            for c, (value, at) in row.items():
                time_ms = now_ms if at is None else at
                if not is_absolute and time_ms < times.get(c, I64_MISSING):
                    self.late[c] = self.late.get(c, 0) + 1
                    continue
                latest = max(latest, time_ms)
                values.pop(c, None)
                times.pop(c, None)
                if value is not None:
                    values[c] = as_bytes(value) if CELLS[c].element == "i8" else value
                if time_ms != I64_MISSING:
                    times[c] = time_ms
            self.rows[id_] = (now_ms if is_absolute else latest, key, values, times)
        return sum(self.late.values())

    def check(self, table: Table) -> None:
        reads = [CellRead(c, "stored") for c in range(len(CELLS))]
        times = [CellRead(c, part) for part in ("time", "changed") for c in range(len(CELLS))]
        rows = table.reading(reads + times).read([*IDS, "", "unknown"], 0)
        assert len(table) == len(self.rows)
        assert rows.found.tolist() == [id_ in self.rows for id_ in [*IDS, "", "unknown"]]
        assert table.find(IDS).tolist() == rows.found.tolist()[: len(IDS)]
        assert sorted(table.ids(0, 100)[0]) == sorted(self.rows)
        for i, id_ in enumerate(IDS):
            written_ms, key, values, written = self.rows.get(id_, (0, -1, {}, {}))
            assert (rows.written_ms[i], rows.keys[i]) == (written_ms, key)
            assert [stored(c, rows.columns[c], i) for c in range(len(CELLS))] == [
                values.get(c) for c in range(len(CELLS))
            ]
            for read, column in zip(times, rows.columns[len(CELLS) :], strict=True):
                assert not isinstance(column, Spans)
                is_there = read.cell in values or read.part == "changed"
                assert column[i] == (written.get(read.cell, I64_MISSING) if is_there else I64_MISSING)


@settings(deadline=None)
@given(steps)
def test_as_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, int, list[str]]]
) -> None:
    path = str(tmp_path_factory.mktemp("table") / "t")
    writer, oracle = TableWriter.create(path, CELLS, **LIMITS), Oracle()
    reader = TableReader(path)
    for number, (what, batch, now_ms, deleted) in enumerate(steps, 1):
        if what == "delete":
            assert writer.delete(deleted) == sum(oracle.rows.pop(id_, None) is not None for id_ in deleted)
        elif what == "attach":
            writer.close()
            writer = TableWriter.attach(path, CELLS, **LIMITS)
        else:
            writes = [cell_write(c, list(batch.values()), now_ms) for c in range(len(CELLS))]
            writes = [write for write in writes if len(write.rows) or len(write.clear_rows)]
            keys = np.full(len(batch), number, np.int64)
            is_absolute = what == "absolute"
            staged = writer.stage(list(batch), writes, now_ms, keys, is_absolute=is_absolute)
            if what == "drop":
                staged.drop()
            else:
                assert staged.publish() == oracle.write(batch, now_ms, number, is_absolute)
                assert [oracle.late.get(write.cell, 0) for write in writes] == staged.late_counts.tolist()
    oracle.check(writer)
    oracle.check(reader)
