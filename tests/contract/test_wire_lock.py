"""The contracts only grow: protos/wire.lock has every field, value and rpc that was ever published."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from support.repository import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import wire_lock


@pytest.fixture(scope="module")
def files() -> list[FileDescriptorProto]:
    return wire_lock.descriptors()


def test_nothing_published_has_changed(files: list[FileDescriptorProto]) -> None:
    breaking, _ = wire_lock.differences(wire_lock.read_lock(), wire_lock.wire_lines(files))
    assert not breaking, "this breaks deployed clients: " + "; ".join(breaking)


def test_every_addition_is_recorded(files: list[FileDescriptorProto]) -> None:
    _, added = wire_lock.differences(wire_lock.read_lock(), wire_lock.wire_lines(files))
    assert not added, "run `make wire-lock` and commit protos/wire.lock: " + "; ".join(added)


def test_lock_is_sorted_and_distinct() -> None:
    lines = wire_lock.read_lock()
    assert lines == sorted(set(lines))


@pytest.mark.parametrize(
    ("change", "breaking", "added"),
    [
        ("a.M.x = 1 string singular", 0, 0),
        ("a.M.x = 2 string singular", 1, 0),
        ("a.M.x = 1 bytes singular", 1, 0),
        ("a.M.x = 1 string repeated", 1, 0),
        ("a.M.y = 1 string singular", 1, 1),
    ],
)
def test_differences_tells_breaking_from_added(change: str, breaking: int, added: int) -> None:
    found = wire_lock.differences(["a.M.x = 1 string singular"], [change])
    assert tuple(map(len, found)) == (breaking, added)


# Numbers of the fields of FileDescriptorProto and its parts, as SourceCodeInfo's paths use them.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_ENUM_VALUE = _SERVICE_METHOD = 2


def _message_paths(path: tuple[int, ...], name: str, message: DescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    if message.options.map_entry:
        return
    yield path, name
    for i, field in enumerate(message.field):
        yield (*path, _MESSAGE_FIELD, i), f"{name}.{field.name}"
    for i, nested in enumerate(message.nested_type):
        yield from _message_paths((*path, _MESSAGE_NESTED, i), f"{name}.{nested.name}", nested)
    for i, enum in enumerate(message.enum_type):
        yield (*path, _MESSAGE_ENUM, i), f"{name}.{enum.name}"


def _paths(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for i, message in enumerate(file.message_type):
        yield from _message_paths((_FILE_MESSAGE, i), message.name, message)
    for i, enum in enumerate(file.enum_type):
        yield (_FILE_ENUM, i), enum.name
        for j, value in enumerate(enum.value):
            yield (_FILE_ENUM, i, _ENUM_VALUE, j), f"{enum.name}.{value.name}"
    for i, service in enumerate(file.service):
        yield (_FILE_SERVICE, i), service.name
        for j, method in enumerate(service.method):
            yield (_FILE_SERVICE, i, _SERVICE_METHOD, j), f"{service.name}.{method.name}"


def test_everything_is_documented(files: list[FileDescriptorProto]) -> None:
    bare = []
    for file in files:
        comments = {tuple(p.path): p.leading_comments + p.trailing_comments for p in file.source_code_info.location}
        bare += [f"{file.name}: {name}" for path, name in _paths(file) if not comments.get(path, "").strip()]
    assert not bare, "without a comment: " + ", ".join(bare)
