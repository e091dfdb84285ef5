"""RankRequest and its kin to plain, checked values.

Every check of ranking.proto's comments is here. Counts and sizes are compared before anything
is allocated for them; faults name the field, what was expected and what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from oracle.context_features import decode_context
from oracle.request import CandidateList, RequestContext, View
from oracle.timestamps import timestamp_seconds
from rankd.errors import Reason, RequestError
from rankd.kernels.id_index import first_duplicate
from rankd.limits import (
    MAX_LABEL_BYTES,
    MAX_LABELS,
    MAX_LANGUAGE_BYTES,
    MAX_QUERY_BYTES,
    MAX_REQUEST_ID_BYTES,
    MAX_SEGMENTS,
    RequestLimits,
)
from rankd.ranking.plan import Plan
from rankd.ranking.wording import check_bytes, check_ids, quoted, unknown_name
from rankd.signals.store import Categories
from rankd.types.profile import Profile
from rankd.v1 import ranking_pb2 as pb

ContextMessage: TypeAlias = pb.RankRequest | pb.ScoreRequest

SURFACES: Final = ("", "search", "browse", "autocomplete", "recommendation")
"""By the number of pb.Surface; as expressions see `request.surface`."""


def find_plan(plans: Mapping[str, Plan], name: str, field: str = "profile") -> Plan:
    """The plan of a profile. RequestError (UNKNOWN_PROFILE)."""
    plan = plans.get(name)
    if plan is None:
        raise unknown_name(Reason.UNKNOWN_PROFILE, field, list(plans), name)
    return plan


def check_request_id(request_id: str, field: str = "request_id") -> None:
    """RequestError (LIMIT_EXCEEDED) if the caller's id is too long to be echoed and logged."""
    check_bytes(request_id, field, MAX_REQUEST_ID_BYTES)


def decode_request(
    message: ContextMessage, plan: Plan, categories: Categories, limits: RequestLimits, now_s: float, prefix: str = ""
) -> RequestContext:
    """What all lists of a call share: query, user, context features and the time."""
    query, user = message.query, message.user
    check_bytes(query.text, f"{prefix}query.text", MAX_QUERY_BYTES)
    check_bytes(query.language_code, f"{prefix}query.language_code", MAX_LANGUAGE_BYTES)
    for name in ("visitor_id", "user_id", "session_id"):
        check_bytes(getattr(user, name), f"{prefix}user.{name}", limits.max_id_bytes)
    _check_count(len(user.segments), MAX_SEGMENTS, f"{prefix}user.segments", "segments")
    if not 0 <= message.surface < len(SURFACES):
        known = ", ".join(pb.Surface.keys())
        raise RequestError.one(Reason.INVALID_FIELD, f"{prefix}surface", f"one of {known}", f"{message.surface}")
    _check_labels(message.labels, f"{prefix}labels")
    as_of_given = message.HasField("as_of")
    return RequestContext(
        as_of_s=timestamp_seconds(message.as_of, f"{prefix}as_of") if as_of_given else now_s,
        as_of_given=as_of_given,
        query_text=query.text,
        language=query.language_code,
        surface=SURFACES[message.surface],
        segments=list(user.segments),
        user_id=user.user_id or user.visitor_id,
        session_id=user.session_id,
        context=decode_context(message.context_features, plan, categories, f"{prefix}context_features"),
    )


def decode_list(
    candidates: pb.Candidates,
    profile: Profile,
    limits: RequestLimits,
    prefix: str = "",
    page_size: int | None = None,
    page_token: str = "",
    view: View = View.BASIC,
) -> CandidateList:
    """One list. `page_size`, `page_token` and `view` are as checked by decode_page_size and decode_view."""
    path = f"{prefix}candidates"
    count = len(candidates.ids)
    _check_count(count, limits.max_candidates, f"{path}.ids", "candidates")
    _check_count(len(candidates.columns), limits.max_columns, f"{path}.columns", "columns")
    ids = list(candidates.ids)
    check_ids(ids, f"{path}.ids", limits.max_id_bytes)
    duplicate = first_duplicate(ids)
    if duplicate is not None:
        first, again = sorted(duplicate)
        raise RequestError.one(
            Reason.DUPLICATE_ID,
            f"{path}.ids[{again}]",
            "distinct ids",
            f"{quoted(ids[again])}, which is also ids[{first}]",
        )
    return CandidateList(
        ids=ids,
        base_scores=_base_scores(candidates, count, path),
        columns=_columns(candidates, profile, count, path),
        page_size=page_size,
        page_token=page_token,
        view=view,
    )


