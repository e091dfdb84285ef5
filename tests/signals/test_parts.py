"""The dictionary of categories, the operations on values, and batches without repeats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signals.conformance import CLEAR, FULL, SCHEMA, rows_batch

from rankd.errors import StoreFullError
from rankd.kernels.table_writer import TableWriter
from rankd.signals.batches import CleanBatch, clean, keep_rows
from rankd.signals.categories import CategoryTable, ScratchCategories, intern_in
from rankd.signals.store import ColumnValues, Operation, WriteBatch
from rankd.signals.values import NO_ROWS, from_list, row_count, take, to_list

ITEM = SCHEMA.entities["item"]


def test_categories_are_full_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    dictionary = TableWriter.create(str(tmp_path / "d"), (), max_rows=3, max_bytes=1 << 30)
    table = CategoryTable(dictionary, intern_in(dictionary, 3, tmp_path))
    assert [table.intern("a"), table.intern("b"), table.intern("a")] == [0, 1, 0]
    with pytest.raises(StoreFullError, match=r"at most 3 distinct .* got 2 more with 2 known"):
        table.intern_all(["a", "c", "d", "d"])
    assert (table.code("c"), len(table)) == (-1, 2)
    assert table.intern_all(["c", "b", "c"]).tolist() == [2, 1, 2]
    with pytest.raises(StoreFullError):
        table.intern("")
    assert table.texts(np.array([1, 2], np.int32)) == ["b", "c"]
    assert table.unknown(["a", "x", "\ud800", "x"]) == ["x", "\ud800"]
    for code in (-1, 3):
        with pytest.raises(IndexError):
            table.text(code)
    dictionary.close()


def test_scratch_categories() -> None:
    categories = ScratchCategories()
    assert [categories.intern("a"), categories.intern(""), categories.intern("a")] == [0, 1, 0]
    assert (categories.code(""), categories.code("b"), categories.text(1)) == (1, -1, "")
    with pytest.raises(IndexError):
        categories.text(2)


@pytest.mark.parametrize("name", list(FULL))
def test_taking_values(name: str) -> None:
    signal = ITEM.signals[name]
    plain = [sorted(v) if isinstance(v, set) else v for v in (FULL[name], FULL[name])]
    if isinstance(plain[0], list | dict) and name != "vector":
        plain += [type(plain[0])()]
    values = from_list(signal, plain)
    assert row_count(values) == len(plain)
    order = np.array([len(plain) - 1, 0, 0])
    same = lambda xs: [x.tolist() if isinstance(x, np.ndarray) else x for x in xs]  # noqa: E731
    assert same(to_list(take(values, order))) == [plain[i] for i in order]
    assert row_count(from_list(signal, [])) == 0


updates = st.dictionaries(st.sampled_from(["price", "tags", "title"]), st.just(CLEAR) | st.integers(0, 9), max_size=3)
KINDS: dict[str, Any] = {"price": float, "tags": lambda i: [str(i)], "title": str}
NOW_MS = 1_760_000_000_000


def spoken(cleaned: CleanBatch) -> dict[str, dict[str, Any]]:
    """What a clean batch says of each id: value and time by signal."""
    said: dict[str, dict[str, Any]] = {id_: {} for id_ in cleaned.ids}
    assert len(said) == len(cleaned.ids)
    of_ids = np.broadcast_to(np.asarray(cleaned.times_ms), len(cleaned.ids))
    for column in cleaned.columns:
        for rows, times, values in (
            (column.rows, column.times_ms, to_list(column.values)),
            (column.clear_rows, column.clear_times_ms, [CLEAR] * len(column.clear_rows)),
        ):
            assert np.all(np.diff(rows) > 0)
            times = of_ids[rows] if times is None else times
            for i, value, time in zip(rows.tolist(), values, times.tolist(), strict=True):
                assert column.signal not in said[cleaned.ids[i]]
                said[cleaned.ids[i]][column.signal] = (value, time)
    return said


@given(
    st.lists(st.tuples(st.sampled_from("abc"), updates, st.integers(-3, 3)), max_size=8),
    st.sets(st.integers(0, 7)),
    st.booleans(),
)
def test_clean_is_rows_applied_in_order(
    rows: list[tuple[str, dict[str, Any], int]], rejected: set[int], has_times: bool
) -> None:
    """Without times the last row wins, with times the latest."""
    rejected = {i for i in rejected if i < len(rows)}
    typed = [(id_, {n: v if v is CLEAR else KINDS[n](v) for n, v in values.items()}) for id_, values, _ in rows]
    expected: dict[str, dict[str, Any]] = {}
    latest: dict[str, int] = {}
    late = 0
    for i, (id_, values) in enumerate(typed):
        if i in rejected:
            continue
        time = NOW_MS + rows[i][2] * has_times
        known = expected.setdefault(id_, {})
        latest[id_] = max(time, latest.get(id_, 0))
        for name, value in values.items():
            if name in known and known[name][1] > time:
                late += 1
            else:
                known[name] = (value, time)
    batch = rows_batch("item", typed)
    if has_times:
        batch = replace(batch, event_ms=np.array([NOW_MS + offset for _, _, offset in rows], np.int64))
    cleaned = clean(batch, rejected, NOW_MS)
    assert spoken(cleaned) == expected
    assert dict(zip(cleaned.ids, np.broadcast_to(cleaned.times_ms, len(cleaned.ids)).tolist(), strict=True)) == latest
    assert (cleaned.written_count, cleaned.late_count) == (len(rows) - len(rejected), late)


def test_times_of_values_go_with_them_and_nan_clears_at_its_time() -> None:
    i64 = lambda *numbers: np.array(numbers, np.int64)  # noqa: E731
    column = ColumnValues(
        "price",
        i64(0, 2, 3),
        np.array([1, np.nan, 3], np.float32),
        i64(1),
        times_ms=i64(5, 6, 7),
        clear_times_ms=i64(9),
    )
    batch = WriteBatch("item", ["a", "b", "c", "d"], [column], i64(10, 10, 10, 10))
    assert spoken(clean(batch, (), NOW_MS)) == {
        "a": {"price": (1.0, 5)}, "b": {"price": (CLEAR, 9)}, "c": {"price": (CLEAR, 6)}, "d": {"price": (3.0, 7)}
    }  # fmt: skip
    batch = replace(batch, ids=["a", "b", "b", "a"])
    assert spoken(clean(batch, (), NOW_MS)) == {"a": {"price": (3.0, 7)}, "b": {"price": (CLEAR, 9)}}
    column = replace(column, clear_times_ms=None)
    batch = replace(batch, ids=["a", "b", "c", "a"], columns=[column])
    assert spoken(clean(batch, {2}, NOW_MS)) == {"a": {"price": (3.0, 7)}, "b": {"price": (CLEAR, 10)}}


def test_what_is_added_is_all_kept() -> None:
    rows = np.arange(4)
    column = ColumnValues("heat", rows, np.array([1.0, 2.0, 3.0, 4.0]), NO_ROWS, Operation.ADD)
    batch = WriteBatch("item", ["a", "b", "a", "c"], [column], np.array([40, 30, 20, 10]))
    cleaned = clean(batch, {1}, NOW_MS)
    (added,) = cleaned.added
    assert (list(cleaned.ids), cleaned.columns) == (["a", "c"], [])
    assert (added.rows.tolist(), added.times_ms.tolist()) == ([0, 0, 1], [40, 20, 10])
    assert to_list(added.amounts) == [1.0, 3.0, 4.0]
    (added,) = clean(replace(batch, ids=["a", "b", "d", "c"], event_ms=None), (), NOW_MS).added
    assert added.times_ms.tolist() == [NOW_MS] * 4
    (added,) = clean(replace(batch, columns=[replace(column, times_ms=rows)]), (), NOW_MS).added
    assert (added.rows.tolist(), added.times_ms.tolist()) == ([0, 1, 0, 2], [0, 1, 2, 3])


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_keeping_some_rows(kept: list[bool]) -> None:
    columns = [
        ColumnValues("price", np.array([0, 2, 4]), np.array([1, 2, 3], np.float32), np.array([1, 5]),
                     times_ms=np.array([5, 6, 7]), clear_times_ms=np.array([8, 9])),
        ColumnValues("tags", np.array([3]), from_list(ITEM.signals["tags"], [["x", "y"]]), NO_ROWS),
    ]  # fmt: skip
    batch = WriteBatch("item", list("abcdef"), columns, np.arange(6), "w", list("uvwxyz"))
    some = keep_rows(batch, np.array(kept))
    assert (list(some.ids), some.write_id) == ([c for c, k in zip("abcdef", kept, strict=True) if k], "w")
    assert "".join(some.event_ids or ()) == "".join(c for c, k in zip("uvwxyz", kept, strict=True) if k)
    everything = spoken(clean(batch, (), NOW_MS))
    assert spoken(clean(some, (), NOW_MS)) == {id_: everything[id_] for id_ in some.ids}
