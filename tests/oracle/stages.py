"""The stages, one function each, named as in README's picture, the spans and the metrics.

    retrieve -> features -> base -> model -> page

Pure: plan, signals and request in, values out. `retrieve` itself is the caller's await on
the store; `reads` tells it what to ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oracle.bind import bind
from oracle.order import by_score, by_score_then_id
from oracle.request import CandidateList, RequestContext, Retrieved
from rankd.features.program import Input
from rankd.ranking.plan import Plan
from rankd.types.columns import Column
from rankd.types.text import composite_id, query_key

RETRIEVE, FEATURES, BASE, MODEL, PAGE = ("retrieve", "features", "base", "model", "page")


def row_ids(
    key: Sequence[str],
    candidate: str,
    context: RequestContext,
    candidates: Sequence[str],
    categories: Mapping[str, list[str]],
) -> list[str]:
    """The ids of an entity's rows: one per candidate, or one; "" (which nothing is stored under) if a part is unknown.

    `key`: as Entity.key, or the entity itself. `candidate`: the candidates' entity, `candidates` their ids as stored,
    `categories` their category signals.
    """
    of_request = {"user": context.user_id, "session": context.session_id, "query": query_key(context.query_text)}
    is_of_candidate = [name.partition(".")[0] == candidate for name in key]
    rows = len(candidates) if any(is_of_candidate) else 1
    parts: list[Sequence[str]] = []
    for name, of_candidate in zip(key, is_of_candidate, strict=True):
        if of_candidate:
            parts.append(categories[name.partition(".")[2]] if "." in name else candidates)
        else:
            parts.append([of_request[name]] * rows)
    return [composite_id(one) if all(one) else "" for one in zip(*parts, strict=True)]


@dataclass(frozen=True, slots=True)
class Ordered:
    """A whole list in order: positions (n,), best first; scores by position (n,): the one that decided."""

    order: NDArray[np.intp]
    scores: NDArray[np.float64]
    rescored_count: int


def features(
    plan: Plan, shared: dict[Input, Column], candidates: CandidateList, retrieved: Retrieved
) -> NDArray[np.float32]:
    """Every feature of the profile: float32 (features, n)."""
    columns = bind(plan.features.inputs, shared, candidates, retrieved, {})
    return plan.features.run(len(candidates.ids), columns, np.float32)


def base(
    plan: Plan,
    shared: dict[Input, Column],
    candidates: CandidateList,
    retrieved: Retrieved,
    matrix: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Base scores by position: the profile's expression, else the caller's, else all NaN: (n,)."""
    length = len(candidates.ids)
    if plan.base is None:
        return np.full(length, np.nan) if candidates.base_scores is None else candidates.base_scores
    by_name = dict(zip(plan.feature_names, matrix, strict=True))
    columns = bind(plan.base.inputs, shared, candidates, retrieved, by_name)
    scores: NDArray[np.float64] = plan.base.run(length, columns, np.float64)[0]
    return scores


def base_order(plan: Plan, candidates: CandidateList, scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Base rank: by base score, then id. With no base score at all: the order given."""
    if plan.base is None and candidates.base_scores is None:
        return np.arange(len(scores), dtype=np.intp)
    return by_score_then_id(scores, candidates.ids)


def model_outputs(plan: Plan, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
    """All outputs of the plan's model for a feature matrix (features, n): float64 (outputs, n)."""
    assert plan.model is not None, "callers check"
    inputs = matrix if plan.model_rows is None else matrix[plan.model_rows]
    return plan.model.scorer.score(inputs, raw)


def model(
    plan: Plan,
    matrix: NDArray[np.float32],
    base_scores: NDArray[np.float64],
    order: NDArray[np.intp],
    max_rescored: int | None,
) -> Ordered:
    """Re-scores the best by base; the others follow in base order with their base scores.

    Equal model scores keep base rank. What was not re-scored never outranks what was.
    """
    if plan.model is None:
        return Ordered(order, base_scores, 0)
    best = order[: plan.profile.rerank_count][:max_rescored]
    if not len(best):
        return Ordered(order, base_scores, 0)
    whole = len(best) == len(order)
    by_best = model_outputs(plan, matrix if whole else np.ascontiguousarray(matrix[:, best]))[0]
    scores = base_scores.copy()
    if whole:
        scores[:] = by_best
        by_best = by_best[best]
    else:
        scores[best] = by_best
    return Ordered(np.concatenate([best[by_score(by_best)], order[len(best) :]]), scores, len(best))
