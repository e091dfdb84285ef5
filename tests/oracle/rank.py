"""A list from request to page: the stages in order, timed.

This file must stay readable as the picture. What a stage does stands in stages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oracle import pages, stages
from oracle.bind import bind_shared
from oracle.request import CandidateList, RequestContext, Retrieved, View
from rankd.errors import Reason, RequestError
from rankd.features.program import Input
from rankd.ranking.plan import Plan
from rankd.signals.store import Categories
from rankd.types.columns import Column


class StageTime(NamedTuple):
    """When a stage ran, by the caller's clock (ns), and for how many candidates."""

    stage: str
    start_ns: int
    end_ns: int
    candidate_count: int


@dataclass(frozen=True, slots=True)
class RankedPage:
    """One page of a ranked list; arrays in page order, best first.

    `indexes`: positions in the request. `first_rank`: the rank of the first, from 1.
    `scores`, `base_scores`: None in View.BASIC. `features`: float32 (features, page), None
    below View.FEATURES. `signal_ages`: seconds (page,) by signal, empty below View.FEATURES.
    `missing_indexes`: positions of the whole list the store knows nothing of.
    """

    indexes: NDArray[np.intp]
    first_rank: int
    scores: NDArray[np.float64] | None
    base_scores: NDArray[np.float64] | None
    features: NDArray[np.float32] | None
    signal_ages: Mapping[str, NDArray[np.float32]]
    total_count: int
    rescored_count: int
    missing_indexes: NDArray[np.intp]
    next_page_token: str
    times: list[StageTime]


@dataclass(frozen=True, slots=True)
class ScoredList:
    """The model's outputs (outputs, n) and the features (features, n) in the order given."""

    outputs: NDArray[np.float64]
    features: NDArray[np.float32]
    signal_ages: Mapping[str, NDArray[np.float32]]
    missing_indexes: NDArray[np.intp]
    times: list[StageTime]


Shared = dict[Input, Column]


def share(plan: Plan, categories: Categories, context: RequestContext) -> Shared:
    """What all lists of a call have in common, prepared once."""
    inputs = [*plan.features.inputs, *(plan.base.inputs if plan.base else ())]
    return bind_shared(inputs, context, categories)


def open_page(
    plan: Plan, categories: Categories, context: RequestContext, candidates: CandidateList
) -> pages.Cursor | None:
    """The cursor of the request's page token, or None on a first page.

    Called before anything is retrieved: ages are computed against the first page's time, so the
    caller goes on with `context` as of the cursor's `as_of_s`.
    """
    if not candidates.page_token:
        return None
    fingerprint = pages.request_fingerprint(plan, categories, context, candidates)
    return pages.decode(candidates.page_token, fingerprint, len(candidates.ids))


def rank_list(
    plan: Plan,
    categories: Categories,
    context: RequestContext,
    candidates: CandidateList,
    retrieved: Retrieved,
    cursor: pages.Cursor | None,
    clock: Callable[[], int],
    shared: Shared | None = None,
    max_rescored: int | None = None,
) -> RankedPage:
    """Ranks one list. `clock` gives nanoseconds; `shared`: what `share` gave, if the caller has it."""
    _check_outputs(plan)
    times: list[StageTime] = []
    if cursor is not None:
        context = replace(context, as_of_s=cursor.as_of_s)
        shared = None
    if cursor is not None and candidates.view is View.BASIC:
        ordered, base_scores, matrix = _frozen(cursor, len(candidates.ids)), None, None
    else:
        if shared is None:
            shared = share(plan, categories, context)
        ordered, base_scores, matrix = _order(plan, shared, candidates, retrieved, cursor, clock, times, max_rescored)
    start_ns = clock()
    page = _page(plan, categories, context, candidates, retrieved, cursor, ordered, base_scores, matrix, times)
    times.append(StageTime(stages.PAGE, start_ns, clock(), len(page.indexes)))
    return page


def score_list(
    plan: Plan,
    categories: Categories,
    context: RequestContext,
    candidates: CandidateList,
    retrieved: Retrieved,
    raw: bool,
    clock: Callable[[], int],
) -> ScoredList:
    """Features and model outputs in the order given. RequestError (NO_MODEL) if the profile has no model."""
    if plan.model is None:
        raise RequestError.one(
            Reason.NO_MODEL, "profile", "a profile with a model", f'"{plan.profile.name}" without one'
        )
    length = len(candidates.ids)
    t0 = clock()
    matrix = stages.features(plan, share(plan, categories, context), candidates, retrieved)
    t1 = clock()
    outputs = stages.model_outputs(plan, matrix, raw)
    t2 = clock()
    times = [StageTime(stages.FEATURES, t0, t1, length), StageTime(stages.MODEL, t1, t2, length)]
    return ScoredList(outputs, matrix, retrieved.ages, _missing(plan, retrieved), times)


