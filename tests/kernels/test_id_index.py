"""rankd.kernels.id_index against a dict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.kernels.id_index import first_duplicate

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


def test_what_is_not_an_id() -> None:
    with pytest.raises(UnicodeEncodeError):
        first_duplicate(["a", "\ud800"])
    with pytest.raises(TypeError, match=r"expected a str at ids\[1\], got bytes"):
        first_duplicate(["a", b"b"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        first_duplicate(None)  # type: ignore[arg-type]
