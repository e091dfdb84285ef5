"""Requests on the wire in every form that protobuf lets them have, and what protobuf makes of them as plain values.

`plain` gives what rankd.kernels.wire.decode gives; their reprs are compared, which tells NaN, -0.0 and types apart.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from support import fuzz

from rankd.v1 import ranking_pb2 as pb

KINDS: dict[str, type[Message]] = {
    "rank": pb.RankRequest,
    "score": pb.ScoreRequest,
    "batch": pb.BatchRankRequest,
}

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)

_FD = FieldDescriptor
_FORMATS = {_FD.TYPE_FLOAT: "<f", _FD.TYPE_DOUBLE: "<d"}


# ---- What protobuf says. ----


def parsed(kind: str, data: bytes) -> dict[str, Any] | None:
    """What protobuf's parser makes of it, or None if it refuses."""
    try:
        message: Any = KINDS[kind].FromString(data)
    except DecodeError:
        return None
    if kind != "batch":
        return _request(message)
    return {"common": _request(message.common), "lists": [_list(one) for one in message.lists]}


def canonical(value: dict[str, Any] | None) -> str:
    """Text that is equal for equal messages: maps have no order."""
    if value is None:
        return "refused"
    common = value.get("common", value)
    for name in ("context_features", "labels"):
        common[name] = sorted(common[name].items())
    return repr(value)


def _request(message: Any) -> dict[str, Any]:
    def get(name: str, default: Any) -> Any:
        return getattr(message, name) if name in message.DESCRIPTOR.fields_by_name else default

    paged = "page_size" in message.DESCRIPTOR.fields_by_name and message.HasField("page_size")
    return {
        "profile": message.profile,
        "surface": message.surface,
        "request_id": message.request_id,
        "query": (message.query.text, message.query.language_code),
        "user": (message.user.visitor_id, message.user.user_id, message.user.session_id),
        "segments": list(message.user.segments),
        "context_features": {name: _context(value) for name, value in message.context_features.items()},
        "labels": dict(message.labels),
        "map_sizes": (len(message.context_features), len(message.labels)),
        "candidates": _candidates(message.candidates),
        "has_candidates": message.HasField("candidates"),
        "as_of": (message.as_of.seconds, message.as_of.nanos) if message.HasField("as_of") else None,
        "page_size": message.page_size if paged else None,
        "page_token": get("page_token", ""),
        "view": get("view", 0),
        "include_timings": get("include_timings", False),
        "raw": get("raw", False),
        "include_features": get("include_features", False),
    }


def _list(message: Any) -> dict[str, Any]:
    return {
        "request_id": message.request_id,
        "candidates": _candidates(message.candidates),
        "page_size": message.page_size if message.HasField("page_size") else None,
        "page_token": message.page_token,
    }


def _candidates(message: Any) -> dict[str, Any]:
    return {
        "ids": list(message.ids),
        "base_scores": list(message.base_scores),
        "columns": [(column.name, list(column.values)) for column in message.columns],
    }


def _context(message: Any) -> tuple[str | None, Any]:
    which = message.WhichOneof("value")
    if which is None:
        return None, None
    value = getattr(message, which)
    if which in ("vector", "set"):
        return which, list(value.values)
    if which == "timestamp":
        return which, (value.seconds, value.nanos)
    return which, value


# ---- Valid bytes in unusual forms. ----


def varint(value: int, rng: random.Random | None = None, most: int = 10) -> bytes:
    """A varint; with `rng` sometimes longer than it must be, up to `most` bytes."""
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    if rng is not None and rng.random() < 0.1:
        longer = rng.randint(0, max(0, most - len(out)))
        if longer:
            out[-1] |= 0x80
            out += b"\x80" * (longer - 1) + b"\x00"
    return bytes(out)


def tag(number: int, wire_type: int, rng: random.Random | None = None) -> bytes:
    """A field's tag."""
    return varint(number << 3 | wire_type, rng, 5)


