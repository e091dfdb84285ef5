"""Ranked pages and scored lists to response messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from oracle.rank import RankedPage, ScoredList, StageTime
from rankd.ranking.plan import Plan
from rankd.v1 import ranking_pb2 as pb


def encode_page(
    plan: Plan, ids: Sequence[str], page: RankedPage, request_id: str, timings: Iterable[StageTime] = ()
) -> pb.RankResponse:
    """The answer to Rank, or to one list of BatchRank. `ids`: the request's candidates."""
    indexes = page.indexes.tolist()
    response = pb.RankResponse(
        request_id=request_id,
        versions=_versions(plan),
        ids=[ids[i] for i in indexes],
        ranks=range(page.first_rank, page.first_rank + len(indexes)),
        indexes=indexes,
        total_count=page.total_count,
        rescored_count=page.rescored_count,
        missing_ids=[ids[i] for i in page.missing_indexes.tolist()],
        next_page_token=page.next_page_token,
    )
    # NumPy's own numbers are slow to unbox one by one; tolist makes plain ones at once.
    if page.scores is not None:
        response.scores.extend(page.scores.tolist())
    if page.base_scores is not None:
        response.base_scores.extend(page.base_scores.tolist())
    if page.features is not None:
        response.features.extend(_features(plan, page.features))
    for name, ages in page.signal_ages.items():
        response.signal_ages.add(name=name, ages_s=ages.tolist())
    for time in timings:
        response.timings.add(stage=time.stage, microseconds=(time.end_ns - time.start_ns) / 1e3)
    return response


def encode_scores(
    plan: Plan, ids: Sequence[str], scored: ScoredList, request_id: str, include_features: bool
) -> pb.ScoreResponse:
    """The answer to Score."""
    assert plan.model is not None, "score_list has checked it"
    response = pb.ScoreResponse(
        request_id=request_id,
        versions=_versions(plan),
        missing_ids=[ids[i] for i in scored.missing_indexes.tolist()],
    )
    for name, values in zip(plan.model.scorer.output_names, scored.outputs, strict=True):
        response.outputs.add(name=name, values=values.tolist())
    if include_features:
        response.features.extend(_features(plan, scored.features))
        for name, ages in scored.signal_ages.items():
            response.signal_ages.add(name=name, ages_s=ages.tolist())
    return response


def _versions(plan: Plan) -> pb.Versions:
    profile, model, schema = plan.versions
    return pb.Versions(profile=profile, model=model, schema=schema)


def _features(plan: Plan, matrix: NDArray[np.float32]) -> list[pb.FeatureColumn]:
    return [
        pb.FeatureColumn(name=name, values=row.tolist()) for name, row in zip(plan.feature_names, matrix, strict=True)
    ]
