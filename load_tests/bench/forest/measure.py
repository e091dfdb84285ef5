"""Alternating rounds, medians, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.forest.clock import Runner

Key = tuple[str, str]
"""An engine and its setting."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int = 11
    run_s: float = 0.02
    """A run lasts at least so long, in calls of one batch each."""


QUICK = Effort(rounds=7, run_s=0.002)


@dataclass(frozen=True, slots=True)
class Timing:
    """One engine in one setting."""

    us_per_row: float
    """Median over the rounds."""
    spread: float
    """Distance between the quartiles of the rounds, in parts of the median."""


def summary(us_per_row: list[float]) -> Timing:
    """Of the rounds' figures; at least two."""
    low, middle, high = statistics.quantiles(us_per_row, n=4, method="inclusive")
    return Timing(middle, (high - low) / middle)


def calls_for(runner: Runner, run_s: float) -> int:
    """How many calls take that long; this warms up, too."""
    calls = 1
    while True:
        seconds = runner.run(0, calls)
        if seconds >= run_s / 2:
            return max(1, round(calls * run_s / seconds))
        calls *= 2


def alternate(runners: Mapping[Key, Runner], effort: Effort) -> dict[Key, Timing]:
    """Every runner once a round, each round beginning with another; each run goes on where its last one ended."""
    keys = list(runners)
    calls = {key: calls_for(runners[key], effort.run_s) for key in keys}
    figures: dict[Key, list[float]] = {key: [] for key in keys}
    for number in range(effort.rounds):
        first = number % len(keys)
        for key in keys[first:] + keys[:first]:
            runner = runners[key]
            seconds = runner.run(number * calls[key] % runner.blocks, calls[key])
            figures[key].append(1e6 * seconds / (calls[key] * runner.rows))
    return {key: summary(found) for key, found in figures.items()}


def same_bits(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether two arrays of doubles are the same to the bit."""
    return a.shape == b.shape and np.array_equal(a.view(np.uint64), b.view(np.uint64))
