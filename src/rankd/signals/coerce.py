"""From raw values, as JSON, CSV and Parquet have them, to typed columns by the schema.

Pure: no store, no kernels; it runs in the client's process. `rankd load` is

    rows = read_rows(path)
    for batch in coerce_rows(schema.entities["item"], rows):
        write(batch.ids, batch.columns); report batch.bad_rows and what the server rejects,
        whose line is batch.lines[rejected.row]

What is taken for what:

    f32        a number, or text that is one
    i64        a whole number, or text that is one
    timestamp  a number: milliseconds since 1970; ISO 8601 text (without a zone: UTC)
    bool       true, false, 1, 0, or the words true/false, yes/no, t/f, y/n, 1/0 in any case
    category   text, or a whole number
    string     text, or a whole number
    set        a list of those; text: a JSON list, or members between bars ("a|b|c")
    map        an object from those to numbers, or a list of pairs; text: a JSON object
    embedding  a list of n numbers; text: a JSON list
    decayed_counter   a number, or text that is one
    windowed_counter  an object from the times at which buckets begin to numbers, or a list of pairs; text: a JSON
               object or list
    list       the newest first: a list of texts, which came when the row was so, or of pairs of text and time; text: a
               JSON list, or members between bars

None clears the signal; a signal that the row does not mention keeps its value. NaN in f32 and
decayed_counter clears, too.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.signals.accumulate import bucket_ms
from rankd.signals.rowfile import BadRow, Row
from rankd.signals.store import ColumnValues
from rankd.signals.values import I64_MISSING, NO_ROWS, from_list
from rankd.types.schema import Entity, Signal, SignalKind

_F32_MAX: float = (2 - 2.0**-24) * 2.0**127
"""What is below rounds to a finite float32."""

_I32_MAX = np.iinfo(np.int32).max
_I64_MAX = np.iinfo(np.int64).max

_BOOL_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_decode_json = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows ready to be written: `ids[i]` stands at line `lines[i]`; positions in `columns` are those of
    `ids`. `bad_rows`: rows among them that are left out."""

    lines: NDArray[np.int64]
    ids: Sequence[str]
    columns: Sequence[ColumnValues]
    bad_rows: Sequence[BadRow]


class _Mismatch(Exception):
    """A value is not of the kind; the message says what came."""


def coerce_rows(
    entity: Entity,
    rows: Iterable[Row | BadRow],
    *,
    batch_rows: int = 1_000,
    on_unknown: Literal["error", "ignore"] = "error",
) -> Iterator[RowBatch]:
    """Typed batches of at most `batch_rows` rows, in order. A row with a fault is left out whole.

    `on_unknown`: what a field that is no signal of the entity does to its row.
    """
    builder = _Builder(entity, on_unknown)
    for row in rows:
        builder.add(row)
        if builder.size >= batch_rows:
            yield builder.take()
    if builder.size:
        yield builder.take()


def coerce_value(signal: Signal, value: Any) -> Any:
    """One value as `values.from_list` takes it; ValueError "expected …, got …" if it is not of the kind."""
    try:
        return _CONVERTERS[signal.kind](signal, value)
    except _Mismatch as mismatch:
        raise ValueError(f"expected {_expected(signal)}, got {mismatch}") from None


def _expected(signal: Signal) -> str:
    if signal.kind is SignalKind.EMBEDDING:
        return f"a list of {signal.dimension} finite numbers"
    return _EXPECTED[signal.kind]


