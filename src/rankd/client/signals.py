"""Answers of the SignalService as Python reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.client.columns import column_values, parse_type
from rankd.types.schema import Entity, Schema, Signal
from rankd.v1 import signals_pb2


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not written: its position in the ids, the path of the value at fault, why."""

    row: int
    field: str
    description: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many rows were written, and which were not."""

    written_count: int
    rejected: tuple[RejectedRow, ...] = ()

    @classmethod
    def of(cls, message: signals_pb2.WriteSignalsResponse, first_row: int = 0) -> WriteResult:
        """`first_row`: the position of the batch's first row in the ids of the whole write."""
        return cls(
            message.written_count,
            tuple(RejectedRow(first_row + r.row, r.field, r.description) for r in message.rejected),
        )

    def __add__(self, other: WriteResult) -> WriteResult:
        return WriteResult(self.written_count + other.written_count, self.rejected + other.rejected)


class StoredSignals:
    """Rows read back, exactly as written.

    `ids`: those found, in the order asked for. `columns`: a value per id, by signal name; None is
    missing. Timestamps are numpy.datetime64[ms]; embeddings float32 arrays; sets and maps set and
    dict. `written_at`: when each row was last written, datetime64[ms].
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

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, value by signal) in the order of ids."""
        names = list(self.columns)
        for row, entity_id in enumerate(self.ids):
            yield entity_id, {name: self.columns[name][row] for name in names}


@dataclass(frozen=True)
class SchemaDescription:
    """The schema in force: entities, and how many rows each has.

    Signals of a type that this client does not know are left out.
    """

    version: str
    schema: Schema
    row_counts: Mapping[str, int]

    @classmethod
    def of(cls, message: signals_pb2.DescribeSchemaResponse) -> SchemaDescription:
        entities = {e.name: Entity(e.name, {s.name: s for s in map(_signal, e.signals) if s}) for e in message.entities}
        return cls(message.version, Schema(entities), {e.name: e.row_count for e in message.entities})


def _signal(message: signals_pb2.SignalDescription) -> Signal | None:
    try:
        typed = parse_type(message.name, message.type)
    except ValueError:
        return None
    return Signal(
        typed.name,
        typed.kind,
        typed.dimension,
        default=message.default_value if message.HasField("default_value") else None,
        ttl_s=message.ttl_seconds if message.HasField("ttl_seconds") else None,
    )
