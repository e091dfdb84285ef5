"""Signal columns from Python values and back. Pure.

Writing: None, NaN and NaT clear a value (it becomes missing); KEEP leaves it as it is.
Reading gives what was written: numbers, bool, str, numpy.datetime64[ms] (a timestamp of any
int64, which datetime cannot hold), float32 arrays, sets and dicts; of a windowed counter a dict from when a bucket
begins to its count, of a list pairs of member and time, newest first; None is missing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankd.client.values import is_missing, is_number, packed, strings, unix_millis, wrong_type
from rankd.errors import Reason, RequestError
from rankd.types.schema import Signal, SignalKind
from rankd.v1 import signals_pb2
from rankd.v1.signals_pb2 import SignalColumn


class _Keep(enum.Enum):
    KEEP = "KEEP"

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep.KEEP
"""In a column to write: this row's signal stays as it is."""

AS_THE_ROW: Final = 0
"""A list member's time on the wire: that of its row."""

ColumnData: TypeAlias = "Sequence[Any] | NDArray[Any]"
"""One value per id: of the signal's type, None (or NaN, NaT) to clear it, KEEP to leave it."""

_NUMPY_KINDS = {SignalKind.F32: "fiu", SignalKind.I64: "iu", SignalKind.BOOL: "b", SignalKind.COUNTER: "fiu"}

_SIZED = (SignalKind.EMBEDDING, SignalKind.LIST)


def parse_type(name: str, type_name: str) -> Signal:
    """A signal of a type as rankd.yaml writes it, such as "f32" or "embedding[16]". ValueError for any other."""
    base, bracket, rest = type_name.partition("[")
    kind = SignalKind(base)
    if (kind in _SIZED) != bool(bracket) or (bracket and not rest.endswith("]")):
        raise ValueError(f"no signal type {type_name!r}; sizes belong to embedding[16] and list[20]")
    return Signal(name, kind, dimension=int(rest[:-1]) if bracket else 0)


def row_values(name: str, data: Iterable[Any], row_count: int) -> ColumnData:
    """`data` as something to slice, one value per id."""
    field = f'columns["{name}"]'
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        wrong_type(field, "one value per id", data)
    rows = data if isinstance(data, Sequence | np.ndarray) else list(data)
    if len(rows) != row_count:
        raise RequestError.one(Reason.LENGTH_MISMATCH, field, f"{row_count} values, one per id", str(len(rows)))
    return rows


def signal_column(signal: Signal, data: ColumnData, first_row: int = 0) -> SignalColumn | None:
    """The column to write one value per row of a signal. None: every row is kept, there is nothing to write.

    `first_row`: the place of the first row among all rows given; it counts in the paths of errors.
    """
    if isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype.kind in _NUMPY_KINDS.get(signal.kind, ""):
        return _numpy_column(signal, data)
    rows: list[int] = []
    clear_rows: list[int] = []
    values: list[Any] = []
    for row, value in enumerate(data):
        if value is KEEP:
            continue
        if is_missing(value):
            clear_rows.append(row)
        else:
            rows.append(row)
            values.append(value)
    if not rows and not clear_rows:
        return None
    every_row = len(rows) == len(data)
    column = SignalColumn(signal=signal.name, rows=None if every_row else rows, clear_rows=clear_rows)
    if values:
        paths = [f'columns["{signal.name}"][{first_row + row}]' for row in rows]
        _WRITERS[signal.kind](column, signal, paths, values)
    return column


def _numpy_column(signal: Signal, data: NDArray[Any]) -> SignalColumn:
    """Without an object per value. NaN of an f32 clears, by the contract."""
    column = SignalColumn(signal=signal.name)
    if signal.kind is SignalKind.F32:
        with np.errstate(over="ignore"):
            _put_floats(column.floats, signals_pb2.FloatValues.VALUES_FIELD_NUMBER, data)
    elif signal.kind is SignalKind.COUNTER:
        _put_doubles(column, data)
    elif signal.kind is SignalKind.I64:
        if data.dtype == np.uint64 and len(data) and data.max() > np.iinfo(np.int64).max:
            wrong_type(f'columns["{signal.name}"]', "int64 numbers", data.max())
        column.ints.values.extend(data.tolist())
    else:
        column.bools.values.extend(data.tolist())
    return column


def _put_floats(message: Any, field_number: int, data: ColumnData) -> None:
    message.MergeFromString(packed(field_number, np.ascontiguousarray(data, np.float32)))


