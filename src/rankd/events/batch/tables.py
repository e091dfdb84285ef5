"""An event history as a table whose columns the expressions find: whatever the file's types, these.

    event_id, type, user_id, visitor_id, session_id, item_id, query   text; NULL where empty
    time                                                              milliseconds since 1970, a double
    position, value                                                   double; NULL where not finite
    property_number_NAME, property_text_NAME                          of the properties that are used
    lookup_ENTITY.SIGNAL                                              what is stored of the event's own row

Files are Parquet with those columns (`time`, or `unix_millis`, an integer or a timestamp); properties are columns
`properties.NAME`, or a struct or map column `properties`. JSON lines are turned into such a file first
(events.batch.history). Files may have different columns of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from rankd.errors import ConfigError
from rankd.events.batch.checks import FAULT, LINE, NUMBERS, TEXTS, TIMES, History, fault, grouped
from rankd.events.batch.engines import Engine, open_engine
from rankd.events.batch.expression import compile_node, finite, lookup_column, property_column
from rankd.events.declare import RowId, Update, lookups, own_id
from rankd.events.nodes import Field, Lookup, Node, Property, ValueType, walk
from rankd.types.schema import Schema
from rankd.types.text import query_key

Lookups = Mapping[str, ir.Table]
"""By entity: a table with `id` and a column for each signal that is looked up."""

SHOWN_FAULTS: Final = 20


def normalise(
    table: ir.Table, properties: Iterable[Property], where: str = "events", check: Check | None = None
) -> ir.Table:
    """The events with the columns above, and, with `check`, FAULT: what is wrong with each (events.batch.checks), and
    LINE where the file says it. ConfigError, at `where`, if a column is not of its type."""
    properties = list(properties)
    columns: dict[str, Any] = {name: _text(table, name, where) for name in TEXTS}
    columns |= {name: _number(table, name, where) for name in NUMBERS}
    time = next((name for name in TIMES if name in table.columns), "time")
    columns["time"] = _time(table[time], f"{where}: {time}")
    for each in properties:
        columns[property_column(each.name, each.type)] = _property(table, each, where)
    if check is not None:
        raw = [(each.name, _property_column(table, each.name, where)) for each in properties]
        numbers = [(name, column) for name, column in raw if column is not None and column.type().is_floating()]
        columns[FAULT] = fault(columns, table, numbers, check.byte_count, check.latest_ms)
        columns |= {LINE: table[LINE]} if LINE in table.columns else {}
    return table.select(**columns)


@dataclass(frozen=True, slots=True)
class Check:
    """How events are checked. `latest_ms`: later ones are faulty."""

    byte_count: Callable[[Any], Any]
    latest_ms: int


def read_history(
    engine: Engine, files: Sequence[History], properties: Sequence[Property], latest_ms: int
) -> tuple[ir.Table, int, list[str]]:
    """All events without a fault; how many have one; and the first of these: "FILE:LINE: what is wrong" (of Parquet,
    the number of the row). ConfigError for a file that has not the columns of events."""
    groups = grouped(files)
    check = Check(engine.byte_count, latest_ms)
    tables = [
        normalise(engine.read_parquet([file.path for file in group]), properties, str(group[0].shown), check)
        for group in groups
    ]
    events = ibis.union(*(table.drop(LINE) if LINE in table.columns else table for table in tables))
    faulty = int(events[FAULT].notnull().sum().to_pyarrow().as_py() or 0)
    told = first_faults([file for group in groups for file in group], properties, latest_ms) if faulty else []
    return events.filter(events[FAULT].isnull()).drop(FAULT), faulty, told


def first_faults(files: Iterable[History], properties: Sequence[Property], latest_ms: int) -> list[str]:
    """Where the first faulty events stand, at most SHOWN_FAULTS, and what is wrong. By DuckDB, which counts rows."""
    told: list[str] = []
    with open_engine("duckdb") as engine:
        for file in files:
            table = engine.connection.read_parquet(str(file.path), file_row_number=True)
            if LINE not in table.columns:
                table = table.mutate(**{LINE: table["file_row_number"] + 1})
            checked = normalise(table, properties, str(file.shown), Check(engine.byte_count, latest_ms))
            faulty = checked.filter(checked[FAULT].notnull()).select(LINE, FAULT).order_by(LINE)
            rows = faulty.limit(SHOWN_FAULTS - len(told)).to_pyarrow().to_pylist()
            told += [f"{file.shown}:{row[LINE]}: {row[FAULT]}" for row in rows]
            if len(told) >= SHOWN_FAULTS:
                break
    return told


def _text(table: ir.Table, name: str, where: str) -> Any:
    if name not in table.columns:
        return ibis.null("string")
    column = table[name]
    if not (column.type().is_string() or column.type().is_integer() or column.type().is_null()):
        raise ConfigError(f"expected texts, got {column.type()}", f"{where}: {name}")
    return column.cast("string").nullif("")


def _number(table: ir.Table, name: str, where: str) -> Any:
    if name not in table.columns:
        return ibis.null("float64")
    column = table[name]
    if not (column.type().is_numeric() or column.type().is_null()):
        raise ConfigError(f"expected numbers, got {column.type()}", f"{where}: {name}")
    return finite(column.cast("float64"))


def _time(column: Any, where: str = "events.time") -> Any:
    if column.type().is_timestamp():
        return (column.truncate("s").epoch_seconds() * 1000 + column.millisecond()).cast("float64")
    if column.type().is_numeric():
        return column.cast("float64")
    raise ConfigError(f"expected times as integers (ms since 1970) or timestamps, got {column.type()}", where)


def _property(table: ir.Table, wanted: Property, where: str) -> Any:
    if property_column(wanted.name, wanted.type) in table.columns:
        return table[property_column(wanted.name, wanted.type)]
    column = _property_column(table, wanted.name, where)
    is_number = wanted.type is ValueType.NUMBER
    if column is None:
        return ibis.null("float64" if is_number else "string")
    kind = column.type()
    if is_number:
        if kind.is_boolean():
            return column.cast("int64").cast("float64")
        return finite(column.cast("float64")) if kind.is_numeric() else ibis.null("float64")
    return column.nullif("") if kind.is_string() else ibis.null("string")


def _property_column(table: ir.Table, name: str, where: str) -> Any:
    flat = f"properties.{name}"
    if flat in table.columns:
        return table[flat]
    if "properties" not in table.columns:
        return None
    column = table["properties"]
    if column.type().is_struct():
        return column[name] if name in column.type().names else None
    if column.type().is_map():
        return column.get(name)
    raise ConfigError(f"expected a struct or a map, got {column.type()}", f"{where}: properties")


def used_properties(updates: Iterable[Update]) -> list[Property]:
    """The distinct properties that expressions read."""
    nodes = [node for update in updates for root in update.expressions for node in walk(root)]
    return list(dict.fromkeys(node for node in nodes if isinstance(node, Property)))


class Joiner:
    """Adds what expressions look up, and makes the ids of rows."""

    def __init__(self, engine: Engine, schema: Schema, events: ir.Table, rows: Lookups) -> None:
        """`events`: all of the history."""
        self._engine = engine
        self.byte_count = engine.byte_count
        self._schema = schema
        self._events = events
        self._rows = rows
        self._query_keys: ir.Table | None = None

    def with_lookups(self, events: ir.Table, expressions: Iterable[Node]) -> ir.Table:
        """`events` with a column for each signal that the expressions look up. ConfigError without its rows."""

        def own(entity: str) -> RowId | None:
            return own_id(self._schema, self._schema.entities[entity])

        wanted: dict[Lookup, None] = dict.fromkeys(lookups(list(expressions), own))
        # What a row's id itself looks up comes after it: joined first.
        for each in reversed(wanted):
            events = self._join(events, each, own(each.entity))
        return events

    def _join(self, events: ir.Table, wanted: Lookup, row_id: RowId | None) -> ir.Table:
        rows = self._rows.get(wanted.entity)
        if rows is None or wanted.signal not in rows.columns or row_id is None:
            raise ConfigError(
                f"an expression reads {wanted.entity}.{wanted.signal}: expected --rows {wanted.entity}=FILE with a "
                f'column "{wanted.signal}", got none',
                "--rows",
            )
        name = lookup_column(wanted.entity, wanted.signal)
        keyed = self.with_id(events, row_id, "lookup_id")
        found = rows.select(found_id=rows["id"].cast("string"), **{name: _stored(rows[wanted.signal], wanted.type)})
        found = found.distinct(on="found_id", keep="first")
        return keyed.left_join(found, keyed["lookup_id"] == found["found_id"]).drop("lookup_id", "found_id")

    def with_id(self, events: ir.Table, row_id: RowId, name: str) -> ir.Table:
        """`events` with the ids of their rows; NULL: none."""
        parts = []
        for number, (node, is_query) in enumerate(zip(row_id.parts, row_id.is_query, strict=True)):
            part = f"part_{number}"
            events = events.mutate(**{part: compile_node(node, events)})
            events = self._keyed(events, part, node) if is_query else events
            parts.append(part)
        return events.mutate(**{name: self._joined(events, parts)}).drop(*parts)

    def _keyed(self, events: ir.Table, name: str, node: Node) -> ir.Table:
        """Queries' texts as their keys: made by the same function as everywhere, on the distinct ones."""
        if node == Field("query", ValueType.TEXT):
            # Of all events, once for all sources.
            if self._query_keys is None:
                self._query_keys = self._keys(self._events, "query")
            found = self._query_keys
        else:
            found = self._keys(events, name)
        joined = events.left_join(found, events[name] == found["text"])
        return joined.mutate(**{name: joined["key"].nullif("")}).drop("text", "key")

    def _keys(self, events: ir.Table, name: str) -> ir.Table:
        distinct = events.select(text=events[name]).filter(ibis._["text"].notnull()).distinct().to_pyarrow()
        texts = distinct["text"].to_pylist()
        keys = {"text": pa.array(texts, pa.string()), "key": pa.array(map(query_key, texts), pa.string())}
        return self._engine.upload(pa.table(keys))

    def _joined(self, events: ir.Table, parts: list[str]) -> Any:
        whole: Any = events[parts[-1]]
        for part in reversed(parts[:-1]):
            text = events[part]
            whole = self.byte_count(text).cast("string") + ibis.literal(":") + text + ibis.literal("/") + whole
        return whole


def _stored(column: Any, kind: ValueType) -> Any:
    match kind:
        case ValueType.TEXT:
            return column.cast("string").nullif("")
        case ValueType.TIME:
            return _time(column)
        case ValueType.SET:
            return column.cast("array<string>")
        case ValueType.CONDITION:
            return column.cast("boolean")
        case _:
            return finite(column.cast("float64"))
