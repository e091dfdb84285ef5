"""Rows that sit on a forest's borders: each threshold and its float32 neighbours, categories and what is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_ZERO = np.float32(1e-35)
"""LightGBM's kZeroThreshold: what is not above it is 0 to LightGBM."""
SPECIAL = np.array(
    [
        np.nan, 0.0, -0.0, _ZERO, -_ZERO, np.nextafter(_ZERO, np.float32(1)), np.nextafter(-_ZERO, np.float32(-1)),
        np.nextafter(_ZERO, np.float32(0)), np.nextafter(-_ZERO, np.float32(0)), 1e-45, -1e-45, 1e-38, -1e-38,
        np.finfo(np.float32).max, np.finfo(np.float32).min, 1e10, -1e10, 1.0, -1.0, 0.5, -0.5, 0.99, -0.99, -1.5,
        31, 32, 63.5, 2.0**24 + 2, 2.0**31 - 128, 2.0**31, -(2.0**31), 3e9, np.inf, -np.inf,
    ],
    np.float32,
)  # fmt: skip


def edge_rows(
    rows: int,
    features: int,
    thresholds: Mapping[int, Sequence[float]],
    categories: Mapping[int, Sequence[float]],
    seed: int,
    infinities: bool = True,
) -> NDArray[np.float32]:
    """float32 (rows, features): of each column half edges, each of them once before one comes again, a tenth
    special values, the rest random over the feature's range. `categories` are the members of the forest's sets."""
    generator = np.random.default_rng(seed)
    special = SPECIAL if infinities else SPECIAL[~np.isinf(SPECIAL)]
    result = np.empty((rows, features), np.float32)
    for feature in range(features):
        with np.errstate(over="ignore", invalid="ignore"):
            border = np.unique(np.array(thresholds.get(feature, ()), np.float64).astype(np.float32))
            edges = [border, np.nextafter(border, np.float32(np.inf)), np.nextafter(border, np.float32(-np.inf))]
            members = np.unique(np.array(categories.get(feature, ()), np.float64)).astype(np.float32)
            edges += [members, members + np.float32(0.5), -members, members + np.float32(1)]
            edges = np.concatenate(edges)
        pool = generator.permutation(edges[~np.isnan(edges) & (infinities | np.isfinite(edges))])
        column = _random(generator, rows, border, members)
        which = generator.random(rows)
        here = np.flatnonzero(which < 0.5)
        column[here] = np.resize(pool, len(here)) if len(pool) else 0.0
        here = np.flatnonzero(which > 0.9)
        column[here] = generator.choice(special, len(here))
        result[:, feature] = column
    return result


def _random(
    generator: np.random.Generator, rows: int, border: NDArray[np.float32], members: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values over the range of the borders, or whole numbers over that of the categories; a tenth is missing."""
    finite = border[np.isfinite(border)].astype(np.float64)
    if len(finite):
        low, high = np.quantile(finite, [0.05, 0.95])
        width = (high - low) or abs(low) or 1.0
        values = generator.uniform(low - width / 4, high + width / 4, rows)
        # thresholds are often of very different sizes: half of the values come from near one of them
        near = generator.choice(finite, rows) * generator.normal(1, 0.1, rows)
        values = np.where(generator.random(rows) < 0.5, values, near)
    elif len(members):
        values = generator.integers(-2, int(members.max()) + 3, rows).astype(np.float64)
    else:
        values = generator.normal(size=rows)
    values[generator.random(rows) < 0.1] = np.nan
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
