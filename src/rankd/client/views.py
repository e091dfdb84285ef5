"""Answers as Python reads them: NumPy arrays over the response messages.

Ids stay a list of str: NumPy's fixed-width strings drop trailing NULs, which ids may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from rankd.v1.ranking_pb2 import (
    DegradationLevel,
    FeatureColumn,
    RankRequest,
    RankResponse,
    ScoreResponse,
    SignalAges,
    Versions,
)

RequestT_co = TypeVar("RequestT_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[RequestT_co]):
    """One RPC to make: the method's short name, the request, its deadline and metadata."""

    method: str
    request: RequestT_co
    timeout_s: float
    metadata: tuple[tuple[str, str | bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One place of a ranked list. `score` and `base_score` are NaN where none is known or none was asked for."""

    rank: int
    id: str
    index: int
    score: float
    base_score: float


@dataclass(frozen=True, slots=True)
class Degradation:
    """What a server left out so as to answer in time.

    `level`: "fewer_candidates" (the model re-scored fewer than the profile says), "base_only", or "stale_signals"
    (those that are fetched for each call were old or missing). `reasons`: "overload", "deadline",
    "signals_unavailable". `stages_skipped`: stages that did not run, such as "model".
    """

    level: str
    reasons: tuple[str, ...]
    stages_skipped: tuple[str, ...]


class RankedList:
    """One page of a ranked list, best first. Arrays have one entry per id; missing is NaN.

    `ids`: list of str. `ranks`: uint32, the best is 1. `indexes`: uint32, positions in the ids
    sent. `scores`, `base_scores`: float64, empty unless the view is "scores" or "features".
    `features`: float32 by feature name, with the view "features". `signal_ages`: with it, seconds
    since the value was so, float32 by signal ("item.price"). `timings`: microseconds by
    stage, if asked for. `message`: the response itself; `request`: what it answers.
    """

    def __init__(self, message: RankResponse, call: Call[RankRequest]) -> None:
        self.message = message
        self.call = call

    @property
    def request(self) -> RankRequest:
        return self.call.request

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @cached_property
    def ids(self) -> list[str]:
        return list(self.message.ids)

    @cached_property
    def ranks(self) -> NDArray[np.uint32]:
        return np.array(self.message.ranks, np.uint32)

    @cached_property
    def indexes(self) -> NDArray[np.uint32]:
        return np.array(self.message.indexes, np.uint32)

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        return np.array(self.message.scores, np.float64)

    @cached_property
    def base_scores(self) -> NDArray[np.float64]:
        return np.array(self.message.base_scores, np.float64)

    @cached_property
    def features(self) -> dict[str, NDArray[np.float32]]:
        return _features(self.message.features)

    @cached_property
    def missing_ids(self) -> list[str]:
        return list(self.message.missing_ids)

    @property
    def total_count(self) -> int:
        return self.message.total_count

    @property
    def rescored_count(self) -> int:
        return self.message.rescored_count

    @cached_property
    def signal_ages(self) -> dict[str, NDArray[np.float32]]:
        return _ages(self.message.signal_ages)

    @cached_property
    def degradation(self) -> Degradation | None:
        """None: nothing was left out."""
        return _degradation(self.message)

    @property
    def next_page_token(self) -> str:
        """Empty on the last page."""
        return self.message.next_page_token

    @property
    def versions(self) -> Versions:
        return self.message.versions

    @cached_property
    def timings(self) -> dict[str, float]:
        return {t.stage: t.microseconds for t in self.message.timings}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[RankedItem]:
        missing = np.full(len(self), np.nan)
        scores = self.scores if len(self.scores) else missing
        base_scores = self.base_scores if len(self.base_scores) else missing
        columns = (self.ranks.tolist(), self.ids, self.indexes.tolist(), scores.tolist(), base_scores.tolist())
        return map(RankedItem, *columns)

    def __repr__(self) -> str:
        more = ", more to come" if self.next_page_token else ""
        return f"<RankedList of {len(self)} of {self.total_count}: {', '.join(self.ids[:5])}...{more}>"


class ScoredList:
    """A model's outputs, in the order of the ids sent.

    `outputs`: float64 (n,) by output name ("score", or "class_0" …). `scores`: the first output.
    `features`: float32 by name, and `signal_ages`: seconds by signal ("item.price"), if asked for.
    """

    def __init__(self, message: ScoreResponse) -> None:
        self.message = message

    @property
    def request_id(self) -> str:
        return self.message.request_id

    @cached_property
    def outputs(self) -> dict[str, NDArray[np.float64]]:
        return {output.name: np.array(output.values, np.float64) for output in self.message.outputs}

    @property
    def scores(self) -> NDArray[np.float64]:
        return next(iter(self.outputs.values()))

    @cached_property
    def features(self) -> dict[str, NDArray[np.float32]]:
        return _features(self.message.features)

    @cached_property
    def signal_ages(self) -> dict[str, NDArray[np.float32]]:
        return _ages(self.message.signal_ages)

    @cached_property
    def degradation(self) -> Degradation | None:
        """None: nothing was left out."""
        return _degradation(self.message)

    @cached_property
    def missing_ids(self) -> list[str]:
        return list(self.message.missing_ids)

    @property
    def versions(self) -> Versions:
        return self.message.versions

    def __len__(self) -> int:
        return len(self.scores)


def _features(columns: Iterable[FeatureColumn]) -> dict[str, NDArray[np.float32]]:
    return {column.name: np.array(column.values, np.float32) for column in columns}


def _ages(columns: Iterable[SignalAges]) -> dict[str, NDArray[np.float32]]:
    return {column.name: np.array(column.ages_s, np.float32) for column in columns}


def _degradation(message: RankResponse | ScoreResponse) -> Degradation | None:
    if not message.HasField("degradation"):
        return None
    found = message.degradation
    known = DegradationLevel.DESCRIPTOR.values_by_number.get(found.level)
    level = str(found.level) if known is None else known.name.removeprefix("DEGRADATION_LEVEL_").lower()
    return Degradation(level, tuple(found.reasons), tuple(found.stages_skipped))
