"""Operations on the batch types of signals.store, whatever their kind.

Must live here: taking, counting and joining Values. Must not: where values are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rankd.signals.store import ListValues, MapValues, SetValues, Values, WindowValues
from rankd.types.schema import Signal, SignalKind

I64_MISSING = np.iinfo(np.int64).min
"""The one int64 that a signal cannot hold: it marks a missing i64 or timestamp inside the store."""

NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)

DTYPES: dict[SignalKind, type[np.generic]] = {
    SignalKind.F32: np.float32,
    SignalKind.EMBEDDING: np.float32,
    SignalKind.I64: np.int64,
    SignalKind.TIMESTAMP: np.int64,
    SignalKind.BOOL: np.bool_,
    SignalKind.COUNTER: np.float64,
}
"""The kinds whose values are one array; of the others, strings are lists and the rest is ragged."""

RAGGED = (SetValues, MapValues, WindowValues, ListValues)
"""The types of values with `lengths`."""


def row_count(values: Values) -> int:
    """How many rows the values are for."""
    if isinstance(values, SetValues | MapValues | WindowValues | ListValues):
        return len(values.lengths)
    return len(values)


def element_count(values: SetValues | MapValues | WindowValues | ListValues) -> int:
    """Members, keys or buckets of all rows together."""
    if isinstance(values, WindowValues):
        return len(values.buckets)
    return len(values.keys if isinstance(values, MapValues) else values.members)


def take(values: Values, positions: NDArray[np.int64]) -> Values:
    """The values of some rows, in the order given."""
    if isinstance(values, np.ndarray):
        return values[positions]
    if isinstance(values, SetValues):
        lengths, elements = _take_ragged(values.lengths, positions)
        return SetValues([values.members[i] for i in elements.tolist()], lengths)
    if isinstance(values, MapValues):
        lengths, elements = _take_ragged(values.lengths, positions)
        return MapValues([values.keys[i] for i in elements.tolist()], values.values[elements], lengths)
    if isinstance(values, WindowValues):
        lengths, elements = _take_ragged(values.lengths, positions)
        return WindowValues(values.buckets[elements], values.counts[elements], lengths)
    if isinstance(values, ListValues):
        lengths, elements = _take_ragged(values.lengths, positions)
        return ListValues([values.members[i] for i in elements.tolist()], values.times_ms[elements], lengths)
    return [values[i] for i in positions.tolist()]


def empty(signal: Signal) -> Values:
    """Values for no rows. ValueError for a ratio, which has none."""
    match signal.kind:
        case SignalKind.SET:
            return SetValues([], NO_ROWS)
        case SignalKind.MAP:
            return MapValues([], np.empty(0, np.float32), NO_ROWS)
        case SignalKind.WINDOW:
            return WindowValues(np.empty(0, np.int32), np.empty(0, np.float32), NO_ROWS)
        case SignalKind.LIST:
            return ListValues([], NO_ROWS, NO_ROWS)
        case SignalKind.CATEGORY | SignalKind.STRING:
            return []
        case SignalKind.EMBEDDING:
            return np.empty((0, signal.dimension), np.float32)
        case SignalKind.RATIO:
            raise ValueError("a ratio has no values of its own")
    return cast(Values, np.empty(0, DTYPES[signal.kind]))


def owners(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each element of ragged values: int64 (sum(lengths),)."""
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)


def _take_ragged(
    lengths: NDArray[np.int64], positions: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ends = np.cumsum(lengths)
    taken = lengths[positions]
    return taken, range_elements((ends - lengths)[positions], taken)


def range_elements(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The indices starts[0], starts[0] + 1 … of each range, concatenated: int64 (sum(lengths),)."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    indices: NDArray[np.int64] = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return indices


def from_list(signal: Signal, values: Sequence[Any]) -> Values:
    """Values from one plain Python value per row: a number, bool, str, sequence of floats (or a
    float32 array), sequence of str (set), mapping of str to float (map), mapping of bucket number to float (windowed
    counter, any order), or sequence of (str, milliseconds) (list, newest first), as the kind has it."""
    kind = signal.kind
    if kind is SignalKind.EMBEDDING:
        if not values:
            return np.empty((0, signal.dimension), np.float32)
        return np.asarray(values, np.float32).reshape(len(values), signal.dimension)
    if kind in DTYPES:
        return cast(Values, np.asarray(values, DTYPES[kind]))
    if kind in (SignalKind.CATEGORY, SignalKind.STRING):
        return list(values)
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    match kind:
        case SignalKind.SET:
            return SetValues([member for members in values for member in members], lengths)
        case SignalKind.MAP:
            numbers = [number for row in values for number in row.values()]
            return MapValues([key for row in values for key in row], np.asarray(numbers, np.float32), lengths)
        case SignalKind.WINDOW:
            pairs = [pair for row in values for pair in sorted(row.items())]
            buckets = np.array([bucket for bucket, _ in pairs], np.int32)
            return WindowValues(buckets, np.array([count for _, count in pairs], np.float32), lengths)
        case SignalKind.LIST:
            members = [pair for row in values for pair in row]
            times = np.array([time for _, time in members], np.int64)
            return ListValues([member for member, _ in members], times, lengths)
    raise ValueError("a ratio has no values of its own")


def to_list(values: Values) -> list[Any]:
    """The inverse of `from_list`: one plain value per row; an embedding is a float32 array,
    a set a list of str, a map and a windowed counter a dict, a list a list of pairs."""
    if isinstance(values, np.ndarray):
        return list(values) if values.ndim == 2 else values.tolist()
    if not isinstance(values, SetValues | MapValues | WindowValues | ListValues):
        return list(values)
    ends = np.cumsum(values.lengths)
    spans = list(zip((ends - values.lengths).tolist(), ends.tolist(), strict=True))
    if isinstance(values, SetValues):
        return [list(values.members[start:end]) for start, end in spans]
    if isinstance(values, ListValues):
        pairs = list(zip(values.members, values.times_ms.tolist(), strict=True))
        return [pairs[start:end] for start, end in spans]
    keys = values.keys if isinstance(values, MapValues) else values.buckets.tolist()
    numbers = (values.values if isinstance(values, MapValues) else values.counts).tolist()
    return [dict(zip(keys[start:end], numbers[start:end], strict=True)) for start, end in spans]
