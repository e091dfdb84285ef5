"""LambdaMART by LightGBM on feature rows.

Must live here: rows, settings, folds, the call of LightGBM. Must not: how rows come about
(collect.py takes them from a running server, so that they cannot differ from what is served).

LambdaMART: Burges, From RankNet to LambdaRank to LambdaMART (MSR-TR-2010-82). LightGBM is an
optional dependency, imported when it is used; the server never imports it.

Determinism: the same rows, settings and LightGBM version give the same model text, byte for
byte: seeds are fixed, `deterministic` and `force_row_wise` are on, and the number of threads is
a setting, not whatever the machine has.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ConfigError
from rankd.learn import metrics
from rankd.learn.bootstrap import Interval, mean_interval
from rankd.models.files import write_whole

MAX_GRADE = 30
"""LightGBM's default gains, 2**grade - 1, end here."""

Progress = Callable[[int, int], None]
"""Called with how much of how much is done."""


@dataclass(frozen=True)
class TrainingRows:
    """Judged candidates with their features, list after list.

    `matrix` float32 (rows, features): NaN is missing. `grades` int64 (rows,), 0 to MAX_GRADE.
    `sizes` int64 (lists,) sums to rows. `keys`: a name per list. `positions` int64 (rows,): where
    each was shown, 1 is the top; None: not known. `profile_version`: of the profile that computed them.
    """

    feature_names: tuple[str, ...]
    matrix: NDArray[np.float32]
    grades: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: tuple[str, ...]
    positions: NDArray[np.int64] | None = None
    profile_version: str = ""

    def __post_init__(self) -> None:
        if self.matrix.shape != (len(self.grades), len(self.feature_names)):
            shape = (len(self.grades), len(self.feature_names))
            raise ValueError(f"expected a matrix of shape {shape}, got {self.matrix.shape}")
        if int(self.sizes.sum()) != len(self.grades) or len(self.sizes) != len(self.keys):
            raise ValueError(f"expected list sizes that sum to {len(self.grades)}, got {int(self.sizes.sum())}")

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First row and the one past the last of each list."""
        return list(pairwise([0, *np.cumsum(self.sizes).tolist()]))

    def subset(self, lists: Sequence[int]) -> TrainingRows:
        """The rows of some lists, by position, in the order given."""
        bounds = self.bounds
        rows = np.concatenate([np.arange(*bounds[index]) for index in lists] or [np.array([], np.int64)])
        return TrainingRows(
            self.feature_names,
            self.matrix[rows],
            self.grades[rows],
            self.sizes[list(lists)],
            tuple(self.keys[index] for index in lists),
            None if self.positions is None else self.positions[rows],
            self.profile_version,
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What LambdaMART is trained with. Defaults suit a few thousand rows and up.

    `least_leaf_rows`: LightGBM's min_data_in_leaf. `truncation`: pairs are formed with the best so
    many of a list only; LightGBM advises a little more than the k of the NDCG that counts.
    `feature_fraction`, `row_fraction`: the share of features a tree sees and of rows it is grown
    from; below 1 they regularise. There is no early stopping: it would choose the size of the model
    on the data it is then measured on.
    """

    trees: int = 100
    leaves: int = 31
    learning_rate: float = 0.1
    least_leaf_rows: int = 20
    least_leaf_hessian: float = 1e-3
    feature_fraction: float = 1.0
    row_fraction: float = 1.0
    l2: float = 0.0
    truncation: int = 30
    seed: int = 1
    threads: int = 2

    def parameters(self) -> dict[str, Any]:
        """LightGBM's own names."""
        return {
            "objective": "lambdarank",
            "metric": "None",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least_leaf_rows,
            "min_sum_hessian_in_leaf": self.least_leaf_hessian,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.row_fraction,
            "bagging_freq": 1 if self.row_fraction < 1 else 0,
            "lambda_l2": self.l2,
            "lambdarank_truncation_level": self.truncation,
            "seed": self.seed,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


@dataclass(frozen=True)
class Trained:
    """A model and what it was trained on. `importances`: total gain per feature, in feature order."""

    text: str
    feature_names: tuple[str, ...]
    importances: NDArray[np.float64]
    training_ndcg: float
    row_count: int
    list_count: int
    profile_version: str = ""


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold results: every list was scored by a model that had not seen its fold.

    `ndcg` (lists,): per list, NaN without a relevant document. `keys`, `fold_of` (lists,): its query, its fold.
    """

    k: int
    keys: tuple[str, ...]
    ndcg: NDArray[np.float64]
    fold_of: NDArray[np.int64]
    models: tuple[Trained, ...] = field(repr=False, default=())

    def interval(self, convention: metrics.NoRelevant = metrics.NoRelevant.EXCLUDE) -> Interval:
        """Over queries; the lists of one query are averaged first."""
        by_query = metrics.average_by_query(self.ndcg.tolist(), self.keys)
        return mean_interval(metrics.settle(by_query, convention))


def import_lightgbm() -> Any:
    """The module. ConfigError with the remedy if it is not installed."""
    try:
        return importlib.import_module("lightgbm")
    except ImportError as error:
        raise ConfigError(
            "training needs LightGBM, which is not installed: pip install 'rankd[train]'", "rankd train"
        ) from error
    except OSError as error:  # the wheel is there but libgomp is not
        raise ConfigError(f"LightGBM is installed but cannot be loaded: {error}", "rankd train") from error


def train(rows: TrainingRows, settings: Settings, k: int = 10, progress: Progress | None = None) -> Trained:
    """Trains on all rows. ConfigError if there is nothing to learn from."""
    _check_learnable(rows)
    lightgbm = import_lightgbm()
    data = lightgbm.Dataset(
        rows.matrix,
        rows.grades,
        group=rows.sizes,
        feature_name=list(rows.feature_names),
        position=None if rows.positions is None else np.minimum(rows.positions, _LAST_POSITION) - 1,
        free_raw_data=True,
    )
    callbacks = []
    if progress is not None:
        callbacks.append(lambda env: progress(env.iteration + 1, env.end_iteration))
    booster = lightgbm.train(settings.parameters(), data, num_boost_round=settings.trees, callbacks=callbacks)
    scores = booster.predict(rows.matrix, num_threads=settings.threads)
    return Trained(
        booster.model_to_string(),
        rows.feature_names,
        np.asarray(booster.feature_importance("gain"), np.float64),
        metrics.average(list_ndcg(rows, scores, k), metrics.NoRelevant.EXCLUDE),
        len(rows.grades),
        len(rows.sizes),
        rows.profile_version,
    )


_LAST_POSITION = 200
"""Position biases are learned one by one up to here and as one beyond."""


def assign_folds(keys: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold per list; lists of one key share a fold, so that no query is in training and in test."""
    names = sorted(set(keys))
    if not 2 <= folds <= len(names):
        raise ConfigError(f"expected 2 to {len(names)} folds (the number of distinct queries), got {folds}", "--folds")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[position]: place % folds for place, position in enumerate(order.tolist())}
    return np.array([fold_of[key] for key in keys], np.int64)