def block(number: int, payload: bytes, rng: random.Random | None = None) -> bytes:
    """A length-delimited field."""
    return tag(number, BYTES, rng) + varint(len(payload), rng, 5) + payload


def unknown(rng: random.Random, depth: int = 0) -> bytes:
    """A field of a random number and type, which may be a known number with a type that it does not have."""
    number = rng.choice((1, 2, 3, 4, 6, 9, 16, 17, 33, 48, 50, 1000, 2**29 - 1))
    match rng.choice((VARINT, FIXED64, GROUP, FIXED32, "bytes")):
        case 0:
            return tag(number, VARINT, rng) + varint(rng.getrandbits(rng.choice((1, 8, 32, 64))), rng)
        case 1:
            return tag(number, FIXED64, rng) + rng.randbytes(8)
        case 5:
            return tag(number, FIXED32, rng) + rng.randbytes(4)
        case 3 if depth < 4:
            inner = b"".join(unknown(rng, depth + 1) for _ in range(rng.randrange(3)))
            return tag(number, GROUP, rng) + inner + tag(number, END_GROUP, rng)
        case _:
            return block(rng.choice((9, 1000, 2**29 - 1)), rng.randbytes(rng.randrange(6)), rng)


def _scalar(field: FieldDescriptor, value: Any, rng: random.Random) -> tuple[int, bytes]:
    if field.type in _FORMATS:
        packed = struct.pack(_FORMATS[field.type], value)
        return (FIXED32 if len(packed) == 4 else FIXED64), packed
    if field.type == _FD.TYPE_STRING:
        encoded = value.encode()
        return BYTES, varint(len(encoded), rng, 5) + encoded
    wide = int(value)
    if rng.random() < 0.05 and field.type in (_FD.TYPE_UINT32, _FD.TYPE_INT32, _FD.TYPE_ENUM):
        wide = wide & 0xFFFFFFFF | rng.getrandbits(32) << 32  # what does not fit is cut off
    return VARINT, varint(wide, rng)


def _repeated_scalars(field: FieldDescriptor, values: list[Any], rng: random.Random) -> list[bytes]:
    """Packed, unpacked, or both in turn."""
    if field.type == _FD.TYPE_STRING:
        return [tag(field.number, BYTES, rng) + _scalar(field, value, rng)[1] for value in values]
    pieces, at = [], 0
    while at < len(values):
        count = rng.choice((1, 2, len(values)))
        chunk = [_scalar(field, value, rng) for value in values[at : at + count]]
        if count == 1 and rng.random() < 0.7:
            pieces.append(tag(field.number, chunk[0][0], rng) + chunk[0][1])
        else:
            pieces.append(block(field.number, b"".join(body for _, body in chunk), rng))
        if rng.random() < 0.1:
            pieces.append(block(field.number, b"", rng))
        at += count
    return pieces


def _entries(field: FieldDescriptor, value: Any, rng: random.Random) -> list[bytes]:
    """Map entries, with parts missing or doubled and keys that come again."""
    key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    pieces = []
    for key in value:
        parts = [tag(1, BYTES, rng) + _scalar(key_field, key, rng)[1]]
        if value_field.message_type is None:
            parts.append(tag(2, BYTES, rng) + _scalar(value_field, value[key], rng)[1])
        else:
            parts.append(block(2, scramble(value[key], rng), rng))
            if rng.random() < 0.2:
                other = pb.ContextValue()
                fuzz.fill(other, rng, 0.4)
                parts.append(block(2, scramble(other, rng), rng))
        if rng.random() < 0.2:
            parts.append(rng.choice(parts))
        if rng.random() < 0.1:
            parts.append(unknown(rng))
        rng.shuffle(parts)
        if rng.random() < 0.1:
            parts.pop()
        pieces.append(block(field.number, b"".join(parts), rng))
    return pieces + [rng.choice(pieces) for _ in range(rng.choice((0, 0, 1, 2))) if pieces]


