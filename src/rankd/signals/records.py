"""What stands in the log and in snapshots: one form for both, so that a snapshot is a log that begins with everything.

    file      Head, then Groups; a snapshot ends with a Foot
    Group     changes that were committed together: Upsert, Delete, Told

Applying the Groups in order gives the state, and applying a stretch of them again does not change it: what is
upserted are values with their times, of which the newer wins, never amounts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError
from rankd.signals.packed import PackedColumn, pack_array, pack_column, unpack_array, unpack_column
from rankd.signals.store import ColumnValues
from rankd.types.schema import Entity

FORMAT: Final = 1

LOG: Final = "log"
SNAPSHOT: Final = "snapshot"

Times = NDArray[np.int64]


class _Record(msgspec.Struct, array_like=True, tag=True): ...


class Head(_Record):
    """`kind`: LOG or SNAPSHOT. `schema`: what values are of, see signals.declared. Of a log, the number of its first
    group is that of the Head and 1; a snapshot holds all groups up to `number`."""

    kind: str
    format: int
    schema: dict[str, Any]
    number: int


class Upsert(_Record):
    """Values of distinct ids. `times`: int64 ms, of each row, or one of all."""

    entity: str
    ids: list[str]
    columns: list[PackedColumn]
    times: bytes


class Delete(_Record):
    """Rows deleted at a time; rows of these ids that come later with values of an earlier time do not come back."""

    entity: str
    ids: list[str]
    at_ms: int


class Told(_Record):
    """What was heard of, see signals.recall. `memory`: which one. `digests`: joined; `times`: int64 ms of each."""

    memory: str
    digests: str
    times: bytes


Change: TypeAlias = Upsert | Delete | Told


class Group(_Record):
    """Changes, in order."""

    changes: list[Change]


class Foot(_Record):
    """The end of a snapshot. `rows`: upserted, by entity."""

    rows: dict[str, int]


_DECODER: Final[msgspec.msgpack.Decoder[Head | Group | Foot]] = msgspec.msgpack.Decoder(Head | Group | Foot)
_encode = msgspec.msgpack.Encoder().encode
_Kind = TypeVar("_Kind", Head, Group, Foot)


def encode(record: Head | Group | Foot) -> bytes:
    """The body of a record."""
    return _encode(record)


def decode(body: memoryview) -> Head | Group | Foot:
    """The inverse. StoreError if it is none of them: its checksum is right, so another rankd wrote it."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"it holds what this rankd does not know: {error}") from error


def pack_upsert(entity: str, ids: Sequence[str], columns: Sequence[ColumnValues], times_ms: Times | int) -> Upsert:
    """`times_ms`: of the rows, or of all."""
    times = np.array([times_ms], np.int64) if isinstance(times_ms, int) else times_ms
    return Upsert(entity, list(ids), [pack_column(column, len(ids)) for column in columns], pack_array(times, "<i8"))


def unpack_upsert(entities: Mapping[str, Entity], upsert: Upsert) -> tuple[list[ColumnValues], Times]:
    """Columns, and the rows' times. StoreError if it does not fit the entities."""
    try:
        entity = entities[upsert.entity]
        columns = [unpack_column(entity, column, len(upsert.ids)) for column in upsert.columns]
        times = unpack_array(upsert.times, "<i8", np.int64)
        if len(times) == 1:
            times = np.full(len(upsert.ids), times[0])
        if len(times) != len(upsert.ids):
            raise ValueError("rows and times differ in number")
        return columns, times
    except (ValueError, KeyError) as error:
        raise StoreError(f"it holds values that do not fit the schema stored beside them: {error}") from error
