"""What the schema derives from events: its sources, checked and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rankd.errors import ExpressionError
from rankd.events import nodes
from rankd.events.expression import EVENT_ENTITIES, compile_expression
from rankd.events.nodes import Constant, Field, Lookup, Node, ValueType
from rankd.features.parse import Source
from rankd.types.schema import Entity, EventSource, Schema, Signal, SignalKind
from rankd.types.text import QUERY, composite_id, query_key

_TEXT, _NUMBER = ValueType.TEXT, ValueType.NUMBER


@dataclass(frozen=True, slots=True)
class RowId:
    """The id of an event's row of an entity, of texts. `is_query`: for each part, whether it is a query's text, whose
    key (types.text.query_key) stands for it. One part is the id; more are joined (types.text.composite_id). Where one
    is missing, there is no row."""

    parts: tuple[Node, ...]
    is_query: tuple[bool, ...]

    def join(self, columns: Sequence[Sequence[str | None]]) -> list[str | None]:
        """The ids of the parts' values."""
        keyed = [
            [(text and query_key(text)) or None for text in column] if is_query else column
            for column, is_query in zip(columns, self.is_query, strict=True)
        ]
        if len(keyed) == 1:
            return list(keyed[0])
        return [None if None in parts else composite_id(parts) for parts in zip(*keyed, strict=True)]


@dataclass(frozen=True, slots=True)
class Update:
    """How events change one signal: those of the types `events` where `where` holds (None: all).

    `weight` (counters and maps: what is added), `key` (maps: a text, or a set: each of its members), `value` (others:
    what becomes the value, or the list's newest member); None where the kind has none. An event changes nothing where
    its row's id, or one of these, is missing.
    """

    entity: str
    signal: Signal
    events: frozenset[str]
    id: RowId
    where: Node | None
    weight: Node | None
    key: Node | None
    value: Node | None

    @property
    def expressions(self) -> tuple[Node, ...]:
        """All of them."""
        return (*self.id.parts, *(node for node in (self.where, self.weight, self.key, self.value) if node is not None))


VALUE_TYPES: Final[Mapping[SignalKind, ValueType]] = {
    SignalKind.F32: ValueType.NUMBER,
    SignalKind.I64: ValueType.NUMBER,
    SignalKind.TIMESTAMP: ValueType.TIME,
    SignalKind.BOOL: ValueType.CONDITION,
    SignalKind.CATEGORY: ValueType.TEXT,
    SignalKind.STRING: ValueType.TEXT,
    SignalKind.LIST: ValueType.TEXT,
}
"""Kinds that take a value, and which. Numbers become whole for i64 by dropping what is behind the point."""

_PARTS: Final[Mapping[SignalKind, tuple[str, ...]]] = {
    SignalKind.COUNTER: ("weight",),
    SignalKind.WINDOW: ("weight",),
    SignalKind.MAP: ("key", "weight"),
    **dict.fromkeys(VALUE_TYPES, ("value",)),
}
"""Kinds that events can change, and what says how."""


def compile_sources(schema: Schema) -> tuple[Update, ...]:
    """All updates that a schema declares, in its order. ExpressionError at the first fault."""
    updates, faults = _compile(schema)
    if faults:
        raise faults[0]
    return updates


def source_faults(schema: Schema) -> list[ExpressionError]:
    """All faults of a schema's sources; `where` is a path such as schema.item.clicks.from.where."""
    return _compile(schema)[1]


def own_id(schema: Schema, entity: Entity) -> RowId | None:
    """The id of an event's own row of an entity; None: an event names none of these.

    As Rank finds rows: a user's id is user_id, else visitor_id.
    """
    parts = entity.key or (entity.name,)
    found = [_own_part(schema, part) for part in parts]
    if any(part is None for part in found):
        return None
    return RowId(tuple(part for part in found if part is not None), tuple(part == QUERY for part in parts))


def _own_part(schema: Schema, part: str) -> Node | None:
    entity, dot, signal = part.partition(".")
    if dot:
        return Lookup(entity, signal, _TEXT) if entity in EVENT_ENTITIES else None
    if part == "user":
        user_id = Field("user_id", _TEXT)
        return nodes.Choose(nodes.IsMissing(user_id), Field("visitor_id", _TEXT), user_id, _TEXT)
    if part not in EVENT_ENTITIES:
        return None
    return Field(QUERY if part == QUERY else f"{part}_id", _TEXT)