def _pieces(field: FieldDescriptor, value: Any, rng: random.Random) -> list[bytes]:
    if field.message_type is None:
        if field.is_repeated:
            return _repeated_scalars(field, list(value), rng)
        wire_type, body = _scalar(field, value, rng)
        return [tag(field.number, wire_type, rng) + body] * rng.choice((1, 1, 1, 2))
    if field.message_type.GetOptions().map_entry:
        return _entries(field, value, rng)
    pieces = [block(field.number, scramble(one, rng), rng) for one in (value if field.is_repeated else [value])]
    if rng.random() < 0.1:
        extra: Any = value.add() if field.is_repeated else type(value)()
        fuzz.fill(extra, rng, 0.3)
        pieces.append(block(field.number, scramble(extra, rng), rng))
    return pieces


def scramble(message: Message, rng: random.Random) -> bytes:
    """Bytes that protobuf accepts, of a message like this one: fields shuffled, split, doubled, in unusual forms."""
    pieces = [piece for field, value in message.ListFields() for piece in _pieces(field, value, rng)]
    how = rng.random()
    if how < 0.3:
        rng.shuffle(pieces)
    while rng.random() < 0.15:
        pieces.insert(rng.randint(0, len(pieces)), unknown(rng))
    return b"".join(pieces)


# ---- Bytes that may be anything. ----

_SHARP = (
    b"\xff" * 11, b"\x80" * 9 + b"\x01", b"\x80" * 9 + b"\x02", b"\x80\x80\x80\x80\x00", b"\x80\x80\x80\x80\x80\x00",
    b"\x00", b"\x04", b"\x03\x04", b"\x0b", b"\x0c", b"\x4b\x00\x00\x4c", b"\x06", b"\x07", b"\x82\x01", b"\x0a\x00",
    b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xe0\x9f\xbf", b"\xef\xbf\xbf",
    b"\xc2\x80", b"\x4b" * 99, b"\x4b" * 100 + b"\x4c" * 100, b"\x4b" * 98 + b"\x4c" * 98,
)  # fmt: skip


def mutate(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, lost, doubled, moved or made up."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0:
                del out[at:]
            case 1:
                del out[at : at + rng.choice((1, 4))]
            case 2:
                out[at:at] = rng.choice(_SHARP)
            case 3:
                out[at:at] = out[at : at + rng.choice((2, 16))]
            case 4:
                out[at : at + 1] = rng.randbytes(1)
            case 5:
                out[at:at] = unknown(rng)
            case 6:
                other = rng.randrange(len(out) + 1)
                piece = out[other : other + 12]
                del out[other : other + 12]
                out[min(at, len(out)) : min(at, len(out))] = piece
            case _ if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def _filled(kind: str, rng: random.Random) -> Message:
    message = KINDS[kind]()
    fuzz.fill(message, rng, rng.choice((0.2, 0.5, 0.9)))
    return message


_SOURCES: dict[str, Callable[[str, random.Random], bytes]] = {
    "as written": lambda kind, rng: _filled(kind, rng).SerializeToString(),
    "scrambled": lambda kind, rng: scramble(_filled(kind, rng), rng),
    "mutated": lambda kind, rng: mutate(scramble(_filled(kind, rng), rng), rng),
    "joined": lambda kind, rng: scramble(_filled(kind, rng), rng) + scramble(_filled(kind, rng), rng),
    "many": lambda kind, rng: b"".join(scramble(_filled(kind, rng), rng) for _ in range(rng.choice((8, 30)))),
    "random": lambda _, rng: rng.randbytes(rng.randrange(40)),
    "unknown": lambda _, rng: b"".join(unknown(rng) for _ in range(rng.randrange(6))),
}


def sample(rng: random.Random) -> tuple[str, str, bytes]:
    """(kind, how it was made, bytes) of any sort; a third is mutated."""
    kind = rng.choice(list(KINDS))
    source = rng.choices(list(_SOURCES), (20, 40, 60, 20, 2, 10, 10))[0]
    return kind, source, _SOURCES[source](kind, rng)
