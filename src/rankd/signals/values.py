"""Operations on the batch types of signals.store, whatever their kind.

Must live here: taking, counting and joining Values. Must not: where values are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rankd.signals.store import MapValues, SetValues, Values
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
}
"""The kinds whose values are one array; of the others, strings are lists and sets and maps are ragged."""


def row_count(values: Values) -> int:
    """How many rows the values are for."""
    return len(values.lengths) if isinstance(values, SetValues | MapValues) else len(values)


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
    return [values[i] for i in positions.tolist()]


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
    float32 array), sequence of str (set), or mapping of str to float (map), as the kind has it."""
    kind = signal.kind
    if kind is SignalKind.EMBEDDING:
        if not values:
            return np.empty((0, signal.dimension), np.float32)
        return np.asarray(values, np.float32).reshape(len(values), signal.dimension)
    if kind in DTYPES:
        return cast(Values, np.asarray(values, DTYPES[kind]))
    if kind is SignalKind.SET:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        return SetValues([member for members in values for member in members], lengths)
    if kind is SignalKind.MAP:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        keys = [key for row in values for key in row]
        numbers = [number for row in values for number in row.values()]
        return MapValues(keys, np.asarray(numbers, np.float32), lengths)
    return list(values)


def to_list(values: Values) -> list[Any]:
    """The inverse of `from_list`: one plain value per row; an embedding is a float32 array,
    a set a list of str, a map a dict."""
    if isinstance(values, np.ndarray):
        return list(values) if values.ndim == 2 else values.tolist()
    if isinstance(values, SetValues):
        starts = (np.cumsum(values.lengths) - values.lengths).tolist()
        return [
            list(values.members[start : start + length])
            for start, length in zip(starts, values.lengths.tolist(), strict=True)
        ]
    if isinstance(values, MapValues):
        starts = (np.cumsum(values.lengths) - values.lengths).tolist()
        numbers = values.values.tolist()
        return [
            dict(zip(values.keys[start : start + length], numbers[start : start + length], strict=True))
            for start, length in zip(starts, values.lengths.tolist(), strict=True)
        ]
    return list(values)
