"""Events into a store as they come: the streaming engine.

What a batch looks up (`item.category`) is read at its beginning, once per entity; what events of the same batch write
is not seen by it. Rows are written with the events' ids, so that a batch which is sent again, because it failed halfway
or its answer was lost, counts once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rankd.events.declare import VALUE_TYPES, RowId, Update, compile_sources, lookups, own_id
from rankd.events.evaluate import Array, evaluate, missing
from rankd.events.model import EventBatch, EventFault
from rankd.events.nodes import Node, ValueType
from rankd.signals.store import (
    ColumnValues,
    MapValues,
    Operation,
    SetValues,
    SignalStore,
    Values,
    WriteBatch,
    WriteResult,
)
from rankd.signals.values import DTYPES, NO_ROWS
from rankd.types.schema import Schema, SignalKind
from rankd.types.text import stored_ids

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch: which events were refused, and how many of the others had come before. An event has come
    before if every row that it touches had its id."""

    faults: Sequence[EventFault]
    repeated_count: int


@dataclass(frozen=True, slots=True)
class _Touch:
    """What one update does: `positions` of events in the batch, ascending, the ids of their rows, and the values."""

    update: Update
    positions: Positions
    ids: Sequence[str]
    values: Values


class EventWriter:
    """Applies events to a store, by the sources that its schema declares."""

    def __init__(self, store: SignalStore) -> None:
        """ExpressionError if a source is faulty."""
        self._store = store
        self._updates = compile_sources(store.schema)
        self._own = partial(_own, store.schema)

    async def apply(self, batch: EventBatch, now_s: float) -> Applied:
        """Writes what the events change. When it returns, all that was accepted is durable and visible.

        What the store raises is raised: then some of the batch may have been written, and it has to be applied again.
        """
        by_type = _positions_by_type(batch.texts["type"])
        columns = _BatchColumns(batch)
        chosen = [(update, _positions(update, by_type)) for update in self._updates]
        chosen = [(update, positions) for update, positions in chosen if len(positions)]
        await self._look_up(columns, [update for update, _ in chosen], now_s)
        touches: dict[str, list[_Touch]] = {}
        for update, positions in chosen:
            touch = _touch(update, columns, positions)
            if len(touch.positions):
                touches.setdefault(update.entity, []).append(touch)
        writes = [_batch(entity, batch, columns, found) for entity, found in touches.items()]
        results = await asyncio.gather(*(self._store.write(write) for write, _ in writes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return _applied(
            batch, [(w, p, r) for (w, p), r in zip(writes, results, strict=True) if isinstance(r, WriteResult)]
        )

    async def _look_up(self, columns: _BatchColumns, updates: Sequence[Update], now_s: float) -> None:
        """Reads what the updates look up: first rows whose ids are the events', then those whose ids are looked up."""
        wanted: dict[str, dict[str, None]] = {}
        for lookup in lookups([node for update in updates for node in update.expressions], self._own):
            wanted.setdefault(lookup.entity, {})[lookup.signal] = None
        rows = {entity: self._own(entity) for entity in wanted}

        def is_joined(entity: str) -> bool:
            row = rows[entity]
            return row is not None and any(True for _ in lookups(row.parts, self._own))

        for entity in sorted(wanted, key=is_joined):
            row = rows[entity]
            if row is not None:
                await self._read(columns, entity, row, list(wanted[entity]), now_s)

    async def _read(
        self, columns: _BatchColumns, entity: str, row: RowId, signals: Sequence[str], now_s: float
    ) -> None:
        ids = row.join([evaluate(part, columns).tolist() for part in row.parts])
        index: dict[str, int] = {}
        where = np.array([-1 if id_ is None else index.setdefault(id_, len(index)) for id_ in ids], np.int64)
        declared = self._store.schema.entities[entity].signals
        found = {name: _empty(declared[name].kind, len(index) + 1) for name in signals}  # the last: no row
        if index:
            stored = await self._store.get(entity, stored_ids(entity, list(index)), signals, now_s)
            for column in stored.columns:
                found[column.signal][stored.found[column.rows]] = _plain(column.values)
        for name in signals:
            columns.looked_up[entity, name] = found[name][where]


def _own(schema: Schema, entity: str) -> RowId | None:
    return own_id(schema, schema.entities[entity])


def _positions_by_type(types: Sequence[str]) -> Mapping[str, Positions]:
    found: dict[str, list[int]] = {}
    for position, type in enumerate(types):
        found.setdefault(type, []).append(position)
    return {type: np.array(positions, np.int64) for type, positions in found.items()}


def _positions(update: Update, by_type: Mapping[str, Positions]) -> Positions:
    found = [by_type[type] for type in update.events if type in by_type]
    if not found:
        return NO_ROWS
    return found[0] if len(found) == 1 else np.sort(np.concatenate(found))


_OBJECTS: Final = (SignalKind.CATEGORY, SignalKind.STRING, SignalKind.SET)


def _empty(kind: SignalKind, length: int) -> Array:
    return np.full(length, None, object) if kind in _OBJECTS else np.full(length, np.nan)


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _plain(values: Values) -> Array:
    """Stored values as expressions have them."""
    if isinstance(values, SetValues):
        ends = np.cumsum(values.lengths)
        spans = zip((ends - values.lengths).tolist(), ends.tolist(), strict=True)
        return _objects([frozenset(values.members[start:end]) for start, end in spans])
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    return _objects([text or None for text in values])  # type: ignore[union-attr]


class _BatchColumns:
    """The leaves of expressions over a whole batch (evaluate.Columns)."""

    def __init__(self, batch: EventBatch) -> None:
        self.length = batch.length
        self._batch = batch
        self._fields: dict[str, Array] = {}
        self.looked_up: dict[tuple[str, str], Array] = {}

    def field(self, name: str) -> Array:
        """A field of the events."""
        if name not in self._fields:
            if name == "time":
                self._fields[name] = self._batch.times_ms.astype(np.float64)
            elif name in self._batch.numbers:
                self._fields[name] = self._batch.numbers[name]
            else:
                self._fields[name] = _objects([text or None for text in self._batch.texts[name]])
        return self._fields[name]

    def property(self, name: str, type: ValueType) -> Array:
        """A property, as a number or as a text."""
        values = [properties.get(name) for properties in self._batch.properties]
        if type is ValueType.TEXT:
            return _objects([value if isinstance(value, str) and value else None for value in values])
        return np.array([value if isinstance(value, float) else np.nan for value in values], np.float64)

    def lookup(self, entity: str, signal: str) -> Array:
        """A stored signal of the events' own rows of an entity."""
        return self.looked_up[entity, signal]


class _Some:
    """Some events of a batch (evaluate.Columns)."""

    def __init__(self, columns: _BatchColumns, positions: Positions) -> None:
        self._columns = columns
        self._positions = positions
        self.length = len(positions)

    def field(self, name: str) -> Array:
        """See _BatchColumns."""
        return self._columns.field(name)[self._positions]

    def property(self, name: str, type: ValueType) -> Array:
        """See _BatchColumns."""
        return self._columns.property(name, type)[self._positions]

    def lookup(self, entity: str, signal: str) -> Array:
        """See _BatchColumns."""
        return self._columns.lookup(entity, signal)[self._positions]


def _touch(update: Update, columns: _BatchColumns, positions: Positions) -> _Touch:
    """What an update does with the events at `positions`."""
    some = _Some(columns, positions)
    ids = _objects(update.id.join([evaluate(part, some).tolist() for part in update.id.parts]))
    touched = ~missing(ids)
    if update.where is not None:
        touched &= evaluate(update.where, some) == 1
    operands: dict[str, Array] = {}
    for name, node in (("weight", update.weight), ("key", update.key), ("value", update.value)):
        if isinstance(node, Node):
            operands[name] = evaluate(node, some)
            touched &= ~missing(operands[name])
    chosen = np.flatnonzero(touched)
    operands = {name: values[chosen] for name, values in operands.items()}
    return _Touch(update, positions[chosen], ids[chosen].tolist(), _values(update.signal.kind, operands))


def _values(kind: SignalKind, operands: Mapping[str, Array]) -> Values:
    """What is written, as signals.store has it."""
    match kind:
        case SignalKind.COUNTER | SignalKind.WINDOW:
            return operands["weight"]
        case SignalKind.MAP:
            return _map_values(operands["key"], operands["weight"])
        case SignalKind.F32:
            with np.errstate(over="ignore"):
                return operands["value"].astype(np.float32)
        case SignalKind.I64 | SignalKind.TIMESTAMP | SignalKind.BOOL:
            # Beyond int64 is as far as int64 goes.
            return np.clip(np.trunc(operands["value"]), -(2.0**63 - 1024), 2.0**63 - 1024).astype(DTYPES[kind])
    assert kind in VALUE_TYPES, kind
    texts: list[str] = operands["value"].tolist()
    return texts


def _map_values(keys: Array, weights: Array) -> MapValues:
    with np.errstate(over="ignore"):
        amounts = weights.astype(np.float32)
    if not (len(keys) and isinstance(keys[0], frozenset)):
        return MapValues(keys.tolist(), amounts, np.ones(len(keys), np.int64))
    members = [sorted(key) for key in keys]
    lengths = np.array([len(inner) for inner in members], np.int64)
    return MapValues([key for inner in members for key in inner], np.repeat(amounts, lengths), lengths)


def _batch(
    entity: str, batch: EventBatch, columns: _BatchColumns, touches: Sequence[_Touch]
) -> tuple[WriteBatch, Positions]:
    """One row for each event and id, and the event of each row. Rows are in the events' order."""
    if all(touch.update.id == touches[0].update.id for touch in touches):
        touched = np.zeros(batch.length, np.bool_)
        ids_of = np.empty(batch.length, object)
        for touch in touches:
            touched[touch.positions] = True
            ids_of[touch.positions] = touch.ids
        events = np.flatnonzero(touched)
        row_of = np.cumsum(touched) - 1
        ids: list[str] = ids_of[events].tolist()
        rows = [row_of[touch.positions] for touch in touches]
    else:
        pairs = [list(zip(touch.positions.tolist(), touch.ids, strict=True)) for touch in touches]
        order = sorted({pair for inner in pairs for pair in inner})
        row_by_pair = {pair: row for row, pair in enumerate(order)}
        events = np.array([position for position, _ in order], np.int64)
        ids = [id_ for _, id_ in order]
        rows = [np.array([row_by_pair[pair] for pair in inner], np.int64) for inner in pairs]
    event_ids = batch.texts["id"]
    written = [_column(touch, positions) for touch, positions in zip(touches, rows, strict=True)]
    write = WriteBatch(
        entity, ids, written, batch.times_ms[events], event_ids=[event_ids[event] for event in events.tolist()]
    )
    return write, events


def _column(touch: _Touch, rows: Positions) -> ColumnValues:
    signal = touch.update.signal
    operation = Operation.ADD if signal.kind in _ADDED else Operation.SET
    return ColumnValues(signal.name, rows, touch.values, NO_ROWS, operation)


_ADDED: Final = (SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.MAP, SignalKind.LIST)


def _applied(batch: EventBatch, written: Sequence[tuple[WriteBatch, Positions, WriteResult]]) -> Applied:
    rows = np.zeros(batch.length, np.int64)
    repeated = np.zeros(batch.length, np.int64)
    faults: dict[int, EventFault] = {}
    for write, events, result in written:
        np.add.at(rows, events, 1)
        np.add.at(repeated, events[np.asarray(result.repeated, np.int64)], 1)
        for rejection in result.rejected:
            event = int(events[rejection.row])
            what = f"{write.entity}.{rejection.signal}" if rejection.signal else f"the id of {write.entity}"
            position = int(batch.positions[event])
            faults.setdefault(event, EventFault(position, "", f"{what}: {rejection.description}"))
    before = (rows > 0) & (rows == repeated)
    before[list(faults)] = False
    return Applied([faults[event] for event in sorted(faults)], int(before.sum()))
