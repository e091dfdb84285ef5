"""Admission's decisions: deadlines, priorities, the ladder, the limit of the threads' queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.server.admission import (
    BUSY_LOW,
    DEADLINE,
    INTERVAL_NS,
    LOOK_NS,
    MOST_PRESSURE,
    OVERLOAD,
    RUNG_BITS,
    Admission,
    ConcurrencyLimit,
    CostClass,
    Refusal,
    Rung,
)
from rankd.workspace import AdmissionSettings

MS = 1_000_000


def made(threads: int = 2, **settings: object) -> Admission:
    return Admission(AdmissionSettings.model_validate(settings), 3, threads, MS)


def spun(admission: Admission, share: float, seconds: float, start_ns: int = 0) -> int:
    """Lets the loop be busy for a share of the time; the time afterwards."""
    now = start_ns
    for _ in range(int(seconds * 1e9 / LOOK_NS)):
        now += LOOK_NS
        assert admission.due(now)
        admission.look(now, int(now * share))
    return now


def taking(full_ms: float, fewer_ms: float = 0.0, base_ms: float = 0.0, rescored: int = 100) -> CostClass:
    known = CostClass()
    for rung, ms in enumerate((full_ms, fewer_ms, base_ms)):
        if ms:
            known.note(rung, ms * MS, rescored)
    return known


def test_a_passed_deadline_is_refused_even_when_admission_is_off() -> None:
    for admission in (made(), made(enabled=False)):
        assert admission.admit(CostClass(), True, True, 0) is Refusal.LATE
        assert admission.admit(CostClass(), True, True, -5) is Refusal.LATE
        assert admission.admit(CostClass(), True, True, None) == Rung.FULL


def test_what_is_not_known_is_tried() -> None:
    assert made().admit(CostClass(), True, True, 1) == Rung.FULL


def test_too_little_time_is_refused_where_nothing_cheaper_exists() -> None:
    known = taking(10)
    assert made().admit(known, True, False, 10 * MS) is Refusal.SHORT  # 10 ms, how much that varies, and the way back
    assert made().admit(known, True, False, 14 * MS) == Rung.FULL
    assert made(enabled=False).admit(known, True, False, 1) == Rung.FULL


def test_too_little_time_leads_down_the_ladder() -> None:
    admission, known = made(), taking(40, 10, 2)
    assert admission.admit(known, True, True, 60 * MS) == Rung.FULL
    assert admission.admit(known, True, True, 30 * MS) == Rung.FEWER | DEADLINE
    assert admission.admit(known, True, True, 5 * MS) == Rung.BASE | DEADLINE
    assert admission.admit(known, True, True, 3 * MS) is Refusal.SHORT


@pytest.mark.parametrize(("ladder", "answers"), [("off", [0]), ("fewer", [0, 1]), ("base", [0, 1, 2])])
def test_the_setting_bounds_the_ladder(ladder: str, answers: list[int]) -> None:
    admission, known = made(ladder=ladder), taking(40, 10, 2)
    by_deadline = {admission.admit(known, True, True, left * MS) for left in range(1, 70)}
    assert sorted({d & RUNG_BITS for d in by_deadline if d >= 0}) == answers
    spun(admission, 1.0, 3.0)
    assert admission.pressure == MOST_PRESSURE
    assert {admission.admit(known, True, True, None) for _ in range(10)} == {
        answers[-1] + OVERLOAD if answers[-1] else 0
    }


def test_a_busy_loop_raises_pressure_and_an_idle_one_lowers_it() -> None:
    admission = made()
    now = spun(admission, 0.8, 2.0)
    assert admission.pressure == 0.0
    now = spun(admission, 1.0, 2.0, now)
    assert admission.pressure == MOST_PRESSURE
    begun = now
    while admission.pressure:
        now += LOOK_NS
        admission.look(now, int(begun))
    assert now - begun < 1_000 * MS


def test_one_long_call_is_no_overload() -> None:
    admission = made()
    now = spun(admission, 0.3, 1.0)
    admission.look(now + 150 * MS, int(now * 0.3) + 150 * MS)
    assert admission.pressure == 0.0


def test_batch_calls_are_shed_first_and_in_a_growing_share() -> None:
    admission, known = made(), taking(5, 2, 1)
    shares = []
    for pressure in (0.0, 0.25, 0.5, 1.0, 2.0):
        admission.pressure = pressure
        refused = [admission.admit(known, False, True, None) is Refusal.BUSY for _ in range(100)]
        shares.append(sum(refused))
        assert admission.admit(known, True, True, None) != Refusal.BUSY
    assert shares == [0, 25, 50, 100, 100]


def test_the_ladders_share_follows_the_pressure() -> None:
    admission, known = made(), taking(5, 2, 1)
    for pressure, counts in ((0.9, [100, 0, 0]), (1.5, [50, 50, 0]), (2.0, [0, 100, 0]), (2.5, [0, 50, 50])):
        admission.pressure = pressure
        rungs = [admission.admit(known, True, True, None) & RUNG_BITS for _ in range(100)]
        assert [rungs.count(r) for r in range(3)] == counts


def test_a_rung_that_is_no_cheaper_is_not_taken() -> None:
    admission = made()
    admission.pressure = MOST_PRESSURE
    assert admission.admit(taking(5, 5, 5), True, True, None) == Rung.FULL
    assert admission.admit(taking(5, 5, 1), True, True, None) == Rung.BASE | OVERLOAD


def test_both_reasons_are_told() -> None:
    admission = made()
    admission.pressure = 2.0
    assert admission.admit(taking(40, 10, 2), True, True, 5 * MS) == Rung.BASE | OVERLOAD | DEADLINE


def test_estimates_that_keep_everyone_out_fade() -> None:
    admission = made()
    known = admission.cost_class(0, 100)
    known.note(0, 10_000 * MS, 0)  # one bad moment
    now, tries = 0, 0
    while admission.admit(known, True, False, 100 * MS) < 0:
        now += INTERVAL_NS
        admission.look(now, 0)
        tries += 1
        assert tries < 200
    assert tries > 10
    known.note(0, 5 * MS, 0)
    assert known.service_ns[0] < 100 * MS


def test_classes_are_apart_by_method_and_size() -> None:
    admission = made()
    classes = {id(admission.cost_class(m, size)) for m in range(3) for size in (0, 1, 100, 10_000, 1 << 40)}
    assert len(classes) == 15
    assert admission.cost_class(1, 600) is admission.cost_class(1, 1_000)


def test_waiting_counts_for_long_calls_only() -> None:
    admission = made(threads=2)
    long, short = taking(10), taking(0.5)
    for _ in range(20):
        admission.enter(10 * MS)
    assert admission.admit(long, True, False, 110 * MS) is Refusal.SHORT  # 20 x 10 ms before it on two threads
    assert admission.admit(long, True, False, 125 * MS) == Rung.FULL
    assert admission.admit(short, True, False, 2 * MS) == Rung.FULL
    for _ in range(20):
        admission.leave(10 * MS)
    assert (admission.at_threads, admission.backlog_ns) == (0, 0.0)


def test_batch_calls_take_idle_threads_only() -> None:
    admission = made(threads=2)
    for _ in range(2):
        assert admission.has_room(False)
        admission.enter(MS)
    assert not admission.has_room(False)
    assert admission.has_room(True)


def test_threads_that_are_full_raise_pressure() -> None:
    admission = made(threads=1, max_concurrency=2)
    admission.enter(MS)
    admission.enter(MS)
    now = 0
    for _ in range(100):
        assert not admission.has_room(True)
        now += LOOK_NS
        admission.look(now, 0)
    assert admission.pressure > 1.0


def test_the_limit_falls_while_nobody_is_served_soon_and_grows_when_asked() -> None:
    limit = ConcurrencyLimit(3, 64, 5 * MS)
    now = 0
    for _ in range(200):
        now += 10 * MS
        limit.note(50 * MS, now)
    assert limit.limit == 3.0
    for i in range(200):
        now += 10 * MS
        limit.note(50 * MS if i % 2 else 0, now)  # long waits, but somebody found it empty
    assert limit.limit == 3.0
    for _ in range(200):
        now += 10 * MS
        limit.touch()
        limit.note(0, now)
    assert 15 < limit.limit <= 64


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.booleans(),
            st.one_of(st.none(), st.integers(-MS, 200 * MS)),
            st.integers(0, 1 << 24),
            st.floats(0, 1),
        ),
        max_size=60,
    ),
    st.sampled_from(["off", "fewer", "base"]),
)
def test_decisions_are_sound(calls: list[tuple[bool, bool, int | None, int, float]], ladder: str) -> None:
    admission = made(ladder=ladder)
    now = busy = 0
    for live, cheaper, left, size, share in calls:
        now += LOOK_NS
        busy += int(LOOK_NS * share)
        admission.look(now, busy)
        assert 0.0 <= admission.pressure <= MOST_PRESSURE
        known = admission.cost_class(0, size)
        decision = admission.admit(known, live, cheaper, left)
        if left is not None and left <= 0:
            assert decision == Refusal.LATE
        elif decision >= 0:
            rung = decision & RUNG_BITS
            assert rung <= (["off", "fewer", "base"].index(ladder) if cheaper else 0)
            assert bool(rung) == bool(decision & (OVERLOAD | DEADLINE))
            known.note(rung, size * 10.0, 50)
        else:
            assert decision == Refusal.SHORT or not live
        assert admission.retry_after_ms() in (50, 100, 200, 400)


def test_a_quiet_server_looks_rarely_and_feels_nothing() -> None:
    admission = made()
    admission.look(10_000 * MS, 9_999 * MS)
    assert admission.pressure <= INTERVAL_NS / 300 / MS
    admission.look(20_000 * MS, 9_999 * MS)
    assert admission.pressure == 0.0
    assert admission.busy < BUSY_LOW
