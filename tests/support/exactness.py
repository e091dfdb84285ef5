"""The fuzz farm: rankd's leaves and raw scores against the libraries' own, row by row, tier by tier."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from support.booster_farm import FARM, farm_booster, split_points
from support.catboost_boosters import CATBOOST, borders, catboost_model
from support.edge_rows import edge_rows

from rankd.kernels.forest import TIERS
from rankd.models import ForestScorer, parse_catboost, parse_lightgbm, parse_xgboost

SIZES = (2048, 1, 777, 9, 64, 10, 130, 2, 513, 63)
"""Rows of the pieces that rankd scores at a time: whole blocks, rests and a few rows, in turn."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One model of one library, and rankd's reading of its file. Rows are float32 (rows, features)."""

    name: str
    scorer: ForestScorer
    rows: Callable[[int, int], NDArray[np.float32]]
    """Of a number of rows and a seed."""
    raw: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    """The library's raw scores (outputs, rows)."""
    leaves: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    """The library's leaves (trees, rows), in rankd's numbering."""

    @property
    def tiers(self) -> list[str]:
        """The tiers that this forest has on this machine."""
        return [tier for tier in TIERS if self.scorer.forest.has_tier(tier)]


@dataclasses.dataclass(slots=True)
class Tally:
    """What a run found. `differences` names the first few: model, row and both values."""

    models: int = 0
    scores: int = 0
    leaf_differences: int = 0
    score_bits_different: int = 0
    tiers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Models by the tiers they have."""
    differences: list[str] = dataclasses.field(default_factory=list)

    def count_leaves(self, different: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(tree, row) of the first few."""
        self.leaf_differences += int(different.sum())
        return np.argwhere(different)[:3]

    def count_scores(self, different: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(output, row) of the first few."""
        self.score_bits_different += int(different.sum())
        return np.argwhere(different)[:3]

    def note(self, text: str) -> None:
        if len(self.differences) < 20:
            self.differences.append(text)


def same_bits(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Elementwise; a NaN equals any NaN (infinities of a linear leaf may make one)."""
    return (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))


def lightgbm_case(name: str) -> Case:
    """A model of support.booster_farm."""
    model = farm_booster(name)
    text = model.model_to_string()
    features, thresholds, categories = split_points(text)
    return Case(
        f"lightgbm/{name}",
        parse_lightgbm(text),
        lambda rows, seed: edge_rows(rows, features, thresholds, categories, seed),
        lambda rows: np.ascontiguousarray(model.predict(rows, raw_score=True, num_threads=1).reshape(len(rows), -1).T),
        lambda rows: model.predict(rows, pred_leaf=True, num_threads=1).reshape(len(rows), -1).T,
    )


def catboost_case(name: str) -> Case:
    """A model of support.catboost_boosters. ModuleNotFoundError where CatBoost is not installed."""
    model, data, reread = catboost_model(name)
    features, thresholds = borders(data)

    def raw(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        found = model.predict(rows, prediction_type="RawFormulaVal", thread_count=1)
        return np.ascontiguousarray(found.reshape(len(rows), -1).T)

    return Case(
        f"catboost/{name}",
        parse_catboost(data),
        lambda rows, seed: edge_rows(rows, features, thresholds, {}, seed),
        raw,
        lambda rows: reread.calc_leaf_indexes(rows, thread_count=1).T,
    )


def xgboost_case(name: str) -> Case:
    """A model of support.xgboost_boosters. ModuleNotFoundError where XGBoost is not installed."""
    from support import xgboost_boosters as boosters

    trees = [np.array(boosters.leaf_numbers(tree)) for tree in boosters.trees_of(boosters.document(name))]

    def leaves(rows: NDArray[np.float32]) -> NDArray[np.int64]:
        found = boosters.leaves(name, rows)
        return np.array([np.searchsorted(numbers, nodes) for numbers, nodes in zip(trees, found, strict=True)])

    return Case(
        f"xgboost/{name}",
        parse_xgboost(boosters.model_bytes(name)),
        functools.partial(boosters.nasty_rows, name),
        lambda rows: np.ascontiguousarray(boosters.margins(name, rows).astype(np.float64)),
        leaves,
    )


def cases() -> list[tuple[str, Callable[[], Case]]]:
    """(name, how to make it) of every model of the farm.

    Where its library is not installed, making it is a ModuleNotFoundError.
    """
    try:
        from support.xgboost_boosters import BOOSTERS as XGBOOST
    except ModuleNotFoundError:
        XGBOOST = {"regression": {}}
    return [
        *((f"lightgbm/{name}", functools.partial(lightgbm_case, name)) for name in FARM),
        *((f"catboost/{name}", functools.partial(catboost_case, name)) for name in CATBOOST),
        *((f"xgboost/{name}", functools.partial(xgboost_case, name)) for name in XGBOOST),
    ]


def check(case: Case, scores: int, seed: int, tally: Tally) -> None:
    """Scores at least so many fuzzed scores (a row has as many as the model has outputs) and adds to `tally`."""
    rows = case.rows(max(1, -(-scores // len(case.scorer.output_names))), seed)
    tally.models += 1
    tally.tiers.update(case.tiers)
    for first in range(0, len(rows), sum(SIZES)):
        _check_block(case, rows[first : first + sum(SIZES)], first, tally)


def _check_block(case: Case, rows: NDArray[np.float32], first: int, tally: Tally) -> None:
    """The library sees the block at once, rankd in pieces whose matrices lie by feature or by row, in turn."""
    expected, leaves = case.raw(rows), case.leaves(rows)
    tally.scores += expected.size
    cuts = [cut for cut in np.cumsum((0, *SIZES)) if cut < len(rows)]
    parts = enumerate(np.split(rows, cuts[1:]), first // sum(SIZES))
    pieces = [np.ascontiguousarray(part.T) if turn % 2 == 0 else part.T for turn, part in parts]
    found = np.hstack([case.scorer.forest.leaves(piece) for piece in pieces])
    for tree, row in tally.count_leaves(leaves != found):
        tally.note(
            f"{case.name}, row {first + row}, tree {tree}: leaf {found[tree, row]}, "
            f"the library says {leaves[tree, row]}; row {rows[row].tolist()}"
        )
    got = np.hstack([case.scorer.score(piece, raw=True) for piece in pieces])
    for output, row in tally.count_scores(~same_bits(got, expected)):
        tally.note(
            f"{case.name}, row {first + row}, output {output}: {got[output, row]!r}, "
            f"the library says {expected[output, row]!r}; row {rows[row].tolist()}"
        )
    chosen = np.hstack([case.scorer.forest.score(piece) for piece in pieces])
    for tier in case.tiers:
        sums = np.hstack([case.scorer.forest.score(piece, tier) for piece in pieces])
        for output, row in tally.count_scores(~same_bits(sums, chosen)):
            tally.note(
                f"{case.name}, row {first + row}, output {output}: tier {tier} sums to {sums[output, row]!r}, "
                f"auto to {chosen[output, row]!r}; row {rows[row].tolist()}"
            )
