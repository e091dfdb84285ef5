"""Percentile bootstrap over queries (Efron and Tibshirani 1993, chapter 13; Sakai, SIGIR 2006, for retrieval).

The query is the unit that is drawn, so the interval answers: how far could this mean have
moved had the same number of other queries of the same kind been judged? It says nothing about
queries of another kind, nor about other judges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
_CHUNK_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `count` queries with the bounds of its confidence interval (NaN over no queries)."""

    mean: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 3) -> str:
        """ "0.832 [0.790, 0.871]" """
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of second − first over the same queries, with how many queries rose, fell and stayed."""

    interval: Interval
    wins: int
    losses: int
    ties: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval.low > 0 or self.interval.high < 0


def mean_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of per-query `values` (finite, (n,)) and its interval; the same seed gives the same bounds."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.all(np.isfinite(array)):
        raise ValueError("expected one finite value per query; settle undefined ones first (metrics.settle)")
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}")
    if not len(array):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    means = _resampled_means(array, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(array.mean()), float(low), float(high), len(array))


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """second − first, query by query. Both must list the same queries in the same order."""
    before, after = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if before.shape != after.shape:
        raise ValueError(f"expected as many values of both, got {before.shape} and {after.shape}")
    change = after - before
    return Difference(
        mean_interval(change, level=level, resamples=resamples, seed=seed),
        wins=int(np.sum(change > 0)),
        losses=int(np.sum(change < 0)),
        ties=int(np.sum(change == 0)),
    )


def _resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """The mean of each resample, in chunks that bound memory whatever the number of queries."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_VALUES // len(values))
    parts = []
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        parts.append(values[generator.integers(0, len(values), size=(count, len(values)))].mean(axis=1))
    return np.concatenate(parts)
