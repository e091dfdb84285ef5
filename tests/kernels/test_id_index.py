"""rankd.kernels.id_index against a dict; the index itself is tested in C."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.kernels.id_index import IdIndex, first_duplicate

ids = st.text(max_size=4) | st.sampled_from(["a", "b", "\0", "a\0"])


@given(st.lists(ids, max_size=40))
def test_first_duplicate(names: list[str]) -> None:
    expected = None
    seen: dict[str, int] = {}
    for j, name in enumerate(names):
        if name in seen:
            expected = (seen[name], j)
            break
        seen[name] = j
    assert first_duplicate(names) == first_duplicate(tuple(names)) == expected


def test_first_duplicate_in_a_long_list() -> None:
    names = [f"product-{i}" for i in range(100_000)]
    assert first_duplicate(names) is None
    names[77_777] = names[5]
    assert first_duplicate(names) == (5, 77_777)


@given(st.lists(st.tuples(st.sampled_from(["insert", "remove", "find"]), st.lists(ids, max_size=6)), max_size=20))
def test_the_index_is_a_dict(steps: list[tuple[str, list[str]]]) -> None:
    index, rows = IdIndex(), dict[str, int]()
    for step, names in steps:
        names = [name for name in names if name or step != "insert"]
        if step == "insert":
            for name, row in zip(names, index.insert(names).tolist(), strict=True):
                assert rows.setdefault(name, row) == row
        elif step == "remove":
            assert index.remove(names).tolist() == [rows.pop(name, -1) for name in names]
        assert index.find(names).tolist() == [rows.get(name, -1) for name in names]
        assert len(set(rows.values())) == len(rows) == len(index)
        assert all(row < index.row_bound for row in rows.values())
    assert index.ids(np.array([*rows.values(), -1, index.row_bound])) == [*rows, None, None]


def test_what_is_not_an_id() -> None:
    index = IdIndex()
    with pytest.raises(ValueError, match=r"non-empty id at ids\[1\]"):
        index.insert(["a", ""])
    with pytest.raises(UnicodeEncodeError):
        index.insert(["a", "\ud800"])
    for call in (index.insert, index.find, index.remove, first_duplicate):
        with pytest.raises(TypeError, match=r"expected a str at ids\[1\], got bytes"):
            call(["a", b"b"])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            call(None)  # type: ignore[arg-type]
    assert len(index) == 0
    assert index.memory_bytes > 0
