"""Which events of a history cannot be taken, and where they stand: those that Collect would refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq

from rankd import limits
from rankd.errors import ConfigError
from rankd.features.parse import did_you_mean

FAULT: Final = "fault"
"""The column that says what is wrong with an event; NULL: nothing."""
LINE: Final = "rankd.line"
"""The column of files made of JSON lines that says where an event stood."""
TEXTS: Final = ("event_id", "type", "user_id", "visitor_id", "session_id", "item_id", "query")
NUMBERS: Final = ("position", "value")
TIMES: Final = ("time", "unix_millis")

_IDS: Final = ("user_id", "visitor_id", "session_id", "item_id")
_MOST_BYTES: Final = {
    "event_id": limits.MAX_WRITE_ID_BYTES,
    "type": limits.MAX_EVENT_TYPE_BYTES,
    **dict.fromkeys(_IDS, limits.RequestLimits().max_id_bytes),
    "query": limits.MAX_QUERY_BYTES,
}


@dataclass(frozen=True, slots=True)
class History:
    """A Parquet file of events. `shown`: the file that it was made of, in messages."""

    path: Path
    shown: Path

    @classmethod
    def of(cls, path: Path) -> History:
        """A file that is Parquet itself."""
        return cls(path, path)


def grouped(files: Iterable[History]) -> list[list[History]]:
    """Files of the same columns together. ConfigError, with its name, for one that is no Parquet, or whose columns are
    not those of events."""
    found: dict[Any, list[History]] = {}
    for file in files:
        columns = _columns(file)
        _check_names(file, [name for name, _ in columns])
        found.setdefault(columns, []).append(file)
    return list(found.values())


def _columns(file: History) -> tuple[tuple[str, str], ...]:
    try:
        schema = pq.read_schema(file.path)
    except Exception as error:
        raise ConfigError(f"cannot be read as Parquet: {str(error)[:200]}", str(file.shown)) from error
    return tuple((field.name, str(field.type)) for field in schema)


def _check_names(file: History, names: Sequence[str]) -> None:
    for name in ("event_id", "type"):
        if name not in names:
            raise ConfigError(f'expected a column "{name}", got {", ".join(names)[:200]}', str(file.shown))
    if sum(name in names for name in TIMES) != 1:
        got = ", ".join(names)[:200]
        raise ConfigError(f'expected a column "time", or "unix_millis" in its place, got {got}', str(file.shown))
    known = (*TEXTS, *NUMBERS, *TIMES, "properties")
    for name in names:
        if name not in known and not name.startswith(("properties.", "property_")) and name != LINE:
            hint = did_you_mean(name, known)
            raise ConfigError(f'expected columns of events, got "{name}"{hint}', str(file.shown))


def fault(
    clean: Mapping[str, Any], raw: ir.Table, properties: Iterable[tuple[str, Any]], byte_count: Any, latest_ms: int
) -> Any:
    """What is wrong with an event, the first of it. `clean`: its columns as normalised. `properties`: name and column
    of those that are read as numbers. `byte_count`: of a text."""
    found: list[tuple[Any, str]] = [(clean[name].isnull(), f"{name}: expected a text, got none")
                                    for name in ("event_id", "type")]  # fmt: skip
    for name, most in _MOST_BYTES.items():
        if name in raw.columns:
            found.append((byte_count(clean[name]) > most, f"{name}: expected at most {most} bytes, got more"))
    time = clean["time"]
    found += [
        (time.isnull(), "time: expected a time, got none"),
        (time < 0.0, "time: expected a time from 1970 on, got an earlier one"),
        (time > float(latest_ms), "time: expected at most an hour ahead of the clock, got a later time"),
    ]
    if "value" in raw.columns:
        found.append((_not_finite(raw["value"]), "value: expected a finite number, got another"))
    if "position" in raw.columns:
        position = raw["position"].cast("float64")
        is_whole = (position >= 0.0) & (position < 2.0**32) & (position % 1.0 == 0.0)
        bad = _not_finite(position) | ~is_whole
        found.append((bad, "position: expected a whole number of 32 bits, got another"))
    found += [
        (_not_finite(column), f"properties.{name}: expected a finite number, got another")
        for name, column in properties
    ]
    return ibis.cases(*((condition.fill_null(False), text) for condition, text in found), else_=ibis.null("string"))


def _not_finite(column: Any) -> Any:
    number = column.cast("float64")
    return number.isnan() | number.isinf()
