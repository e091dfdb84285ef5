"""What a shared table computes on reading, and vectors in fewer bytes, beside NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankd.kernels.table import Cell, CellRead, CellWrite, Spans
from rankd.kernels.table_writer import TableWriter

NONE = np.empty(0, np.int64)
NAN = float("nan")
CELLS = (Cell("f64", timed=True), Cell("map", timed=True), Cell("map"), Cell("f32"))
LIMITS: dict[str, int] = {"max_rows": 10_000, "max_bytes": 1 << 26}
BUCKET_MS = 1_000


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableWriter]:
    table = TableWriter.create(str(tmp_path_factory.mktemp("readings") / "t"), CELLS, **LIMITS)
    yield table
    table.close()


def map_write(cell: int, row: int, codes: list[int], values: list[float], time_ms: int) -> CellWrite:
    return CellWrite(
        cell,
        np.array([row]),
        np.array(codes, np.int32),
        NONE,
        np.array([len(codes)]),
        np.array(values, np.float32),
        np.array([time_ms]),
    )


def read(writer: TableWriter, cells: list[CellRead], now_ms: int) -> list[Any]:
    """What the row "a" has, and what "nobody" has, by column."""
    columns = writer.reading(cells).read(["a", "nobody"], now_ms).columns
    return [column if isinstance(column, Spans) else column.tolist() for column in columns]


floats = st.floats(-1e6, 1e6, width=32)
counts = st.dictionaries(st.integers(-20, 20), floats, max_size=12).map(lambda d: dict(sorted(d.items())))


@settings(deadline=None)
@given(counts, counts, st.integers(-25_000, 25_000), st.integers(1, 30), st.integers(1, 30), st.data())
def test_windows_and_ratios(
    writer: TableWriter,
    above: dict[int, float],
    below: dict[int, float],
    now_ms: int,
    many: int,
    others: int,
    data: st.DataObject,
) -> None:
    ttl_ms, times = data.draw(st.sampled_from([0, 700])), [data.draw(st.integers(-2_000, 2_000)) for _ in range(2)]
    mean, weight = data.draw(st.sampled_from([(0.0, 0.0), (0.25, 8.0)]))
    given_maps = [(1, above), (2, below)]
    writes = [
        map_write(cell, 0, list(m), list(m.values()), now_ms + time)
        for (cell, m), time in zip(given_maps, times, strict=True)
    ]
    writer.delete(["a"])
    writer.stage(["a"], writes, now_ms).publish()

    def total(of: dict[int, float], count: int, time: int) -> float:
        if ttl_ms and -time >= ttl_ms:
            return NAN
        last = now_ms // BUCKET_MS
        return math.fsum(value for bucket, value in of.items() if last - count < bucket <= last)

    sums = [total(above, many, times[0]), total(below, others, times[1])]
    windows = [
        CellRead(cell, "window", missing=-5.0, ttl_ms=ttl_ms, bucket_ms=BUCKET_MS, bucket_count=count)
        for cell, count in ((1, many), (2, others))
    ]
    ratio = windows[0]._replace(part="ratio", missing=NAN, denominator=windows[1], prior_mean=mean, prior_weight=weight)
    first, second, share = read(writer, [*windows, ratio], now_ms)
    for got, expected in zip((first, second), sums, strict=True):
        assert got == pytest.approx([-5.0 if math.isnan(expected) else expected, -5.0], rel=1e-9, abs=1e-6)
    bottom = 0.0 if math.isnan(sums[1]) else second[0]
    top = 0.0 if math.isnan(sums[0]) else first[0]
    if bottom + weight:
        assert share[0] == (top + mean * weight) / (bottom + weight)
    elif not weight:
        assert math.isnan(share[0])
    assert share[1] == mean if weight else math.isnan(share[1])


def test_windows_that_are_missing_and_empty(writer: TableWriter) -> None:
    writer.delete(["a"])
    writer.stage(["a"], [map_write(1, 0, [5], [3.0], 1)], 1).publish()
    window = CellRead(1, "window", bucket_ms=1_000, bucket_count=2)
    ratio = window._replace(part="ratio", denominator=window._replace(cell=2))
    nothing = window._replace(cell=2)
    prior = ratio._replace(prior_mean=0.5, prior_weight=1.0)
    for now_ms, inside in ((4_999, 0.0), (5_000, 3.0), (6_999, 3.0), (7_000, 0.0)):
        first, second, third, fourth = read(writer, [window, nothing, ratio, prior], now_ms)
        assert first[0] == inside
        assert math.isnan(first[1]) and math.isnan(second[0]) and math.isnan(third[0])
        assert fourth == [inside + 0.5, 0.5]


@settings(deadline=None)
@given(st.floats(-1e300, 1e300), st.integers(-10_000, 10_000), st.floats(0.5, 1e5), counts)
def test_decay(writer: TableWriter, value: float, age_ms: int, half_life_ms: float, weights: dict[int, float]) -> None:
    now_ms = 1_700_000_000_000
    times = np.array([now_ms - age_ms])
    number = CellWrite(0, np.arange(1), np.array([value]), NONE, times_ms=times)
    small = CellWrite(3, np.arange(1), np.array([1.5], np.float32), NONE, times_ms=times)
    codes = [code + 20 for code in weights]
    writer.delete(["a"])
    writer.stage(
        ["a"], [number, map_write(2, 0, codes, list(weights.values()), now_ms - age_ms), small], now_ms
    ).publish()
    wanted = [CellRead(cell, "decayed", missing=7.0, half_life_ms=half_life_ms) for cell in (0, 2, 3)]
    doubles, maps, floats_read = read(writer, wanted, now_ms)
    factor = 0.5 ** (max(0, age_ms) / half_life_ms)
    assert doubles == [pytest.approx(value * factor, rel=1e-12), 7.0]
    assert floats_read == [pytest.approx(1.5 * factor, rel=1e-12), 7.0]
    assert isinstance(maps, Spans) and maps.values is not None
    assert maps.lengths.tolist() == [len(weights), -1]
    assert maps.data.tolist() == codes
    assert maps.values.tolist() == pytest.approx([w * factor for w in weights.values()], rel=1e-6, abs=1e-44)


def test_ttl_of_a_cell_whose_time_is_the_rows(writer: TableWriter) -> None:
    writer.delete(["a"])
    ones = np.ones(1, np.float32)
    writer.stage(["a"], [CellWrite(3, np.arange(1), ones, NONE, times_ms=np.array([100]))], 300).publish()
    asked = [CellRead(3, ttl_ms=50), CellRead(3, "time", ttl_ms=50), CellRead(3, "changed", ttl_ms=50)]
    assert read(writer, asked, 149)[0][0] == 1.0
    number, time, changed = read(writer, asked, 150)
    assert math.isnan(number[0])
    assert (time[0], changed[0]) == (-(2**63), 100)


def vectors(tmp_path: Path, element: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One vector written and read; what is read is written and read again, and is the same."""
    writer = TableWriter.create(str(tmp_path / element), [Cell("vector", values.size, element=element)], **LIMITS)
    wanted = writer.reading([CellRead(0)])
    found = []
    for given_values in (values, None):
        vector = found[0] if given_values is None else given_values[None, :]
        writer.stage(["a"], [CellWrite(0, np.arange(1), vector, NONE)], 1).publish()
        column = wanted.read(["a"], 0).columns[0]
        assert not isinstance(column, Spans)
        found.append(np.array(column, np.float32))
    writer.close()
    assert np.array_equal(found[0].view(np.int32), found[1].view(np.int32))
    return found[0][0]  # type: ignore[no-any-return]