def _put_doubles(column: SignalColumn, data: ColumnData) -> None:
    number = signals_pb2.DoubleValues.VALUES_FIELD_NUMBER
    column.doubles.MergeFromString(packed(number, np.ascontiguousarray(data, np.float64)))


Writer: TypeAlias = Callable[[SignalColumn, Signal, list[str], list[Any]], None]


def _write_floats(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        if not is_number(value):
            wrong_type(path, "a number", value)
    with np.errstate(over="ignore"):
        _put_floats(column.floats, signals_pb2.FloatValues.VALUES_FIELD_NUMBER, values)


def _write_ints(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        column.ints.values.append(_int64(path, value, "an integer"))


def _int64(field: str, value: Any, expected: str) -> int:
    if not is_number(value) or (isinstance(value, float | np.floating) and not float(value).is_integer()):
        wrong_type(field, expected, value)
    number = int(value)
    if not -(2**63) <= number < 2**63:
        wrong_type(field, f"{expected} of 64 bits", value)
    return number


def _write_bools(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        if not isinstance(value, bool | np.bool_):
            wrong_type(path, "a bool", value)
        column.bools.values.append(bool(value))


def _write_strings(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        column.strings.values.append(_string(path, value))


def _string(field: str, value: Any) -> str:
    if not isinstance(value, str):
        wrong_type(field, "a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        wrong_type(field, "text without lone surrogates", value)
    return str(value)


def _write_timestamps(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        millis = unix_millis(path, value)
        column.timestamps.unix_millis.append(_int64(path, millis, "milliseconds since 1970"))


def _write_embeddings(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    expected = f"{signal.dimension} numbers"
    matrix = np.empty((len(values), signal.dimension), np.float32)
    for position, (path, value) in enumerate(zip(paths, values, strict=True)):
        try:
            vector = np.asarray(value)
        except ValueError:  # ragged
            wrong_type(path, expected, value)
        if vector.shape != (signal.dimension,) or vector.dtype.kind not in "fiu":
            wrong_type(path, expected, value)
        with np.errstate(over="ignore"):
            matrix[position] = vector
    column.embeddings.dimension = signal.dimension
    _put_floats(column.embeddings, signals_pb2.EmbeddingValues.VALUES_FIELD_NUMBER, matrix.ravel())


def _write_sets(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    column.sets.SetInParent()
    for path, value in zip(paths, values, strict=True):
        if not isinstance(value, set | frozenset | Sequence | np.ndarray) or isinstance(value, str | bytes):
            wrong_type(path, "a set of strings", value)
        members = strings(path, value)
        # A set's own order differs from run to run; the same write should be the same bytes.
        column.sets.values.extend(sorted(members) if isinstance(value, set | frozenset) else members)
        column.sets.lengths.append(len(members))


def _write_maps(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    column.maps.SetInParent()
    for path, value in zip(paths, values, strict=True):
        if not isinstance(value, Mapping):
            wrong_type(path, "a mapping from string to number", value)
        column.maps.keys.extend(strings(path, value))
        for key, number in value.items():
            if not is_number(number):
                wrong_type(f"{path}[{key!r}]", "a number", number)
            column.maps.values.append(float(number))
        column.maps.lengths.append(len(value))


def _write_doubles(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    for path, value in zip(paths, values, strict=True):
        if not is_number(value):
            wrong_type(path, "a number", value)
    _put_doubles(column, values)


def _write_windows(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    column.windows.SetInParent()
    for path, value in zip(paths, values, strict=True):
        if not isinstance(value, Mapping):
            expected = f'a mapping from times to numbers, or operations={{"{signal.name}": "add"}} to add a number'
            wrong_type(path, expected, value)
        buckets: dict[int, float] = {}
        for start, count in value.items():
            millis = _time(path, start, start)
            if not is_number(count):
                wrong_type(f"{path}[{start!r}]", "a number", count)
            if millis in buckets:
                wrong_type(path, "distinct times", f"{start!r} again")
            buckets[millis] = float(count)
        column.windows.bucket_unix_millis.extend(sorted(buckets))
        column.windows.counts.extend(buckets[millis] for millis in sorted(buckets))
        column.windows.lengths.append(len(buckets))


def _time(path: str, inner: Any, time: Any) -> int:
    """In milliseconds since 1970. The path is put together only for an error: there may be many times."""
    if type(time) is int and abs(time) < 2**63:
        return time
    field = f"{path}[{inner!r}]"
    return _int64(field, unix_millis(field, time), "milliseconds since 1970")


def _write_lists(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    column.lists.SetInParent()
    for path, value in zip(paths, values, strict=True):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            wrong_type(path, "a list of strings, or of pairs of string and time", value)
        for position, member in enumerate(value):
            if not isinstance(member, tuple | list):
                text, time = member, AS_THE_ROW
            elif len(member) == 2:
                text, time = member[0], _time(path, position, member[1])
            else:
                wrong_type(f"{path}[{position}]", "a pair of string and time", member)
            if not isinstance(text, str) or not text.isascii():
                _string(f"{path}[{position}]", text)
            column.lists.values.append(text)
            column.lists.unix_millis.append(time)
        column.lists.lengths.append(len(value))


def _refuse(column: SignalColumn, signal: Signal, paths: list[str], values: list[Any]) -> None:
    wrong_type(paths[0], "nothing: a ratio is computed from its counters", values[0])


_WRITERS: dict[SignalKind, Writer] = {
    SignalKind.F32: _write_floats,
    SignalKind.I64: _write_ints,
    SignalKind.BOOL: _write_bools,
    SignalKind.CATEGORY: _write_strings,
    SignalKind.STRING: _write_strings,
    SignalKind.TIMESTAMP: _write_timestamps,
    SignalKind.EMBEDDING: _write_embeddings,
    SignalKind.SET: _write_sets,
    SignalKind.MAP: _write_maps,
    SignalKind.COUNTER: _write_doubles,
    SignalKind.WINDOW: _write_windows,
    SignalKind.LIST: _write_lists,
    SignalKind.RATIO: _refuse,
}


def column_values(column: SignalColumn, row_count: int) -> list[Any]:
    """One Python value per row; None where the column has none. ValueError if the column contradicts itself."""
    kind = column.WhichOneof("values")
    found = _READERS[kind](column) if kind else []
    rows = list(column.rows)
    if not rows and not column.clear_rows and found:
        rows = list(range(row_count))
    if len(rows) != len(found) or any(row >= row_count for row in rows):
        raise ValueError(f"column {column.signal!r}: {len(found)} values for {len(rows)} of {row_count} rows")
    values: list[Any] = [None] * row_count
    for row, value in zip(rows, found, strict=True):
        values[row] = value
    return values


def _read_floats(column: SignalColumn) -> list[Any]:
    return [None if number != number else number for number in column.floats.values]


def _read_embeddings(column: SignalColumn) -> list[Any]:
    embeddings = column.embeddings
    if not embeddings.dimension:
        return []
    return list(np.array(embeddings.values, np.float32).reshape(-1, embeddings.dimension))


def _read_sets(column: SignalColumn) -> list[Any]:
    members = list(column.sets.values)
    return [set(members[start:end]) for start, end in _spans(column.sets.lengths)]


def _read_maps(column: SignalColumn) -> list[Any]:
    pairs = list(zip(column.maps.keys, column.maps.values, strict=True))
    return [dict(pairs[start:end]) for start, end in _spans(column.maps.lengths)]


def _read_windows(column: SignalColumn) -> list[Any]:
    starts = list(np.array(column.windows.bucket_unix_millis, np.int64).view("datetime64[ms]"))
    pairs = list(zip(starts, column.windows.counts, strict=True))
    return [dict(pairs[start:end]) for start, end in _spans(column.windows.lengths)]


def _read_lists(column: SignalColumn) -> list[Any]:
    times = list(np.array(column.lists.unix_millis, np.int64).view("datetime64[ms]"))
    pairs = list(zip(column.lists.values, times, strict=True))
    return [pairs[start:end] for start, end in _spans(column.lists.lengths)]


def _spans(lengths: Sequence[int]) -> list[tuple[int, int]]:
    ends = np.cumsum(np.array(lengths, np.int64)).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


_READERS: dict[str, Callable[[SignalColumn], list[Any]]] = {
    "floats": _read_floats,
    "ints": lambda column: list(column.ints.values),
    "bools": lambda column: list(column.bools.values),
    "strings": lambda column: list(column.strings.values),
    "timestamps": lambda column: list(np.array(column.timestamps.unix_millis, np.int64).view("datetime64[ms]")),
    "embeddings": _read_embeddings,
    "sets": _read_sets,
    "maps": _read_maps,
    "doubles": lambda column: [None if number != number else number for number in column.doubles.values],
    "windows": _read_windows,
    "lists": _read_lists,
}
