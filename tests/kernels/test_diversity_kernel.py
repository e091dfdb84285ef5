"""rankd.kernels.diversity beside plain Python and NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankd.kernels import diversity

LANES = 16


def lane_sum(values: NDArray[np.floating]) -> np.floating:
    """The sum in the contract's order."""
    padded = np.zeros(-(-len(values) // LANES) * LANES, values.dtype)
    padded[: len(values)] = values
    sums = np.zeros(LANES, values.dtype)
    for row in padded.reshape(-1, LANES):
        sums = sums + row
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    return sums[0]


def unit(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    square = lane_sum(embedding.astype(np.float64) ** 2)
    if not 0 < square < math.inf:
        return np.zeros_like(embedding)
    return (embedding * (1 / np.sqrt(square))).astype(np.float32)


def similarities(embeddings: NDArray[np.float32] | None, groups: NDArray[np.int32]) -> NDArray[np.float64]:
    if embeddings is None:
        return ((groups[:, None] == groups) & (groups >= 0)).astype(np.float64)
    units = [unit(row) for row in embeddings]
    return np.array([[float(lane_sum(a * b)) for b in units] for a in units]).reshape(len(units), len(units))


def mmr_oracle(relevance: list[float], tradeoff: float, count: int, similar: NDArray[np.float64]) -> list[int]:
    chosen: list[int] = []
    left = list(range(len(relevance)))
    while left and len(chosen) < count:

        def worth(i: int) -> tuple[bool, float]:
            value = tradeoff * relevance[i] - (1 - tradeoff) * max((similar[i, j] for j in chosen), default=0.0)
            return not math.isnan(value), 0.0 if math.isnan(value) else value

        best = max(left, key=worth)  # of equals the first
        chosen.append(best)
        left.remove(best)
    return chosen + left


def caps_oracle(groups: list[int], cap: int, window: int, depth: int) -> tuple[list[int], int]:
    placed: list[int] = []
    left = list(range(len(groups)))
    while left and len(placed) < depth:
        near = [groups[i] for i in placed[max(0, len(placed) - window + 1) :]] if window > 1 else []
        allowed = [i for i in left if groups[i] < 0 or window == 0 or near.count(groups[i]) < cap]
        if not allowed:
            break
        placed.append(allowed[0])
        left.remove(allowed[0])
    return placed + left, len(placed)


RELEVANCE = st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, math.nan]) | st.floats(-1, 1)


@given(st.data(), st.integers(0, 12), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), st.integers(0, 14), st.booleans())
def test_mmr(data: st.DataObject, n: int, tradeoff: float, count: int, by_group: bool) -> None:
    relevance = data.draw(st.lists(RELEVANCE, min_size=n, max_size=n))
    groups = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n)), np.int32)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    embeddings = random.integers(-3, 4, (n, data.draw(st.integers(1, 40)))).astype(np.float32)
    embeddings[random.random(n) < 0.2, 0] = np.nan
    given_embeddings, given_groups = (None, groups) if by_group else (embeddings, None)
    order = diversity.mmr(
        np.array(relevance, np.float64), tradeoff, count, embeddings=given_embeddings, groups=given_groups
    )
    expected = mmr_oracle(relevance, tradeoff, count, similarities(given_embeddings, groups))
    assert order.tolist() == expected


@given(st.lists(st.integers(-1, 4), max_size=30), st.integers(0, 4), st.integers(0, 10), st.none() | st.integers(0, 40))
def test_group_caps(groups: list[int], cap: int, window: int, depth: int | None) -> None:
    order, placed = diversity.group_caps(np.array(groups, np.int32), cap, window, depth)
    assert (order.tolist(), placed) == caps_oracle(groups, cap, window, len(groups) if depth is None else depth)


@given(st.lists(st.integers(-1, 4), max_size=30), st.integers(1, 4), st.integers(1, 10))
def test_no_window_holds_more_than_the_cap(groups: list[int], cap: int, window: int) -> None:
    order, placed = diversity.group_caps(np.array(groups, np.int32), cap, window)
    there = [groups[i] for i in order[:placed]]
    for start in range(placed):
        near = [group for group in there[start : start + window] if group >= 0]
        assert all(near.count(group) <= cap for group in near)


def test_refusals() -> None:
    two, groups, embeddings = np.zeros(2), np.zeros(2, np.int32), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="expected either embeddings or groups"):
        diversity.mmr(two, 0.5, 1)
    with pytest.raises(ValueError, match="expected either embeddings or groups"):
        diversity.mmr(two, 0.5, 1, embeddings=embeddings, groups=groups)
    with pytest.raises(ValueError, match="tradeoff: expected 0 to 1, got nan"):
        diversity.mmr(two, math.nan, 1, groups=groups)
    with pytest.raises(ValueError, match="groups: expected 2, as many as relevance, got 1"):
        diversity.mmr(two, 0.5, 1, groups=groups[:1])
    with pytest.raises(ValueError, match="embeddings: expected at least 1 dimension, got 0"):
        diversity.mmr(two, 0.5, 1, embeddings=embeddings[:, :0].copy())
    with pytest.raises(ValueError, match="relevance: expected a C-contiguous, aligned array of float64"):
        diversity.mmr(embeddings[0], 0.5, 1, groups=groups)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cap: expected at least 0, got -1"):
        diversity.group_caps(groups, -1, 2)
