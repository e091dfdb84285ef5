"""Keeps csrc/rk_wire_fields.h: the tags of the messages of rankd.v1.RankingService, from the compiled contracts.

    python tools/wire_fields.py            # prints what differs; exit status 1 if anything does
    python tools/wire_fields.py --update   # writes the header

The header is checked in, so that the C tests need no protoc; tests/contract fails if it isn't what the contracts say.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator

import wire_lock
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from google.protobuf.timestamp_pb2 import Timestamp

HEADER = wire_lock.ROOT / "csrc" / "rk_wire_fields.h"
PROTO = "rankd/v1/ranking.proto"

_TOP = """\
/* Written by tools/wire_fields.py from protos/rankd/v1/ranking.proto; `make wire-lock` does it again.
 *
 * The tag of a field is its number and its wire type. A repeated number has two: packed, as it is written, and
 * _UNPACKED, as it may come as well. */
#ifndef RK_WIRE_FIELDS_H
#define RK_WIRE_FIELDS_H

enum { /* wire types */
    RK_WIRE_VARINT,
    RK_WIRE_FIXED64,
    RK_WIRE_BYTES,
    RK_WIRE_GROUP,
    RK_WIRE_END_GROUP,
    RK_WIRE_FIXED32
};

enum {
"""
_BOTTOM = "};\n\n#endif\n"

_F = FieldDescriptorProto
_WIRE_TYPES = {
    **dict.fromkeys((_F.TYPE_DOUBLE, _F.TYPE_FIXED64, _F.TYPE_SFIXED64), "FIXED64"),
    **dict.fromkeys((_F.TYPE_FLOAT, _F.TYPE_FIXED32, _F.TYPE_SFIXED32), "FIXED32"),
    **dict.fromkeys((_F.TYPE_STRING, _F.TYPE_BYTES, _F.TYPE_MESSAGE), "BYTES"),
}  # all others are varints


def header() -> str:
    """The text that the header must have."""
    (proto,) = (file for file in wire_lock.descriptors() if file.name == PROTO)
    timestamp = DescriptorProto()
    Timestamp.DESCRIPTOR.CopyToProto(timestamp)
    lines = [line for message in (*proto.message_type, timestamp) for line in tag_lines("", message)]
    return _TOP + "".join(f"    {line},\n" for line in lines) + _BOTTOM


def tag_lines(prefix: str, message: DescriptorProto) -> Iterator[str]:
    """`RK_TAG_MESSAGE_FIELD = number << 3 | type` of a message and of what is nested in it."""
    name = prefix + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", message.name).upper()
    for field in message.field:
        tag, kind = f"RK_TAG_{name}_{field.name.upper()}", _WIRE_TYPES.get(field.type, "VARINT")
        if field.label == _F.LABEL_REPEATED and kind != "BYTES":
            yield f"{tag}_UNPACKED = {field.number} << 3 | RK_WIRE_{kind}"
            kind = "BYTES"
        yield f"{tag} = {field.number} << 3 | RK_WIRE_{kind}"
    for nested in message.nested_type:
        yield from tag_lines(f"{name}_", nested)


def main() -> int:
    """Shows or records the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the header")
    update = parser.parse_args().update
    expected, found = header(), HEADER.read_text(encoding="utf-8") if HEADER.exists() else ""
    if update:
        HEADER.write_text(expected, encoding="utf-8")
    print("\n".join(difflib.unified_diff(found.splitlines(), expected.splitlines(), "checked in", "contracts", n=0)))
    return int(found != expected and not update)


if __name__ == "__main__":
    raise SystemExit(main())
