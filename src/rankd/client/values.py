"""Python and NumPy values as rankd.v1 values. A value that cannot be sent is a RequestError with its path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeAlias

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from rankd.errors import Reason, RequestError
from rankd.v1.ranking_pb2 import ContextValue, StringSet, Vector

Numbers: TypeAlias = "Sequence[float | None] | NDArray[Any]"
"""One number per candidate; None and NaN are missing."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Text(str):
    """A context value declared `text`; a plain str is a `category`."""

    __slots__ = ()


def wrong_type(field: str, expected: str, got: object) -> NoReturn:
    """Raises the RequestError of a value that cannot be sent as what it should be."""
    shown = repr(got)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    raise RequestError.one(Reason.WRONG_TYPE, field, expected, f"{type(got).__name__} {shown}")


def strings(field: str, values: Iterable[Any]) -> list[str]:
    """A list of str that protobuf can encode (no lone surrogates)."""
    if isinstance(values, str):
        wrong_type(field, "a sequence of strings", values)
    texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            wrong_type(f"{field}[{position}]", "a string", text)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                wrong_type(f"{field}[{position}]", "text without lone surrogates", text)
    return texts


def numbers(field: str, values: Numbers, dtype: type[np.float32] | type[np.float64]) -> NDArray[Any]:
    """A contiguous array (n,) of `dtype`; None becomes NaN. Out of float32's range becomes infinite (and refused)."""
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        array = np.empty((0, 0))
    if array.ndim != 1:
        wrong_type(field, "one number per candidate", values)
    if array.dtype.kind not in "fiub" and array.size:
        for position, value in enumerate(values):
            if value is not None and not is_number(value):
                wrong_type(f"{field}[{position}]", "a number", value)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype)


def is_number(value: object) -> bool:
    """A number of Python or NumPy; a bool is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_missing(value: object) -> bool:
    """None, NaN and NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return isinstance(value, np.datetime64) and bool(np.isnat(value))


def unix_millis(field: str, value: object) -> int:
    """Milliseconds since 1970, rounded down, of an aware datetime, a datetime64 (UTC) or an int of milliseconds."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            wrong_type(field, "a datetime with a time zone", value)
        return (value - _EPOCH) // _MILLISECOND
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[ms]").astype(np.int64))
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    wrong_type(field, "a datetime, a datetime64 or milliseconds since 1970", value)


def timestamp(field: str, value: object) -> Timestamp:
    """A Timestamp, to the microsecond, of an aware datetime; a datetime64 or milliseconds to the millisecond."""
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        micros = (value - _EPOCH) // timedelta(microseconds=1)
        return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
    millis = unix_millis(field, value)
    return Timestamp(seconds=millis // 1000, nanos=millis % 1000 * 1_000_000)


def context_values(context: Mapping[str, Any] | None) -> dict[str, ContextValue]:
    """Context features by name; None and missing values are left out."""
    found = {}
    for name, value in (context or {}).items():
        if not is_missing(value):
            found[name] = _context_value(f'context_features["{name}"]', value)
    return found


def _context_value(field: str, value: Any) -> ContextValue:
    if isinstance(value, ContextValue):
        return value
    if isinstance(value, bool | np.bool_):
        return ContextValue(flag=bool(value))
    if is_number(value):
        return ContextValue(number=float(value))
    if isinstance(value, Text):
        return ContextValue(text=strings(field, [value])[0])
    if isinstance(value, str):
        return ContextValue(category=strings(field, [value])[0])
    if isinstance(value, datetime | np.datetime64):
        return ContextValue(timestamp=timestamp(field, value))
    if isinstance(value, set | frozenset):
        return ContextValue(set=StringSet(values=sorted(strings(field, value))))
    if isinstance(value, Sequence | np.ndarray):
        if len(value) and isinstance(value[0], str):
            return ContextValue(set=StringSet(values=strings(field, value)))
        return ContextValue(vector=Vector(values=numbers(field, value, np.float32).tolist()))
    wrong_type(field, "a number, bool, string, datetime, set of strings or vector of numbers", value)


def packed(field_number: int, values: NDArray[Any]) -> bytes:
    """The wire bytes of a packed float or double field (field_number <= 15): protobuf's own
    conversion of a NumPy array makes a Python object per number."""
    data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    header = bytearray([field_number << 3 | 2])
    size = len(data)
    while size > 0x7F:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return bytes(header) + data
