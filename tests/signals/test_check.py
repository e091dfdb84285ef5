"""What may be written: the shape of a batch, with paths, and values, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signals.conformance import FULL, SCHEMA, rows_batch

from rankd.errors import Reason, RequestError
from rankd.limits import MAX_EVENT_AHEAD_MS, MAX_SET_MEMBERS
from rankd.signals.check import check_batch, value_faults
from rankd.signals.store import ColumnValues, ListValues, MapValues, Operation, SetValues, WindowValues, WriteBatch
from rankd.signals.values import from_list
from rankd.types.schema import Element, Entity, Schema, Signal, SignalKind


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def column(signal: str, values: Any, rows: Any = None, clear_rows: Any = None) -> ColumnValues:
    return ColumnValues(
        signal, i64(0, 1) if rows is None else rows, values, i64() if clear_rows is None else clear_rows
    )


def test_what_is_right_passes() -> None:
    check_batch(SCHEMA, rows_batch("item", [("a", FULL), ("b", {})]))
    check_batch(SCHEMA, WriteBatch("user", [], []))
    check_batch(SCHEMA, WriteBatch("item", ["a", "b"], [column("price", f32(1), i64(1), i64(0))]))


@pytest.mark.parametrize(
    ("bad", "reason", "field", "words"),
    [
        (column("colour", f32(1, 2)), Reason.UNKNOWN_NAME, "columns[1].signal", 'got "colour"'),
        (column("stock", i64(1, 2)), Reason.INVALID_FIELD, "columns[1].signal", "again"),
        (column("price", i64(1, 2)), Reason.WRONG_TYPE, "columns[1].values", "expected f32 for price, got int64"),
        (column("price", ["1", "2"]), Reason.WRONG_TYPE, "columns[1].values", "got strings"),
        (column("price", np.zeros((2, 3), np.float32)), Reason.WRONG_TYPE, "columns[1].values", "got float32"),
        (column("brand", f32(1, 2)), Reason.WRONG_TYPE, "columns[1].values", "expected category"),
        (column("tags", ["a", "b"]), Reason.WRONG_TYPE, "columns[1].values", "expected set"),
        (column("affinity", SetValues([], i64(0, 0))), Reason.WRONG_TYPE, "columns[1].values", "got set"),
        (column("vector", f32(1, 2)), Reason.WRONG_TYPE, "columns[1].values", r"embedding[3]"),
        (column("vector", np.zeros((2, 2), np.float32)), Reason.WRONG_TYPE, "columns[1].values", "dimension 2"),
        (column("price", f32(1)), Reason.LENGTH_MISMATCH, "columns[1].values", "expected 2 rows of values, got 1"),
        (column("tags", SetValues(["a"], i64(1))), Reason.LENGTH_MISMATCH, "columns[1].values", "got 1"),
        (column("tags", SetValues(["a"], i64(1, 1))), Reason.LENGTH_MISMATCH, "columns[1].lengths", "sum to 1, got 2"),
        (column("tags", SetValues(["a"], i64(2, -1))), Reason.LENGTH_MISMATCH, "columns[1].lengths", "sum to 1"),
        (
            column("affinity", MapValues(["a"], f32(), i64(1, 0))),
            Reason.LENGTH_MISMATCH,
            "columns[1].values",
            "1 values",
        ),
        (column("price", f32(1, 2), i64(1, 0)), Reason.INVALID_FIELD, "columns[1].rows", "rising"),
        (column("price", f32(1, 2), i64(0, 0)), Reason.INVALID_FIELD, "columns[1].rows", "rising"),
        (column("price", f32(1, 2), i64(0, 2)), Reason.INVALID_FIELD, "columns[1].rows", "below 2"),
        (column("price", f32(1, 2), i64(-1, 0)), Reason.INVALID_FIELD, "columns[1].rows", "below 2"),
        (column("price", f32(), i64(), i64(5)), Reason.INVALID_FIELD, "columns[1].clear_rows", "below 2"),
        (column("price", f32(1), i64(1), i64(0, 1)), Reason.INVALID_FIELD, "columns[1].clear_rows", "not in rows"),
    ],
)
def test_what_is_wrong_is_named(bad: ColumnValues, reason: Reason, field: str, words: str) -> None:
    batch = WriteBatch("item", ["a", "b"], [column("stock", i64(1, 2)), bad])
    with pytest.raises(RequestError) as caught:
        check_batch(SCHEMA, batch)
    [violation] = caught.value.violations
    assert (caught.value.reason, violation.field) == (reason, field)
    assert words in violation.description


def test_unknown_entity() -> None:
    with pytest.raises(RequestError, match='entity: expected one of item, user, got "shop"'):
        check_batch(SCHEMA, replace(rows_batch("item", []), entity="shop"))


NOW_MS = 1_760_000_000_000
BUCKET = NOW_MS // 3_600_000
KINDS = (
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("v", SignalKind.EMBEDDING, 2),
    Signal("half", SignalKind.EMBEDDING, 2, element=Element.F16),
    Signal("tags", SignalKind.SET),
    Signal("affinity", SignalKind.MAP),
    Signal("heat", SignalKind.COUNTER, half_life_s=60.0),
    Signal("clicks", SignalKind.WINDOW, window_s=86_400.0, bucket_s=3_600.0),
    Signal("shown", SignalKind.WINDOW, window_s=86_400.0, bucket_s=3_600.0),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "shown")),
    Signal("recent", SignalKind.LIST, 2),
)
THING = Entity("thing", {signal.name: signal for signal in KINDS})
THINGS = Schema({"thing": THING})


def write(*columns: ColumnValues, **more: Any) -> WriteBatch:
    return WriteBatch("thing", ["a", "b"], columns, **more)


def added(signal: str, values: Any, **more: Any) -> ColumnValues:
    return replace(column(signal, values), operation=Operation.ADD, **more)


def windows(buckets: list[int], counts: list[float], lengths: list[int]) -> WindowValues:
    return WindowValues(np.array(buckets, np.int32), f32(*counts), i64(*lengths))


def test_new_kinds_and_operations_pass() -> None:
    batch = write(
        added("heat", np.array([1.0, 2.0])), added("clicks", np.array([1.0, 2.0])), added("recent", ["x", "y"]),
        added("affinity", MapValues(["a"], f32(1), i64(1, 0))), column("shown", windows([BUCKET], [1], [1, 0])),
        event_ms=i64(0, NOW_MS + MAX_EVENT_AHEAD_MS), event_ids=["", "e" * 128], write_id="w" * 128,
    )  # fmt: skip
    check_batch(THINGS, batch)
    assert value_faults(THING, batch, NOW_MS) == []


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        (write(write_id="é" * 65), "write_id", "expected at most 128 bytes, got 130"),
        (write(event_ms=i64(1)), "unix_millis", "expected 2, one per id, got 1"),
        (write(event_ids=["a"]), "event_ids", "expected 2, one per id, got 1"),
        (write(column("ctr", f32(1, 2))), "columns[0].values", "nothing for ctr, which is computed from others"),
        (write(added("price", f32(1, 2))), "columns[0].operation", "expected OPERATION_SET for f32, got OPERATION_ADD"),
        (write(added("heat", np.array([1.0]), rows=i64(0), clear_rows=i64(1))), "columns[0].clear_rows", "none beside"),
        (write(added("heat", f32(1, 2))), "columns[0].values", "expected float64 amounts for heat, got float32"),
        (write(added("recent", ListValues([], i64(), i64(0, 0)))), "columns[0].values", "one member a row"),
        (write(added("clicks", windows([], [], [0, 0]))), "columns[0].values", "got windowed_counter"),
        (
            write(column("clicks", np.zeros(2))),
            "columns[0].values",
            "windowed_counter for clicks, got float64",
        ),
        (write(replace(column("price", f32(1, 2)), times_ms=i64(1))), "columns[0].unix_millis", "2 times, one per"),
        (
            write(column("clicks", windows([1], [1, 2], [1, 0]))),
            "columns[0].counts",
            "1 counts, one per bucket",
        ),
        (write(column("recent", ListValues(["a"], i64(), i64(1, 0)))), "columns[0].unix_millis", "1 times, one per"),
    ],
)
def test_what_is_wrong_with_new_kinds_is_named(bad: WriteBatch, field: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_batch(THINGS, bad)
    [violation] = caught.value.violations
    assert violation.field == field
    assert words in violation.description


def lists(*rows: list[tuple[str, int]]) -> Any:
    return from_list(THING.signals["recent"], rows)


@pytest.mark.parametrize(
    ("bad", "row", "part", "words"),
    [
        (write(event_ms=i64(NOW_MS, NOW_MS + MAX_EVENT_AHEAD_MS + 1)), 1, "time", "an hour ahead of the clock"),
        (write(event_ms=i64(-1, 0)), 0, "time", "from 1970"),
        (write(event_ids=["e" * 129, ""]), 0, "event_id", "expected at most 128 bytes, got 129"),
        (write(event_ids=["", "\ud800"]), 1, "event_id", "a lone surrogate at [0]"),
        (write(replace(column("price", f32(1, 2)), times_ms=i64(-5, 1))), 0, "time", "got -5 ms"),
        (write(replace(column("price", f32(1), i64(0), i64(1)), clear_times_ms=i64(-5))), 1, "time", "got -5 ms"),
        (write(column("price", f32(1, np.inf))), 1, "", "finite number, or NaN"),
        (write(column("heat", np.array([-np.inf, np.nan]))), 0, "", "finite number, or NaN"),
        (write(column("stock", i64(1, -(2**63)))), 1, "", "the least int64"),
        (
            write(column("half", f32(1, 2, 3, 65_505).reshape(2, 2))),
            1,
            "",
            "65504, the largest of f16, got 65505",
        ),
        (write(column("v", f32(1, np.nan, 3, 4).reshape(2, 2))), 0, "", "finite numbers, got nan at [1]"),
        (write(column("brand", ["a", "b" * 257])), 1, "", "expected at most 256 bytes, got 257"),
        (write(column("title", ["é" * 32_769, ""])), 0, "", "expected at most 65536 bytes, got 65538"),
        (write(column("tags", SetValues(["a", "\udfff"], i64(1, 1)))), 1, "", "lone surrogate"),
        (write(added("heat", np.array([1, 1e39]))), 1, "", "finite amount within float32's range, got 1e+39"),
        (write(added("clicks", np.array([np.nan, 1]))), 0, "", "finite amount"),
        (write(added("recent", ["a", "é" * 129])), 1, "", "at most 256 bytes, got 258"),
        (write(added("affinity", MapValues(["a"], f32(np.inf), i64(0, 1)))), 1, "", "finite number"),
        (write(column("clicks", windows([5, 5], [1, 1], [0, 2]))), 1, "", "expected rising buckets, got 5 after 5"),
        (write(column("clicks", windows([BUCKET + 2], [1], [1, 0]))), 0, "", "an hour ahead of the clock, got number"),
        (write(column("clicks", windows([-1], [1], [1, 0]))), 0, "", "from 1970"),
        (write(column("clicks", windows([1, 2], [1, np.nan], [1, 1]))), 1, "", "finite number, got nan"),
        (write(column("recent", lists([], [("a", 3), ("b", 2), ("c", 1)]))), 1, "", "at most 2 members, got 3"),
        (write(column("recent", lists([("a", 1), ("b", 2)], []))), 0, "", "the newest first, got 2 ms after 1 ms"),
        (write(column("recent", lists([("a", 2), ("a", 1)], []))), 0, "", 'distinct members, got "a" more than once'),
        (write(column("recent", lists([("a", NOW_MS * 2)], []))), 0, "", "an hour ahead"),
    ],
)
def test_a_faulty_row_is_named(bad: WriteBatch, row: int, part: str, words: str) -> None:
    check_batch(THINGS, bad)
    [fault] = value_faults(THING, bad, NOW_MS)
    assert (fault.row, fault.part) == (row, part)
    assert words in fault.description


@given(st.lists(st.text(max_size=3) | st.sampled_from(["", "a" * 256, "é" * 128, "é" * 129, "\ud800"]), max_size=5))
def test_texts_are_judged_one_by_one_or_together_alike(texts: list[str]) -> None:
    def is_good(text: str) -> bool:
        try:
            return len(text.encode()) <= 256
        except UnicodeEncodeError:
            return False

    values = ColumnValues("brand", np.arange(len(texts)), texts, i64())
    faults = value_faults(THING, WriteBatch("thing", ["x"] * len(texts), [values]), NOW_MS)
    assert [f.row for f in faults] == [i for i, text in enumerate(texts) if not is_good(text)]
    faults = value_faults(THING, WriteBatch("thing", texts, []), NOW_MS)
    assert {i for i, text in enumerate(texts) if not text} <= {f.row for f in faults}


def test_at_most_so_many_members() -> None:
    names = [str(i) for i in range(MAX_SET_MEMBERS + 1)]
    batch = write(column("tags", SetValues(names, i64(0, len(names)))))
    [fault] = value_faults(THING, batch, NOW_MS)
    assert fault.description == f"expected at most {MAX_SET_MEMBERS} members, got {MAX_SET_MEMBERS + 1}"
