"""Requests in C against protobuf's own parser: the forms that the format allows, one by one."""

from __future__ import annotations

import struct

import pytest
from support.wire import BYTES, END_GROUP, FIXED32, FIXED64, GROUP, VARINT, block, canonical, parsed, tag, varint

from rankd.kernels import wire
from rankd.v1 import ranking_pb2 as pb

PROFILE, SURFACE, QUERY, USER, CONTEXT, LABELS, CANDIDATES, AS_OF = 1, 2, 4, 5, 6, 7, 16, 32
PAGE_SIZE, PAGE_TOKEN, VIEW, TIMINGS = 48, 49, 50, 51
IDS, BASE_SCORES, COLUMNS = 1, 2, 3


def whole(count: int) -> bytes:
    """An ordinary request with so many candidates."""
    request = pb.RankRequest(profile="search", surface=1, request_id="r-1", page_size=10, view=3)
    request.query.text, request.query.language_code = "rötes kleid", "de"
    request.user.user_id = "u"
    request.user.segments.extend(["a", "b"])
    request.context_features["hour"].number = 3.5
    request.context_features["taste"].vector.values.extend([1.0, -0.0, float("nan")])
    request.context_features["likes"].set.values.extend(["x", "ключ"])
    request.context_features["at"].timestamp.seconds = 1_700_000_000
    request.labels["team"] = "shop"
    request.candidates.ids.extend(f"sku-{i * 7919}" for i in range(count))
    request.candidates.base_scores.extend(i / 3 for i in range(count))
    for name in ("bm25", "ctr"):
        request.candidates.columns.add(name=name, values=[i / 7 for i in range(count)])
    request.as_of.seconds, request.as_of.nanos = 1_700_000_000, 5
    return request.SerializeToString()


def entry(key: bytes, value: bytes) -> bytes:
    return block(1, key) + block(2, value)


