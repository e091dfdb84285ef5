"""The fault finder against protobuf's own parser: whatever protobuf refuses, it can place."""

from __future__ import annotations

import os
import random

import pytest
from google.protobuf.message import DecodeError, Message

from rankd.errors import Reason, RequestError
from rankd.server.rpc import parse
from rankd.server.wire_fault import MAX_STEPS, find_fault
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

MUTATIONS = 3_000 * int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


def rank_request() -> pb.RankRequest:
    request = pb.RankRequest(profile="search", surface=1, request_id="r-1", page_size=10, view=3)
    request.query.text = "wi-fi röuter"
    request.user.user_id = "u"
    request.user.segments.extend(["a", "b"])
    request.context_features["hour"].number = 3.5
    request.context_features["v"].vector.values.extend([1.0, 2.0])
    request.context_features["at"].timestamp.seconds = 1_700_000_000
    request.labels["team"] = "shop"
    request.candidates.ids.extend(["sku-1", "sku-2", "ключ"])
    request.candidates.base_scores.extend([0.5, 0.25, float("nan")])
    request.candidates.columns.add(name="bm25", values=[1.0, 2.0, 3.0])
    request.as_of.seconds = 1_700_000_000
    return request


def write_request() -> sp.WriteSignalsRequest:
    request = sp.WriteSignalsRequest(entity="item", ids=["a", "b"])
    request.columns.add(signal="price", floats=sp.FloatValues(values=[1, 2]))
    request.columns.add(signal="stock", rows=[0, 1], ints=sp.IntValues(values=[300, -1]))
    request.columns.add(signal="fresh", bools=sp.BoolValues(values=[True, False]))
    request.columns.add(signal="tags", sets=sp.SetValues(values=["x", "é"], lengths=[1, 1]))
    request.columns.add(signal="brand", clear_rows=[1, 200])
    return request


def mutate(data: bytes, random_: random.Random) -> bytes:
    """One to three edits: flip, insert, delete, cut, repeat, or bytes that mean something on the wire."""
    out = bytearray(data)
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(out) + 1)
        match random_.randrange(6):
            case 0 if at < len(out):
                out[at] ^= 1 << random_.randrange(8)
            case 1:
                out[at:at] = random_.choice([b"\xff" * 11, b"\x0b", b"\x0c", b"\x80", b"\x00", b"\x06\x01"])
            case 2:
                del out[at : at + random_.randint(1, 4)]
            case 3:
                del out[at:]
            case 4:
                out[at:at] = out[: random_.randint(0, 20)]
            case _:
                out[at : at + 1] = bytes([random_.randrange(256)])
    return bytes(out)


@pytest.mark.parametrize("message", [rank_request(), write_request()], ids=lambda m: m.DESCRIPTOR.name)
def test_every_refusal_is_placed(message: Message) -> None:
    random_ = random.Random(7)
    data = message.SerializeToString()
    refused = 0
    for _ in range(MUTATIONS):
        mutated = mutate(data, random_)
        try:
            type(message).FromString(mutated)
        except DecodeError:
            refused += 1
            fault = find_fault(mutated, message.DESCRIPTOR)
            assert " at byte " in fault.problem, (mutated, fault)
            assert 0 <= int(fault.problem.rsplit(" ", 1)[1]) <= len(mutated)
            assert is_path(message.DESCRIPTOR, fault.field), fault
    assert refused > MUTATIONS / 10


def is_path(descriptor: object, path: str) -> bool:
    """Whether every name of the path is a field of the message before it."""
    for part in path.split(".") if path else []:
        name = part.split("[")[0]
        field = descriptor.fields_by_name.get(name)  # type: ignore[attr-defined]
        if field is None:
            return False
        descriptor = field.message_type
    return True


def test_random_bytes_are_placed_too() -> None:
    random_ = random.Random(11)
    refused = 0
    for _ in range(MUTATIONS):
        data = random_.randbytes(random_.randint(1, 40))
        try:
            pb.RankRequest.FromString(data)
        except DecodeError:
            refused += 1
            assert " at byte " in find_fault(data, pb.RankRequest.DESCRIPTOR).problem
    assert refused > MUTATIONS / 2


def tag(number: int, wire_type: int) -> bytes:
    key = number << 3 | wire_type
    return bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])


CANDIDATES, IDS = tag(16, 2), tag(1, 2)


@pytest.mark.parametrize(
    ("data", "field", "problem"),
    [
        (CANDIDATES + b"\x05" + IDS + b"\x05ab", "candidates", "a truncated value at byte 2"),
        (CANDIDATES + b"\x04" + IDS + b"\x05ab", "candidates.ids[0]", "a truncated value at byte 4"),
        (CANDIDATES + b"\x03" + IDS + b"\x01\xff", "candidates.ids[0]", "text that is not UTF-8 at byte 5"),
        (
            CANDIDATES + b"\x05" + tag(2, 2) + b"\x03abc",
            "candidates.base_scores",
            "a packed length that is no multiple of 8 at byte 5",
        ),
        (tag(1, 2), "profile", "a truncated length at byte 1"),
        (b"\x0f\x01", "profile", "an invalid type at byte 0"),
        (b"\x00\x00", "", "an invalid field number at byte 0"),
        (tag(50, 0) + b"\xff" * 11, "view", "a number that is too long at byte 2"),
        (tag(9, 4), "", "an end of group without a start at byte 0"),
        (tag(9, 3), "", "a group without an end at byte 1"),
        (tag(9, 3) + tag(10, 4), "", "an end of another group at byte 1"),
        (tag(9, 3) * 200 + tag(9, 4) * 200, "", "nesting that is too deep at byte 101"),
    ],
)
def test_places(data: bytes, field: str, problem: str) -> None:
    with pytest.raises(DecodeError):
        pb.RankRequest.FromString(data)
    fault = find_fault(data, pb.RankRequest.DESCRIPTOR)
    assert (fault.field, fault.problem) == (field, problem)


def test_what_protobuf_accepts_is_not_judged() -> None:
    unknown = tag(9, 0) + b"\x05" + tag(1, 0) + b"\x05"  # an unknown field, a known one of another wire type
    assert parse(pb.RankRequest, unknown).profile == ""
    assert parse(pb.RankRequest, tag(9, 3) * 100 + tag(9, 4) * 100).profile == ""


def test_refusals_become_request_errors() -> None:
    with pytest.raises(RequestError) as caught:
        parse(pb.RankRequest, b"\x0a\x05ab")
    assert caught.value.reason is Reason.MALFORMED_MESSAGE
    assert caught.value.violations[0].field == "profile"


def test_the_walk_is_bounded() -> None:
    data = (tag(16, 2) + b"\x00") * (8 * 1024 * 1024 // 3) + b"\x07"
    with pytest.raises(DecodeError):
        pb.RankRequest.FromString(data)
    assert find_fault(data, pb.RankRequest.DESCRIPTOR).problem == f"a fault somewhere after byte {3 * MAX_STEPS}"
