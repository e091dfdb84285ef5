"""Ranking requests from Python values. Pure: nothing is sent here.

What the server checks (bounds, names, duplicates, lengths) is not checked here a second time;
only what cannot be put on the wire is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from rankd.client import values
from rankd.client.values import Numbers
from rankd.errors import Reason, RequestError
from rankd.v1 import ranking_pb2
from rankd.v1.ranking_pb2 import Candidates, Column, Query, RankRequest, ScoreRequest, User

ViewName: TypeAlias = Literal["basic", "scores", "features"]
SurfaceName: TypeAlias = Literal["search", "browse", "autocomplete", "recommendation"]
Priority: TypeAlias = Literal["live", "batch"]
Time: TypeAlias = datetime | np.datetime64 | Timestamp | int
"""An aware datetime, a datetime64 (UTC), a Timestamp, or milliseconds since 1970."""

PRIORITY_KEY = "rankd-priority"

_VIEWS = {
    "basic": ranking_pb2.VIEW_BASIC,
    "scores": ranking_pb2.VIEW_SCORES,
    "features": ranking_pb2.VIEW_FEATURES,
}
_SURFACES = {
    "search": ranking_pb2.SURFACE_SEARCH,
    "browse": ranking_pb2.SURFACE_BROWSE,
    "autocomplete": ranking_pb2.SURFACE_AUTOCOMPLETE,
    "recommendation": ranking_pb2.SURFACE_RECOMMENDATION,
}


@dataclass(frozen=True)
class RankList:
    """One list of a batch_rank: what rank takes that lists do not share."""

    ids: Iterable[str]
    base_scores: Numbers | None = None
    columns: Mapping[str, Numbers] | None = None
    page_size: int | None = None
    page_token: str = ""
    request_id: str = ""


def checked_priority(priority: Priority) -> Priority:
    """`priority` itself. RequestError if it is none."""
    if priority not in ("live", "batch"):
        raise RequestError.one(Reason.INVALID_FIELD, "priority", "live or batch", repr(priority))
    return priority


def candidates(
    ids: Iterable[str], base_scores: Numbers | None, columns: Mapping[str, Numbers] | None, path: str = "candidates"
) -> Candidates:
    """Columnar candidates; base scores and columns are one number per id."""
    message = Candidates(ids=values.strings(f"{path}.ids", ids))
    if base_scores is not None:
        array = values.numbers(f"{path}.base_scores", base_scores, np.float64)
        message.MergeFromString(values.packed(Candidates.BASE_SCORES_FIELD_NUMBER, array))
    for name, column in (columns or {}).items():
        field = f'{path}.columns["{name}"]'
        added = message.columns.add(name=values.strings(field, [name])[0])
        added.MergeFromString(values.packed(Column.VALUES_FIELD_NUMBER, values.numbers(field, column, np.float32)))
    return message


def rank_request(
    profile: str,
    message: Candidates | None,
    *,
    query: str | Query | None = None,
    user: str | User | None = None,
    context: Mapping[str, Any] | None = None,
    surface: SurfaceName | None = None,
    labels: Mapping[str, str] | None = None,
    as_of: Time | None = None,
    page_size: int | None = None,
    page_token: str = "",
    view: ViewName = "basic",
    timings: bool = False,
    request_id: str = "",
) -> RankRequest:
    """A RankRequest; `message` None leaves the candidates unset, as BatchRank's common part wants it."""
    request = RankRequest(
        profile=profile,
        surface=_surface(surface),
        request_id=request_id,
        query=_query(query),
        user=_user(user),
        context_features=values.context_values(context),
        labels=labels,
        candidates=message,
        as_of=None if as_of is None else values.timestamp("as_of", as_of),
        page_token=page_token,
        view=_named("view", _VIEWS, view),
        include_timings=timings,
    )
    if page_size is not None:
        request.page_size = _uint32("page_size", page_size)
    return request


def batch_request(common: RankRequest, lists: Iterable[RankList | Iterable[str]]) -> ranking_pb2.BatchRankRequest:
    """A BatchRankRequest; a list that is not a RankList is its ids."""
    request = ranking_pb2.BatchRankRequest(common=common)
    for position, given in enumerate(lists):
        path = f"lists[{position}]"
        one = given if isinstance(given, RankList) else RankList(given)
        added = request.lists.add(
            request_id=one.request_id,
            candidates=candidates(one.ids, one.base_scores, one.columns, f"{path}.candidates"),
            page_token=one.page_token,
        )
        if one.page_size is not None:
            added.page_size = _uint32(f"{path}.page_size", one.page_size)
    return request


def score_request(
    profile: str,
    message: Candidates,
    *,
    query: str | Query | None = None,
    user: str | User | None = None,
    context: Mapping[str, Any] | None = None,
    surface: SurfaceName | None = None,
    labels: Mapping[str, str] | None = None,
    as_of: Time | None = None,
    raw: bool = False,
    features: bool = False,
    request_id: str = "",
) -> ScoreRequest:
    """A ScoreRequest."""
    return ScoreRequest(
        profile=profile,
        surface=_surface(surface),
        request_id=request_id,
        query=_query(query),
        user=_user(user),
        context_features=values.context_values(context),
        labels=labels,
        candidates=message,
        as_of=None if as_of is None else values.timestamp("as_of", as_of),
        raw=raw,
        include_features=features,
    )


def _query(query: str | Query | None) -> Query | None:
    return Query(text=values.strings("query.text", [query])[0]) if isinstance(query, str) else query


def _user(user: str | User | None) -> User | None:
    return User(user_id=values.strings("user.user_id", [user])[0]) if isinstance(user, str) else user


def _surface(surface: SurfaceName | None) -> ranking_pb2.Surface.ValueType:
    if surface is None:
        return ranking_pb2.SURFACE_UNSPECIFIED
    found: ranking_pb2.Surface.ValueType = _named("surface", _SURFACES, surface)
    return found


def _named(field: str, known: Mapping[str, Any], name: str) -> Any:
    if name not in known:
        raise RequestError.one(Reason.INVALID_FIELD, field, f"one of {', '.join(known)}", repr(name))
    return known[name]


def _uint32(field: str, number: int) -> int:
    if not 0 <= number < 2**32:
        raise RequestError.one(Reason.INVALID_FIELD, field, "a positive number below 2**32", repr(number))
    return number
