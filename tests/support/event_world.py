"""A schema with a source of every kind, and a store that remembers what is written to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankd.events.model import EventBatch, from_messages
from rankd.signals.store import (
    ColumnValues,
    MapValues,
    Operation,
    SetValues,
    StoredRows,
    WriteBatch,
    WriteResult,
)
from rankd.signals.values import NO_ROWS, from_list
from rankd.types.schema import Entity, EventSource, Schema, Signal, SignalKind
from rankd.v1 import feedback_pb2 as pb

NOW_MS = 1_700_000_000_000
CLICK = ("click",)


def signal(name: str, kind: SignalKind, source: EventSource | None = None, **more: Any) -> Signal:
    return Signal(name, kind, source=source, **more)


def entity(name: str, *signals: Signal, key: tuple[str, ...] = ()) -> Entity:
    return Entity(name, {s.name: s for s in signals}, key)


WINDOW = {"window_s": 7 * 86_400.0, "bucket_s": 3_600.0}

SCHEMA = Schema(
    {
        e.name: e
        for e in (
            entity(
                "item",
                signal("price", SignalKind.F32),
                signal("stock", SignalKind.I64),
                signal("on_sale", SignalKind.BOOL),
                signal("released", SignalKind.TIMESTAMP),
                signal("category", SignalKind.CATEGORY),
                signal("title", SignalKind.STRING),
                signal("tags", SignalKind.SET),
                signal("vector", SignalKind.EMBEDDING, dimension=2),
                signal("clicks_7d", SignalKind.WINDOW, EventSource(CLICK), **WINDOW),
                signal("views_7d", SignalKind.WINDOW, EventSource(("impression",)), **WINDOW),
                signal("ctr_7d", SignalKind.RATIO, ratio_of=("clicks_7d", "views_7d")),
                signal(
                    "heat",
                    SignalKind.COUNTER,
                    EventSource(
                        ("click", "purchase"),
                        where="event.position is None or event.position <= 10",
                        weight="5 if event.type == 'purchase' else 1",
                    ),
                    half_life_s=3600.0,
                ),
                signal("last_paid", SignalKind.F32, EventSource(("purchase",), value="event.value")),
                signal("last_sold", SignalKind.TIMESTAMP, EventSource(("purchase",), value="event.time")),
            ),
            entity(
                "user",
                signal(
                    "affinity", SignalKind.MAP, EventSource(("click", "purchase"), key="item.category"), half_life_s=7e5
                ),
                signal("tastes", SignalKind.MAP, EventSource(CLICK, key="item.tags", weight="event.properties.w")),
                signal("recent", SignalKind.LIST, EventSource(("click", "purchase")), dimension=20),
                signal("language", SignalKind.CATEGORY, EventSource(CLICK, value="event.properties.language")),
            ),
            entity("query", signal("clicks", SignalKind.COUNTER, EventSource(CLICK), half_life_s=9e5)),
            entity("query_item", signal("clicks", SignalKind.COUNTER, EventSource(CLICK), half_life_s=9e5),
                   key=("query", "item")),
            entity("user_category", signal("n", SignalKind.COUNTER, EventSource(CLICK), half_life_s=9e5),
                   key=("user", "item.category")),
            entity("brand", signal("n", SignalKind.COUNTER, EventSource(CLICK, id="event.properties.brand"),
                                   half_life_s=9e5)),
        )
    }
)  # fmt: skip


def message(event_id: str, type: str = "click", at_s: float = 0.0, **fields: Any) -> pb.Event:
    """An event, `at_s` after NOW_MS, with properties of Python values."""
    properties = fields.pop("properties", {})
    event = pb.Event(event_id=event_id, type=type, unix_millis=NOW_MS + round(at_s * 1000), **fields)
    for name, value in properties.items():
        kind = "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        setattr(event.properties[name], kind, value)
    return event


def batch_of(*messages: pb.Event) -> EventBatch:
    """The batch of events that have no fault."""
    batch, faults, repeated = from_messages(messages, NOW_MS, 512)
    assert not faults
    assert not repeated
    return batch


def python_values(column: ColumnValues) -> list[Any]:
    """What a column writes, row by row."""
    values = column.values
    if isinstance(values, MapValues | SetValues):
        found, at = [], 0
        for length in values.lengths.tolist():
            if isinstance(values, MapValues):
                found.append(
                    dict(zip(values.keys[at : at + length], values.values[at : at + length].tolist(), strict=True))
                )
            else:
                found.append(set(values.members[at : at + length]))
            at += length
        return found
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


class RecordingStore:
    """As much of SignalStore as events need: values to look up, what was written, event ids that came before."""

    def __init__(self, schema: Schema, rows: Mapping[tuple[str, str], Mapping[str, Any]] | None = None) -> None:
        self.schema = schema
        self.rows = dict(rows or {})
        self.reads: list[tuple[str, list[str], list[str]]] = []
        self.batches: list[WriteBatch] = []
        self.result: dict[str, WriteResult] = {}
        self.fail: set[str] = set()
        self._seen: set[tuple[str, str, str]] = set()

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        self.reads.append((entity, list(ids), list(signals)))
        found = [i for i, id_ in enumerate(ids) if (entity, id_) in self.rows]
        columns = []
        for name in signals:
            declared = self.schema.entities[entity].signals[name]
            rows = [r for r, i in enumerate(found) if name in self.rows[entity, ids[i]]]
            values = from_list(declared, [self.rows[entity, ids[found[r]]][name] for r in rows])
            columns.append(ColumnValues(name, np.array(rows, np.int64), values, NO_ROWS))
        return StoredRows(np.array(found, np.int64), columns, np.zeros(len(found), np.int64))

    async def write(self, batch: WriteBatch) -> WriteResult:
        if batch.entity in self.fail:
            raise ConnectionError(batch.entity)
        self.batches.append(batch)
        if batch.entity in self.result:
            return self.result[batch.entity]
        repeated = []
        for row, (id_, event_id) in enumerate(zip(batch.ids, batch.event_ids or (), strict=True)):
            if (batch.entity, id_, event_id) in self._seen:
                repeated.append(row)
            self._seen.add((batch.entity, id_, event_id))
        return WriteResult(len(batch.ids), [], repeated=repeated)

    def written(self, entity: str) -> list[tuple[str, str, dict[str, Any]]]:
        """(id, event id, value by signal) of each row written of an entity; amounts that are added as ("+", amount)."""
        found: list[tuple[str, str, dict[str, Any]]] = []
        for batch in self.batches:
            if batch.entity != entity:
                continue
            assert batch.event_ids is not None and batch.event_ms is not None
            rows: list[dict[str, Any]] = [{} for _ in batch.ids]
            for column in batch.columns:
                assert bool(np.all(np.diff(column.rows) > 0))
                for row, value in zip(column.rows.tolist(), python_values(column), strict=True):
                    rows[row][column.signal] = ("+", value) if column.operation is Operation.ADD else value
            found += zip(batch.ids, batch.event_ids, rows, strict=True)
        return found