class _Builder:
    def __init__(self, entity: Entity, on_unknown: str) -> None:
        self._entity = entity
        self._ignore_unknown = on_unknown == "ignore"
        self._start()

    def _start(self) -> None:
        self.size = 0
        self._lines: list[int] = []
        self._ids: list[str] = []
        self._bad: list[BadRow] = []
        self._rows: dict[str, list[int]] = {}
        self._values: dict[str, list[Any]] = {}
        self._clears: dict[str, list[int]] = {}

    def add(self, row: Row | BadRow) -> None:
        self.size += 1
        if isinstance(row, BadRow):
            self._bad.append(row)
            return
        signals = self._entity.signals
        typed: list[tuple[str, Any]] = []
        for name, value in row.values.items():
            signal = signals.get(name)
            if signal is None:
                if self._ignore_unknown:
                    continue
                self._bad.append(BadRow(row.line, f'expected signals of {self._entity.name}, got "{name}"'))
                return
            if value is not None:
                try:
                    value = coerce_value(signal, value)
                except ValueError as error:
                    self._bad.append(BadRow(row.line, f"{name}: {error}"))
                    return
            typed.append((name, value))
        id_ = row.id
        try:
            id_.encode()
        except UnicodeEncodeError:
            self._bad.append(BadRow(row.line, "expected an id that UTF-8 can encode, got a lone surrogate"))
            return
        position = len(self._ids)
        for name, value in typed:
            if value is None:
                self._clears.setdefault(name, []).append(position)
            else:
                self._rows.setdefault(name, []).append(position)
                self._values.setdefault(name, []).append(value)
        self._ids.append(id_)
        self._lines.append(row.line)

    def take(self) -> RowBatch:
        columns = []
        for signal in self._entity.signals.values():
            rows, clears = self._rows.get(signal.name, ()), self._clears.get(signal.name, ())
            if rows or clears:
                values = from_list(signal, self._values.get(signal.name, ()))
                clear_rows = np.array(clears, np.int64) if clears else NO_ROWS
                columns.append(ColumnValues(signal.name, np.array(rows, np.int64), values, clear_rows))
        batch = RowBatch(np.array(self._lines, np.int64), self._ids, columns, self._bad)
        self._start()
        return batch


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _number(value: Any, bound: float = _F32_MAX) -> float:
    """`bound`: what is as large is none."""
    if isinstance(value, bool):
        raise _Mismatch(_shown(value))
    if isinstance(value, str):
        if "_" in value:  # float() takes 1_000 for a number; no file format does
            raise _Mismatch(_shown(value))
    elif not isinstance(value, int | float | decimal.Decimal):
        raise _Mismatch(_shown(value))
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _Mismatch(_shown(value)) from None
    if abs(number) >= bound:
        raise _Mismatch(_shown(value))
    return number


