"""rankd.kernels.gather beside NumPy."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankd.kernels.gather import Gather, GatherColumn

I64_MISSING = np.iinfo(np.int64).min
MISSING: dict[str, Any] = {"float": np.nan, "int64": I64_MISSING, "int8": -1, "code": -1, "offset": 0, "vector": np.nan}
DTYPES = {
    "float": np.float32,
    "int64": np.int64,
    "int8": np.int8,
    "code": np.int32,
    "offset": np.int64,
    "vector": np.float32,
}


def oracle(column: GatherColumn, rows: NDArray[np.int64], now_ms: int) -> NDArray[Any]:
    """As the store read before there was a kernel."""
    bound = len(column.array) - 1
    at = np.where((rows < 0) | (rows >= bound), bound, rows)
    if column.written_ms is not None:
        at = np.where(now_ms - column.written_ms[at] >= column.ttl_ms, bound, at)
    values = column.array[at]
    match column.kind:
        case "float":
            return np.where(np.isnan(values), column.missing, values.astype(np.float64))
        case "int64":
            return np.where(values == I64_MISSING, column.missing, values / column.divisor)
        case "int8":
            return np.where(values < 0, column.missing, values.astype(np.float64))
        case _:
            return values


@st.composite
def tables(draw: st.DrawFn) -> list[GatherColumn]:
    bound = draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = []
    for kind in draw(st.lists(st.sampled_from(sorted(DTYPES)), max_size=6)):
        shape = (bound + 1, draw(st.integers(1, 20))) if kind == "vector" else (bound + 1,)
        numbers = random.integers(-5 if kind != "offset" else 0, 100, shape)
        if kind == "int64":
            numbers *= draw(st.sampled_from([1, 10**15]))
        array = numbers.astype(DTYPES[kind])
        array[random.random(bound + 1) < 0.2] = MISSING[kind]
        array[-1] = MISSING[kind]
        written_ms = random.integers(0, 1000, bound + 1) if draw(st.booleans()) else None
        divisor, missing = draw(st.sampled_from([1.0, 1000.0])), draw(st.sampled_from([math.nan, 0.0, -2.5]))
        columns.append(GatherColumn(kind, array, divisor, missing, written_ms, draw(st.integers(0, 1000))))
    return columns


@given(
    tables(), st.lists(st.integers(-1, 40) | st.sampled_from([-(2**63), 2**63 - 1]), max_size=300), st.integers(0, 1500)
)
def test_gather_is_numpys(columns: list[GatherColumn], rows: list[int], now_ms: int) -> None:
    wanted = np.array(rows, np.int64)
    gathered = Gather(columns).read(wanted, now_ms)
    assert len(gathered) == len(columns)
    for column, values in zip(columns, gathered, strict=True):
        expected = oracle(column, wanted, now_ms)
        assert values.dtype == expected.dtype and values.shape == expected.shape
        np.testing.assert_array_equal(values, expected)


def test_values_written_later_are_seen_and_results_are_kept() -> None:
    array = np.array([1.0, np.nan], np.float32)
    gather = Gather([GatherColumn("float", array)])
    first = gather.read(np.zeros(1, np.int64), 0)
    array[0] = 2.0
    assert gather.read(np.zeros(1, np.int64), 0)[0].tolist() == [2.0]
    assert first[0].tolist() == [1.0]


FLOATS = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([GatherColumn("text", FLOATS)], r"columns\[0\].kind: expected one of float, .*, got 'text'"),
        ([GatherColumn("int64", FLOATS)], r"columns\[0\]: expected a C-contiguous, aligned array of int64"),
        ([GatherColumn("vector", FLOATS)], r"columns\[0\]: .* with 2 dimension"),
        ([GatherColumn("float", FLOATS[::2])], r"columns\[0\]: expected a C-contiguous"),
        ([GatherColumn("float", FLOATS[:0])], r"columns\[0\]: expected 0 elements, at least 1, got 0"),
        ([GatherColumn("float", FLOATS), GatherColumn("float", FLOATS[:2])], r"columns\[1\]: expected 3 elements"),
        (
            [GatherColumn("float", FLOATS, written_ms=np.zeros(2, np.int64))],
            r"columns\[0\].written_ms: expected 3 elements, got 2",
        ),
    ],
)
def test_refusals(columns: list[GatherColumn], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gather(columns)


def test_rows_must_be_int64() -> None:
    with pytest.raises(ValueError, match="rows: expected a C-contiguous, aligned array of int64"):
        Gather([]).read(np.zeros(1, np.int32), 0)  # type: ignore[arg-type]