def cross_validate(
    rows: TrainingRows,
    settings: Settings,
    fold_of: NDArray[np.int64],
    k: int = 10,
    progress: Progress | None = None,
) -> CrossValidation:
    """Trains one model per fold on the other folds and scores that fold with it."""
    lightgbm = import_lightgbm()
    ndcg = np.full(len(rows.sizes), np.nan)
    models = []
    count = int(fold_of.max()) + 1
    for fold in range(count):
        inside, outside = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
        trained = train(rows.subset(outside.tolist()), settings, k)
        held_out = rows.subset(inside.tolist())
        booster = lightgbm.Booster(model_str=trained.text)
        ndcg[inside] = list_ndcg(held_out, booster.predict(held_out.matrix, num_threads=settings.threads), k)
        models.append(trained)
        if progress is not None:
            progress(fold + 1, count)
    return CrossValidation(k, rows.keys, ndcg, fold_of, tuple(models))


def list_ndcg(rows: TrainingRows, scores: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """NDCG@k of every list ordered by `scores` (rows,); NaN without a relevant document."""
    return np.array(
        [metrics.ndcg(rows.grades[a:b][metrics.order_by_score(scores[a:b])], k) for a, b in rows.bounds], np.float64
    )


def write_model(path: Path, text: str) -> None:
    """Writes the file whole or not at all: a server that reloads never sees half a model."""
    write_whole(path, text.encode())


def _check_learnable(rows: TrainingRows) -> None:
    if not rows.feature_names:
        raise ConfigError("the profile declares no features: there is nothing to learn from", "profiles")
    if any(a < b and rows.grades[a:b].min() < rows.grades[a:b].max() for a, b in rows.bounds):
        return
    raise ConfigError(
        "expected a list with at least two different grades, got none: there is no order to learn", "judgments"
    )
