"""Explanations by the kernel against the definition: an average over all orders of features, and what adds up."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankd.kernels.forest import FLOAT_SUMS, VECTOR_LEAVES, Forest
from rankd.kernels.shap import TIERS, Shap, ShapError, has_tier

AVAILABLE = [name for name in TIERS if has_tier(name)]
NAN_LEFT, NAN_RIGHT, CATEGORICAL = 2 << 2 | 2, 2 << 2, 2 << 2 | 1


@st.composite
def forests(draw: st.DrawFn, features: int = 5, most_nodes: int = 7) -> dict[str, Any]:
    """Arrays of one to three trees: numeric and categorical nodes, covers that are 0 now and then."""
    trees = draw(st.integers(1, 3))
    arrays: dict[str, list[Any]] = {k: [] for k in ("split_feature", "decision", "threshold", "left", "right")}
    begin = [0]
    for _ in range(trees):
        nodes = draw(st.integers(0, most_nodes))
        begin.append(begin[-1] + nodes)
        left, right, places = [0] * nodes, [0] * nodes, [(None, 0)]
        for node in range(nodes):
            leaf = draw(st.integers(0, node))
            side, parent = places[leaf]
            if side is not None:
                side[parent] = node
            left[node], right[node] = ~leaf, ~(node + 1)
            places[leaf] = (left, node)
            places.append((right, node))
            arrays["split_feature"].append(draw(st.integers(0, features - 1)))
            arrays["decision"].append(draw(st.sampled_from([NAN_LEFT, NAN_RIGHT, CATEGORICAL])))
            arrays["threshold"].append(float(draw(st.integers(-2, 2))))
        arrays["left"] += left
        arrays["right"] += right
    leaves = begin[-1] + trees
    value = st.floats(-4, 4, width=32)
    return {
        "features": features, "outputs": 1, "node_begin": np.array(begin, np.uint32),
        "split_feature": np.array(arrays["split_feature"], np.int32),
        "decision": np.array(arrays["decision"], np.uint8), "threshold": np.array(arrays["threshold"], np.float64),
        "category_set": np.zeros(begin[-1], np.int32), "left": np.array(arrays["left"], np.int32),
        "right": np.array(arrays["right"], np.int32),
        "leaf_value": np.array(draw(st.lists(value, min_size=leaves, max_size=leaves))),
        "set_begin": np.array([0, 1], np.uint32), "set_words": np.array([0b110], np.uint32),
        "base": np.array([draw(value)]),
        "leaf_cover": np.array(draw(st.lists(st.integers(0, 6), min_size=leaves, max_size=leaves)), np.float64),
        "node_cover": np.zeros(begin[-1]),
    }  # fmt: skip


def goes_left(a: dict[str, Any], node: int, x: float) -> bool:
    if a["decision"][node] == CATEGORICAL:
        return not math.isnan(x) and int(x) in (1, 2)
    return a["decision"][node] == NAN_LEFT if math.isnan(x) else x <= a["threshold"][node]


def cover(a: dict[str, Any], tree: int, child: int) -> float:
    begin = int(a["node_begin"][tree])
    if child < 0:
        return float(a["leaf_cover"][begin + tree + ~child])
    return cover(a, tree, a["left"][begin + child]) + cover(a, tree, a["right"][begin + child])


def expectation(a: dict[str, Any], tree: int, child: int, row: NDArray[np.float32], known: frozenset[int]) -> float:
    """What the tree is expected to give if only the features in `known` are."""
    begin = int(a["node_begin"][tree])
    if child < 0:
        return float(a["leaf_value"][begin + tree + ~child])
    node = begin + child
    children = (int(a["left"][node]), int(a["right"][node]))
    if int(a["split_feature"][node]) in known:
        taken = goes_left(a, node, float(row[a["split_feature"][node]]))
        return expectation(a, tree, children[0 if taken else 1], row, known)
    weights = [cover(a, tree, c) for c in children]
    share = weights[0] / sum(weights) if sum(weights) else 0.5
    left, right = (expectation(a, tree, c, row, known) for c in children)
    return share * left + (1 - share) * right


def game(a: dict[str, Any], row: NDArray[np.float32]) -> dict[frozenset[int], float]:
    """The expected score for every set of known features."""
    features = range(a["features"])
    sets = [frozenset(s) for n in range(a["features"] + 1) for s in itertools.combinations(features, n)]
    trees = len(a["node_begin"]) - 1
    roots = [0 if a["node_begin"][t + 1] > a["node_begin"][t] else ~0 for t in range(trees)]
    return {s: a["base"][0] + sum(expectation(a, t, roots[t], row, s) for t in range(trees)) for s in sets}


def shapley(values: dict[frozenset[int], float], players: int) -> NDArray[np.float64]:
    """Values of the players, and of the empty set in the last place."""
    found = np.zeros(players + 1)
    found[-1] = values[frozenset()]
    for s, value in values.items():
        for player in set(range(players)) - s:
            weight = math.factorial(len(s)) * math.factorial(players - len(s) - 1) / math.factorial(players)
            found[player] += weight * (values[s | {player}] - value)
    return found


def interactions(values: dict[frozenset[int], float], players: int) -> NDArray[np.float64]:
    found = np.zeros((players + 1, players + 1))
    for i, j in itertools.permutations(range(players), 2):
        for s in (s for s in values if not s & {i, j}):
            weight = math.factorial(len(s)) * math.factorial(players - len(s) - 2) / (2 * math.factorial(players - 1))
            found[i, j] += weight * (values[s | {i, j}] - values[s | {i}] - values[s | {j}] + values[s])
    found[np.arange(players + 1), np.arange(players + 1)] = shapley(values, players) - found.sum(axis=1)
    return found


ROW = st.lists(st.sampled_from([-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, math.nan]), min_size=5, max_size=5)


@given(forests(), st.lists(ROW, min_size=1, max_size=3))
def test_equals_the_definition(a: dict[str, Any], rows: list[list[float]]) -> None:
    shap = Shap(Forest(**a))
    matrix = np.array(rows, np.float32).T.copy()
    games = [game(a, row) for row in matrix.T]
    expected = np.array([shapley(values, 5) for values in games]).T
    pairs = np.moveaxis(np.array([interactions(values, 5) for values in games]), 0, -1)
    for tier in AVAILABLE:
        np.testing.assert_allclose(shap.values(matrix, tier)[0], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(shap.interactions(matrix, tier)[0], pairs, rtol=0, atol=1e-12)


@given(forests(features=40, most_nodes=39), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_tiers_agree_and_add_up(a: dict[str, Any], rows: int, seed: int) -> None:
    """Paths of any length: as many quadrature points as they need."""
    generator = np.random.default_rng(seed)
    matrix = generator.integers(-3, 4, (40, rows)).astype(np.float32)
    matrix[generator.random(matrix.shape) < 0.1] = np.nan
    forest = Forest(**a)
    shap = Shap(forest)
    plain = shap.values(matrix, "plain")
    scale = np.abs(a["leaf_value"]).sum() + abs(a["base"][0]) + 1
    np.testing.assert_allclose(plain.sum(axis=1), forest.score(matrix), rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(shap.values(matrix, "scalar"), plain, rtol=0, atol=1e-12 * scale)
    for tier in AVAILABLE:
        if tier != "scalar":
            assert np.array_equal(shap.values(matrix, tier), plain), tier
    turned = np.asfortranarray(matrix)
    assert np.array_equal(shap.values(turned), plain)


def chain(features: int, **changes: Any) -> dict[str, Any]:
    """A tree that asks one feature after the other."""
    nodes = np.arange(features)
    return {
        "features": features, "outputs": 1, "node_begin": np.array([0, features], np.uint32),
        "split_feature": nodes.astype(np.int32), "decision": np.full(features, NAN_RIGHT, np.uint8),
        "threshold": np.zeros(features), "category_set": np.zeros(features, np.int32),
        "left": (~nodes).astype(np.int32), "right": np.append(nodes[1:], ~features).astype(np.int32),
        "leaf_value": np.arange(features + 1.0), "set_begin": np.zeros(1, np.uint32),
        "set_words": np.zeros(0, np.uint32), "node_cover": np.zeros(features), "leaf_cover": np.ones(features + 1),
        **changes,
    }  # fmt: skip


def test_vector_leaves_are_outputs() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3))
    matrix = np.random.default_rng(1).normal(size=(6, 10)).astype(np.float32)
    together = Shap(Forest(**chain(6, outputs=3, leaf_value=values.ravel(), flags=VECTOR_LEAVES))).values(matrix)
    for output in range(3):
        alone = Shap(Forest(**chain(6, leaf_value=values[:, output].copy()))).values(matrix)
        assert np.array_equal(together[output], alone[0])


def test_float_sums_round_the_leaves() -> None:
    values = np.random.default_rng(0).normal(size=7)
    matrix = np.zeros((6, 1), np.float32)
    rounded = Shap(Forest(**chain(6, leaf_value=values, flags=FLOAT_SUMS))).values(matrix)
    exact = Shap(Forest(**chain(6, leaf_value=values.astype(np.float32).astype(np.float64)))).values(matrix)
    assert np.array_equal(rounded, exact)


def test_refusals() -> None:
    with pytest.raises(ShapError, match="covers"):
        Shap(Forest(**chain(3, node_cover=None, leaf_cover=None)))
    with pytest.raises(ShapError, match="tree 0 has a path of more than 128 features"):
        Shap(Forest(**chain(129)))
    with pytest.raises(ShapError, match="tree 0 is too deep"):
        Shap(Forest(**chain(1025, split_feature=(np.arange(1025) % 128).astype(np.int32))))
    linear = {"linear_begin": np.array([0, 1, 1], np.uint32), "linear_feature": np.zeros(1, np.int32)}
    linear |= {"linear_coefficient": np.ones(1), "linear_constant": np.ones(2)}
    with pytest.raises(ShapError, match="linear trees"):
        Shap(Forest(**chain(1, **linear)))
    shap = Shap(Forest(**chain(3)))
    with pytest.raises(ValueError, match="expected 3 features"):
        shap.values(np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="expected a float32 matrix"):
        shap.interactions(np.zeros((3, 1)))
    with pytest.raises(KeyError):
        shap.values(np.zeros((3, 1), np.float32), "abacus")


def test_no_rows_and_memory_held() -> None:
    shap = Shap(Forest(**chain(128)))
    assert shap.values(np.zeros((128, 0), np.float32)).shape == (1, 129, 0)
    assert shap.interactions(np.zeros((128, 0), np.float32)).shape == (1, 129, 129, 0)
    assert 0 < shap.bytes < 128 * 200 + 64 * 40 + 4096


def test_threads_share_one() -> None:
    shap = Shap(Forest(**chain(20)))
    matrix = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    expected = shap.values(matrix)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: shap.values(matrix), range(20)):
            assert np.array_equal(found, expected)
