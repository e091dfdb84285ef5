"""Values of any kind as the parts that rows are packed of (kernels.packed): texts, integers and bytes.

Must live here: how each kind of signal is packed; taking and joining values whatever their kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.packed import PackedCell
from rankd.signals.store import ListValues, MapValues, SetValues, Values, WindowValues
from rankd.signals.values import range_elements
from rankd.types.schema import Element, Signal, SignalKind

_F32 = np.dtype("<f4")
_F64 = np.dtype("<f8")
_F16 = np.dtype("<f2")
_I8_LEVELS = np.float32(127)

_CELLS = {
    SignalKind.F32: PackedCell(width=4),
    SignalKind.I64: PackedCell(has_int=True),
    SignalKind.TIMESTAMP: PackedCell(has_int=True),
    SignalKind.BOOL: PackedCell(width=1),
    SignalKind.CATEGORY: PackedCell(has_text=True),
    SignalKind.STRING: PackedCell(has_text=True),
    SignalKind.SET: PackedCell(is_ragged=True, has_text=True),
    SignalKind.MAP: PackedCell(is_ragged=True, has_text=True, width=4),
    SignalKind.COUNTER: PackedCell(width=8),
    SignalKind.WINDOW: PackedCell(is_ragged=True, has_int=True, width=4),
    SignalKind.LIST: PackedCell(is_ragged=True, has_text=True, has_int=True),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """n values. `lengths` int64 (n,): elements of each, of ragged kinds; None: one each. Then by element: `texts`,
    `ints` int64, `fixed` uint8 (elements, width); None where the kind has none of it."""

    count: int
    lengths: NDArray[np.int64] | None = None
    texts: Sequence[str] | None = None
    ints: NDArray[np.int64] | None = None
    fixed: NDArray[np.uint8] | None = None

    def take(self, positions: NDArray[np.int64]) -> Parts:
        """The values at positions, in that order."""
        if len(positions) == self.count and bool(np.all(positions[:-1] < positions[1:])):
            return self
        elements, lengths = positions, None
        if self.lengths is not None:
            lengths = self.lengths[positions]
            elements = range_elements((np.cumsum(self.lengths) - self.lengths)[positions], lengths)
        return Parts(
            len(positions),
            lengths,
            None if self.texts is None else [self.texts[i] for i in elements.tolist()],
            None if self.ints is None else self.ints[elements],
            None if self.fixed is None else self.fixed[elements],
        )

    def then(self, more: Parts) -> Parts:
        """These values and after them more of the same kind."""
        if not self.count or not more.count:
            return self if self.count else more
        return Parts(
            self.count + more.count,
            _joined(self.lengths, more.lengths),
            None if self.texts is None or more.texts is None else [*self.texts, *more.texts],
            _joined(self.ints, more.ints),
            _joined(self.fixed, more.fixed),
        )


def _joined(first: NDArray[Any] | None, second: NDArray[Any] | None) -> Any:
    return None if first is None or second is None else np.concatenate([first, second])


def cell_of(signal: Signal) -> PackedCell:
    """How a signal's values are packed."""
    if signal.kind is SignalKind.EMBEDDING:
        n = signal.dimension
        return PackedCell(width={Element.F32: 4 * n, Element.F16: 2 * n, Element.I8: 4 + n}[signal.element])
    return _CELLS[signal.kind]


def parts_of(signal: Signal, values: Values) -> Parts:
    """Values, which are of the signal's kind, as parts."""
    match values:
        case SetValues():
            return _distinct(values)
        case MapValues():
            return Parts(len(values.lengths), values.lengths, values.keys, fixed=_bytes(values.values, _F32))
        case WindowValues():
            ints = values.buckets.astype(np.int64)
            return Parts(len(values.lengths), values.lengths, ints=ints, fixed=_bytes(values.counts, _F32))
        case ListValues():
            return Parts(len(values.lengths), values.lengths, values.members, np.ascontiguousarray(values.times_ms))
        case np.ndarray():
            return _array_parts(signal, values)
    return Parts(len(values), texts=values)


