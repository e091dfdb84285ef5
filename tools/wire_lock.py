"""Keeps protos/wire.lock: one sorted line per message field, enum value and rpc of the contracts.

    python tools/wire_lock.py            # prints what differs; exit status 1 if anything does
    python tools/wire_lock.py --update   # records additions; refuses breaking changes
    python tools/wire_lock.py --update --breaking   # records those as well

A removal, a new number or a new type breaks clients that are already deployed. tests/contract
fails on them, and on additions that are not recorded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import google.rpc.status_pb2 as rpc_status
import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "protos" / "wire.lock"


def descriptors() -> list[FileDescriptorProto]:
    """The compiled contracts with their comments, without what they import."""
    names = sorted(str(path.relative_to(ROOT / "protos")) for path in ROOT.glob("protos/rankd/v1/*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "descriptors")
        code = protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'protos'}",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                f"-I{Path(rpc_status.__file__).parents[2]}",
                "--include_source_info",
                f"--descriptor_set_out={out}",
                *names,
            ]
        )
        if code:
            raise SystemExit(f"protoc failed with status {code}")
        return list(FileDescriptorSet.FromString(out.read_bytes()).file)


def field_line(owner: str, field: FieldDescriptorProto, message: DescriptorProto) -> str:
    """`owner.field = number type cardinality`, with the oneof it belongs to."""
    if field.type_name:
        kind = field.type_name.lstrip(".")
    else:
        kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        cardinality = "repeated"
    elif field.proto3_optional:
        cardinality = "optional"
    elif field.HasField("oneof_index"):
        cardinality = f"oneof:{message.oneof_decl[field.oneof_index].name}"
    else:
        cardinality = "singular"
    return f"{owner}.{field.name} = {field.number} {kind} {cardinality}"


def message_lines(prefix: str, message: DescriptorProto) -> Iterator[str]:
    """The lines of a message and of what is nested in it."""
    name = f"{prefix}.{message.name}"
    if not message.options.map_entry:
        yield f"{name} message"
    for field in message.field:
        yield field_line(name, field, message)
    for nested in message.nested_type:
        yield from message_lines(name, nested)
    for enum in message.enum_type:
        yield from enum_lines(name, enum)


def enum_lines(prefix: str, enum: EnumDescriptorProto) -> Iterator[str]:
    """The lines of an enum's values."""
    for value in enum.value:
        yield f"{prefix}.{enum.name}.{value.name} = {value.number} enum"


def wire_lines(files: list[FileDescriptorProto]) -> list[str]:
    """Everything a client or server on the other end depends on, sorted."""
    lines: list[str] = []
    for file in files:
        for message in file.message_type:
            lines += message_lines(file.package, message)
        for enum in file.enum_type:
            lines += enum_lines(file.package, enum)
        for service in file.service:
            for rpc in service.method:
                sent = ("stream " if rpc.client_streaming else "") + rpc.input_type.lstrip(".")
                answered = ("stream " if rpc.server_streaming else "") + rpc.output_type.lstrip(".")
                lines.append(f"{file.package}.{service.name}.{rpc.name} rpc {sent} -> {answered}")
    return sorted(lines)


def differences(locked: list[str], current: list[str]) -> tuple[list[str], list[str]]:
    """(breaking, added): locked lines that are gone or changed, and lines not recorded yet."""
    now = {line.split(" ", 1)[0]: line for line in current}
    breaking = [f"{line}  (now: {now.get(line.split(' ', 1)[0], 'gone')})" for line in locked if line not in current]
    known = {line.split(" ", 1)[0] for line in locked}
    return breaking, [line for line in current if line.split(" ", 1)[0] not in known]


def read_lock() -> list[str]:
    """The recorded lines."""
    return LOCK.read_text(encoding="utf-8").splitlines() if LOCK.exists() else []


def main() -> int:
    """Shows or records the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="record additions")
    parser.add_argument("--breaking", action="store_true", help="with --update: record breaking changes as well")
    arguments = parser.parse_args()
    current = wire_lines(descriptors())
    breaking, added = differences(read_lock(), current)
    print("".join([f"breaking: {line}\n" for line in breaking] + [f"added: {line}\n" for line in added]), end="")
    if arguments.update and (arguments.breaking or not breaking):
        LOCK.write_text("\n".join(current) + "\n", encoding="utf-8")
        return 0
    return 1 if breaking or added else 0


if __name__ == "__main__":
    raise SystemExit(main())
