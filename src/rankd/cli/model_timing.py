"""How long a model takes to score rows here and now, for `rankd model inspect`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.models import ForestScorer, Scorer

BATCHES = (1, 10, 100, 1000)
BUDGET_S = 3.0
"""For all figures together."""
_LEAST_RUNS = 3
_MOST_RUNS = 400
_MISSING = 0.05
_SEED = 1


def rows_around(scorer: Scorer) -> NDArray[np.float32]:
    """float32 (features, the largest batch): of each feature, values at and beside the model's own thresholds, so that
    every split is decided both ways, 5 % missing; plain normal numbers where it has no thresholds. Always the same."""
    generator = np.random.default_rng(_SEED)
    features, rows = len(scorer.feature_names), BATCHES[-1]
    matrix = generator.standard_normal((features, rows), np.float32)
    arrays = scorer.forest.arrays() if isinstance(scorer, ForestScorer) else {}
    if "split_feature" in arrays:
        order = np.argsort(arrays["split_feature"], kind="stable")
        begin = np.searchsorted(arrays["split_feature"][order], np.arange(features + 1))
        with np.errstate(over="ignore"):
            thresholds = arrays["threshold"][order].astype(np.float32)
        for feature in np.flatnonzero(np.diff(begin)):
            mine = thresholds[begin[feature] : begin[feature + 1]]
            drawn = generator.choice(mine, rows)
            side = generator.choice(np.array([-np.inf, np.inf], np.float32), rows)
            with np.errstate(over="ignore"):
                matrix[feature] = np.where(generator.random(rows) < 0.5, drawn, np.nextafter(drawn, side))
    matrix[generator.random(matrix.shape, np.float32) < _MISSING] = np.nan
    return matrix


def us_per_row(scorer: Scorer, matrix: NDArray[np.float32], tiers: Sequence[str]) -> dict[str, dict[int, float | None]]:
    """Medians by tier and batch, called as the server calls it; None where a single run would take too long.

    `tiers` of a forest; none for other models, whose only way is called "score".
    """
    ways: dict[str, Callable[[NDArray[np.float32]], object]] = {"score": scorer.score}
    if isinstance(scorer, ForestScorer):
        forest = scorer.forest
        ways = {tier: lambda rows, tier=tier: forest.score(rows, tier) for tier in tiers}  # type: ignore[misc]
    budget_s = BUDGET_S / (len(ways) * len(BATCHES))
    return {name: _by_batch(way, matrix, budget_s) for name, way in ways.items()}


def _by_batch(
    way: Callable[[NDArray[np.float32]], object], matrix: NDArray[np.float32], budget_s: float
) -> dict[int, float | None]:
    found: dict[int, float | None] = {}
    expected_s = 0.0
    for batch in BATCHES:
        # A call takes the next rows, so that branches are not learnt by heart.
        starts = range(0, matrix.shape[1], batch)
        blocks = [np.ascontiguousarray(matrix[:, first : first + batch]) for first in starts]
        if expected_s * _LEAST_RUNS > 4 * budget_s:
            found[batch] = None
            continue
        way(blocks[0])
        times: list[float] = []
        ends = time.perf_counter() + budget_s
        while len(times) < _LEAST_RUNS or (time.perf_counter() < ends and len(times) < _MOST_RUNS):
            started = time.perf_counter()
            way(blocks[len(times) % len(blocks)])
            times.append(time.perf_counter() - started)
        median_s = statistics.median(times)
        found[batch] = round(1e6 * median_s / batch, 4)
        expected_s = 10 * median_s
    return found
