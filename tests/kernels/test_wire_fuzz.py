"""The C decoder against protobuf's parser on bytes of all sorts: the same verdict, the same values.

RANKD_FUZZ_SCALE multiplies the number of messages (default 1: 10,000); `make fuzz-wire` tries 1,000,000.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.wire import (
    END_GROUP,
    FIXED32,
    FIXED64,
    GROUP,
    KINDS,
    VARINT,
    block,
    canonical,
    parsed,
    sample,
    tag,
    varint,
)

from rankd.kernels import wire
from rankd.server.wire_fault import find_fault

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
MESSAGES = 10_000 * SCALE
UNPLACED = "a fault that could not be located"


def compare(kind: str, data: bytes) -> bool:
    """Whether both accept it, what they make of it being the same; the finder of faults agrees."""
    expected = canonical(parsed(kind, data))
    assert canonical(wire.decode(kind, data)) == expected, (kind, data.hex())
    accepted = expected != "refused"
    fault = find_fault(data, KINDS[kind].DESCRIPTOR)
    assert (fault.problem == UNPLACED) == accepted, (kind, data.hex(), fault)
    return accepted


@pytest.mark.timeout(120 + SCALE * 30)
def test_any_bytes() -> None:
    rng = random.Random(20_264)
    seen: Counter[tuple[str, bool]] = Counter()
    for _ in range(MESSAGES):
        kind, source, data = sample(rng)
        seen[source, compare(kind, data)] += 1
    print(f"{MESSAGES} messages, 0 disagreements; (how made, accepted): {dict(seen)}")
    # Both verdicts must have been tried, or the generator no longer fits the contract.
    assert seen["mutated", True] > MESSAGES / 50 and seen["mutated", False] > MESSAGES / 50
    assert not any(seen[source, False] for source in ("as written", "scrambled", "joined", "many", "unknown"))


NUMBERS = st.sampled_from((0, 1, 2, 3, 4, 5, 6, 7, 9, 16, 32, 33, 48, 49, 50, 51, 2**29 - 1))
LEAVES = st.one_of(
    st.builds(lambda n, v: tag(n, VARINT) + varint(v), NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(lambda n, v: tag(n, FIXED32) + v, NUMBERS, st.binary(min_size=4, max_size=4)),
    st.builds(lambda n, v: tag(n, FIXED64) + v, NUMBERS, st.binary(min_size=8, max_size=8)),
    st.builds(block, NUMBERS, st.binary(max_size=16)),
    st.builds(lambda n, v: block(n, v.encode()), NUMBERS, st.text(max_size=8)),
    st.builds(lambda n: tag(n, END_GROUP), NUMBERS),
    st.binary(max_size=3),
)


def around(inner: Any) -> Any:
    """Messages and groups around what is there already."""
    several = st.lists(inner, max_size=4).map(b"".join)
    groups = st.builds(lambda n, v: tag(n, GROUP) + v + tag(n, END_GROUP), NUMBERS, several)
    return st.one_of(st.builds(block, NUMBERS, several), groups)


@settings(max_examples=500 * SCALE)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.recursive(LEAVES, around, max_leaves=12), max_size=6))
def test_fields_of_any_number_and_type(kind: str, fields: list[bytes]) -> None:
    compare(kind, b"".join(fields))
