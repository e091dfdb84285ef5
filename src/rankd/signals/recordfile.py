"""Files of records, only ever appended to: the log and snapshots.

    record   magic "RKR1", length (uint32), number (uint64), CRC-32 of the body, CRC-32 of these 20 bytes; then the body
    body     `length` bytes, the last of which is END

Little endian; CRC-32 is zlib's. Reading tells what is damaged from what was cut: a writer that is killed, or a machine
that goes down, leaves an unfinished record at the end of a file, and nothing else.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from rankd.errors import StoreError

MAX_BODY_BYTES: Final = 2**32 - 1

_HEAD: Final = struct.Struct("<4sIQI")
_HEAD_BYTES: Final = _HEAD.size + 4
_MAGIC: Final = b"RKR1"
_END: Final = b"\xa5"
"""Not zero: zeros at the end of a file are what was never written."""

_SECTOR_BYTES: Final = 512


class DamageError(StoreError):
    """A record cannot be read. `offset`: where it begins; what is before is good. `is_cut`: it looks like one that was
    never finished. `resumes`: the number of the next record that can be read, which begins at `goes_on`; None: there is
    none."""

    def __init__(self, path: Path, offset: int, reason: str, is_cut: bool, resumes: int | None, goes_on: int) -> None:
        super().__init__(f"{path}: at byte {offset} {reason}")
        self.path, self.offset, self.is_cut, self.resumes, self.goes_on = path, offset, is_cut, resumes, goes_on


@dataclass(frozen=True, slots=True)
class Record:
    """`body` is valid until the next one is read. `start`, `end`: of the record in its file."""

    number: int
    body: memoryview
    start: int
    end: int


class _Head(NamedTuple):
    """`length`: of the body with its END."""

    length: int
    number: int
    checksum: int


def encode_record(number: int, body: bytes) -> list[bytes]:
    """The pieces of a record, to be written one after the other. StoreError if the body is too long."""
    if len(body) >= MAX_BODY_BYTES:
        raise StoreError(f"expected at most {MAX_BODY_BYTES} bytes in one commit, got {len(body)}; nothing was written")
    head = _HEAD.pack(_MAGIC, len(body) + 1, number, zlib.crc32(_END, zlib.crc32(body)))
    return [head, zlib.crc32(head).to_bytes(4, "little"), body, _END]


OnDamage = Callable[[DamageError], None]


def read_records(path: Path, on_damage: OnDamage | None = None) -> Iterator[Record]:
    """The records of a file, in order. DamageError at the first that cannot be read; with `on_damage` that is told and
    reading goes on at the next that can. StoreError if the file cannot be read at all."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return
            with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                yield from _records(path, data, on_damage)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


def _records(path: Path, data: memoryview, on_damage: OnDamage | None) -> Iterator[Record]:
    offset = 0
    while offset < len(data):
        head = _head_at(data, offset)
        end = None if head is None else offset + _HEAD_BYTES + head.length
        if head is None or end is None or not _is_whole(data, head, offset + _HEAD_BYTES, end):
            damage = _damage(path, data, offset, end)
            if on_damage is None:
                raise damage
            on_damage(damage)
            offset = damage.goes_on
            continue
        with data[offset + _HEAD_BYTES : end - len(_END)] as body:
            yield Record(head.number, body, offset, end)
        offset = end


def _is_whole(data: memoryview, head: _Head, start: int, end: int) -> bool:
    if end > len(data):
        return False
    with data[start:end] as body:
        return zlib.crc32(body) == head.checksum and bytes(body[-1:]) == _END


def _head_at(data: memoryview, offset: int) -> _Head | None:
    """The head of the record that begins there; None: none does."""
    if offset + _HEAD_BYTES > len(data):
        return None
    with data[offset : offset + _HEAD.size] as head:
        magic, length, number, checksum = _HEAD.unpack(head)
        if magic != _MAGIC or not length:
            return None
        own = int.from_bytes(data[offset + _HEAD.size : offset + _HEAD_BYTES], "little")
        return _Head(length, number, checksum) if zlib.crc32(head) == own else None


def _damage(path: Path, data: memoryview, offset: int, end: int | None) -> DamageError:
    """`end`: where the record should end, if its head is good."""
    rest = bytes(data[offset:])
    there = offset + len(rest.rstrip(b"\0"))
    if end is None:
        is_cut = there < offset + _HEAD_BYTES
        reason = "is no record"
    else:
        # What a file system had no time to write is zero from some sector on.
        is_cut = end > len(data) or -(-there // _SECTOR_BYTES) * _SECTOR_BYTES < end
        reason = "is a record that does not fit its checksum"
    if is_cut:
        reason = f"is a record that was cut short, {len(rest)} bytes of it"
    at = rest.find(_MAGIC, 1)
    while at >= 0:
        head = _head_at(data, offset + at)
        if head is not None:
            return DamageError(path, offset, reason, False, head.number, offset + at)
        at = rest.find(_MAGIC, at + 1)
    return DamageError(path, offset, reason, is_cut, None, len(data))


class RecordWriter:
    """Appends records to one file. Used by one thread at a time. OSError as the system says."""

    def __init__(self, path: Path, size: int | None = None) -> None:
        """A new file; or, with `size`, one that is there and good up to so many bytes: what is behind is cut off."""
        self.path = path
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if size is None else 0)
        self._file = os.open(path, flags, 0o600)
        self.size = 0 if size is None else size
        try:
            if size is not None and os.fstat(self._file).st_size != size:
                os.ftruncate(self._file, size)
                os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, number: int, body: bytes) -> None:
        """Writes a record, not yet durably. If it fails, nothing of it stays."""
        pieces = encode_record(number, body)
        total = sum(map(len, pieces))
        try:
            written = os.writev(self._file, pieces)
            if written < total:
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += total

    def take_back(self, size: int) -> None:
        """Cuts off what was appended behind `size`."""
        os.ftruncate(self._file, size)
        self.size = size

    def sync(self) -> None:
        """What was appended is on the disk."""
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def sync_directory(path: Path) -> None:
    """Makes a directory's entries durable. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a whole file: what was there stays until the new content is on the disk. OSError."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    sync_directory(path.parent)