def test_all_halves(tmp_path: Path) -> None:
    halves = np.arange(65_536, dtype=np.uint16).view(np.float16)
    read_back = vectors(tmp_path, "f16", halves.astype(np.float32))
    is_nan = np.isnan(halves)
    assert np.array_equal(np.isnan(read_back), is_nan)
    assert np.array_equal(read_back[~is_nan].view(np.int32), halves[~is_nan].astype(np.float32).view(np.int32))


def test_floats_become_the_nearest_half(tmp_path: Path) -> None:
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float64)
    between = ((halves[1:] + halves[:-1]) / 2).astype(np.float32)  # exact
    near = np.concatenate([between, np.nextafter(between, 0), np.nextafter(between, np.float32(np.inf))])
    random = np.random.default_rng(7).integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    edges = np.array([65_504, 65_519.996, 65_520, 1e30, np.inf, 2**-25, 2**-24, 1e-45, 0.0, -0.0], np.float32)
    values = np.concatenate([near, -near, edges, -edges, random[~np.isnan(random)]])
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(vectors(tmp_path, "f16", values).view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("largest", [1.0, 3.4028235e38, 1e-37, 127.0, 0.1, 1e-41, 0.0])
def test_bytes_are_within_half_a_step(tmp_path: Path, largest: float) -> None:
    values = (np.random.default_rng(3).uniform(-1, 1, 1_000) * largest).astype(np.float32)
    values[17] = -largest
    read_back = vectors(tmp_path, "i8", values).astype(np.float64)
    step = float(np.float32(largest) / np.float32(127))
    assert np.abs(read_back - values).max() <= 0.502 * step + 127 * 128 * 2.0**-149
    assert len(np.unique(read_back)) <= 255


def test_readings_that_are_refused(writer: TableWriter) -> None:
    window = CellRead(1, "window", bucket_ms=1, bucket_count=1)
    for asked, message in (
        (CellRead(0, "decayed"), r"cells\[0\]: expected an f32, f64 or map cell and a half-life, got f64 and 0.0 ms"),
        (window._replace(cell=0), r"cells\[0\]: expected a map cell and a window, got f64"),
        (window._replace(bucket_ms=0), "got map and 1 x 0 ms"),
        (window._replace(part="ratio"), r"cells\[0\].denominator: expected a window, got None"),
        (window._replace(part="ratio", denominator=window._replace(cell=3)), "got f32 and 1 x 1 ms"),
        (window._replace(part="ratio", denominator=window, prior_weight=-1.0), "expected a finite prior"),
    ):
        with pytest.raises(ValueError, match=message):
            writer.reading([asked])
