"""The dictionary of categories, the operations on values, and batches without repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signals.conformance import CLEAR, FULL, SCHEMA, rows_batch

from rankd.errors import StoreFullError
from rankd.kernels.table_writer import TableWriter
from rankd.signals.batches import clean
from rankd.signals.categories import CategoryTable, ScratchCategories, intern_in
from rankd.signals.packing import from_packed, open_row, seal_row, to_packed
from rankd.signals.values import from_list, row_count, take, to_list

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
def test_taking_and_packing_values(name: str) -> None:
    signal = ITEM.signals[name]
    plain = [sorted(v) if isinstance(v, set) else v for v in (FULL[name], FULL[name])]
    if isinstance(plain[0], list | dict) and name != "vector":
        plain += [type(plain[0])()]
    values = from_list(signal, plain)
    assert row_count(values) == len(plain)
    order = np.array([len(plain) - 1, 0, 0])
    same = lambda xs: [x.tolist() if isinstance(x, np.ndarray) else x for x in xs]  # noqa: E731
    assert same(to_list(take(values, order))) == [plain[i] for i in order]
    row = open_row(b"a", seal_row(b"a", {7: (123, to_packed(values)[0])}, 123), 123)
    assert row.keys() == {7}
    assert same(to_list(from_packed(signal, [row[7][1]]))) == plain[:1]
    assert row_count(from_packed(signal, [])) == row_count(from_list(signal, [])) == 0


updates = st.dictionaries(st.sampled_from(["price", "tags", "title"]), st.just(CLEAR) | st.integers(0, 9), max_size=3)


@given(st.lists(st.tuples(st.sampled_from("abc"), updates), max_size=8), st.sets(st.integers(0, 7)))
def test_clean_is_rows_applied_in_order(rows: list[tuple[str, dict[str, Any]]], rejected: set[int]) -> None:
    kinds: dict[str, Any] = {"price": float, "tags": lambda i: [str(i)], "title": str}
    typed = [(id_, {n: v if v is CLEAR else kinds[n](v) for n, v in values.items()}) for id_, values in rows]
    expected: dict[str, dict[str, Any]] = {}
    for i, (id_, values) in enumerate(typed):
        if i not in rejected:
            expected.setdefault(id_, {}).update(values)
    cleaned = clean(rows_batch("item", typed), {i for i in rejected if i < len(rows)})
    said: dict[str, dict[str, Any]] = {id_: {} for id_ in cleaned.ids}
    assert len(said) == len(cleaned.ids)
    for column in cleaned.columns:
        assert np.all(np.diff(column.rows) > 0)
        for i, value in zip(column.rows.tolist(), to_list(column.values), strict=True):
            said[cleaned.ids[i]][column.signal] = value
        for i in column.clear_rows.tolist():
            assert column.signal not in said[cleaned.ids[i]]
            said[cleaned.ids[i]][column.signal] = CLEAR
    assert said == expected
    assert cleaned.written_count == len([i for i in range(len(rows)) if i not in rejected])
