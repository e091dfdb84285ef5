"""JSON lines (and UBI) of events as Parquet, read by the reader of `rankd ingest`, so that both take the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rankd.events.batch.checks import LINE, TEXTS
from rankd.events.batch.expression import property_column
from rankd.events.files import read_events
from rankd.events.nodes import Property, ValueType
from rankd.events.ubi import read_ubi
from rankd.signals.rowfile import BadRow
from rankd.types.event import Event

CHUNK_EVENTS: Final = 50_000
UBI: Final = "ubi"
"""A format of events beside events.files.FORMATS (events.ubi)."""

OnEvents = Callable[[int, int], None]
"""(events read of the file so far, of them such as cannot be read)."""


def is_parquet(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in (".parquet", ".pq") or path.is_dir()


def to_parquet(
    source: Path,
    target: Path,
    properties: Sequence[Property],
    on_bad: Callable[[BadRow], None],
    on_events: OnEvents = lambda read, bad: None,
    format: str | None = None,
) -> int:
    """Writes the events that can be read, with their lines; how many. `format`: one of FORMATS, UBI, None: by the
    file's name. ConfigError if the file as a whole cannot be read."""
    schema = _schema(properties)
    written, bad = 0, 0
    with pq.ParquetWriter(str(target), schema) as writer:
        chunk: list[tuple[int, Event]] = []
        for each in read_ubi(source) if format == UBI else read_events(source, format):
            if isinstance(each, BadRow):
                bad += 1
                on_bad(each)
                continue
            chunk.append(each)
            if len(chunk) == CHUNK_EVENTS:
                writer.write_table(_table(chunk, properties, schema))
                written += len(chunk)
                chunk = []
                on_events(written + bad, bad)
        writer.write_table(_table(chunk, properties, schema))
    on_events(written + len(chunk) + bad, bad)
    return written + len(chunk)


def _schema(properties: Iterable[Property]) -> pa.Schema:
    fields: list[tuple[str, Any]] = [(name, pa.string()) for name in TEXTS]
    fields += [(LINE, pa.int64()), ("time", pa.int64()), ("position", pa.float64()), ("value", pa.float64())]
    fields += [
        (property_column(each.name, each.type), pa.float64() if each.type is ValueType.NUMBER else pa.string())
        for each in properties
    ]
    return pa.schema(fields)


def _table(rows: Sequence[tuple[int, Event]], properties: Iterable[Property], schema: pa.Schema) -> pa.Table:
    events = [event for _, event in rows]
    columns: dict[str, list[Any]] = {name: [getattr(event, name) for event in events] for name in TEXTS}
    columns[LINE] = [line for line, _ in rows]
    columns["time"] = [event.time_ms for event in events]
    columns["position"] = [event.position for event in events]
    columns["value"] = [event.value for event in events]
    for each in properties:
        name = property_column(each.name, each.type)
        columns[name] = [_value(event.properties.get(each.name), each.type) for event in events]
    return pa.table(columns, schema=schema)


def _value(value: float | str | bool | None, kind: ValueType) -> float | str | None:
    if kind is ValueType.NUMBER:
        return float(value) if isinstance(value, bool | int | float) else None
    return value if isinstance(value, str) and value else None
