"""Answers of the SignalService as Python reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.client.columns import column_values, parse_type
from rankd.types.schema import Element, Entity, Prior, Schema, Signal
from rankd.v1 import signals_pb2


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not written: its position in the ids, the path of the value at fault, why."""

    row: int
    field: str
    description: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many rows were written, and which were not.

    `late_count`: values that were not written because the stored ones are of a later time. `repeated_count`: rows of
    `written_count` that were written before, by their event id or the write id."""

    written_count: int
    rejected: tuple[RejectedRow, ...] = ()
    late_count: int = 0
    repeated_count: int = 0

    @classmethod
    def of(cls, message: signals_pb2.WriteSignalsResponse, first_row: int = 0) -> WriteResult:
        """`first_row`: the position of the batch's first row in the ids of the whole write."""
        return cls(
            message.written_count,
            tuple(RejectedRow(first_row + r.row, r.field, r.description) for r in message.rejected),
            message.late_count,
            message.repeated_count,
        )

    def __add__(self, other: WriteResult) -> WriteResult:
        return WriteResult(
            self.written_count + other.written_count,
            self.rejected + other.rejected,
            self.late_count + other.late_count,
            self.repeated_count + other.repeated_count,
        )


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A batch of a stream that is written: durable, and visible to every later call. `number`: from 0, in the order
    sent."""

    number: int
    cursor: str
    result: WriteResult


class StoredSignals:
    """Rows read back, exactly as written.

    `ids`: those found, in the order asked for. `columns`: a value per id, by signal name; None is
    missing. Timestamps are numpy.datetime64[ms]; embeddings float32 arrays; sets and maps set and
    dict; windowed counters dicts from when a bucket begins to its count; lists pairs of member and time, newest
    first. Decayed counters and maps are as of the time of the value. `written_at`: when each row was last written,
    datetime64[ms].
    """

    def __init__(self, message: signals_pb2.GetSignalsResponse) -> None:
        self.message = message

    @cached_property
    def ids(self) -> list[str]:
        return list(self.message.ids)

    @cached_property
    def missing_ids(self) -> list[str]:
        return list(self.message.missing_ids)

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        return {c.signal: column_values(c, len(self.ids)) for c in self.message.columns}

    @cached_property
    def written_at(self) -> NDArray[np.datetime64]:
        return np.array(self.message.written_unix_millis, np.int64).view("datetime64[ms]")

    @cached_property
    def value_times(self) -> dict[str, list[int | None]]:
        """When each value was so, in milliseconds since 1970, by signal name; None: it has none."""
        return {c.signal: _times(c, len(self.ids)) for c in self.message.columns if c.unix_millis}

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, value by signal) in the order of ids."""
        names = list(self.columns)
        for row, entity_id in enumerate(self.ids):
            yield entity_id, {name: self.columns[name][row] for name in names}


def _times(column: signals_pb2.SignalColumn, row_count: int) -> list[int | None]:
    times: list[int | None] = [None] * row_count
    for row, time in zip(column.rows or range(row_count), column.unix_millis, strict=False):
        times[row] = time
    return times


class ScannedPage(StoredSignals):
    """Some rows of a scan; `cursor`: where to go on after them; "": they are the last."""

    def __init__(self, message: signals_pb2.ScanSignalsResponse) -> None:
        super().__init__(message.rows)
        self.cursor = message.cursor


@dataclass(frozen=True, slots=True)
class SignalStatistics:
    """Of one signal: how many rows have a value (may be an estimate), and of these values the age: the median and the
    greatest, in seconds; None: no values."""

    filled_count: int
    median_age_s: float | None
    greatest_age_s: float | None


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How the server's copy of shared signals follows them. `lag_s`: how far behind, in seconds, at most."""

    in_step: bool
    lag_s: float


@dataclass(frozen=True)
class SchemaDescription:
    """The schema in force: entities, and how many rows each has.

    Signals of a type that this client does not know are left out. `statistics` (by entity and signal) and `used_bytes`
    are empty unless asked for. `fetched`: entities whose rows are read for each request from the shared store.
    `replica`: None unless signals are shared.
    """

    version: str
    schema: Schema
    row_counts: Mapping[str, int]
    statistics: Mapping[str, Mapping[str, SignalStatistics]]
    used_bytes: Mapping[str, int]
    fetched: frozenset[str]
    replica: ReplicaStatus | None

    @classmethod
    def of(cls, message: signals_pb2.DescribeSchemaResponse) -> SchemaDescription:
        entities = {
            e.name: Entity(e.name, {s.name: s for s in map(_signal, e.signals) if s}, tuple(e.key))
            for e in message.entities
        }
        replica = message.replica
        return cls(
            message.version,
            Schema(entities),
            {e.name: e.row_count for e in message.entities},
            {e.name: {s.name: _statistics(s.statistics) for s in e.signals if s.HasField("statistics")}
             for e in message.entities},
            {e.name: e.used_bytes for e in message.entities if e.used_bytes},
            frozenset(e.name for e in message.entities if e.fetched),
            ReplicaStatus(replica.in_step, replica.lag_seconds) if message.HasField("replica") else None,
        )  # fmt: skip


def _statistics(message: signals_pb2.SignalStatistics) -> SignalStatistics:
    return SignalStatistics(
        message.filled_count,
        message.median_age_seconds if message.HasField("median_age_seconds") else None,
        message.greatest_age_seconds if message.HasField("greatest_age_seconds") else None,
    )


def _signal(message: signals_pb2.SignalDescription) -> Signal | None:
    try:
        typed = parse_type(message.name, message.type)
    except ValueError:
        return None
    return replace(
        typed,
        default=_given(message, "default_value"),
        ttl_s=_given(message, "ttl_seconds"),
        half_life_s=_given(message, "half_life_seconds"),
        window_s=_given(message, "window_seconds"),
        bucket_s=_given(message, "bucket_seconds"),
        ratio_of=(message.ratio_of[0], message.ratio_of[1]) if len(message.ratio_of) == 2 else None,
        prior=Prior(message.prior_mean, message.prior_weight) if message.HasField("prior_weight") else None,
        element=Element(message.element) if message.element in _ELEMENTS else Element.F32,
    )


_ELEMENTS = frozenset(element.value for element in Element)


def _given(message: signals_pb2.SignalDescription, name: Any) -> float | None:
    return getattr(message, name) if message.HasField(name) else None
