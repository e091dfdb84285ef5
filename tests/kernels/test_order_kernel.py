"""rankd.kernels.order beside Python's own sort. Radix sort beside the scalar oracle is tested in C."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.kernels import order

SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, 1e300]), st.floats(width=64)
)
PAIRS = st.lists(st.tuples(SCORES, st.text(max_size=12)), max_size=200)


def oracle(pairs: list[tuple[float, str]], with_ids: bool) -> list[int]:
    def key(i: int) -> tuple[bool, float, str]:
        score, name = pairs[i]
        return math.isnan(score), 0.0 if math.isnan(score) else -score, name if with_ids else ""

    return sorted(range(len(pairs)), key=key)


@given(PAIRS, st.booleans(), st.none() | st.integers(0, 210))
def test_top_is_the_beginning_of_pythons_sort(
    pairs: list[tuple[float, str]], with_ids: bool, count: int | None
) -> None:
    scores = np.array([score for score, _ in pairs], np.float64)
    ids = [name for _, name in pairs] if with_ids else None
    assert order.top(scores, ids, count).tolist() == oracle(pairs, with_ids)[:count]


@pytest.mark.parametrize("values", [4, 100, 10**9])
def test_long_lists(values: int) -> None:
    random = np.random.default_rng(7)
    scores = random.integers(0, values, 20_000).astype(np.float64)
    ids = [f"item-{i}" for i in random.permutation(20_000)]
    expected = sorted(range(20_000), key=lambda i: (-scores[i], ids[i]))
    assert order.top(scores, ids).tolist() == expected
    assert order.top(scores, ids, 100).tolist() == expected[:100]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="ids: expected 2, as many as scores, got 1"):
        order.top(np.zeros(2), ["a"])
    with pytest.raises(ValueError, match="count: expected at least 0, got -1"):
        order.top(np.zeros(2), None, -1)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        order.top(np.zeros(2, np.float32))
    with pytest.raises(UnicodeEncodeError):
        order.top(np.zeros(2), ["a", "\ud800"])
