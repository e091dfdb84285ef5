"""Files of records, only ever appended to: the log and snapshots.

    record   magic "RKR1", length (uint32), number (uint64), CRC-32 of the body, CRC-32 of these 20 bytes; then the body
    body     `length` bytes, the last of which is END

Little endian; CRC-32 is zlib's. Reading tells what is damaged from what was cut: a writer that is killed, or a machine
that goes down, leaves an unfinished record at the end of a file, and nothing else.
"""

from __future__ import annotations

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
_CHUNK_BYTES: Final = 1 << 20


class DamageError(StoreError):
    """A record cannot be read. `offset`: where it begins; what is before is good. `is_cut`: it looks like one that was
    never finished. `resumes`: the number of the next record that can be read, which begins at `goes_on`; None: there is
    none."""

    def __init__(self, path: Path, offset: int, reason: str, is_cut: bool, resumes: int | None, goes_on: int) -> None:
        super().__init__(f"{path}: at byte {offset} {reason}")
        self.path, self.offset, self.reason, self.is_cut = path, offset, reason, is_cut
        self.resumes, self.goes_on = resumes, goes_on


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


def read_records(path: Path, on_damage: OnDamage | None = None, descriptor: int | None = None) -> Iterator[Record]:
    """The records of a file, in order. DamageError at the first that cannot be read; with `on_damage` that is told and
    reading goes on at the next that can. StoreError if the file cannot be read at all.

    `descriptor`: the open file, where the name may be another's by now; it stays open. What is appended meanwhile
    is not read. Nothing is mapped: a file that is cut meanwhile, or a disk that fails, is an error and no signal.
    """
    try:
        own = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if descriptor is None else descriptor
        try:
            yield from _records(path, _Source(own), on_damage)
        finally:
            if descriptor is None:
                os.close(own)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


class _Source:
    """A file of which the bytes up to `size` are read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes if it ends before."""
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        pieces = [data]
        while data:  # pread gives 2 GiB at most
            offset += len(data)
            length -= len(data)
            data = os.pread(self._descriptor, length, offset)
            pieces.append(data)
        return b"".join(pieces)

    def chunks(self, offset: int) -> Iterator[tuple[int, bytes]]:
        """Everything from there on, each with its offset."""
        while offset < self.size:
            data = self.read(offset, min(_CHUNK_BYTES, self.size - offset))
            if not data:
                return
            yield offset, data
            offset += len(data)


def _records(path: Path, source: _Source, on_damage: OnDamage | None) -> Iterator[Record]:
    offset = 0
    while offset < source.size:
        head = _head_at(source, offset)
        end = None if head is None else offset + _HEAD_BYTES + head.length
        body = b""
        if head is not None and end is not None and end <= source.size:
            body = source.read(offset + _HEAD_BYTES, head.length)
        if head is None or end is None or not _is_whole(body, head):
            damage = _damage(path, source, offset, end)
            if on_damage is None:
                raise damage
            on_damage(damage)
            offset = damage.goes_on
            continue
        yield Record(head.number, memoryview(body)[: -len(_END)], offset, end)
        offset = end


def _is_whole(body: bytes, head: _Head) -> bool:
    return len(body) == head.length and zlib.crc32(body) == head.checksum and body.endswith(_END)


def _head_at(source: _Source, offset: int) -> _Head | None:
    """The head of the record that begins there; None: none does."""
    data = source.read(offset, _HEAD_BYTES)
    if len(data) < _HEAD_BYTES:
        return None
    magic, length, number, checksum = _HEAD.unpack_from(data)
    if magic != _MAGIC or not length:
        return None
    own = int.from_bytes(data[_HEAD.size :], "little")
    return _Head(length, number, checksum) if zlib.crc32(data[: _HEAD.size]) == own else None


def _damage(path: Path, source: _Source, offset: int, end: int | None) -> DamageError:
    """`end`: where the record should end, if its head is good."""
    there = offset  # where what is not zero ends
    for at, data in source.chunks(offset):
        there = at + len(text) if (text := data.rstrip(b"\0")) else there
    if end is None:
        is_cut = there < offset + _HEAD_BYTES
        reason = "is no record"
    else:
        # What a file system had no time to write is zero from some sector on.
        is_cut = end > source.size or -(-there // _SECTOR_BYTES) * _SECTOR_BYTES < end
        reason = "is a record that does not fit its checksum"
    if is_cut:
        reason = f"is a record that was cut short, {source.size - offset} bytes of it"
    found = _next_head(source, offset + 1)
    if found is None:
        return DamageError(path, offset, reason, is_cut, None, source.size)
    goes_on, head = found
    return DamageError(path, offset, reason, False, head.number, goes_on)


def _next_head(source: _Source, offset: int) -> tuple[int, _Head] | None:
    """The next record that has a good head, and where."""
    before = b""  # the end of the chunk before, where a head may begin
    for start, data in source.chunks(offset):
        text = before + data
        at = text.find(_MAGIC)
        while at >= 0:
            place = start - len(before) + at
            head = _head_at(source, place)
            if head is not None:
                return place, head
            at = text.find(_MAGIC, at + 1)
        before = text[-len(_MAGIC) + 1 :]
    return None


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
