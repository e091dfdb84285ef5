"""What may be written: the shape of a batch (the caller's fault) and its values (single rows' fault)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankd.errors import Reason, RequestError, Violation
from rankd.limits import (
    HARD_MAX_ID_BYTES,
    MAX_CATEGORY_BYTES,
    MAX_EVENT_AHEAD_MS,
    MAX_SET_MEMBERS,
    MAX_STRING_BYTES,
    MAX_WINDOW_BUCKETS,
    MAX_WRITE_ID_BYTES,
)
from rankd.signals.accumulate import ADDABLE, F32_MAX, bucket_ms
from rankd.signals.store import (
    ColumnValues,
    ListValues,
    MapValues,
    Operation,
    Rejection,
    SetValues,
    Values,
    WindowValues,
    WriteBatch,
)
from rankd.signals.values import DTYPES, I64_MISSING, RAGGED, element_count, owners, row_count
from rankd.types.schema import Element, Entity, Schema, Signal, SignalKind
from rankd.types.text import is_utf8

F16_MAX = 65_504.0
"""The largest number that an element f16 holds."""

_MOST_UTF8_BYTES = 4
"""UTF-8 bytes of a character, at most."""

_RAGGED_TYPES = {
    SignalKind.SET: SetValues,
    SignalKind.MAP: MapValues,
    SignalKind.WINDOW: WindowValues,
    SignalKind.LIST: ListValues,
}

Faults = list[tuple[int, str]]


def check_batch(schema: Schema, batch: WriteBatch) -> None:
    """Names, types and lengths against the schema; the precondition of SignalStore.write.

    RequestError, with paths as in WriteSignalsRequest ("columns[2].rows"), at the first fault.
    """
    entity = schema.entities.get(batch.entity)
    if entity is None:
        raise RequestError.one(
            Reason.UNKNOWN_NAME, "entity", f"one of {_names(schema.entities)}", _quoted(batch.entity)
        )
    fault = _batch_fault(batch)
    if fault is not None:
        raise RequestError.one(*fault)
    seen: set[str] = set()
    for i, column in enumerate(batch.columns):
        signal = entity.signals.get(column.signal)
        if signal is None:
            raise RequestError.one(
                Reason.UNKNOWN_NAME,
                f"columns[{i}].signal",
                f"one of the signals {_names(entity.signals)} of {entity.name}",
                _quoted(column.signal),
            )
        if column.signal in seen:
            raise RequestError.one(
                Reason.INVALID_FIELD, f"columns[{i}].signal", "one column per signal", f"{_quoted(column.signal)} again"
            )
        seen.add(column.signal)
        fault = _shape_fault(signal, column, len(batch.ids))
        if fault is not None:
            reason, field, expected, got = fault
            raise RequestError(reason, [Violation(f"columns[{i}].{field}", expected, got)])


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _quoted(text: str) -> str:
    return f'"{text[:64]}"'


def _batch_fault(batch: WriteBatch) -> tuple[Reason, str, str, str] | None:
    size = len(batch.write_id.encode(errors="replace"))
    if size > MAX_WRITE_ID_BYTES:
        return Reason.LIMIT_EXCEEDED, "write_id", f"at most {MAX_WRITE_ID_BYTES} bytes", f"{size}"
    for field, given in (("unix_millis", batch.event_ms), ("event_ids", batch.event_ids)):
        if given is not None and len(given) != len(batch.ids):
            return Reason.LENGTH_MISMATCH, field, f"{len(batch.ids)}, one per id", f"{len(given)}"
    return None


def _operation_fault(signal: Signal, column: ColumnValues) -> tuple[Reason, str, str, str] | None:
    if not signal.is_stored:
        return Reason.WRONG_TYPE, "values", f"nothing for {signal.name}, which is computed from others", "a column"
    if column.operation is not Operation.ADD:
        return None
    if signal.kind not in ADDABLE:
        return Reason.INVALID_FIELD, "operation", f"OPERATION_SET for {signal.type_name}", "OPERATION_ADD"
    if len(column.clear_rows):
        return Reason.INVALID_FIELD, "clear_rows", "none beside OPERATION_ADD", f"{len(column.clear_rows)}"
    return None


def _shape_fault(signal: Signal, column: ColumnValues, rows: int) -> tuple[Reason, str, str, str] | None:
    fault = _operation_fault(signal, column)
    if fault is not None:
        return fault
    if not _has_type(signal, column):
        of_signal = f"{_shape_name(signal, column.operation)} for {signal.name}"
        return Reason.WRONG_TYPE, "values", of_signal, _type_name(column.values)
    for field, positions in (("rows", column.rows), ("clear_rows", column.clear_rows)):
        if len(positions) and not (positions[0] >= 0 and positions[-1] < rows and _is_rising(positions)):
            return Reason.INVALID_FIELD, field, f"rising positions below {rows}", "others"
    if len(column.clear_rows) and len(np.intersect1d(column.rows, column.clear_rows, assume_unique=True)):
        return Reason.INVALID_FIELD, "clear_rows", "positions that are not in rows", "one that is"
    for times, positions in ((column.times_ms, column.rows), (column.clear_times_ms, column.clear_rows)):
        if times is not None and len(times) != len(positions):
            return Reason.LENGTH_MISMATCH, "unix_millis", f"{len(positions)} times, one per value", f"{len(times)}"
    values = column.values
    if row_count(values) != len(column.rows):
        return Reason.LENGTH_MISMATCH, "values", f"{len(column.rows)} rows of values", f"{row_count(values)}"
    return _ragged_fault(values) if isinstance(values, RAGGED) else None


def _ragged_fault(
    values: SetValues | MapValues | WindowValues | ListValues,
) -> tuple[Reason, str, str, str] | None:
    elements = element_count(values)
    if bool(np.any(values.lengths < 0)) or int(values.lengths.sum()) != elements:
        return Reason.LENGTH_MISMATCH, "lengths", f"lengths that sum to {elements}", f"{int(values.lengths.sum())}"
    beside = len(
        values.values
        if isinstance(values, MapValues)
        else values.counts
        if isinstance(values, WindowValues)
        else values.times_ms
        if isinstance(values, ListValues)
        else values.members
    )
    if beside != elements:
        field, what = {
            MapValues: ("values", "values, one per key"),
            WindowValues: ("counts", "counts, one per bucket"),
        }.get(type(values), ("unix_millis", "times, one per member"))
        return Reason.LENGTH_MISMATCH, field, f"{elements} {what}", f"{beside}"
    return None


def _is_rising(positions: NDArray[np.int64]) -> bool:
    return bool((positions[1:] > positions[:-1]).all())


def _has_type(signal: Signal, column: ColumnValues) -> bool:
    values, kind = column.values, signal.kind
    if column.operation is Operation.ADD and kind is not SignalKind.MAP:
        if kind is SignalKind.LIST:
            return not isinstance(values, (np.ndarray, *RAGGED))
        return isinstance(values, np.ndarray) and values.dtype == np.float64 and values.ndim == 1
    if kind in DTYPES:
        shape = (signal.dimension,) if kind is SignalKind.EMBEDDING else ()
        return isinstance(values, np.ndarray) and values.dtype == DTYPES[kind] and values.shape[1:] == shape
    if kind in _RAGGED_TYPES:
        return isinstance(values, _RAGGED_TYPES[kind])
    return not isinstance(values, (np.ndarray, *RAGGED))


def _shape_name(signal: Signal, operation: Operation) -> str:
    if operation is Operation.ADD and signal.kind is not SignalKind.MAP:
        return "one member a row" if signal.kind is SignalKind.LIST else "float64 amounts"
    return signal.type_name


def _type_name(values: Values) -> str:
    if isinstance(values, np.ndarray):
        return f"{values.dtype.name}" + (f" of dimension {values.shape[1]}" if values.ndim == 2 else "")
    names = {SetValues: "set", MapValues: "map", WindowValues: "windowed_counter", ListValues: "list"}
    return names.get(type(values), "strings")


def value_faults(entity: Entity, batch: WriteBatch, now_ms: int) -> list[Rejection]:
    """The rows that must not be written, by position; of each row the first fault in column order. `now_ms`: the clock,
    which times may be ahead of by MAX_EVENT_AHEAD_MS."""
    faults: dict[int, Rejection] = {}
    for row, fault in _text_faults(batch.ids, HARD_MAX_ID_BYTES, least=1):
        faults[row] = Rejection(row, "", fault)
    if batch.event_ids is not None:
        for row, fault in _text_faults(batch.event_ids, MAX_WRITE_ID_BYTES, least=0):
            faults.setdefault(row, Rejection(row, "", fault, "event_id"))
    if batch.event_ms is not None:
        for row, fault in _time_faults(batch.event_ms, now_ms):
            faults.setdefault(row, Rejection(row, "", fault, "time"))
    for column in batch.columns:
        signal = entity.signals[column.signal]
        for i, fault in _column_faults(signal, column, now_ms):
            row = int(column.rows[i])
            faults.setdefault(row, Rejection(row, column.signal, fault))
        for times, rows in ((column.times_ms, column.rows), (column.clear_times_ms, column.clear_rows)):
            for i, fault in () if times is None else _time_faults(times, now_ms):
                row = int(rows[i])
                faults.setdefault(row, Rejection(row, column.signal, fault, "time"))
    return [faults[row] for row in sorted(faults)] if faults else []


def _column_faults(signal: Signal, column: ColumnValues, now_ms: int) -> Faults:
    """Faulty rows of one column and why. A row may come more than once."""
    values = column.values
    if isinstance(values, np.ndarray):
        return _amount_faults(values) if column.operation is Operation.ADD else _array_faults(signal, values)
    if isinstance(values, SetValues):
        return _length_faults(values.lengths, MAX_SET_MEMBERS, "members") + _owned(
            values.lengths, _text_faults(values.members, MAX_CATEGORY_BYTES, least=0)
        )
    if isinstance(values, MapValues):
        return (
            _length_faults(values.lengths, MAX_SET_MEMBERS, "keys")
            + _owned(values.lengths, _text_faults(values.keys, MAX_CATEGORY_BYTES, least=0))
            + _owned(values.lengths, _number_faults(values.values))
            + _repeats(values.keys, values.lengths, "keys")
        )
    if isinstance(values, WindowValues):
        return _window_faults(signal, values, now_ms)
    if isinstance(values, ListValues):
        return _list_faults(signal, values, now_ms)
    return _text_faults(values, MAX_STRING_BYTES if signal.kind is SignalKind.STRING else MAX_CATEGORY_BYTES, least=0)


def _array_faults(
    signal: Signal, values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]
) -> Faults:
    kind = signal.kind
    if kind in (SignalKind.F32, SignalKind.COUNTER):
        infinite = np.isinf(values)
        if not infinite.any():
            return []
        bad = np.flatnonzero(infinite).tolist()
        return [(i, f"expected a finite number, or NaN to clear, got {float(values[i])}") for i in bad]
    if kind is SignalKind.EMBEDDING:
        return _embedding_faults(signal, cast(NDArray[np.float32], values))
    if kind in (SignalKind.I64, SignalKind.TIMESTAMP):
        bad = np.flatnonzero(values == I64_MISSING).tolist()
        return [(i, f"expected more than the least int64, got {I64_MISSING}") for i in bad]
    return []


def _embedding_faults(signal: Signal, values: NDArray[np.float32]) -> Faults:
    good, what = np.isfinite(values), "finite numbers"
    if signal.element is Element.F16:
        good, what = np.abs(values) <= F16_MAX, f"numbers of at most {F16_MAX:g}, the largest of f16"
    rows = good.all(axis=1)
    if rows.all():
        return []
    bad = np.flatnonzero(~rows)
    return [
        (i, f"expected {what}, got {float(values[i, j])} at [{j}]")
        for i, j in zip(bad.tolist(), np.argmin(good[bad], axis=1).tolist(), strict=True)
    ]


def _amount_faults(values: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_]) -> Faults:
    bad = np.flatnonzero(~(np.abs(values) <= F32_MAX)).tolist()
    return [(i, f"expected a finite amount within float32's range, got {float(values[i])}") for i in bad]


def _number_faults(values: NDArray[np.float32]) -> Faults:
    bad = np.flatnonzero(~np.isfinite(values)).tolist()
    return [(i, f"expected a finite number, got {float(values[i])}") for i in bad]


def _time_faults(times_ms: NDArray[np.int64], now_ms: int) -> Faults:
    latest = now_ms + MAX_EVENT_AHEAD_MS
    if not len(times_ms) or (times_ms.min() >= 0 and times_ms.max() <= latest):
        return []
    bad = np.flatnonzero((times_ms < 0) | (times_ms > latest)).tolist()
    return [
        (i, f"expected a time from 1970 to an hour ahead of the clock, {now_ms} ms, got {int(times_ms[i])} ms")
        for i in bad
    ]


def _window_faults(signal: Signal, values: WindowValues, now_ms: int) -> Faults:
    last = (now_ms + MAX_EVENT_AHEAD_MS) // bucket_ms(signal)
    buckets = values.buckets
    bad = np.flatnonzero((buckets < 0) | (buckets > last)).tolist()
    outside = [
        (i, f"expected buckets that begin from 1970 to an hour ahead of the clock, got number {buckets[i]}")
        for i in bad
    ]
    owner = owners(values.lengths)
    falling = np.flatnonzero((owner[1:] == owner[:-1]) & (buckets[1:] <= buckets[:-1])).tolist()
    return (
        _length_faults(values.lengths, MAX_WINDOW_BUCKETS, "buckets")
        + _owned(values.lengths, outside)
        + [(int(owner[i]), f"expected rising buckets, got {buckets[i + 1]} after {buckets[i]}") for i in falling]
        + _owned(values.lengths, _number_faults(values.counts))
    )


def _list_faults(signal: Signal, values: ListValues, now_ms: int) -> Faults:
    owner, times = owners(values.lengths), values.times_ms
    rising = np.flatnonzero((owner[1:] == owner[:-1]) & (times[1:] > times[:-1])).tolist()
    return (
        _length_faults(values.lengths, signal.dimension, "members")
        + _owned(values.lengths, _text_faults(values.members, MAX_CATEGORY_BYTES, least=0))
        + _owned(values.lengths, _time_faults(times, now_ms))
        + [(int(owner[i]), f"expected the newest first, got {times[i + 1]} ms after {times[i]} ms") for i in rising]
        + _repeats(values.members, values.lengths, "members")
    )


def _length_faults(lengths: NDArray[np.int64], most: int, what: str) -> Faults:
    bad = np.flatnonzero(lengths > most).tolist()
    return [(i, f"expected at most {most} {what}, got {int(lengths[i])}") for i in bad]


def _owned(lengths: NDArray[np.int64], faults: Faults) -> Faults:
    """Faults of elements as faults of the rows they belong to."""
    if not faults:
        return []
    ends = np.cumsum(lengths)
    return [(int(np.searchsorted(ends, i, side="right")), fault) for i, fault in faults]


def _repeats(texts: Sequence[str], lengths: NDArray[np.int64], what: str) -> Faults:
    faults = []
    start = 0
    for row, length in enumerate(lengths.tolist()):
        end = start + length
        if len(set(texts[start:end])) != length:
            again = Counter(texts[start:end]).most_common(1)[0][0]
            faults.append((row, f"expected distinct {what}, got {_quoted(again)} more than once"))
        start = end
    return faults


def _text_faults(texts: Sequence[str], most: int, least: int) -> Faults:
    """Texts that UTF-8 cannot encode, or with fewer than `least` or more than `most` bytes."""
    # All at once, as nearly always all are good: no text is looked at by itself.
    if not len(texts):
        return []
    joined = "".join(texts)
    if min(map(len, texts)) >= least:
        longest = max(map(len, texts))
        if joined.isascii() and longest <= most:
            return []
        if longest * _MOST_UTF8_BYTES <= most and is_utf8(joined):
            return []
    return [(i, fault) for i, text in enumerate(texts) if (fault := _text_fault(text, most, least)) is not None]


def is_id(text: str) -> bool:
    """Whether a row can have it as its id."""
    return _text_fault(text, HARD_MAX_ID_BYTES, least=1) is None


def _text_fault(text: str, most: int, least: int) -> str | None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        return f"expected text that UTF-8 can encode, got a lone surrogate at [{error.start}]"
    if least <= length <= most:
        return None
    return (
        f"expected {least} to {most} bytes, got {length}" if least else f"expected at most {most} bytes, got {length}"
    )
