"""What may be written: the shape of a batch (the caller's fault) and its values (single rows' fault)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.errors import Reason, RequestError, Violation
from rankd.limits import HARD_MAX_ID_BYTES, MAX_CATEGORY_BYTES, MAX_SET_MEMBERS, MAX_STRING_BYTES
from rankd.signals.categories import CategoryTable
from rankd.signals.store import ColumnValues, MapValues, Rejection, SetValues, Values, WriteBatch
from rankd.signals.values import DTYPES, I64_MISSING, row_count
from rankd.types.schema import Entity, Schema, Signal, SignalKind


def check_batch(schema: Schema, batch: WriteBatch) -> None:
    """Names, types and lengths against the schema; the precondition of SignalStore.write.

    RequestError, with paths as in WriteSignalsRequest ("columns[2].rows"), at the first fault.
    """
    entity = schema.entities.get(batch.entity)
    if entity is None:
        raise RequestError.one(
            Reason.UNKNOWN_NAME, "entity", f"one of {_names(schema.entities)}", _quoted(batch.entity)
        )
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


def _shape_fault(signal: Signal, column: ColumnValues, rows: int) -> tuple[Reason, str, str, str] | None:
    if not _has_type(signal, column.values):
        return Reason.WRONG_TYPE, "values", f"{signal.type_name} for {signal.name}", _type_name(column.values)
    for field, positions in (("rows", column.rows), ("clear_rows", column.clear_rows)):
        if len(positions) and (positions[0] < 0 or positions[-1] >= rows or bool(np.any(np.diff(positions) <= 0))):
            return Reason.INVALID_FIELD, field, f"rising positions below {rows}", "others"
    if len(np.intersect1d(column.rows, column.clear_rows, assume_unique=True)):
        return Reason.INVALID_FIELD, "clear_rows", "positions that are not in rows", "one that is"
    values = column.values
    if row_count(values) != len(column.rows):
        return Reason.LENGTH_MISMATCH, "values", f"{len(column.rows)} rows of values", f"{row_count(values)}"
    if isinstance(values, SetValues | MapValues):
        elements = len(values.members if isinstance(values, SetValues) else values.keys)
        if bool(np.any(values.lengths < 0)) or int(values.lengths.sum()) != elements:
            return Reason.LENGTH_MISMATCH, "lengths", f"lengths that sum to {elements}", f"{int(values.lengths.sum())}"
        if isinstance(values, MapValues) and len(values.values) != elements:
            return Reason.LENGTH_MISMATCH, "values", f"{elements} values, one per key", f"{len(values.values)}"
    return None


def _has_type(signal: Signal, values: Values) -> bool:
    if signal.kind in DTYPES:
        shape = (signal.dimension,) if signal.kind is SignalKind.EMBEDDING else ()
        return isinstance(values, np.ndarray) and values.dtype == DTYPES[signal.kind] and values.shape[1:] == shape
    if signal.kind is SignalKind.SET:
        return isinstance(values, SetValues)
    if signal.kind is SignalKind.MAP:
        return isinstance(values, MapValues)
    return not isinstance(values, np.ndarray | SetValues | MapValues)


def _type_name(values: Values) -> str:
    if isinstance(values, np.ndarray):
        return f"{values.dtype.name}" + (f" of dimension {values.shape[1]}" if values.ndim == 2 else "")
    return {SetValues: "set", MapValues: "map"}.get(type(values), "strings")


def value_faults(entity: Entity, batch: WriteBatch, categories: CategoryTable) -> list[Rejection]:
    """The rows that must not be written, by position; of each row the first fault in column order."""
    faults: dict[int, Rejection] = {}
    for row, fault in _text_faults(batch.ids, HARD_MAX_ID_BYTES, least=1):
        faults[row] = Rejection(row, "", fault)
    for column in batch.columns:
        for i, fault in _column_faults(entity.signals[column.signal].kind, column.values, categories):
            row = int(column.rows[i])
            faults.setdefault(row, Rejection(row, column.signal, fault))
    return [faults[row] for row in sorted(faults)]


def _column_faults(kind: SignalKind, values: Values, categories: CategoryTable) -> list[tuple[int, str]]:
    """Faulty rows of one column and why. A row may come more than once."""
    if isinstance(values, np.ndarray):
        return _array_faults(kind, values)
    if isinstance(values, SetValues):
        return _length_faults(values.lengths, "members") + _owned(
            values.lengths, _category_faults(values.members, categories)
        )
    if isinstance(values, MapValues):
        return (
            _length_faults(values.lengths, "keys")
            + _owned(values.lengths, _category_faults(values.keys, categories))
            + _owned(values.lengths, _number_faults(values.values))
            + _repeated_keys(values)
        )
    if kind is SignalKind.CATEGORY:
        return _category_faults(values, categories)
    return _text_faults(values, MAX_STRING_BYTES, least=0)


def _array_faults(
    kind: SignalKind, values: NDArray[np.float32] | NDArray[np.int64] | NDArray[np.bool_]
) -> list[tuple[int, str]]:
    if kind is SignalKind.F32:
        bad = np.flatnonzero(np.isinf(values))
        return [(int(i), f"expected a finite number, or NaN to clear, got {float(values[i])}") for i in bad]
    if kind is SignalKind.EMBEDDING:
        finite = np.isfinite(values)
        bad = np.flatnonzero(~finite.all(axis=1))
        return [
            (int(i), f"expected finite numbers, got {float(values[i, j])} at [{j}]")
            for i, j in zip(bad.tolist(), np.argmin(finite[bad], axis=1).tolist(), strict=True)
        ]
    if kind in (SignalKind.I64, SignalKind.TIMESTAMP):
        bad = np.flatnonzero(values == I64_MISSING)
        return [(int(i), f"expected more than the least int64, got {I64_MISSING}") for i in bad]
    return []


def _number_faults(values: NDArray[np.float32]) -> list[tuple[int, str]]:
    return [(int(i), f"expected a finite number, got {float(values[i])}") for i in np.flatnonzero(~np.isfinite(values))]


def _length_faults(lengths: NDArray[np.int64], what: str) -> list[tuple[int, str]]:
    bad = np.flatnonzero(lengths > MAX_SET_MEMBERS)
    return [(int(i), f"expected at most {MAX_SET_MEMBERS} {what}, got {int(lengths[i])}") for i in bad]


def _owned(lengths: NDArray[np.int64], faults: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Faults of elements as faults of the rows they belong to."""
    if not faults:
        return []
    ends = np.cumsum(lengths)
    return [(int(np.searchsorted(ends, i, side="right")), fault) for i, fault in faults]