def _whole(value: Any) -> int:
    if isinstance(value, str):
        try:
            whole = int(value) if "_" not in value else None
        except ValueError:
            whole = None
    elif isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif (
        isinstance(value, float | decimal.Decimal)
        and math.isfinite(value)
        and -(2**63) < value < 2**63
        and value == int(value)
    ):
        whole = int(value)
    else:
        whole = None
    if whole is None or not I64_MISSING < whole <= _I64_MAX:
        raise _Mismatch(_shown(value))
    return whole


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _Mismatch(_shown(value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Mismatch("a lone surrogate") from None
    return value


def _json(text: str) -> Any:
    try:
        return _decode_json(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _Mismatch(_shown(text)) from None


def _f32(signal: Signal, value: Any) -> float:
    return _number(value)


def _i64(signal: Signal, value: Any) -> int:
    return _whole(value)


def _timestamp(signal: Signal, value: Any) -> int:
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 2**63:
        return round(value)
    if isinstance(value, str):
        try:
            return _whole(value)
        except _Mismatch:
            pass
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            raise _Mismatch(_shown(value)) from None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.UTC)
        elapsed: datetime.timedelta = value - _EPOCH
        return elapsed // datetime.timedelta(milliseconds=1)
    return _whole(value)


def _bool(signal: Signal, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _BOOL_WORDS:
        return _BOOL_WORDS[value.strip().lower()]
    raise _Mismatch(_shown(value))


def _category(signal: Signal, value: Any) -> str:
    return _text(value)


def _set(signal: Signal, value: Any) -> list[str]:
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else value.split("|") if value else []
    if not isinstance(value, list | tuple | set | frozenset):
        raise _Mismatch(_shown(value))
    return [_text(member) for member in value]


def _map(signal: Signal, value: Any) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for raw_key, raw_number in _pairs(value):
        key = _text(raw_key)
        try:
            number = _number(raw_number)
        except _Mismatch as mismatch:
            raise _Mismatch(f'{mismatch} for "{key}"') from None
        if math.isnan(number):
            raise _Mismatch(f'NaN for "{key}"')
        if key in numbers:
            raise _Mismatch(f'"{key}" more than once')
        numbers[key] = number
    return numbers


def _embedding(signal: Signal, value: Any) -> list[float]:
    if isinstance(value, str):
        value = _json(value)
    if not isinstance(value, list | tuple):
        raise _Mismatch(_shown(value))
    if len(value) != signal.dimension:
        raise _Mismatch(f"{len(value)} numbers")
    numbers = []
    for position, raw in enumerate(value):
        try:
            number = _number(raw)
        except _Mismatch as mismatch:
            raise _Mismatch(f"{mismatch} at [{position}]") from None
        if math.isnan(number):
            raise _Mismatch(f"NaN at [{position}]")
        numbers.append(number)
    return numbers


def _counter(signal: Signal, value: Any) -> float:
    return _number(value, math.inf)


def _pairs(value: Any) -> list[Any]:
    """Of an object, or a list of pairs."""
    if isinstance(value, str):
        value = _json(value)
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
        return value
    raise _Mismatch(_shown(value))


def _window(signal: Signal, value: Any) -> dict[int, float]:
    length = bucket_ms(signal)
    buckets: dict[int, float] = {}
    for raw_start, raw_count in _pairs(value):
        start, count = _timestamp(signal, raw_start), _number(raw_count)
        if math.isnan(count):
            raise _Mismatch(f'NaN for "{raw_start}"')
        if start % length or not 0 <= start // length <= _I32_MAX:
            raise _Mismatch(f'"{raw_start}", where no bucket of {length / 1000:g} s begins')
        if start // length in buckets:
            raise _Mismatch(f'"{raw_start}" more than once')
        buckets[start // length] = count
    return buckets


def _list(signal: Signal, value: Any) -> list[tuple[str, int]]:
    """A member's time is 0 where none is given: the server takes the row's."""
    if isinstance(value, str):
        value = _json(value) if value.lstrip().startswith("[") else value.split("|") if value else []
    if not isinstance(value, list | tuple):
        raise _Mismatch(_shown(value))
    members = []
    for member in value:
        is_pair = isinstance(member, list | tuple)
        if is_pair and len(member) != 2:
            raise _Mismatch(_shown(member))
        members.append((_text(member[0]), _timestamp(signal, member[1])) if is_pair else (_text(member), 0))
    return members


def _ratio(signal: Signal, value: Any) -> Any:
    raise _Mismatch(_shown(value))


_CONVERTERS: dict[SignalKind, Callable[[Signal, Any], Any]] = {
    SignalKind.F32: _f32,
    SignalKind.I64: _i64,
    SignalKind.TIMESTAMP: _timestamp,
    SignalKind.BOOL: _bool,
    SignalKind.CATEGORY: _category,
    SignalKind.STRING: _category,
    SignalKind.SET: _set,
    SignalKind.MAP: _map,
    SignalKind.EMBEDDING: _embedding,
    SignalKind.COUNTER: _counter,
    SignalKind.WINDOW: _window,
    SignalKind.LIST: _list,
    SignalKind.RATIO: _ratio,
}

_EXPECTED: dict[SignalKind, str] = {
    SignalKind.F32: "a finite float32",
    SignalKind.I64: "a whole number of 64 bits",
    SignalKind.TIMESTAMP: "milliseconds since 1970 or an ISO 8601 time",
    SignalKind.BOOL: "true or false",
    SignalKind.CATEGORY: "text",
    SignalKind.STRING: "text",
    SignalKind.SET: "a list of texts",
    SignalKind.MAP: "an object from texts to finite numbers",
    SignalKind.COUNTER: "a finite number",
    SignalKind.WINDOW: "an object from times at which buckets begin to finite numbers",
    SignalKind.LIST: "a list of texts, or of pairs of text and time",
    SignalKind.RATIO: "nothing, since a ratio is computed from its counters",
}
