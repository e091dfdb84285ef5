"""Raw values to typed columns."""

from __future__ import annotations

import datetime
import math
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from signals.conformance import SCHEMA

from rankd.signals.coerce import coerce_rows, coerce_value
from rankd.signals.rowfile import BadRow, Row
from rankd.signals.values import to_list
from rankd.types.schema import Entity, Signal, SignalKind

ITEM = Entity(
    "item",
    {
        **SCHEMA.entities["item"].signals,
        "heat": Signal("heat", SignalKind.COUNTER, half_life_s=60.0),
        "clicks": Signal("clicks", SignalKind.WINDOW, window_s=86_400.0, bucket_s=3_600.0),
        "ctr": Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "clicks")),
        "recent": Signal("recent", SignalKind.LIST, dimension=3),
    },
)

GOOD: list[tuple[str, Any, Any]] = [
    ("price", 1, 1.0),
    ("price", "1e3", 1000.0),
    ("price", Decimal("2.5"), 2.5),
    ("price", 3.4028235e38, 3.4028235e38),
    ("stock", "-9223372036854775807", -(2**63) + 1),
    ("stock", 2.0, 2),
    ("stock", 2**63 - 1, 2**63 - 1),
    ("released", 12, 12),
    ("released", "-12", -12),
    ("released", 12.6, 13),
    ("released", "1970-01-01T00:00:01.5Z", 1500),
    ("released", "1970-01-01 01:00:00+01:00", 0),
    ("released", "1970-01-02", 86_400_000),
    ("released", "1969-12-31T23:59:59.999", -1),
    ("released", datetime.datetime(1970, 1, 1, 0, 0, 1), 1000),
    ("released", datetime.date(1970, 1, 2), 86_400_000),
    ("new", True, True),
    ("new", " Yes ", True),
    ("new", "F", False),
    ("new", 0, False),
    ("brand", "", ""),
    ("brand", 12, "12"),
    ("title", "x\0y", "x\0y"),
    ("tags", ["a", 1], ["a", "1"]),
    ("tags", "a|b|c", ["a", "b", "c"]),
    ("tags", '["a|b"]', ["a|b"]),
    ("tags", "", []),
    ("affinity", {"a": 1}, {"a": 1.0}),
    ("affinity", '{"a": -1.5}', {"a": -1.5}),
    ("affinity", [("a", 1.0), ("b", 2.0)], {"a": 1.0, "b": 2.0}),
    ("vector", [1, 2.5, -3], [1.0, 2.5, -3.0]),
    ("vector", "[1, 2, 3]", [1.0, 2.0, 3.0]),
    ("heat", "1e300", 1e300),
    ("clicks", {"1970-01-01T02:00:00Z": 3, "3600000": 1}, {2: 3.0, 1: 1.0}),
    ("clicks", '{"7200000": 1}', {2: 1.0}),
    ("clicks", [(datetime.datetime(1970, 1, 1, 2), 1.5)], {2: 1.5}),
    ("recent", ["b", 1], [("b", 0), ("1", 0)]),
    ("recent", "b|a", [("b", 0), ("a", 0)]),
    ("recent", '[["b", 5], "a"]', [("b", 5), ("a", 0)]),
    ("recent", "", []),
]