def values_of(signal: Signal, parts: Parts) -> Values:
    """The inverse of `parts_of`; of a narrow embedding what is left of it, as float32."""
    lengths = parts.lengths
    match signal.kind:
        case SignalKind.CATEGORY | SignalKind.STRING:
            return parts.texts or []
        case SignalKind.SET:
            return SetValues(parts.texts or [], _lengths(lengths))
        case SignalKind.MAP:
            return MapValues(parts.texts or [], _numbers(parts, _F32), _lengths(lengths))
        case SignalKind.WINDOW:
            return WindowValues(_ints(parts).astype(np.int32), _numbers(parts, _F32), _lengths(lengths))
        case SignalKind.LIST:
            return ListValues(parts.texts or [], _ints(parts), _lengths(lengths))
        case SignalKind.I64 | SignalKind.TIMESTAMP:
            return _ints(parts)
        case SignalKind.BOOL:
            return np.zeros(0, np.bool_) if parts.fixed is None else parts.fixed.reshape(-1) != 0
        case SignalKind.COUNTER:
            return _numbers(parts, _F64)
        case SignalKind.EMBEDDING:
            return _embeddings(signal, parts)
    return _numbers(parts, _F32)


def _distinct(values: SetValues) -> Parts:
    """Sets with each member once, in order."""
    members, lengths, start = values.members, [], 0
    texts: list[str] = []
    for length in values.lengths.tolist():
        some = sorted(set(members[start : start + length]))
        texts += some
        lengths.append(len(some))
        start += length
    return Parts(len(lengths), np.array(lengths, np.int64), texts)


def _array_parts(signal: Signal, values: NDArray[Any]) -> Parts:
    n = len(values)
    match signal.kind:
        case SignalKind.I64 | SignalKind.TIMESTAMP:
            return Parts(n, ints=np.ascontiguousarray(values, np.int64))
        case SignalKind.BOOL:
            return Parts(n, fixed=values.astype(np.uint8).reshape(n, 1))
        case SignalKind.COUNTER:
            return Parts(n, fixed=_bytes(values, _F64))
        case SignalKind.EMBEDDING if signal.element is Element.F16:
            return Parts(n, fixed=_bytes(values, _F16))
        case SignalKind.EMBEDDING if signal.element is Element.I8:
            return Parts(n, fixed=_quantised(values))
    return Parts(n, fixed=_bytes(values, _F32))


def _bytes(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Each number's (or row of numbers') bytes: uint8 (n, width)."""
    n = len(values)
    numbers = np.ascontiguousarray(values, dtype).reshape(n, -1) if n else np.zeros((0, 1), dtype)
    if values.ndim == 2 and not n:
        numbers = np.zeros((0, values.shape[1]), dtype)
    return numbers.view(np.uint8)


def _quantised(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One float32 scale a row, the largest magnitude / 127, and the numbers in such steps, rounded to nearest."""
    scales = np.abs(values).max(axis=1, initial=0).astype(np.float32) / _I8_LEVELS
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(scales[:, None] > 0, values / scales[:, None], 0)
    packed = np.empty((len(values), 4 + values.shape[1]), np.uint8)
    packed[:, :4] = _bytes(scales, _F32)
    packed[:, 4:] = np.clip(np.rint(steps), -127, 127).astype(np.int8).view(np.uint8)
    return packed


def _embeddings(signal: Signal, parts: Parts) -> NDArray[np.float32]:
    if parts.fixed is None:
        return np.zeros((0, signal.dimension), np.float32)
    if signal.element is Element.I8:
        scales = np.ascontiguousarray(parts.fixed[:, :4]).view(_F32)
        return np.ascontiguousarray(parts.fixed[:, 4:]).view(np.int8).astype(np.float32) * scales.astype(np.float32)
    dtype = _F16 if signal.element is Element.F16 else _F32
    return np.ascontiguousarray(parts.fixed).view(dtype).astype(np.float32)


def _lengths(lengths: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if lengths is None else lengths


def _ints(parts: Parts) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if parts.ints is None else parts.ints


def _numbers(parts: Parts, dtype: np.dtype[Any]) -> NDArray[Any]:
    if parts.fixed is None:
        return np.zeros(0, dtype.newbyteorder("="))
    return np.ascontiguousarray(parts.fixed).view(dtype).reshape(-1).astype(dtype.newbyteorder("="), copy=False)


def no_parts(signal: Signal) -> Parts:
    """No values."""
    cell = cell_of(signal)
    return Parts(
        0,
        np.zeros(0, np.int64) if cell.is_ragged else None,
        [] if cell.has_text else None,
        np.zeros(0, np.int64) if cell.has_int else None,
        np.zeros((0, cell.width), np.uint8) if cell.width else None,
    )
