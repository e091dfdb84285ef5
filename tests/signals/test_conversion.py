"""Values of one type as values of another: every pair, against what plain Python says."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.signals.conversion import conversion
from rankd.signals.values import from_list, to_list
from rankd.types.schema import Element, Signal, SignalKind

K = SignalKind
PLAIN = {
    K.F32: [0.0, -0.5, 3.0, 2.0**24, 2.0**63, -(2.0**63), 1e-45, 3.4e38, 1.0],
    K.I64: [0, 1, -7, 2**24, 2**24 + 1, 2**53 + 1, 2**62, 2**63 - 1, -(2**63) + 1],
    K.TIMESTAMP: [0, 1, -1, 1_700_000_000_123, 2**53 + 1],
    K.BOOL: [True, False],
    K.CATEGORY: ["", "x", "3", "-2.5", "true", "no", "1e3", "nan", "inf", "2026-01-02T03:04:05Z", "9" * 30],
    K.STRING: ["", "x" * 300, "é" * 128, "é" * 129, "3", "2.5", "0"],
    K.COUNTER: [1.5],
}


NO = object()


def signal(kind: SignalKind, **more: Any) -> Signal:
    return Signal("s", kind, **more)


def converted(old: Signal, new: Signal, values: list[Any]) -> list[Any] | None:
    """Plain values, None where there is no exact one; None: no conversion."""
    convert = conversion(old, new)
    if convert is None:
        return None
    got, good = convert(from_list(old, values))
    assert good.dtype == np.bool_
    return [v if g else None for v, g in zip(to_list(got), good.tolist(), strict=True)]


def expected(old: SignalKind, new: SignalKind, value: Any) -> Any:
    """By plain Python; NO: there is no conversion."""
    numbers = {K.F32, K.I64, K.TIMESTAMP}
    integers = {K.I64, K.TIMESTAMP}
    texts = {K.CATEGORY, K.STRING}
    if old is new:
        return value
    if new in texts:
        if old is K.COUNTER:
            return NO
        if old in texts:
            return value if new is K.STRING or len(value.encode()) <= 256 else None
        if old is K.BOOL:
            return "true" if value else "false"
        if old is K.I64:
            return str(value)
        if old is K.F32:
            return str(np.float32(value)).removesuffix(".0")
        return ...
    if old in texts:
        if new is K.COUNTER:
            return NO
        return ...
    if old in integers and new in integers:
        return value
    if old in integers and new is K.F32:
        f = float(np.float32(value))
        return f if int(f) == value else None
    if old is K.F32 and new in integers:
        return int(value) if value == math.trunc(value) and abs(value) < 2.0**63 else None
    if new is K.BOOL and old in (K.F32, K.I64):
        return bool(value) if value in (0, 1) else None
    if old is K.BOOL and new in numbers - {K.TIMESTAMP}:
        return int(value)
    if new is K.COUNTER and old in (K.F32, K.I64):
        return float(value) if abs(value) <= 2**53 or old is K.F32 else None
    return NO


@pytest.mark.parametrize("old", PLAIN, ids=lambda k: k.value)
@pytest.mark.parametrize("new", PLAIN, ids=lambda k: k.value)
def test_every_pair_of_plain_types(old: SignalKind, new: SignalKind) -> None:
    values = to_list(from_list(signal(old), PLAIN[old]))  # f32 as float32 has them
    got = converted(signal(old), signal(new), values)
    wanted = [expected(old, new, value) for value in values]
    assert (got is None) == (NO in wanted)
    for value, is_, want in zip(values, got, wanted, strict=True) if got is not None else ():
        if want is not ...:
            assert (type(is_), is_) == (type(want), want) or (is_ == want and not isinstance(want, str)), value


def test_texts_that_are_values() -> None:
    texts = ["3", "-2.5", "true", "nan", "inf", "x", "", "2026-01-02T03:04:05Z", "9" * 30]
    assert converted(signal(K.STRING), signal(K.F32), texts)[:6] == [3.0, -2.5, None, None, None, None]  # type: ignore[index]
    assert converted(signal(K.CATEGORY), signal(K.I64), texts) == [3, *[None] * 8]
    assert converted(signal(K.CATEGORY), signal(K.BOOL), ["yes", "0", "maybe"]) == [True, False, None]
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=datetime.UTC)
    ms = round(moment.timestamp() * 1000)
    [text] = converted(signal(K.TIMESTAMP), signal(K.STRING), [ms])  # type: ignore[misc]
    assert text == "2026-01-02T03:04:05.678Z"
    assert converted(signal(K.STRING), signal(K.TIMESTAMP), [text]) == [ms]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_numbers_come_back_from_texts(values: list[float]) -> None:
    texts = converted(signal(K.F32), signal(K.STRING), values)
    assert texts is not None
    assert converted(signal(K.STRING), signal(K.F32), texts) == values


def test_lists() -> None:
    rows = [[("a", 9), ("b", 5), ("c", 1)], [], [("x", 2)]]
    old = signal(K.LIST, dimension=3)
    assert converted(old, signal(K.LIST, dimension=2), rows) == [rows[0][:2], [], rows[2]]
    assert converted(old, signal(K.LIST, dimension=9), rows) == rows
    assert converted(old, signal(K.SET), rows) == [["a", "b", "c"], [], ["x"]]
    assert conversion(signal(K.SET), old) is None
    assert converted(signal(K.CATEGORY), signal(K.SET), ["a", ""]) == [["a"], [""]]


def test_embeddings() -> None:
    old = signal(K.EMBEDDING, dimension=2)
    half = signal(K.EMBEDDING, dimension=2, element=Element.F16)
    convert = conversion(old, half)
    assert convert is not None
    values, good = convert(np.array([[1.5, -2.0], [65_505.0, 0.0]], np.float32))
    assert good.tolist() == [True, False]
    assert np.asarray(values)[0].tolist() == [1.5, -2.0]
    for element in Element:
        assert conversion(half, signal(K.EMBEDDING, dimension=2, element=element)) is not None
        assert conversion(half, signal(K.EMBEDDING, dimension=3, element=element)) is None


def test_half_lives_and_buckets() -> None:
    fast, slow = signal(K.MAP, half_life_s=60.0), signal(K.MAP)
    assert converted(slow, fast, [{"a": 1.5}, {}]) == [{"a": 1.5}, {}]
    assert converted(signal(K.COUNTER, half_life_s=1.0), signal(K.COUNTER, half_life_s=9.0), [2.5]) == [2.5]
    hour = signal(K.WINDOW, window_s=86_400.0, bucket_s=3_600.0)
    day = signal(K.WINDOW, window_s=7 * 86_400.0, bucket_s=86_400.0)
    rows = [{-25: 1.0, -24: 2.0, -1: 0.5, 0: 4.0, 23: 1.0, 24: 8.0}, {}, {24: 1.0}]
    assert converted(hour, day, rows) == [{-2: 1.0, -1: 2.5, 0: 5.0, 1: 8.0}, {}, {1: 1.0}]
    assert conversion(day, hour) is None
    assert conversion(hour, signal(K.WINDOW, window_s=9000.0, bucket_s=5_400.0)) is None
    assert conversion(hour, signal(K.COUNTER, half_life_s=9.0)) is None
