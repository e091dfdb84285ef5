"""The forests that are measured, and the rows that they are trained on and score."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DATA_VERSION = 1
"""Raised when the data below change: everything trained on them is then trained anew."""
SEED = 20_261
TRAINING_ROWS = 40_000
SCORED_ROWS = 4_096
GRADES = 5


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A forest's size, written as `500x31x100`."""

    trees: int
    leaves: int
    features: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """ValueError if it is not three positive numbers with an x between."""
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
        if not found:
            raise ValueError(f"expected TREESxLEAVESxFEATURES such as 500x31x100, got {text!r}")
        return cls(*(int(part) for part in found.groups()))

    def __str__(self) -> str:
        return f"{self.trees}x{self.leaves}x{self.features}"


SHAPES = (Shape(100, 31, 50), Shape(500, 31, 100), Shape(500, 64, 136), Shape(1000, 64, 136))
BATCHES = (1, 10, 100, 1000)


def _column(kind: int, rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """One feature. What rankers see: scores, prices, counts, ages, shares, flags, small enumerations."""
    match kind % 8:
        case 0:
            return generator.normal(size=rows)
        case 1:
            return np.round(generator.lognormal(3.0, 1.0, rows), 2)
        case 2:
            return generator.poisson(generator.choice([3.0, 20.0]), rows).astype(np.float64)
        case 3:
            return generator.exponential(30.0, rows)
        case 4:
            return generator.beta(2.0, 5.0, rows)
        case 5:
            return np.clip(generator.pareto(1.5, rows), 0.0, 1e6)
        case 6:
            return np.where(generator.random(rows) < 0.4, 0.0, generator.gamma(2.0, 4.0, rows))
        case _:
            return generator.normal(size=rows) * generator.choice([1e-3, 1.0, 1e3])


def make_rows(features: int, rows: int, seed: int) -> NDArray[np.float32]:
    """(rows, features), C order, of columns of unlike distributions; 5 to 10 % of each are missing (NaN)."""
    generator = np.random.default_rng([SEED, DATA_VERSION, features, seed])
    table = np.empty((rows, features), dtype=np.float32)
    for feature in range(features):
        values = _column(feature, rows, np.random.default_rng([SEED, features, feature, seed]))
        values[generator.random(rows) < generator.uniform(0.05, 0.10)] = np.nan
        table[:, feature] = values
    return table


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows in groups (one query's candidates each) with graded relevance."""

    rows: NDArray[np.float32]
    grades: NDArray[np.int32]
    group_sizes: NDArray[np.int32]

    @property
    def group_ids(self) -> NDArray[np.int32]:
        """The number of its group for every row."""
        return np.repeat(np.arange(len(self.group_sizes), dtype=np.int32), self.group_sizes)


def _relevance(ranks: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """A bumpy function of all columns' ranks in 0..1, with pairs that only matter together, and noise."""
    rows, features = ranks.shape
    total = generator.normal(0.0, 0.6, rows)
    for feature in range(features):
        waves, weight = generator.uniform(0.5, 3.0), generator.exponential(1.0)
        total += weight * np.sin(waves * np.pi * ranks[:, feature] + generator.uniform(0, np.pi))
        other = int(generator.integers(features))
        total += weight * (ranks[:, feature] - 0.5) * (ranks[:, other] > generator.uniform(0.2, 0.8))
    return total


def make_training_set(features: int, rows: int = TRAINING_ROWS) -> TrainingSet:
    """The same for every shape with that many features."""
    table = make_rows(features, rows, seed=1)
    generator = np.random.default_rng([SEED, DATA_VERSION, features])
    ranks = np.argsort(np.argsort(table, axis=0), axis=0) / rows
    relevance = _relevance(ranks, generator)
    sizes = generator.integers(20, 51, rows // 20)
    ends = np.cumsum(sizes)
    sizes = sizes[: int(np.searchsorted(ends, rows))]
    used = int(sizes.sum())
    cuts = np.quantile(relevance[:used], np.linspace(0, 1, GRADES + 1)[1:-1] ** 0.5)
    grades = np.searchsorted(cuts, relevance[:used]).astype(np.int32)
    return TrainingSet(table[:used], grades, sizes.astype(np.int32))
