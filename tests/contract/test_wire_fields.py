"""csrc/rk_wire_fields.h has the tags that the contracts say."""

import sys

from support.repository import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import wire_fields


def test_header_is_what_the_contracts_say() -> None:
    found = wire_fields.HEADER.read_text(encoding="utf-8")
    assert found == wire_fields.header(), "run `make wire-lock` and commit csrc/rk_wire_fields.h"


def test_tags_have_number_and_type() -> None:
    lines = wire_fields.header().splitlines()
    assert "    RK_TAG_CANDIDATES_BASE_SCORES_UNPACKED = 2 << 3 | RK_WIRE_FIXED64," in lines
    assert "    RK_TAG_CANDIDATES_BASE_SCORES = 2 << 3 | RK_WIRE_BYTES," in lines
    assert "    RK_TAG_RANK_REQUEST_VIEW = 50 << 3 | RK_WIRE_VARINT," in lines
