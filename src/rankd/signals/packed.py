"""Batches as bytes, column by column: what is said to the keeper, and what stands in the log and in snapshots.

Arrays are little endian and lie there as they are, so that packing and unpacking are copies.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.signals.store import ColumnValues, ListValues, MapValues, Operation, SetValues, Values, WindowValues
from rankd.types.schema import Entity, Signal, SignalKind

_DTYPES: Final[dict[SignalKind, type[np.generic]]] = {
    SignalKind.F32: np.float32,
    SignalKind.EMBEDDING: np.float32,
    SignalKind.I64: np.int64,
    SignalKind.TIMESTAMP: np.int64,
    SignalKind.BOOL: np.bool_,
    SignalKind.COUNTER: np.float64,
}
"""Kinds whose values are one array."""


class PackedColumn(msgspec.Struct, array_like=True):
    """A ColumnValues. `rows` and `clear_rows`: int64; `rows` None: all rows of the batch. `numbers`: values of one
    array, or of maps; of windows the buckets (int32), then the counts (float32); of lists the members' times. `texts`:
    strings, members or keys; `lengths`: of what is ragged, int64. `times` and `clear_times`: int64
    ms of each value and clear; empty: the row's."""

    signal: str
    rows: bytes | None
    clear_rows: bytes
    numbers: bytes
    texts: list[str]
    lengths: bytes
    times: bytes = b""
    operation: int = 0
    clear_times: bytes = b""


def pack_column(column: ColumnValues, count: int) -> PackedColumn:
    """Of a batch of `count` rows."""
    # Positions rise and are below `count`: so many of them are all of them.
    rows = None if len(column.rows) == count else pack_array(column.rows, "<i8")
    clear = pack_array(column.clear_rows, "<i8")
    numbers, texts, lengths = _pack_values(column.values)
    times = b"" if column.times_ms is None else pack_array(column.times_ms, "<i8")
    cleared = b"" if column.clear_times_ms is None else pack_array(column.clear_times_ms, "<i8")
    return PackedColumn(column.signal, rows, clear, numbers, texts, lengths, times, column.operation.value, cleared)


def _pack_values(values: Values) -> tuple[bytes, list[str], bytes]:
    if isinstance(values, np.ndarray):
        return pack_array(values, values.dtype.newbyteorder("<")), [], b""
    if isinstance(values, SetValues):
        return b"", list(values.members), pack_array(values.lengths, "<i8")
    if isinstance(values, MapValues):
        return pack_array(values.values, "<f4"), list(values.keys), pack_array(values.lengths, "<i8")
    if isinstance(values, WindowValues):
        numbers = pack_array(values.buckets, "<i4") + pack_array(values.counts, "<f4")
        return numbers, [], pack_array(values.lengths, "<i8")
    if isinstance(values, ListValues):
        return pack_array(values.times_ms, "<i8"), list(values.members), pack_array(values.lengths, "<i8")
    return b"", list(values), b""


def pack_array(array: NDArray[Any], dtype: Any) -> bytes:
    """Its elements as bytes."""
    return array.astype(dtype, copy=False).tobytes()


def unpack_column(entity: Entity, packed: PackedColumn, count: int) -> ColumnValues:
    """The inverse of `pack_column`, not yet checked against the schema. ValueError or KeyError if it cannot be one."""
    signal = entity.signals[packed.signal]
    operation = Operation(packed.operation)
    rows = np.arange(count) if packed.rows is None else unpack_array(packed.rows, "<i8", np.int64)
    times = unpack_array(packed.times, "<i8", np.int64) if packed.times else None
    clear = unpack_array(packed.clear_rows, "<i8", np.int64)
    cleared = unpack_array(packed.clear_times, "<i8", np.int64) if packed.clear_times else None
    return ColumnValues(signal.name, rows, _unpack_values(signal, packed, operation), clear, operation, times, cleared)


def _unpack_values(signal: Signal, packed: PackedColumn, operation: Operation) -> Values:
    kind, is_added = signal.kind, operation is Operation.ADD
    lengths = unpack_array(packed.lengths, "<i8", np.int64)
    match kind:
        case SignalKind.SET:
            return SetValues(packed.texts, lengths)
        case SignalKind.MAP:
            return MapValues(packed.texts, unpack_array(packed.numbers, "<f4", np.float32), lengths)
        case SignalKind.CATEGORY | SignalKind.STRING:
            return packed.texts
        case SignalKind.LIST:
            if is_added:
                return packed.texts
            return ListValues(packed.texts, unpack_array(packed.numbers, "<i8", np.int64), lengths)
        case SignalKind.WINDOW if not is_added:
            half = len(packed.numbers) // 2
            buckets = unpack_array(packed.numbers[:half], "<i4", np.int32)
            return WindowValues(buckets, unpack_array(packed.numbers[half:], "<f4", np.float32), lengths)
    dtype = np.dtype(np.float64 if is_added else _DTYPES[kind])
    if kind is SignalKind.BOOL and packed.numbers.translate(None, b"\0\1"):
        raise ValueError("a bool that is neither 0 nor 1")
    array = unpack_array(packed.numbers, dtype.newbyteorder("<"), dtype.type)
    return cast(Values, array.reshape(-1, signal.dimension) if kind is SignalKind.EMBEDDING else array)


def unpack_array(data: bytes, stored: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """ValueError if the bytes are no whole number of elements."""
    return np.frombuffer(data, stored).astype(dtype, copy=False)
