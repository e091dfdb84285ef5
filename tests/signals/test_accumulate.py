"""Increments in any order and grouping come to the same as a plain walk over all of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankd.limits import MAX_SET_MEMBERS
from rankd.signals.accumulate import NEVER_MS, States, accumulate
from rankd.signals.store import ColumnValues, MapValues
from rankd.signals.values import empty, from_list, to_list
from rankd.types.schema import Signal, SignalKind

T0 = 1_760_000_000_000
ROWS = 4
HALF_LIFE_S = 3_600.0
COUNTER = Signal("c", SignalKind.COUNTER, half_life_s=HALF_LIFE_S)
WINDOW = Signal("w", SignalKind.WINDOW, window_s=50.0, bucket_s=10.0)
MAP = Signal("m", SignalKind.MAP)
FADING = Signal("f", SignalKind.MAP, half_life_s=HALF_LIFE_S)
LIST = Signal("l", SignalKind.LIST, 3)

Event = tuple[int, Any, int]  # row, amount, time


def nothing(signal: Signal, rows: int = ROWS) -> States:
    return States(empty(signal), np.zeros(rows, np.bool_), np.full(rows, NEVER_MS, np.int64))


def add(signal: Signal, states: States, events: Sequence[Event]) -> States:
    rows = np.array([row for row, _, _ in events], np.int64)
    amounts = [amount for _, amount, _ in events]
    if signal.kind in (SignalKind.COUNTER, SignalKind.WINDOW):
        typed: Any = np.array(amounts, np.float64)
    else:
        typed = amounts if signal.kind is SignalKind.LIST else from_list(signal, amounts)
    return accumulate(signal, states, rows, typed, np.array([time for _, _, time in events], np.int64))


def rows_of(states: States) -> list[Any]:
    plain = iter(to_list(states.values))
    return [next(plain) if is_there else None for is_there in states.present.tolist()]


def expected(signal: Signal, events: Sequence[Event]) -> tuple[list[Any], list[int]]:
    """The definition: every event of a row at once."""
    found: list[Any] = []
    times = []
    for row in range(ROWS):
        own = [(amount, time) for r, amount, time in events if r == row]
        latest = max((time for _, time in own), default=NEVER_MS)
        times.append(latest)
        found.append(_expected(signal, own, latest) if own else None)
    return found, times


def _expected(signal: Signal, own: list[tuple[Any, int]], latest: int) -> Any:
    def worth(amount: float, time: int) -> float:
        return amount * 2 ** (-(latest - time) / 1000 / signal.half_life_s) if signal.half_life_s else amount

    if signal.kind is SignalKind.COUNTER:
        return math.fsum(worth(amount, time) for amount, time in own)
    if signal.kind is SignalKind.WINDOW:
        sums: dict[int, float] = {}
        for amount, time in own:
            if time // 10_000 > latest // 10_000 - 5:
                sums[time // 10_000] = sums.get(time // 10_000, 0) + amount
        return sums
    if signal.kind is SignalKind.MAP:
        keys = {key for amount, _ in own for key in amount}
        return {key: math.fsum(worth(amount.get(key, 0), time) for amount, time in own) for key in keys}
    newest: dict[str, int] = {}
    for member, time in own:
        newest[member] = max(time, newest.get(member, 0))
    return sorted(newest.items(), key=lambda pair: -pair[1])[:3]


AMOUNTS = {
    "c": st.floats(0.001, 1000),
    "w": st.integers(-1000, 1000),
    "m": st.dictionaries(st.sampled_from("abcd"), st.integers(-1000, 1000), max_size=3),
    "f": st.dictionaries(st.sampled_from("abcd"), st.floats(0.125, 1000, width=32), max_size=3),
    "l": st.sampled_from("abcdefg"),
}


@pytest.mark.parametrize("signal", [COUNTER, WINDOW, MAP, FADING, LIST], ids=lambda s: s.name)
@settings(max_examples=150)
@given(data=st.data())
def test_any_order_and_grouping_gives_the_same(signal: Signal, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 25))
    # Distinct times: of equal ones the order of writing counts, in lists.
    times = data.draw(st.lists(st.integers(0, 120_000), min_size=size, max_size=size, unique=True))
    events = [(data.draw(st.integers(0, ROWS - 1)), data.draw(AMOUNTS[signal.name]), T0 + time) for time in times]
    wanted, latest = expected(signal, events)
    for seed in range(3):
        mixed = list(events)
        random.Random(seed).shuffle(mixed)
        states = nothing(signal)
        while mixed:
            size = data.draw(st.integers(1, len(mixed)))
            states = add(signal, states, mixed[:size])
            mixed = mixed[size:]
        assert states.times_ms.tolist() == latest
        found = rows_of(states)
        if signal is COUNTER:
            for a, b in zip(found, wanted, strict=True):
                assert (a is None) == (b is None) and (a is None or math.isclose(a, b, rel_tol=1e-12))
        elif signal is FADING:  # float32, rounded at each step
            for a, b in zip(found, wanted, strict=True):
                assert (a is None) == (b is None) and (a is None or a == pytest.approx(b, rel=5e-6))
        else:
            assert found == wanted


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abcd"), st.integers(T0, T0 + 2)), max_size=20), st.data())
def test_of_equal_times_in_a_list_the_later_write_comes_first(events: list[Event], data: st.DataObject) -> None:
    lists: dict[int, dict[str, tuple[int, int]]] = {}
    for i, (row, member, time) in enumerate(events):
        known = lists.setdefault(row, {})
        known[member] = max((time, i), known.get(member, (0, 0)))
        # What is cut off is gone, whatever comes.
        lists[row] = dict(sorted(known.items(), key=lambda pair: pair[1], reverse=True)[:3])
    states = nothing(LIST)
    rest = events
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        states, rest = add(LIST, states, rest[:size]), rest[size:]
    wanted = [[(m, time) for m, (time, _) in lists[row].items()] if row in lists else None for row in range(ROWS)]
    assert rows_of(states) == wanted


def test_rows_that_nothing_is_added_to_stay_as_they_are() -> None:
    column = ColumnValues(
        "w", np.array([1]), from_list(WINDOW, [{5: 1.0, 900: 2.0}]), np.array([2]), times_ms=np.array([T0])
    )
    states = States.of(column, ROWS, np.array([NEVER_MS, NEVER_MS, T0 + 9, NEVER_MS]))
    after = add(WINDOW, states, [(2, 1.0, T0)])
    assert rows_of(after) == [None, {5: 1.0, 900: 2.0}, {T0 // 10_000: 1.0}, None]
    assert after.times_ms.tolist() == [NEVER_MS, T0, T0 + 9, NEVER_MS]
    back = after.column("w", np.array([10, 11, 12, 13]))
    assert back.rows.tolist() == [11, 12] and back.times_ms.tolist() == [T0, T0 + 9]


def test_what_was_set_or_cleared_later_moves_an_amount_there() -> None:
    half = int(HALF_LIFE_S * 1000)
    column = ColumnValues("c", np.array([0]), np.array([8.0]), np.array([1]), times_ms=np.array([T0]))
    states = States.of(column, 2, np.array([NEVER_MS, T0]))
    before = add(COUNTER, states, [(0, 4.0, T0 - half), (1, 4.0, T0 - half)])
    assert rows_of(before) == [10.0, 2.0] and before.times_ms.tolist() == [T0, T0]
    after = add(COUNTER, before, [(0, 1.0, T0 + half)])
    assert rows_of(after) == [6.0, 2.0] and after.times_ms.tolist() == [T0 + half, T0]


def test_sums_stay_within_their_types() -> None:
    states = add(WINDOW, nothing(WINDOW), [(0, 3e38, T0), (0, 3e38, T0), (1, -3e38, T0), (1, -3e38, T0)])
    most = float(np.finfo(np.float32).max)
    assert rows_of(states)[:2] == [{T0 // 10_000: most}, {T0 // 10_000: -most}]
    column = ColumnValues("c", np.array([0]), np.array([1.7e308]), np.array([], np.int64), times_ms=np.array([T0]))
    assert rows_of(add(COUNTER, States.of(column, 1), [(0, 1.7e308, T0)])) == [np.finfo(np.float64).max]


def test_a_map_at_its_bound_keeps_the_largest() -> None:
    full = {f"k{i:05}": float(i + 1) for i in range(MAX_SET_MEMBERS)}
    states = add(MAP, nothing(MAP), [(0, full, T0), (1, {"a": 1.0}, T0)])
    states = add(MAP, states, [(0, {"new": 9.0, "k00000": -0.5}, T0)])
    first, second = rows_of(states)[:2]
    assert first == {**{k: v for k, v in full.items() if k != "k00000"}, "new": 9.0} and second == {"a": 1.0}


def test_adding_nothing_and_to_what_cannot_be_added_to() -> None:
    states = accumulate(
        MAP, nothing(MAP), np.array([0]), MapValues([], np.empty(0, np.float32), np.array([0])), np.array([T0])
    )
    assert rows_of(states) == [{}, None, None, None]
    with pytest.raises(TypeError, match="p of type f32 cannot be added to"):
        accumulate(Signal("p", SignalKind.F32), nothing(COUNTER), np.array([0]), np.ones(1), np.array([T0]))
