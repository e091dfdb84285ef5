"""Categories of requests: known, unknown, missing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeCategories

from rankd.limits import MAX_CATEGORIES
from rankd.ranking.bind import category, category_set

TEXTS = st.text(min_size=1, max_size=8)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=5))
def test_codes_are_equal_as_the_strings_are(one: str, other: str, stored: list[str]) -> None:
    known = FakeCategories()
    for text in stored:
        known.intern(text)
    equal = category(one, known).codes[0] == category(other, known).codes[0]
    assert equal == (one == other)
    assert len(known.texts) == len(set(stored)), "a request has interned a string"
    if one not in stored:
        assert category(one, known).codes[0] > MAX_CATEGORIES


@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=5))
def test_sets_are_distinct_and_ascending(members: list[str], stored: list[str]) -> None:
    known = FakeCategories()
    for text in stored:
        known.intern(text)
    column = category_set(members, known)
    assert column.lengths.tolist() == [len(set(members))]
    assert np.all(np.diff(column.codes) > 0)


def test_the_empty_category_is_missing() -> None:
    assert category("", FakeCategories()).codes.tolist() == [-1]
