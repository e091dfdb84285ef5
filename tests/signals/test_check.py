"""check_batch: the shape of a batch, with paths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from signals.conformance import FULL, SCHEMA, rows_batch

from rankd.errors import Reason, RequestError
from rankd.signals.check import check_batch
from rankd.signals.store import ColumnValues, MapValues, SetValues, WriteBatch


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
