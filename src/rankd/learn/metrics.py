"""Measures of a ranked list against graded judgments, one number a query.

Must live here: definitions and their conventions. Must not: averaging over resamples
(bootstrap.py), reading judgments (judgments.py).

Every function takes `grades`: float (n,), the grades of the documents in ranked order, best
first; NaN is a document nobody judged. An unjudged document counts as not relevant (grade
0). To measure judged documents only, drop the others first with `condense` ("condensed
lists": T. Sakai, Alternatives to Bpref, SIGIR 2007).

A query without a relevant document has no defined value: these functions return NaN and
`average` makes the caller say what becomes of it, because the field does not agree:
trec_eval and most papers leave such queries out, LightGBM counts them as 1, scikit-learn as 0.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class NoRelevant(enum.Enum):
    """What a query without a relevant document adds to an average."""

    EXCLUDE = "exclude"  # it is left out: the average is over the queries that can be won
    ZERO = "zero"
    ONE = "one"  # as LightGBM's ndcg metric


def condense(grades: ArrayLike) -> Floats:
    """The judged documents alone, in the same order."""
    values = np.asarray(grades, np.float64)
    return values[~np.isnan(values)]


def dcg(grades: ArrayLike, k: int) -> float:
    """Discounted cumulative gain of the first `k`: sum of (2**grade - 1) / log2(rank + 1).

    Gain and discount as in LightGBM (Burges et al., Learning to rank using gradient descent, ICML 2005).
    """
    top = np.nan_to_num(np.asarray(grades, np.float64)[:k])
    return float(np.sum((np.exp2(top) - 1.0) / np.log2(np.arange(len(top)) + 2.0)))


def ndcg(grades: ArrayLike, k: int, judged: ArrayLike | None = None) -> float:
    """`dcg` over that of the best order of `judged`: all grades of the query, retrieved or not.

    `judged` defaults to `grades`: the best order of the documents that were ranked. NaN if no
    grade is above 0.
    """
    pool = condense(grades if judged is None else judged)
    ideal = dcg(np.sort(pool)[::-1], k)
    return dcg(grades, k) / ideal if ideal > 0 else float("nan")


def reciprocal_rank(grades: ArrayLike, least_grade: float = 1.0) -> float:
    """1 / rank of the first relevant document (grade at least `least_grade`); NaN if there is none."""
    hits = np.flatnonzero(_relevant(grades, least_grade))
    return 1.0 / (int(hits[0]) + 1) if len(hits) else float("nan")


def average_precision(grades: ArrayLike, relevant_count: int | None = None, least_grade: float = 1.0) -> float:
    """Mean of the precisions at each relevant document's rank; those not retrieved add 0.

    `relevant_count`: how many relevant documents the query has; default: those in the list.
    NaN if it is 0.
    """
    hits = np.flatnonzero(_relevant(grades, least_grade))
    total = len(hits) if relevant_count is None else relevant_count
    precisions = (np.arange(len(hits)) + 1.0) / (hits + 1.0)
    return float(np.sum(precisions)) / total if total else float("nan")


def recall(grades: ArrayLike, k: int, relevant_count: int | None = None, least_grade: float = 1.0) -> float:
    """The share of the relevant documents that stand among the first `k`; NaN if there are none."""
    relevant = _relevant(grades, least_grade)
    total = int(np.sum(relevant)) if relevant_count is None else relevant_count
    return float(np.sum(relevant[:k])) / total if total else float("nan")


def relevant_count(judged: ArrayLike, least_grade: float = 1.0) -> int:
    """How many of the grades count as relevant."""
    return int(np.sum(_relevant(judged, least_grade)))


def settle(values: Iterable[float], convention: NoRelevant) -> Floats:
    """Per-query values with the convention applied to the undefined (NaN) ones."""
    array = np.asarray(list(values), np.float64)
    if convention is NoRelevant.EXCLUDE:
        return array[~np.isnan(array)]
    return np.where(np.isnan(array), 1.0 if convention is NoRelevant.ONE else 0.0, array)


def average(values: Iterable[float], convention: NoRelevant) -> float:
    """The mean over queries under the convention; NaN over no queries."""
    settled = settle(values, convention)
    return float(np.mean(settled)) if len(settled) else float("nan")


def average_by_query(values: Sequence[float], queries: Sequence[str]) -> Floats:
    """One value per distinct query, in order of first appearance: the mean of its defined values, else NaN.

    For intervals: the lists of one query are not independent of one another, queries are.
    """
    groups: dict[str, list[float]] = {}
    for query, value in zip(queries, values, strict=True):
        groups.setdefault(query, []).append(value)
    defined = [[value for value in group if value == value] for group in groups.values()]
    return np.array([float(np.mean(group)) if group else np.nan for group in defined], np.float64)


def order_by_score(scores: ArrayLike) -> NDArray[np.intp]:
    """Positions by falling score; equal scores keep the order given, as LightGBM's metrics do; NaN last."""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def _relevant(grades: ArrayLike, least_grade: float) -> NDArray[np.bool_]:
    return np.asarray(np.nan_to_num(np.asarray(grades, np.float64), nan=-np.inf) >= least_grade)
