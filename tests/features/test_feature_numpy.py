"""Numeric operations against NumPy on every pair of awkward numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.feature_world import SCHEMA, profile_of

from rankd.features import compile_features
from rankd.types.columns import NumericColumn

_FINITE = [0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, 7.5, -7.5, 1e-3, 5e-324, -2.5e-310, 1e308, -1e308, 2**53 + 2]
AWKWARD = np.array([*_FINITE, np.nan, np.inf, -np.inf, np.pi, 100.1, -0.1, 709.5, -745.0])
X, Y = np.array(list(itertools.product(AWKWARD, AWKWARD))).T


def compute(expression: str, x=X, y=Y) -> np.ndarray:
    program = compile_features(profile_of({"f": expression}), SCHEMA, len)
    columns = {
        "column.bm25": NumericColumn(np.ascontiguousarray(x)),
        "item.price": NumericColumn(np.ascontiguousarray(y)),
    }
    return program.run(len(x), [columns[str(i)] for i in program.inputs], np.float64)[0]


def missing_or(condition: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(X) | np.isnan(Y), np.nan, condition)


EXACT = {
    "{x} + {y}": lambda: X + Y,
    "{x} - {y}": lambda: X - Y,
    "{x} * {y}": lambda: X * Y,
    "{x} / {y}": lambda: X / Y,
    "{x} // {y}": lambda: np.floor_divide(X, Y),
    "{x} % {y}": lambda: np.remainder(X, Y),
    "-{x}": lambda: -X,
    "abs({x})": lambda: np.abs(X),
    "floor({x})": lambda: np.floor(X),
    "sqrt({x})": lambda: np.sqrt(X),
    "min({x}, {y})": lambda: np.minimum(X, Y),
    "max({x}, {y})": lambda: np.maximum(X, Y),
    "clip({x}, -1, 2)": lambda: np.clip(X, -1, 2),
    "{x} < {y}": lambda: missing_or(X < Y),
    "{x} >= {y}": lambda: missing_or(X >= Y),
    "{x} == {y}": lambda: missing_or(X == Y),
    "{x} != {y}": lambda: missing_or(X != Y),
    "where({x}, {y}, 3)": lambda: np.where(np.isnan(X), np.nan, np.where(X != 0, Y, 3)),
    "coalesce({x}, {y})": lambda: np.where(np.isnan(X), Y, X),
    "is_missing({x})": lambda: np.isnan(X).astype(float),
    "list_mean({x} * 0 + 0.1)": lambda: np.full(len(X), 0.1),  # of equal values: that value, not their rounded sum
}
NEAR = {
    "exp({x})": lambda: np.exp(X),
    "log({x})": lambda: np.log(X),
    "log1p({x})": lambda: np.log1p(X),
    "pow({x}, {y})": lambda: np.where(np.isnan(X) | np.isnan(Y), np.nan, np.power(X, Y)),
}


@pytest.mark.parametrize("expression", EXACT)
def test_equal_to_numpy(expression: str):
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compute(expression.format(x="column.bm25", y="item.price")), EXACT[expression]())


@pytest.mark.parametrize("expression", NEAR)
def test_within_4_ulp_of_numpy(expression: str):
    with np.errstate(all="ignore"):
        expected = NEAR[expression]()
        np.testing.assert_array_max_ulp(compute(expression.format(x="column.bm25", y="item.price")), expected, 4)


def test_zscore_is_scipys_definition():
    x = np.random.default_rng(1).lognormal(size=1000)
    np.testing.assert_allclose(compute("list_zscore(column.bm25)", x, x), (x - x.mean()) / x.std(), rtol=1e-11)


def test_equal_values_have_zscore_0_though_their_mean_is_rounded():
    x = np.full(10, 0.1)
    assert compute("list_zscore(column.bm25)", x, x).tolist() == [0.0] * 10
    assert compute("list_zscore(0.1 + 0 * list_mean(column.bm25))", x, x).tolist() == [0.0] * 10


@pytest.mark.parametrize("length", [1, 2, 63, 1000, 70_000])
def test_ranks_are_counts_of_what_is_higher(length: int):
    rng = np.random.default_rng(length)
    x = rng.choice(np.concatenate([AWKWARD, rng.normal(size=length)]), size=length)
    known = np.sort(x[~np.isnan(x)])
    expected = np.where(np.isnan(x), np.nan, 1 + len(known) - np.searchsorted(known, x, side="right"))
    np.testing.assert_array_equal(compute("list_rank(column.bm25)", x, x), expected)


def test_haversine_of_known_places():
    """Berlin to Paris: 877.46 km on a sphere of radius 6371.0088 km."""
    distance = compute("haversine(52.52, 13.405, 48.8566, 2.3522)", X[:1], Y[:1])[0]
    assert distance == pytest.approx(877.464, abs=0.01)
    half = compute("haversine(0, 0, 0, 180)", X[:1], Y[:1])[0]
    assert half == pytest.approx(np.pi * 6371.0088, rel=1e-12)


def test_outputs_are_cast_once():
    program = compile_features(profile_of({"f": "column.bm25 / 3"}), SCHEMA, len)
    values = np.array([1e-50, 1e300, -1e300, 1.0])
    with np.errstate(over="ignore"):
        expected = (values / 3).astype(np.float32)
    np.testing.assert_array_equal(program.run(4, [NumericColumn(values)])[0], expected)
