"""Goodput under overload, in the model of support/overload.py: with admission, and without."""

from __future__ import annotations

import pytest
from support.overload import Machine, Simulation

from rankd.workspace import AdmissionSettings

MS = 1_000_000
SAME = Machine((5 * MS, 5 * MS, 5 * MS))
"""A ladder that helps nothing: what is left is refusing."""
LADDER = Machine((5 * MS, 2 * MS, MS // 2))
THREADED = Machine((5 * MS, 5 * MS, 5 * MS), threads=2)

SLOW = Machine((20 * MS, 20 * MS, 20 * MS))

BARS = [(2.0, 0.9), (5.0, 0.8), (10.0, 0.7)]


def goodput(machine: Machine, settings: AdmissionSettings | None, overload: float, seed: int = 1) -> float:
    """Answers in time, as a share of capacity."""
    out = Simulation(machine, settings, seed).run(machine.capacity * overload, 6.0)
    return out.good / 4.0 / machine.capacity


@pytest.mark.parametrize(("overload", "bar"), BARS)
@pytest.mark.parametrize("machine", [SAME, THREADED, SLOW], ids=["5 ms", "threads", "20 ms"])
def test_goodput_without_any_help_of_the_ladder(machine: Machine, overload: float, bar: float) -> None:
    assert min(goodput(machine, AdmissionSettings(), overload, seed) for seed in (1, 2, 3)) >= bar


@pytest.mark.parametrize(("overload", "bar"), BARS)
def test_quick_calls_need_a_shorter_queue(overload: float, bar: float) -> None:
    quick = Machine((2 * MS, 2 * MS, 2 * MS))
    assert goodput(quick, AdmissionSettings(max_pending_calls=32), overload) >= bar


@pytest.mark.parametrize(("overload", "bar"), BARS)
def test_goodput_with_the_ladder_exceeds_capacity(overload: float, bar: float) -> None:
    assert goodput(LADDER, AdmissionSettings(), overload) >= 1.5 > bar


@pytest.mark.parametrize("overload", [2.0, 5.0])
def test_without_admission_goodput_collapses(overload: float) -> None:
    assert goodput(SAME, None, overload) < 0.5


def test_below_capacity_nothing_is_refused_and_nothing_cheapened() -> None:
    for machine in (LADDER, THREADED):
        out = Simulation(machine, AdmissionSettings()).run(machine.capacity * 0.7, 6.0)
        assert out.good >= out.offered - 3  # the last ones are still at work when it ends
        assert out.by_rung[1:] == [0, 0]


def test_live_calls_pass_while_batch_calls_are_shed() -> None:
    for machine in (LADDER, Machine((5 * MS, 2 * MS, MS // 2), threads=1)):
        out = Simulation(machine, AdmissionSettings()).run(machine.capacity * 3.0, 8.0, batch_share=0.5)
        assert out.live[0] >= 0.99 * out.live[1]
        assert out.batch[0] < 0.2 * out.batch[1]


def test_after_an_overload_all_is_full_again_within_a_second() -> None:
    simulation = Simulation(LADDER, AdmissionSettings())
    simulation.run(LADDER.capacity * 10, 3.0)
    assert simulation.admission.pressure > 1.0
    start = simulation.now
    simulation.queue.clear()
    admission = simulation.admission
    idle = simulation.busy
    while admission.pressure:
        simulation.now += 10 * MS
        idle += 5 * MS
        admission.look(simulation.now, idle)
    assert simulation.now - start <= 1_000 * MS