def _compile(schema: Schema) -> tuple[tuple[Update, ...], list[ExpressionError]]:
    updates, faults = [], []
    for entity in schema.entities.values():
        for signal in entity.signals.values():
            if signal.source is None:
                continue
            compiler = _SourceCompiler(schema, entity, signal, signal.source)
            update = compiler.update()
            faults += compiler.faults
            if update is not None:
                updates.append(update)
    return tuple(updates), faults


class _SourceCompiler:
    """One signal's source."""

    def __init__(self, schema: Schema, entity: Entity, signal: Signal, source: EventSource) -> None:
        self._schema = schema
        self._entity = entity
        self._signal = signal
        self._source = source
        self._where = f"schema.{entity.name}.{signal.name}.from"
        self.faults: list[ExpressionError] = []

    def update(self) -> Update | None:
        """The update; None if there are faults."""
        kind = self._signal.kind
        if kind not in _PARTS:
            self._fault(
                "", f"a signal of type {self._signal.type_name} cannot be made of events{_INSTEAD.get(kind, '')}"
            )
            return None
        for name in ("weight", "key", "value"):
            if getattr(self._source, name) is not None and name not in _PARTS[kind]:
                takes = " and ".join(_PARTS[kind])
                self._fault(f".{name}", f"a signal of type {self._signal.type_name} takes {takes}, not {name}")
        if not self._source.events:
            self._fault(".events", "expected the types of the events, got none")
        id_ = self._id()
        where = self._expression("where", (ValueType.CONDITION,), "the condition")
        weight = self._expression("weight", (_NUMBER,), "the weight", Constant(1.0, _NUMBER))
        key = self._expression("key", (_TEXT, ValueType.SET), "the key")
        default = Field("item_id", _TEXT) if kind is SignalKind.LIST else None
        value = self._expression("value", (VALUE_TYPES.get(kind, _TEXT),), "the value", default)
        if self.faults or id_ is None:
            return None
        return Update(self._entity.name, self._signal, frozenset(self._source.events), id_, where, weight, key, value)

    def _id(self) -> RowId | None:
        own = own_id(self._schema, self._entity)
        if self._source.id is None:
            if own is None:
                names = f"an event names one of {', '.join(EVENT_ENTITIES)}"
                if self._entity.key:
                    self._fault("", f"{names}, and not all that ids of {self._entity.name} are joined of")
                else:
                    self._fault("", f"expected id: {names}, but no {self._entity.name}")
            return own
        if self._entity.key:
            self._fault(".id", "the id of an entity with a key is joined of the event's own ids; expected none")
            return None
        node = self._compile("id", self._source.id, (_TEXT,), "the id")
        return None if node is None else RowId((node,), (self._entity.name == QUERY,))

    def _expression(
        self, name: str, wanted: tuple[ValueType, ...], what: str, default: Node | None = None
    ) -> Node | None:
        text = getattr(self._source, name)
        if name != "where" and name not in _PARTS[self._signal.kind]:
            return None
        if text is not None:
            return self._compile(name, text, wanted, what)
        if default is None and name != "where":
            self._fault("", f"expected {name}, got none")
        return default

    def _compile(self, name: str, text: str, wanted: tuple[ValueType, ...], what: str) -> Node | None:
        try:
            return compile_expression(Source(text, f"{self._where}.{name}"), self._schema, wanted, what)
        except ExpressionError as error:
            self.faults.append(error)
            return None

    def _fault(self, below: str, message: str) -> None:
        self.faults.append(ExpressionError(message, where=self._where + below))


_INSTEAD: Final[Mapping[SignalKind, str]] = {
    SignalKind.RATIO: "; it is computed of two counters, which can",
    SignalKind.SET: "; a list can",
}


def lookups(expressions: Sequence[Node], own: Callable[[str], RowId | None]) -> Iterator[Lookup]:
    """What has to be read from the store for some expressions, ids of rows that are read included. `own`: by entity."""
    stack = list(expressions)
    while stack:
        for node in nodes.walk(stack.pop()):
            if isinstance(node, Lookup):
                yield node
                row_id = own(node.entity)
                stack += row_id.parts if row_id is not None else ()
