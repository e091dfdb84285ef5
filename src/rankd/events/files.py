"""Events of files: JSONL and Parquet.

A row has fields named like those of rankd.v1.Event: event_id and type, which are required, and time (ISO 8601, or
milliseconds since 1970; also unix_millis), user_id, visitor_id, session_id, item_id, query, position, value, properties
(an object), or properties.NAME. null is the same as no field.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rankd.errors import ConfigError
from rankd.features.parse import did_you_mean
from rankd.signals.coerce import coerce_value
from rankd.signals.rowfile import BadRow, read_rows
from rankd.types.event import Event
from rankd.types.schema import Signal, SignalKind

FORMATS: Final = ("jsonl", "parquet")

EVENT_ID: Final = "event_id"


def read_events(path: Path, format: str | None = None) -> Iterator[tuple[int, Event] | BadRow]:
    """The events of a file in its order, with their lines (Parquet: numbers of rows), and what cannot be read.

    `format`: one of FORMATS; None: by the file's name. ConfigError if the file as a whole cannot be read.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f'expected one of the formats {", ".join(FORMATS)}, got "{format}"', str(path))
    for row in read_rows(path, format, EVENT_ID):
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield row.line, parse_event({EVENT_ID: row.id, **row.values})
        except ValueError as error:
            yield BadRow(row.line, str(error))


def parse_event(values: Mapping[str, Any]) -> Event:
    """An event of raw values, as JSON and Parquet have them. ValueError: "position: expected …, got …"."""
    found: dict[str, Any] = {}
    properties: dict[str, float | str | bool] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name == "properties":
            properties |= _properties(value)
        elif name.startswith("properties."):
            properties |= _properties({name.removeprefix("properties."): value})
        else:
            field, parse = _PARSERS.get(name, ("", None))
            if parse is None:
                raise ValueError(f"expected a field of events, got `{name}`{did_you_mean(name, _NAMES)}")
            if field in found:
                raise ValueError(f"{name}: expected the time once, got it again")
            found[field] = _parsed(name, parse, value)
    for name in (EVENT_ID, "type"):
        if not found.get(name):
            raise ValueError(f"{name}: expected a text, got none")
    return Event(**found, properties=properties)


def _parsed(name: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _text(value: Any) -> str:
    return str(coerce_value(_TEXT, value))


def _time(value: Any) -> int:
    return int(coerce_value(_TIME, value))


def _position(value: Any) -> int:
    number = coerce_value(_WHOLE, value)
    if not 0 <= number < 2**32:
        raise ValueError(f"expected a whole number of 32 bits, got {number}")
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        raise ValueError(f"expected a number, got {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {value!r:.80}")
    return number


def _properties(value: Any) -> dict[str, float | str | bool]:
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)  # a map of Parquet
    if not isinstance(value, Mapping):
        raise ValueError(f"properties: expected an object, got {value!r:.80}")
    return {
        str(name): _parsed(f"properties.{name}", _property, inner) for name, inner in value.items() if inner is not None
    }


def _property(value: Any) -> float | str | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float | decimal.Decimal):
        return _number(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise ValueError(f"expected a number, a text, true or false, got {value!r:.80}")


_TEXT: Final = Signal("", SignalKind.STRING)
_TIME: Final = Signal("", SignalKind.TIMESTAMP)
_WHOLE: Final = Signal("", SignalKind.I64)

_PARSERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    **{name: (name, _text) for name in (EVENT_ID, "type", "user_id", "visitor_id", "session_id", "item_id", "query")},
    "time": ("time_ms", _time),
    "unix_millis": ("time_ms", _time),
    "position": ("position", _position),
    "value": ("value", _number),
}
"""By the name in the file: the field of Event and how it is read."""

_NAMES: Final = [*_PARSERS, "properties"]
