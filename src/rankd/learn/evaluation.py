"""Rankings of a running server against judgments: the base order beside the order returned.

Every list is sent as it would be in service, and its grades are read in the order of the answer.
The base order is that of the answer's base scores by rankd's own rule (docs/ranking.md).
Lists of one query (several users, several days) are averaged first: the query is the unit
that intervals are about, because its lists are not independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.client import Client, RankedList
from rankd.client.requests import SurfaceName
from rankd.errors import ConfigError
from rankd.learn import metrics
from rankd.learn.bootstrap import Difference, Interval, mean_interval, paired_difference
from rankd.learn.collect import rank_list
from rankd.learn.judgments import JudgedList
from rankd.learn.metrics import NoRelevant
from rankd.learn.training import Progress

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""Grades in ranked order and all grades of the list to a value; NaN without a relevant document."""


@dataclass(frozen=True, slots=True)
class Options:
    """`judged_only`: unjudged candidates are taken out before measuring; else they count as not relevant.
    `least_grade`: what MRR, MAP and recall call relevant."""

    k: int = 10
    least_grade: float = 1.0
    judged_only: bool = False
    no_relevant: NoRelevant = NoRelevant.EXCLUDE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of both orders over the same queries."""

    name: str
    base: Interval
    ranked: Interval
    difference: Difference


@dataclass(frozen=True)
class Evaluation:
    """`query_count`: distinct queries; `no_relevant_count`: those without a relevant document, treated as
    Options.no_relevant says. `unknown_count`: candidates the store knows nothing of."""

    comparisons: tuple[Comparison, ...]
    list_count: int
    query_count: int
    no_relevant_count: int
    candidate_count: int
    unjudged_count: int
    unknown_count: int
    profile_version: str
    model_version: str


def measures(options: Options) -> dict[str, Measure]:
    """What is measured, by the name it is printed under."""
    k, least = options.k, options.least_grade
    return {
        f"NDCG@{k}": lambda ranked, judged: metrics.ndcg(ranked, k, judged),
        "MRR": lambda ranked, judged: metrics.reciprocal_rank(ranked, least),
        "MAP": lambda ranked, judged: metrics.average_precision(ranked, metrics.relevant_count(judged, least), least),
        f"recall@{k}": lambda ranked, judged: metrics.recall(ranked, k, metrics.relevant_count(judged, least), least),
    }


def evaluate(
    client: Client,
    profile: str,
    lists: Sequence[JudgedList],
    options: Options | None = None,
    progress: Progress | None = None,
    surface: SurfaceName | None = None,
) -> Evaluation:
    """Ranks every list and measures it. ConfigError if no list is judged or none can be measured."""
    options = options or Options()
    chosen = measures(options)
    judged_lists = [judged for judged in lists if not np.all(np.isnan(judged.grades))]
    if not judged_lists:
        raise ConfigError("expected at least one graded candidate, got none", "judgments")
    values: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in chosen}
    unknown, answer = 0, None
    for number, judged in enumerate(judged_lists):
        answer = rank_list(client, profile, judged, "scores", surface)
        unknown += len(answer.missing_ids)
        pool = metrics.condense(judged.grades)
        for side, order in enumerate((base_order(answer), answer.indexes.astype(np.intp))):
            ranked = judged.grades[order]
            if options.judged_only:
                ranked = metrics.condense(ranked)
            for name, measure in chosen.items():
                values[name][side].append(measure(ranked, pool))
        if progress is not None:
            progress(number + 1, len(judged_lists))
    assert answer is not None
    queries = [judged.query or judged.key for judged in judged_lists]
    by_query = {
        name: tuple(metrics.average_by_query(side, queries) for side in sides) for name, sides in values.items()
    }
    empty = int(np.sum(np.isnan(next(iter(by_query.values()))[0])))
    if empty == len(set(queries)) and options.no_relevant is NoRelevant.EXCLUDE:
        raise ConfigError("no query has a relevant document: there is nothing to measure", "judgments")
    return Evaluation(
        tuple(_compare(name, base, ranked, options) for name, (base, ranked) in by_query.items()),
        len(judged_lists),
        len(set(queries)),
        empty,
        sum(len(judged.ids) for judged in judged_lists),
        sum(int(np.isnan(judged.grades).sum()) for judged in judged_lists),
        unknown,
        answer.versions.profile,
        answer.versions.model,
    )


def base_order(answer: RankedList) -> NDArray[np.intp]:
    """Positions of the candidates as sent, in base order: by base score, missing last, ties by id.

    With no base score at all it is the order in which they were sent.
    """
    scores = answer.base_scores
    if np.all(np.isnan(scores)):
        return np.sort(answer.indexes).astype(np.intp)
    keys = [(bool(np.isnan(s)), -s if s == s else 0.0, i) for s, i in zip(scores.tolist(), answer.ids, strict=True)]
    return answer.indexes[sorted(range(len(keys)), key=keys.__getitem__)].astype(np.intp)


def _compare(name: str, base: NDArray[np.float64], ranked: NDArray[np.float64], options: Options) -> Comparison:
    # Whether a query has a relevant document does not depend on the order, so both sides settle alike.
    before, after = metrics.settle(base, options.no_relevant), metrics.settle(ranked, options.no_relevant)
    return Comparison(
        name,
        mean_interval(before, seed=options.seed),
        mean_interval(after, seed=options.seed),
        paired_difference(before, after, seed=options.seed),
    )