def _check_outputs(plan: Plan) -> None:
    """A list can be ordered by one number only."""
    if plan.model is not None and len(plan.model.scorer.output_names) != 1:
        raise RequestError.one(
            Reason.INVALID_FIELD,
            "profile",
            "a profile whose model has one output (or the method Score)",
            f'"{plan.profile.name}", whose model has {len(plan.model.scorer.output_names)}',
        )


def _order(
    plan: Plan,
    shared: Shared,
    candidates: CandidateList,
    retrieved: Retrieved,
    cursor: pages.Cursor | None,
    clock: Callable[[], int],
    times: list[StageTime],
    max_rescored: int | None,
) -> tuple[stages.Ordered, NDArray[np.float64], NDArray[np.float32]]:
    """features -> base -> model. With a cursor the order is the cursor's, and only scores are computed."""
    length = len(candidates.ids)
    t0 = clock()
    matrix = stages.features(plan, shared, candidates, retrieved)
    t1 = clock()
    base_scores = stages.base(plan, shared, candidates, retrieved, matrix)
    base_order = stages.base_order(plan, candidates, base_scores)
    t2 = clock()
    if cursor is None:
        ordered = stages.model(plan, matrix, base_scores, base_order, max_rescored)
    else:
        ordered = _rescore_frozen(plan, matrix, base_scores, cursor)
    t3 = clock()
    times += [
        StageTime(stages.FEATURES, t0, t1, length),
        StageTime(stages.BASE, t1, t2, length),
        StageTime(stages.MODEL, t2, t3, ordered.rescored_count),
    ]
    return ordered, base_scores, matrix


def _frozen(cursor: pages.Cursor, length: int) -> stages.Ordered:
    return stages.Ordered(cursor.remaining, np.full(length, np.nan), cursor.rescored_count)


def _rescore_frozen(
    plan: Plan, matrix: NDArray[np.float32], base_scores: NDArray[np.float64], cursor: pages.Cursor
) -> stages.Ordered:
    """Scores of the frozen rest: the model's for those it had re-scored, base scores for the others."""
    scores = base_scores.copy()
    rescored = cursor.remaining[: max(0, cursor.rescored_count - cursor.offset)]
    if plan.model is not None and len(rescored):
        scores[rescored] = stages.model_outputs(plan, np.ascontiguousarray(matrix[:, rescored]))[0]
    return stages.Ordered(cursor.remaining, scores, cursor.rescored_count)


def _page(
    plan: Plan,
    categories: Categories,
    context: RequestContext,
    candidates: CandidateList,
    retrieved: Retrieved,
    cursor: pages.Cursor | None,
    ordered: stages.Ordered,
    base_scores: NDArray[np.float64] | None,
    matrix: NDArray[np.float32] | None,
    times: list[StageTime],
) -> RankedPage:
    """Cuts the page out of the order and, if something is left, makes the token for it."""
    total, offset = len(candidates.ids), cursor.offset if cursor else 0
    size = len(ordered.order) if candidates.page_size is None else candidates.page_size
    indexes, rest = ordered.order[:size], ordered.order[size:]
    token = ""
    if len(rest):
        # as_of_given stays what the caller sent: the next page must send the same.
        fingerprint = pages.request_fingerprint(plan, categories, context, candidates)
        left = pages.Cursor(context.as_of_s, offset + len(indexes), ordered.rescored_count, rest)
        token = pages.encode(fingerprint, left)
    with_scores = candidates.view >= View.SCORES and base_scores is not None
    with_features = candidates.view >= View.FEATURES and matrix is not None
    return RankedPage(
        indexes=indexes,
        first_rank=offset + 1,
        scores=ordered.scores[indexes] if with_scores else None,
        base_scores=base_scores[indexes] if with_scores and base_scores is not None else None,
        features=matrix[:, indexes] if with_features and matrix is not None else None,
        signal_ages={name: ages[indexes] for name, ages in retrieved.ages.items()} if with_features else {},
        total_count=total,
        rescored_count=ordered.rescored_count,
        missing_indexes=_missing(plan, retrieved),
        next_page_token=token,
        times=times,
    )


def _missing(plan: Plan, retrieved: Retrieved) -> NDArray[np.intp]:
    return np.flatnonzero(~retrieved.rows[plan.profile.entity].found)