def _repeated_keys(values: MapValues) -> list[tuple[int, str]]:
    faults = []
    keys = values.keys
    start = 0
    for row, length in enumerate(values.lengths.tolist()):
        end = start + length
        if len(set(keys[start:end])) != length:
            again = Counter(keys[start:end]).most_common(1)[0][0]
            faults.append((row, f"expected distinct keys, got {_quoted(again)} more than once"))
        start = end
    return faults


def _category_faults(texts: Sequence[str], categories: CategoryTable) -> list[tuple[int, str]]:
    """As _text_faults, but strings that have a code are known to be good."""
    unknown = categories.unknown(texts)
    bad = {unknown[i]: fault for i, fault in _text_faults(unknown, MAX_CATEGORY_BYTES, least=0)}
    return [(i, bad[text]) for i, text in enumerate(texts) if text in bad] if bad else []


def _text_faults(texts: Sequence[str], most: int, least: int) -> list[tuple[int, str]]:
    """Texts that UTF-8 cannot encode, or with fewer than `least` or more than `most` bytes."""
    faults = []
    for i, text in enumerate(texts):
        length = len(text)
        if text.isascii():
            if least <= length <= most:
                continue
        else:
            try:
                length = len(text.encode())
            except UnicodeEncodeError as error:
                faults.append((i, f"expected text that UTF-8 can encode, got a lone surrogate at [{error.start}]"))
                continue
            if length <= most:
                continue
        faults.append(
            (
                i,
                f"expected {least} to {most} bytes, got {length}"
                if least
                else f"expected at most {most} bytes, got {length}",
            )
        )
    return faults
