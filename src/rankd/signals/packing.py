"""How a row's values are packed on disk: a checksum, then msgpack, {signal number: [written_ms, value]}.

The checksum is the CRC-32 (zlib, little endian) of the row's id, its write time (int64) and the msgpack.

A value is a number, bool or text; an embedding is its float32 bytes, little endian; a set
is a list of texts; a map is a list of keys and the float32 bytes of its values. Numbers of
signals that are no longer declared are carried along.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np

from rankd.signals.store import MapValues, SetValues, Values
from rankd.signals.values import from_list, to_list
from rankd.types.schema import Signal, SignalKind

PackedRow = dict[int, tuple[int, Any]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PackedRow).decode
_CHECKSUM_BYTES = 4

_FLOATS = np.dtype("<f4")


def _checksum(id_: bytes, packed: bytes | memoryview, written_ms: int) -> bytes:
    start = zlib.crc32(written_ms.to_bytes(8, "little", signed=True), zlib.crc32(id_))
    return zlib.crc32(packed, start).to_bytes(_CHECKSUM_BYTES, "little")


def seal_row(id_: bytes, row: PackedRow, written_ms: int) -> bytes:
    """The bytes of a row's values. `id_` and `written_ms` are stored beside them."""
    packed = _encode(row)
    return _checksum(id_, packed, written_ms) + packed


def open_row(id_: bytes, data: bytes, written_ms: int) -> PackedRow:
    """The inverse of `seal_row`. ValueError, TypeError or msgspec.DecodeError if anything of it has changed."""
    packed = memoryview(data)[_CHECKSUM_BYTES:]
    if data[:_CHECKSUM_BYTES] != _checksum(id_, packed, written_ms):
        raise ValueError("its checksum does not fit")
    return _decode(packed)


def to_packed(values: Values) -> list[Any]:
    """One packable value per row."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return [row.astype(_FLOATS, copy=False).tobytes() for row in values]
    if isinstance(values, MapValues):
        ends = np.cumsum(values.lengths)
        numbers = values.values.astype(_FLOATS, copy=False)
        return [
            (list(values.keys[start:end]), numbers[start:end].tobytes())
            for start, end in zip((ends - values.lengths).tolist(), ends.tolist(), strict=True)
        ]
    return to_list(values)


def from_packed(signal: Signal, values: Sequence[Any]) -> Values:
    """The inverse of `to_packed`. ValueError or TypeError if the values are not of the signal's kind."""
    if signal.kind is SignalKind.EMBEDDING:
        numbers = np.frombuffer(b"".join(values), _FLOATS)
        return numbers.reshape(len(values), signal.dimension).astype(np.float32)
    if signal.kind is SignalKind.MAP:
        lengths = np.fromiter((len(keys) for keys, _ in values), np.int64, len(values))
        numbers = np.frombuffer(b"".join(data for _, data in values), _FLOATS).astype(np.float32)
        keys = [key for row, _ in values for key in row]
        if len(keys) != len(numbers):
            raise ValueError("a map's keys and values differ in number")
        return MapValues(keys, numbers, lengths)
    plain = from_list(signal, values)
    if isinstance(plain, np.ndarray):
        return plain
    texts = plain.members if isinstance(plain, SetValues) else cast(Sequence[str], plain)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a text is not text")
    return plain