def nested(depth: int, inner: bytes = b"") -> bytes:
    """Groups inside one another, of a field that is not known."""
    return tag(9, GROUP) * depth + inner + tag(9, END_GROUP) * depth


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def doubles(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


IN_CANDIDATES = {
    "ids apart": block(IDS, b"a") + tag(BASE_SCORES, FIXED64) + doubles(1) + block(IDS, b"") + block(IDS, b"c"),
    "long id": block(IDS, b"x" * 1000) + block(IDS, b"y" * 127) + block(IDS, b"z" * 128),
    "ids not ASCII": block(IDS, b"a") + block(IDS, "ключ€😀".encode()) + block(IDS, b"b"),
    "id not UTF-8": block(IDS, b"a") + block(IDS, b"\xff") + block(IDS, b"b"),
    "code point cut between ids": block(IDS, b"\xc3") + block(IDS, b"\xa9"),
    "id with an overlong tag": b"\x8a\x80\x80\x80\x00\x01a",
    "id with a tag that is too long": b"\x8a\x80\x80\x80\x80\x00\x01a",
    "id with an overlong length": b"\x0a\x81\x80\x80\x80\x00a",
    "id with a length that is too long": b"\x0a\x81\x80\x80\x80\x80\x00a",
    "truncated id": block(IDS, b"a") + b"\x0a\x05abc",
    "tag alone": block(IDS, b"a") + b"\x0a",
    "id as a number": tag(IDS, VARINT) + b"\x05" + block(IDS, b"a"),
    "packed in pieces": block(BASE_SCORES, doubles(1, 2)) + block(BASE_SCORES, b"") + block(BASE_SCORES, doubles(3)),
    "packed, then alone": block(BASE_SCORES, doubles(1)) + tag(BASE_SCORES, FIXED64) + doubles(2),
    "alone, then packed": tag(BASE_SCORES, FIXED64) + doubles(2) + block(BASE_SCORES, doubles(*range(50))),
    "all alone": (tag(BASE_SCORES, FIXED64) + doubles(2.5)) * 200,
    "packed, of the other width": tag(BASE_SCORES, FIXED32) + floats(1),
    "packed, not a multiple": block(BASE_SCORES, b"x" * 12),
    "truncated number": tag(BASE_SCORES, FIXED64) + b"1234567",
    "many columns": b"".join(block(COLUMNS, block(1, b"c%d" % i) + block(2, floats(i))) for i in range(40)),
    "column's name twice": block(COLUMNS, block(1, b"a") + block(2, floats(1)) + block(1, b"b")),
    "column in pieces": block(
        COLUMNS, block(2, floats(1, 2)) + tag(2, FIXED32) + floats(3) + block(2, floats(*range(99)))
    ),
    "column that is empty": block(COLUMNS, b""),
    "column that is too long": block(COLUMNS, block(1, b"a"))[:-1],
    "beyond its message": tag(COLUMNS, BYTES) + b"\x02" + block(1, b"abc"),
}

IN_REQUEST = {
    "nothing": b"",
    "scalars twice": block(PROFILE, b"a")
    + block(PROFILE, b"b")
    + tag(VIEW, VARINT)
    + b"\x03"
    + tag(VIEW, VARINT)
    + b"\x00",
    "profile cleared": block(PROFILE, b"a") + block(PROFILE, b""),
    "unknown enum": tag(SURFACE, VARINT) + varint(77),
    "enum cut to 32 bits": tag(SURFACE, VARINT) + varint(2**32 + 5),
    "negative enum": tag(VIEW, VARINT) + varint(-1),
    "page size cut": tag(PAGE_SIZE, VARINT) + varint(2**35 + 7),
    "page size 0": tag(PAGE_SIZE, VARINT) + b"\x00",
    "flag of many bits": tag(TIMINGS, VARINT) + varint(2**63),
    "flag beyond 64 bits": tag(TIMINGS, VARINT) + b"\x80" * 9 + b"\x02",
    "varint of eleven bytes": tag(TIMINGS, VARINT) + b"\x80" * 10 + b"\x01",
    "truncated varint": tag(TIMINGS, VARINT) + b"\x80",
    "query twice": block(QUERY, block(1, b"a") + block(2, b"en")) + block(QUERY, block(2, b"de")),
    "user twice": block(USER, block(4, b"a") + block(2, b"u")) + block(USER, block(4, b"b") + block(1, b"v")),
    "as_of twice": block(AS_OF, b"\x08\x05") + block(AS_OF, b"\x10\x07"),
    "as_of empty": block(AS_OF, b""),
    "negative nanos": block(AS_OF, b"\x10" + varint(-5) + b"\x08" + varint(-(2**63))),
    "candidates twice": block(CANDIDATES, block(IDS, b"a") + block(BASE_SCORES, doubles(1)))
    + block(CANDIDATES, block(IDS, b"b") + block(BASE_SCORES, doubles(2))),
    "candidates empty": block(CANDIDATES, b""),
    "candidates as a number": tag(CANDIDATES, VARINT) + b"\x01",
    "string with NUL": block(PROFILE, b"a\x00b"),
    "surrogate": block(PROFILE, b"\xed\xa0\x80"),
    "overlong UTF-8": block(PROFILE, b"\xc0\x80"),
    "above U+10FFFF": block(PROFILE, b"12345678\xf4\x90\x80\x80"),
    "last code point": block(PROFILE, b"12345678\xf4\x8f\xbf\xbf"),
    "truncated UTF-8": block(PROFILE, b"1234567\xe2\x82"),
    "labels": block(LABELS, entry(b"a", b"1")) + block(LABELS, entry(b"b", b"2")) + block(LABELS, entry(b"a", b"3")),
    "label without key": block(LABELS, block(2, b"1")),
    "label without value": block(LABELS, entry(b"a", b"1")) + block(LABELS, block(1, b"a")),
    "label with doubled parts": block(LABELS, entry(b"a", b"1") + entry(b"b", b"2")),
    "label in reverse": block(LABELS, block(2, b"1") + block(1, b"a")),
    "label with an unknown field": block(LABELS, entry(b"a", b"1")) + block(LABELS, entry(b"a", b"2") + b"\x18\x05"),
    "label with a key of another type": block(LABELS, b"\x08\x01" + block(2, b"1")),
    "many labels": b"".join(block(LABELS, entry(b"%d" % (i % 29), b"%d" % i)) for i in range(400)),
    "one label many times": b"".join(block(LABELS, entry(b"a", b"%d" % i)) for i in range(400)),
    "context: later wins whole": block(CONTEXT, entry(b"a", block(4, block(1, floats(1)))))
    + block(CONTEXT, entry(b"a", block(4, block(1, floats(2))))),
    "context: value twice": block(
        CONTEXT, block(1, b"a") + block(2, block(4, block(1, floats(1)))) + block(2, block(4, block(1, floats(2))))
    ),
    "context: other case, and back": block(
        CONTEXT, entry(b"a", block(4, block(1, floats(1))) + block(3, b"t") + block(4, block(1, floats(2))))
    ),
    "context: set goes on": block(CONTEXT, entry(b"a", block(5, block(1, b"x")) + block(5, block(1, b"y")))),
    "context: timestamp merges": block(CONTEXT, entry(b"a", block(6, b"\x08\x05") + block(6, b"\x10\x07"))),
    "context: timestamp anew": block(CONTEXT, entry(b"a", block(6, b"\x08\x05") + b"\x38\x01" + block(6, b"\x10\x07"))),
    "context: text after category": block(CONTEXT, entry(b"a", block(2, b"c") + block(3, b""))),
    "context: wrong type keeps the case": block(CONTEXT, entry(b"a", block(2, b"c") + tag(3, VARINT) + b"\x05")),
    "context: unknown field in the value": block(CONTEXT, entry(b"a", b"\x38\x01" + tag(9, VARINT) + b"\x05")),
    "context: no value": block(CONTEXT, block(1, b"a")),
    "context: empty entry": block(CONTEXT, b""),
    "context: number": block(CONTEXT, entry(b"a", tag(1, FIXED64) + doubles(-0.0))),
    "unknown fields": tag(9, VARINT) + varint(2**64 - 1) + tag(10, FIXED32) + b"1234" + tag(11, FIXED64) + b"12345678",
    "greatest field number": block(2**29 - 1, b"abc"),
    "field number above the greatest": b"\xfa\xff\xff\xff\x1f\x01a",
    "field number 0": b"\x00\x00",
    "field number 0 in a group": tag(9, GROUP) + b"\x00\x00" + tag(9, END_GROUP),
    "group of number 0 in a group": nested(1, b"\x03\x04"),
    "known field as a group": tag(PROFILE, GROUP) + block(PROFILE, b"a") + tag(PROFILE, END_GROUP),
    "group without an end": tag(9, GROUP) + block(1, b"a"),
    "end without a group": tag(9, END_GROUP),
    "end of another group": tag(9, GROUP) + tag(10, END_GROUP),
    "groups crossed": tag(9, GROUP) + tag(10, GROUP) + tag(9, END_GROUP) + tag(10, END_GROUP),
    "group ends outside its message": block(QUERY, tag(9, GROUP)) + tag(9, END_GROUP),
    "end of a group in a message": tag(9, GROUP) + block(QUERY, tag(9, END_GROUP)) + tag(9, END_GROUP),
    "type 6": b"\x0e\x00",
    "type 7": b"\x0f\x00",
    "100 groups": nested(100),
    "101 groups": nested(101),
    "99 groups in a message": block(QUERY, nested(99)),
    "100 groups in a message": block(QUERY, nested(100)),
    "98 groups in an entry's value": block(CONTEXT, entry(b"a", nested(98))),
    "99 groups in an entry's value": block(CONTEXT, entry(b"a", nested(99))),
    "depth counts what is open": nested(99) * 3 + block(QUERY, nested(99)) * 2,
    "length of 2^31": b"\x0a\x80\x80\x80\x80\x08",
    "length of 2^35": b"\x0a\xff\xff\xff\xff\x7f",
}


def check(kind: str, data: bytes) -> None:
    assert canonical(wire.decode(kind, data)) == canonical(parsed(kind, data))


@pytest.mark.parametrize("kind", ["rank", "score"])
@pytest.mark.parametrize("name", IN_REQUEST)
def test_request(kind: str, name: str) -> None:
    check(kind, IN_REQUEST[name])


@pytest.mark.parametrize("name", IN_REQUEST)
def test_common_of_a_batch_is_a_request(name: str) -> None:
    data = block(1, IN_REQUEST[name])
    check("batch", data)
    check("batch", data + block(1, block(PROFILE, b"z")) + data)


@pytest.mark.parametrize("name", IN_CANDIDATES)
def test_candidates(name: str) -> None:
    check("rank", block(CANDIDATES, IN_CANDIDATES[name]))
    # Where the message ends what lies behind it is nobody's.
    check("rank", block(CANDIDATES, IN_CANDIDATES[name]) + block(PROFILE, b"\x01" * 40))


@pytest.mark.parametrize("name", IN_CANDIDATES)
def test_lists(name: str) -> None:
    one = block(2, IN_CANDIDATES[name])
    page = tag(3, VARINT) + b"\x05" + block(4, b"token") + block(1, b"r")
    check("batch", block(2, one + page) + block(2, b"") + block(2, page + one + one))
    check("batch", block(2, one) * 40)


def test_fields_of_the_other_request_are_unknown() -> None:
    check(
        "score", tag(33, VARINT) + b"\x01" + tag(50, VARINT) + b"\x01" + tag(51, VARINT) + b"\x01" + block(49, b"\xff")
    )
    check(
        "rank", tag(33, VARINT) + b"\x01" + tag(50, VARINT) + b"\x02" + tag(51, VARINT) + b"\x01" + block(49, b"\xff")
    )
    decoded = wire.decode("score", tag(33, VARINT) + b"\x01" + tag(50, VARINT) + b"\x01" + block(49, b"\xff"))
    assert decoded is not None and decoded["raw"] is True and decoded["include_features"] is True


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("count", [0, 1, 100, 1000])
def test_ordinary_request_at_any_address(count: int, offset: int) -> None:
    data = whole(count)
    placed = bytearray(offset) + data + b"\xff" * 8
    view = memoryview(placed)[offset : offset + len(data)]
    assert canonical(wire.decode("rank", view)) == canonical(parsed("rank", data))


def test_every_truncation() -> None:
    data = whole(3)
    for length in range(len(data)):
        check("rank", data[:length])
        check("batch", block(1, data[:length]))


def test_maps_are_in_the_order_names_first_came() -> None:
    for count in (3, 100):
        names = [f"n{i * 37 % count}" for i in range(count)]
        data = b"".join(block(LABELS, entry(name.encode(), b"%d" % i)) for i, name in enumerate(names + names[1:2]))
        decoded = wire.decode("rank", data)
        assert decoded is not None
        assert list(decoded["labels"]) == names
        assert decoded["labels"][names[1]] == str(count)


def test_kinds() -> None:
    with pytest.raises(ValueError, match="expected rank, score or batch"):
        wire.decode("write", b"")