BAD: list[tuple[str, Any, str]] = [
    ("price", "abc", 'expected a finite float32, got "abc"'),
    ("price", True, "got True"),
    ("price", 1e39, "got 1e+39"),
    ("price", 3.4028236e38, "expected a finite float32"),
    ("price", "inf", "got"),
    ("price", 10**400, "got 1000"),
    ("price", "1_0", "got"),
    ("price", [1], r"got [1]"),
    ("stock", -(2**63), "64 bits"),
    ("stock", 2**63, "64 bits"),
    ("stock", 1.5, "got 1.5"),
    ("stock", math.nan, "got nan"),
    ("stock", math.inf, "got inf"),
    ("stock", "1.5", '"1.5"'),
    ("stock", False, "False"),
    ("released", "yesterday", 'ISO 8601 time, got "yesterday"'),
    ("released", math.nan, "got nan"),
    ("released", True, "True"),
    ("new", "maybe", "expected true or false"),
    ("new", 2, "got 2"),
    ("brand", 1.5, "expected text, got 1.5"),
    ("brand", "\ud800", "surrogate"),
    ("title", ["x"], "expected text"),
    ("tags", 5, "expected a list of texts"),
    ("tags", [None], "got None"),
    ("tags", "[1", "expected a list"),
    ("affinity", "a:1", "expected an object"),
    ("affinity", {"a": math.nan}, "NaN"),
    ("affinity", {"a": "x"}, 'got "x" for "a"'),
    ("affinity", [("a", 1), ("a", 2)], "more than once"),
    ("vector", [1, 2], "expected a list of 3 finite numbers, got 2 numbers"),
    ("vector", [1, 2, math.nan], "got NaN at [2]"),
    ("vector", [1, "x", 2], 'got "x" at [1]'),
    ("vector", "1,2,3", "expected a list of 3 finite numbers"),
    ("heat", 10**400, "expected a finite number, got 1000"),
    ("heat", "hot", 'expected a finite number, got "hot"'),
    ("clicks", 3, "expected an object from times at which buckets begin to finite numbers, got 3"),
    ("clicks", {"3600001": 1}, '"3600001", where no bucket of 3600 s begins'),
    ("clicks", {"-3600000": 1}, "no bucket"),
    ("clicks", {str(2**62 // 3_600_000 * 3_600_000): 1}, "no bucket"),
    ("clicks", {"3600000": 1, "1970-01-01T01:00:00Z": 1}, "more than once"),
    ("clicks", {"3600000": math.nan}, "NaN"),
    ("clicks", {"soon": 1}, '"soon"'),
    ("recent", 5, "expected a list of texts, or of pairs of text and time, got 5"),
    ("recent", [["a", 1, 2]], "got ['a', 1, 2]"),
    ("recent", [["a", "soon"]], '"soon"'),
    ("recent", [None], "got None"),
    ("ctr", 0.5, "expected nothing, since a ratio is computed from its counters, got 0.5"),
]


@pytest.mark.parametrize(("name", "raw", "expected"), GOOD)
def test_taken(name: str, raw: Any, expected: Any) -> None:
    value = coerce_value(ITEM.signals[name], raw)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(("name", "raw", "words"), BAD)
def test_refused(name: str, raw: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        coerce_value(ITEM.signals[name], raw)
    assert words in str(caught.value)
    assert str(caught.value).startswith("expected ")


def test_the_largest_float32_is_the_limit() -> None:
    largest = float(np.finfo(np.float32).max)
    edge = (2 - 2.0**-24) * 2.0**127
    below = math.nextafter(edge, 0)
    assert np.float32(below) == largest
    assert coerce_value(ITEM.signals["price"], below) == below
    with pytest.raises(ValueError):
        coerce_value(ITEM.signals["price"], edge)


def test_batches_carry_lines_clears_and_bad_rows() -> None:
    rows: list[Row | BadRow] = [
        Row(2, "a", {"price": 1, "brand": "x"}),
        BadRow(3, "broken"),
        Row(5, "b", {"price": None, "tags": "p|q"}),
        Row(6, "c", {"price": 3, "brand": 1.5}),
        Row(7, "d", {"colour": "red"}),
        Row(8, "\ud800", {}),
        Row(9, "e", {"price": math.nan}),
        Row(10, "f", {}),
    ]
    first, second = list(coerce_rows(ITEM, rows, batch_rows=7))
    assert (first.lines.tolist(), first.ids) == ([2, 5, 9], ["a", "b", "e"])
    assert [(b.line, b.description.split(":")[0].split(",")[0]) for b in first.bad_rows] == [
        (3, "broken"),
        (6, "brand"),
        (7, "expected signals of item"),
        (8, "expected an id that UTF-8 can encode"),
    ]
    columns = {c.signal: c for c in first.columns}
    assert set(columns) == {"price", "brand", "tags"}
    assert columns["price"].rows.tolist() == [0, 2]
    assert columns["price"].clear_rows.tolist() == [1]
    assert columns["price"].values.dtype == np.float32  # type: ignore[union-attr]
    assert columns["tags"].rows.tolist() == [1]
    assert to_list(columns["tags"].values) == [["p", "q"]]
    assert (second.lines.tolist(), second.ids, list(second.columns)) == ([10], ["f"], [])


def test_unknown_fields_can_be_ignored() -> None:
    [batch] = coerce_rows(ITEM, [Row(1, "a", {"colour": "red", "price": 1})], on_unknown="ignore")
    assert (batch.ids, [c.signal for c in batch.columns], batch.bad_rows) == (["a"], ["price"], [])


def test_needs_neither_the_store_nor_the_kernels() -> None:
    program = (
        "import sys, rankd.signals.coerce, rankd.signals.rowfile; "
        "print([m for m in sys.modules if m.startswith(('rankd.kernels', 'rankd.signals.embedded', 'pyarrow'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