def decode_page_size(
    message: pb.RankRequest | pb.BatchRankRequest.List, limits: RequestLimits, prefix: str = ""
) -> int | None:
    """The page size asked for, or None."""
    if not message.HasField("page_size"):
        return None
    if not 1 <= message.page_size <= limits.max_candidates:
        raise RequestError.one(
            Reason.INVALID_FIELD, f"{prefix}page_size", f"1 to {limits.max_candidates}", f"{message.page_size}"
        )
    return message.page_size


def decode_view(view: int, field: str = "view") -> View:
    """The view asked for."""
    if not 0 <= view <= View.FEATURES:
        raise RequestError.one(Reason.INVALID_FIELD, field, f"one of {', '.join(pb.View.keys())}", f"{view}")
    return View(view or View.BASIC)


def _check_count(count: int, limit: int, field: str, what: str) -> None:
    if count > limit:
        raise RequestError.one(Reason.LIMIT_EXCEEDED, field, f"at most {limit} {what}", f"{count}")


def _check_labels(labels: Mapping[str, str], field: str) -> None:
    _check_count(len(labels), MAX_LABELS, field, "labels")
    for key, value in labels.items():
        check_bytes(key, field, MAX_LABEL_BYTES)
        check_bytes(value, f"{field}[{quoted(key)}]", MAX_LABEL_BYTES)


def _base_scores(candidates: pb.Candidates, count: int, path: str) -> NDArray[np.float64] | None:
    sent = len(candidates.base_scores)
    if not sent:
        return None
    if sent != count:
        raise RequestError.one(
            Reason.LENGTH_MISMATCH, f"{path}.base_scores", f"{count} values, one per id, or none", f"{sent}"
        )
    scores = np.array(candidates.base_scores, np.float64)
    refuse_infinities(scores, f"{path}.base_scores")
    return scores


def _columns(candidates: pb.Candidates, profile: Profile, count: int, path: str) -> dict[str, NDArray[np.float32]]:
    sent = candidates.columns
    # One block for all columns: one allocation, one look for infinities.
    block = np.empty((len(sent), count), np.float32)
    columns: dict[str, NDArray[np.float32]] = {}
    for i, column in enumerate(sent):
        name, values = column.name, column.values
        if name not in profile.column_names:
            raise unknown_name(Reason.UNKNOWN_NAME, f"{path}.columns[{i}].name", profile.columns, name)
        if name in columns:
            raise RequestError.one(
                Reason.INVALID_FIELD, f"{path}.columns[{i}].name", "distinct names", f"{quoted(name)} again"
            )
        if len(values) != count:
            raise RequestError.one(
                Reason.LENGTH_MISMATCH,
                f"{path}.columns[{i}].values",
                f"{count} values, one per id",
                f"{len(values)}",
            )
        block[i] = np.array(values, np.float32)
        columns[name] = block[i]
    if block.size and np.isinf(block).any():
        i = int(np.flatnonzero(np.isinf(block).any(axis=1))[0])
        refuse_infinities(block[i], f"{path}.columns[{i}].values")
    return columns


def refuse_infinities(values: NDArray[np.float32] | NDArray[np.float64], field: str) -> None:
    """RequestError at the first infinity; NaN is missing and welcome."""
    infinite = np.isinf(values)
    if infinite.any():
        at = int(infinite.argmax())
        raise RequestError.one(
            Reason.INVALID_FIELD, f"{field}[{at}]", "a number, or NaN for missing", f"{float(values[at])}"
        )
