"""What the processes of a machine say to the keeper of their signals, and how it is framed.

A frame is a length (uint32, little endian) and that many bytes of msgpack: one of the structs below. A client says
Hello, the keeper Welcome or Failed; then the client asks, numbering what it asks, and the keeper answers under the same
numbers, in any order.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.limits import HARD_MAX_MESSAGE_BYTES
from rankd.signals.store import ColumnValues, MapValues, SetValues, Values, WriteBatch
from rankd.signals.values import DTYPES
from rankd.types.schema import Entity, Schema, Signal, SignalKind

PROTOCOL: Final = 1
MAX_FRAME_BYTES: Final = 2 * HARD_MAX_MESSAGE_BYTES
_LENGTH_BYTES: Final = 4


class FrameError(Exception):
    """What came is no frame, or not one of those expected."""


class _Frame(msgspec.Struct, array_like=True, tag=True): ...


class Hello(_Frame):
    """`schema`: its version; both sides must have the same."""

    protocol: int
    schema: str


class PackedColumn(msgspec.Struct, array_like=True):
    """A ColumnValues. `rows` and `clear_rows`: int64; None: all rows of the batch. `numbers`: values of one array, or
    of maps; `texts`: strings, members or keys; `lengths`: of sets and maps, int64. Arrays are little endian."""

    signal: str
    rows: bytes | None
    clear_rows: bytes
    numbers: bytes
    texts: list[str]
    lengths: bytes


class Write(_Frame):
    """A batch without faults and without an id that comes twice."""

    number: int
    entity: str
    ids: list[str]
    columns: list[PackedColumn]


class Delete(_Frame):
    """Ids to be deleted, distinct."""

    number: int
    entity: str
    ids: list[str]


class Intern(_Frame):
    """Texts to be given codes."""

    number: int
    texts: list[str]


class Count(_Frame):
    """How many rows there are."""

    number: int


class Welcome(_Frame):
    """Where the tables are that the keeper writes to."""

    protocol: int
    directory: str
    set_id: int


class Done(_Frame):
    """`count`: rows written, or deleted."""

    number: int
    count: int


class Codes(_Frame):
    """Of an Intern, in its order."""

    number: int
    codes: list[int]


class Counts(_Frame):
    """Rows per entity."""

    number: int
    rows: dict[str, int]


class Failed(_Frame):
    """`kind`: "full" (StoreFullError), "store" (StoreError) or "internal". Of a Hello, `number` is 0."""

    number: int
    kind: str
    message: str


Request: TypeAlias = Write | Delete | Intern | Count
Answer: TypeAlias = Done | Codes | Counts | Failed
Greeting: TypeAlias = Welcome | Failed

HELLO = msgspec.msgpack.Decoder(Hello)
REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Write | Delete | Intern | Count)
ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Done | Codes | Counts | Failed)
GREETING: msgspec.msgpack.Decoder[Greeting] = msgspec.msgpack.Decoder(Welcome | Failed)

_encode = msgspec.msgpack.Encoder().encode
_Decoded = TypeVar("_Decoded")


def frame_of(message: _Frame) -> bytes:
    """FrameError if it is longer than a frame may be."""
    data = _encode(message)
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError(f"expected at most {MAX_FRAME_BYTES} bytes, got {len(data)}")
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


async def read_frame(reader: asyncio.StreamReader, most: int = MAX_FRAME_BYTES) -> bytes:
    """What is in the next frame. FrameError; IncompleteReadError or ConnectionError if the other side is gone."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "little")
    if length > most:
        raise FrameError(f"expected a frame of at most {most} bytes, got {length}")
    return await reader.readexactly(length)


def receive_frame(connection: socket.socket) -> bytes:
    """The same on a socket that blocks."""
    length = int.from_bytes(_receive(connection, _LENGTH_BYTES), "little")
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"expected a frame of at most {MAX_FRAME_BYTES} bytes, got {length}")
    return _receive(connection, length)


def _receive(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(count - len(data), 1 << 20))
        if not piece:
            raise ConnectionResetError("the keeper closed the connection")
        data += piece
    return bytes(data)


def decode(decoder: msgspec.msgpack.Decoder[_Decoded], data: bytes) -> _Decoded:
    """FrameError if it is not what the decoder reads."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(str(error)) from error


def pack_batch(number: int, batch: WriteBatch) -> Write:
    """A clean batch as a frame."""
    return Write(number, batch.entity, list(batch.ids), [_pack(column, len(batch.ids)) for column in batch.columns])


def _pack(column: ColumnValues, count: int) -> PackedColumn:
    # Positions rise and are below `count`: so many of them are all of them.
    rows = None if len(column.rows) == count else _bytes(column.rows, "<i8")
    clear = _bytes(column.clear_rows, "<i8")
    values = column.values
    if isinstance(values, np.ndarray):
        numbers = _bytes(values, values.dtype.newbyteorder("<"))
        return PackedColumn(column.signal, rows, clear, numbers, [], b"")
    if isinstance(values, SetValues):
        return PackedColumn(column.signal, rows, clear, b"", list(values.members), _bytes(values.lengths, "<i8"))
    if isinstance(values, MapValues):
        numbers = _bytes(values.values, "<f4")
        return PackedColumn(column.signal, rows, clear, numbers, list(values.keys), _bytes(values.lengths, "<i8"))
    return PackedColumn(column.signal, rows, clear, b"", list(values), b"")


def _bytes(array: NDArray[Any], dtype: Any) -> bytes:
    return array.astype(dtype, copy=False).tobytes()


def unpack_batch(schema: Schema, write: Write) -> WriteBatch:
    """The inverse of `pack_batch`, not yet checked against the schema. FrameError if it cannot be one."""
    entity = schema.entities.get(write.entity)
    if entity is None:
        raise FrameError("no such entity")
    try:
        columns = [_unpack(entity, column, len(write.ids)) for column in write.columns]
    except (ValueError, KeyError) as error:
        raise FrameError(f"{type(error).__name__}: {error}") from error
    return WriteBatch(write.entity, write.ids, columns)


def _unpack(entity: Entity, packed: PackedColumn, count: int) -> ColumnValues:
    signal = entity.signals[packed.signal]
    rows = np.arange(count) if packed.rows is None else _array(packed.rows, "<i8", np.int64)
    return ColumnValues(signal.name, rows, _values(signal, packed), _array(packed.clear_rows, "<i8", np.int64))


def _values(signal: Signal, packed: PackedColumn) -> Values:
    match signal.kind:
        case SignalKind.SET:
            return SetValues(packed.texts, _array(packed.lengths, "<i8", np.int64))
        case SignalKind.MAP:
            numbers = _array(packed.numbers, "<f4", np.float32)
            return MapValues(packed.texts, numbers, _array(packed.lengths, "<i8", np.int64))
        case SignalKind.CATEGORY | SignalKind.STRING:
            return packed.texts
    dtype = np.dtype(DTYPES[signal.kind])
    if signal.kind is SignalKind.BOOL and packed.numbers.translate(None, b"\0\1"):
        raise ValueError("a bool that is neither 0 nor 1")
    array = _array(packed.numbers, dtype.newbyteorder("<"), dtype.type)
    return cast(Values, array.reshape(-1, signal.dimension) if signal.kind is SignalKind.EMBEDDING else array)


def _array(data: bytes, stored: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """ValueError if the bytes are no whole number of elements."""
    return np.frombuffer(data, stored).astype(dtype, copy=False)
