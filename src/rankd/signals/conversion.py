"""Stored values of one type as values of another: which types can be, and which values are exactly the same.

    f32, i64, timestamp      each other (timestamps are milliseconds since 1970); bool if 0 or 1; decayed_counter, as of
                             the value's time
    bool                     f32, i64: 0 or 1
    all of these             category, string: 9.5, 3, true, 2026-01-02T03:04:05.678Z
    category, string         each other (a category has at most 256 bytes); those above, and bool, where `rankd load`
                             would take the text; category: a set of one
    list[n]                  list[m]: the newest m; set: its members
    embedding[n]             another element of the same n, where it holds the numbers
    map, decayed_counter     another half-life: values as of their times, which from now on halve by the new one
    windowed_counter         a bucket that is a whole number of the old ones: sums; a longer or shorter window

Nothing else is converted. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from rankd.limits import MAX_CATEGORY_BYTES
from rankd.signals.accumulate import bucket_ms
from rankd.signals.check import F16_MAX
from rankd.signals.coerce import coerce_value
from rankd.signals.store import ListValues, SetValues, Values, WindowValues
from rankd.signals.values import DTYPES, from_list, owners
from rankd.types.schema import Element, Signal, SignalKind

Mask = NDArray[np.bool_]

Convert = Callable[[Values], tuple[Values, Mask]]
"""All values, and which of them are exact; the others are any values of the new type."""

_K = SignalKind
_INTEGERS: Final = frozenset({_K.I64, _K.TIMESTAMP})
_NUMBERS: Final = _INTEGERS | {_K.F32}
_TEXTS: Final = frozenset({_K.CATEGORY, _K.STRING})
_I64_END: Final = 2.0**63
_F64_WHOLE: Final = 2**53


def conversion(old: Signal, new: Signal) -> Convert | None:
    """How values of `old` become values of `new`; None: they cannot."""
    if old.kind is new.kind:
        return _within(old, new)
    if new.kind in _TEXTS:
        return _to_text(old, new)
    if old.kind in _TEXTS:
        return _from_text(old, new)
    if old.kind is _K.LIST and new.kind is _K.SET:
        return lambda values: _members(cast(ListValues, values))
    return _between_numbers(old.kind, new.kind)


def _exact(values: Values, count: int) -> tuple[Values, Mask]:
    return values, np.ones(count, np.bool_)


def _within(old: Signal, new: Signal) -> Convert | None:
    match old.kind:
        case _K.EMBEDDING if old.dimension == new.dimension:
            return lambda values: _embedding(new, cast(NDArray[np.float32], values))
        case _K.EMBEDDING:
            return None
        case _K.LIST:
            return lambda values: _newest(cast(ListValues, values), new.dimension)
        case _K.WINDOW:
            return _buckets(old, new)
        case _K.MAP:
            return lambda values: _exact(values, len(values.lengths))  # type: ignore[union-attr]
    return lambda values: _exact(values, len(cast(Sequence[Any], values)))


def _embedding(new: Signal, values: NDArray[np.float32]) -> tuple[Values, Mask]:
    if new.element is Element.F16:
        good = cast(Mask, (np.abs(values) <= F16_MAX).all(axis=1))
        return np.where(good[:, None], values, np.float32(0)), good
    return _exact(values, len(values))


def _newest(values: ListValues, most: int) -> tuple[Values, Mask]:
    starts = np.cumsum(values.lengths) - values.lengths
    kept = np.flatnonzero(np.arange(len(values.members)) - np.repeat(starts, values.lengths) < most)
    members = [values.members[i] for i in kept.tolist()]
    lengths = np.minimum(values.lengths, most)
    return _exact(ListValues(members, values.times_ms[kept], lengths), len(lengths))


def _members(values: ListValues) -> tuple[Values, Mask]:
    return _exact(SetValues(values.members, values.lengths), len(values.lengths))


def _buckets(old: Signal, new: Signal) -> Convert | None:
    before, now = bucket_ms(old), bucket_ms(new)
    if now % before:
        return None
    return lambda values: _summed(cast(WindowValues, values), now // before)


def _summed(values: WindowValues, times: int) -> tuple[Values, Mask]:
    buckets, row = values.buckets // times, owners(values.lengths)
    first = np.ones(len(buckets), np.bool_)
    first[1:] = (buckets[1:] != buckets[:-1]) | (row[1:] != row[:-1])
    counts = np.zeros(int(first.sum()), np.float32)
    np.add.at(counts, np.cumsum(first) - 1, values.counts)
    lengths = np.bincount(row[first], minlength=len(values.lengths)).astype(np.int64)
    return _exact(WindowValues(buckets[first], counts, lengths), len(lengths))


def _between_numbers(old: SignalKind, new: SignalKind) -> Convert | None:
    pairs: list[tuple[bool, Convert]] = [
        (old in _INTEGERS and new in _INTEGERS, lambda values: _exact(values, len(cast(Sequence[Any], values)))),
        (old in _INTEGERS and new is _K.F32, _integer_to_f32),
        (old is _K.F32 and new in _INTEGERS, _f32_to_integer),
        (old in (_K.F32, _K.I64) and new is _K.BOOL, _to_bool),
        (old is _K.BOOL and new in (_K.F32, _K.I64), lambda values: _cast(values, new)),
        (old in (_K.F32, _K.I64) and new is _K.COUNTER, _to_f64),
    ]
    return next((convert for fits, convert in pairs if fits), None)


def _cast(values: Values, new: SignalKind) -> tuple[Values, Mask]:
    array = np.asarray(values)
    return _exact(cast(Values, array.astype(DTYPES[new])), len(array))


def _integer_to_f32(values: Values) -> tuple[Values, Mask]:
    integers = cast(NDArray[np.int64], values)
    floats = integers.astype(np.float32)
    back = floats.astype(np.float64)
    good = back < _I64_END
    good &= np.where(good, back, 0.0).astype(np.int64) == integers
    return floats, good


def _f32_to_integer(values: Values) -> tuple[Values, Mask]:
    numbers = cast(NDArray[np.float32], values).astype(np.float64)
    good = (np.trunc(numbers) == numbers) & (np.abs(numbers) < _I64_END)
    return np.where(good, numbers, 0.0).astype(np.int64), good


def _to_bool(values: Values) -> tuple[Values, Mask]:
    numbers = np.asarray(values)
    return numbers == 1, (numbers == 0) | (numbers == 1)


def _to_f64(values: Values) -> tuple[Values, Mask]:
    numbers = np.asarray(values)
    good = np.ones(len(numbers), np.bool_)
    if numbers.dtype == np.int64:
        good = (numbers >= -_F64_WHOLE) & (numbers <= _F64_WHOLE)
    return numbers.astype(np.float64), good


def _to_text(old: Signal, new: Signal) -> Convert | None:
    most = MAX_CATEGORY_BYTES if new.kind is _K.CATEGORY else 2**63

    def convert(texts: Sequence[str]) -> tuple[Values, Mask]:
        good = np.fromiter((len(text.encode()) <= most for text in texts), np.bool_, len(texts))
        return [text if fits else "" for text, fits in zip(texts, good.tolist(), strict=True)], good

    match old.kind:
        case _K.CATEGORY | _K.STRING:
            return lambda values: convert(cast(Sequence[str], values))
        case _K.F32:
            return lambda values: convert([_f32_text(v) for v in cast(NDArray[np.float32], values)])
        case _K.I64:
            return lambda values: convert([str(v) for v in cast(NDArray[np.int64], values).tolist()])
        case _K.BOOL:
            return lambda values: convert(["true" if v else "false" for v in np.asarray(values).tolist()])
        case _K.TIMESTAMP:
            return lambda values: convert(_time_texts(cast(NDArray[np.int64], values)))
    return None


def _f32_text(value: np.float32) -> str:
    """The shortest that is the same float32; whole numbers without a point."""
    return str(value).removesuffix(".0")


def _time_texts(values: NDArray[np.int64]) -> list[str]:
    return [f"{text}Z" for text in np.datetime_as_string(values.astype("datetime64[ms]"), unit="ms").tolist()]


def _from_text(old: Signal, new: Signal) -> Convert | None:
    if new.kind is _K.SET and old.kind is _K.CATEGORY:
        return lambda values: _singles(cast(Sequence[str], values))
    if new.kind in _NUMBERS or new.kind is _K.BOOL:
        return lambda values: _parsed(new, cast(Sequence[str], values))
    return None


def _singles(values: Sequence[str]) -> tuple[Values, Mask]:
    return _exact(SetValues(values, np.ones(len(values), np.int64)), len(values))


def _parsed(new: Signal, texts: Sequence[str]) -> tuple[Values, Mask]:
    found: list[Any] = []
    good = np.ones(len(texts), np.bool_)
    for i, text in enumerate(texts):
        try:
            value = coerce_value(new, text)
            good[i] = value is not None and value == value
        except ValueError:
            good[i] = False
        found.append(value if good[i] else 0)
    return from_list(new, found), good
