"""Where a message is malformed, found after protobuf has refused it.

protobuf says only that it cannot parse. This walks the wire format
(https://protobuf.dev/programming-guides/encoding/) by the message's descriptor up to the
first fault and names the field. It never decides: it is asked only about refused bytes,
and the walk is bounded, so a hostile message costs milliseconds, not seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_STEPS: Final = 20_000
"""Fields walked before giving up; about 20 ms."""

MAX_DEPTH: Final = 100
"""As protobuf's own parsers."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)

_FD = FieldDescriptor
_FIXED_BYTES: Final = {
    _FD.TYPE_DOUBLE: 8, _FD.TYPE_FIXED64: 8, _FD.TYPE_SFIXED64: 8,
    _FD.TYPE_FLOAT: 4, _FD.TYPE_FIXED32: 4, _FD.TYPE_SFIXED32: 4,
}  # fmt: skip
_VARINTS: Final = frozenset(
    {
        _FD.TYPE_INT32, _FD.TYPE_INT64, _FD.TYPE_UINT32, _FD.TYPE_UINT64,
        _FD.TYPE_SINT32, _FD.TYPE_SINT64, _FD.TYPE_BOOL, _FD.TYPE_ENUM,
    }
)  # fmt: skip
_LONG_VARINT = re.compile(rb"[\x80-\xff]{10}")


@dataclass(frozen=True, slots=True)
class WireFault:
    """`field` is a path such as candidates.ids[3], "" at the top; `problem` says what, and at which byte."""

    field: str
    problem: str


class _Found(Exception):
    def __init__(self, fault: WireFault) -> None:
        self.fault = fault


def find_fault(data: bytes, descriptor: Any) -> WireFault:
    """The first fault of `data` as a message of `descriptor` (a protobuf Descriptor, of whichever backend)."""
    walker = _Walker(data)
    try:
        walker.message(0, len(data), descriptor, "", MAX_DEPTH)
    except _Found as found:
        return found.fault
    return WireFault("", "a fault that could not be located")


class _Walker:
    """One walk over `data`. Every method raises _Found at the first fault, or returns where it stopped."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._steps = 0

    def message(self, at: int, end: int, descriptor: Descriptor, path: str, depth: int) -> None:
        """The fields of a message in data[at:end]."""
        if depth < 0:
            raise _fault(path, "nesting that is too deep", at)
        fields = descriptor.fields_by_number
        counts: dict[int, int] = {}
        while at < end:
            start = at
            number, wire_type, at = self._tag(at, end, path)
            field = fields.get(number)
            if field is None:
                at = self._skip(number, wire_type, at, end, path, depth, start)
                continue
            inner = f"{path}.{field.name}" if path else field.name
            if field.is_repeated:
                position = counts.get(number, 0)
                counts[number] = position + 1
                if field.message_type is not None or field.type in (_FD.TYPE_STRING, _FD.TYPE_BYTES):
                    inner = f"{inner}[{position}]"
            at = self._field(field, wire_type, number, at, end, inner, depth, start)

    def _field(
        self, field: FieldDescriptor, wire_type: int, number: int, at: int, end: int, path: str, depth: int, start: int
    ) -> int:
        if wire_type != _BYTES:
            return self._skip(number, wire_type, at, end, path, depth, start)
        begin, stop = self._length(at, end, path)
        if field.message_type is not None:
            self.message(begin, stop, field.message_type, path, depth - 1)
        elif field.type == _FD.TYPE_STRING:
            self._utf8(begin, stop, path)
        elif field.is_repeated:
            self._packed(field.type, begin, stop, path)
        return stop

    def _step(self, at: int) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _Found(WireFault("", f"a fault somewhere after byte {at}"))

    def _tag(self, at: int, end: int, path: str, least: int = 1) -> tuple[int, int, int]:
        self._step(at)
        tag, after = self._varint(at, end, path, 5, "tag")
        if tag >> 32 or tag >> 3 < least:
            raise _fault(path, "an invalid field number", at)
        return tag >> 3, tag & 7, after

    def _varint(self, at: int, end: int, path: str, most: int, what: str) -> tuple[int, int]:
        value = 0
        for i in range(most):
            if at + i >= end:
                raise _fault(path, f"a truncated {what}", at)
            byte = self._data[at + i]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, at + i + 1
        raise _fault(path, f"a {what} that is too long", at)

    def _length(self, at: int, end: int, path: str) -> tuple[int, int]:
        length, begin = self._varint(at, end, path, 5, "length")
        if length > end - begin:
            raise _fault(path, "a truncated value", at)
        return begin, begin + length

    def _utf8(self, begin: int, stop: int, path: str) -> None:
        try:
            self._data[begin:stop].decode()
        except UnicodeDecodeError as error:
            raise _fault(path, "text that is not UTF-8", begin + error.start) from None

    def _packed(self, kind: int, begin: int, stop: int, path: str) -> None:
        if kind in _FIXED_BYTES:
            if (stop - begin) % _FIXED_BYTES[kind]:
                raise _fault(path, f"a packed length that is no multiple of {_FIXED_BYTES[kind]}", begin)
        elif kind in _VARINTS and stop > begin:
            long = _LONG_VARINT.search(self._data, begin, stop)
            if long:
                raise _fault(path, "a number that is too long", long.start())
            if self._data[stop - 1] >= 0x80:
                raise _fault(path, "a truncated number", stop - 1)

    def _skip(self, number: int, wire_type: int, at: int, end: int, path: str, depth: int, start: int) -> int:
        """The value of an unknown field, or of a known one that came with another wire type."""
        if wire_type == _VARINT:
            return self._varint(at, end, path, 10, "number")[1]
        if wire_type == _BYTES:
            return self._length(at, end, path)[1]
        if wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
            if end - at < size:
                raise _fault(path, "a truncated value", at)
            return at + size
        if wire_type == _GROUP:
            return self._group(number, at, end, path, depth - 1)
        raise _fault(path, "an end of group without a start" if wire_type == _END_GROUP else "an invalid type", start)

    def _group(self, number: int, at: int, end: int, path: str, depth: int) -> int:
        if depth < 0:
            raise _fault(path, "nesting that is too deep", at)
        while at < end:
            start = at
            inner, wire_type, at = self._tag(at, end, path, least=0)  # protobuf looks at no numbers in there
            if wire_type == _END_GROUP:
                if inner == number:
                    return at
                raise _fault(path, "an end of another group", start)
            at = self._skip(inner, wire_type, at, end, path, depth, start)
        raise _fault(path, "a group without an end", at)


def _fault(path: str, problem: str, at: int) -> _Found:
    return _Found(WireFault(path, f"{problem} at byte {at}"))
