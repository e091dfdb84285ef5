"""What the processes of a machine say to the keeper of their signals, and how it is framed.

A frame is a length (uint32, little endian) and that many bytes of msgpack: one of the structs below. A client says
Hello, the keeper Welcome or Failed; then the client asks, numbering what it asks, and the keeper answers under the same
numbers, in any order.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import numpy as np

from rankd.limits import HARD_MAX_MESSAGE_BYTES
from rankd.signals.packed import PackedColumn, pack_array, pack_column, unpack_array, unpack_column
from rankd.signals.store import Rejection, WriteBatch, WriteResult
from rankd.types.schema import Schema

PROTOCOL: Final = 2
MAX_FRAME_BYTES: Final = 2 * HARD_MAX_MESSAGE_BYTES
_LENGTH_BYTES: Final = 4


class FrameError(Exception):
    """What came is no frame, or not one of those expected."""


class _Frame(msgspec.Struct, array_like=True, tag=True): ...


class Hello(_Frame):
    """`schema`: its version; both sides must have the same."""

    protocol: int
    schema: str


class Write(_Frame):
    """A batch. `event_ms`: int64."""

    number: int
    entity: str
    ids: list[str]
    columns: list[PackedColumn]
    event_ms: bytes | None = None
    write_id: str = ""
    event_ids: list[str] | None = None


class Delete(_Frame):
    """Ids to be deleted, distinct."""

    number: int
    entity: str
    ids: list[str]


class Forget(_Frame):
    """A user of whom everything is to be deleted."""

    number: int
    user_id: str


class Intern(_Frame):
    """Texts to be given codes."""

    number: int
    texts: list[str]


class Count(_Frame):
    """How many rows there are."""

    number: int


class Welcome(_Frame):
    """Where the tables are that the keeper writes to. `kept`: what they hold beside what is declared, see
    signals.declared."""

    protocol: int
    directory: str
    set_id: int
    kept: dict[str, Any]


class Written(_Frame):
    """Of a Write: a WriteResult. `rejected`: row, signal, description, part."""

    number: int
    count: int
    rejected: list[tuple[int, str, str, str]]
    late_count: int
    repeated: list[int]


class Done(_Frame):
    """`count`: rows deleted."""

    number: int
    count: int


class Codes(_Frame):
    """Of an Intern, in its order."""

    number: int
    codes: list[int]


class Counts(_Frame):
    """Rows per entity: of a Count, those there are; of a Forget, those deleted."""

    number: int
    rows: dict[str, int]


class Failed(_Frame):
    """`kind`: "full" (StoreFullError), "store" (StoreError), "unavailable" (UnavailableError) or "internal". Of a
    Hello, `number` is 0."""

    number: int
    kind: str
    message: str


Request: TypeAlias = Write | Delete | Forget | Intern | Count
Answer: TypeAlias = Written | Done | Codes | Counts | Failed
Greeting: TypeAlias = Welcome | Failed

HELLO = msgspec.msgpack.Decoder(Hello)
REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Write | Delete | Forget | Intern | Count)
ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Written | Done | Codes | Counts | Failed)
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
    """A batch as a frame."""
    return Write(
        number,
        batch.entity,
        list(batch.ids),
        [pack_column(column, len(batch.ids)) for column in batch.columns],
        None if batch.event_ms is None else pack_array(batch.event_ms, "<i8"),
        batch.write_id,
        None if batch.event_ids is None else list(batch.event_ids),
    )


def unpack_batch(schema: Schema, write: Write) -> WriteBatch:
    """The inverse of `pack_batch`, not yet checked against the schema. FrameError if it cannot be one."""
    entity = schema.entities.get(write.entity)
    if entity is None:
        raise FrameError("no such entity")
    try:
        columns = [unpack_column(entity, column, len(write.ids)) for column in write.columns]
        event_ms = None if write.event_ms is None else unpack_array(write.event_ms, "<i8", np.int64)
    except (ValueError, KeyError) as error:
        raise FrameError(f"{type(error).__name__}: {error}") from error
    return WriteBatch(write.entity, write.ids, columns, event_ms, write.write_id, write.event_ids)


def pack_result(number: int, result: WriteResult) -> Written:
    """What became of a batch, as a frame."""
    rejected = [
        (rejection.row, rejection.signal, rejection.description, rejection.part) for rejection in result.rejected
    ]
    return Written(number, result.written_count, rejected, result.late_count, list(result.repeated))


def unpack_result(written: Written) -> WriteResult:
    """The inverse of `pack_result`."""
    rejected = [Rejection(*rejection) for rejection in written.rejected]
    return WriteResult(written.count, rejected, written.late_count, written.repeated)
