"""The highest rate that a server keeps up with, measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from generator.offer import Offer, Outcome
from generator.process import Generator


@dataclass(frozen=True, slots=True)
class Objective:
    """What keeping up means. `p99_ms`: 99 of 100 answers must be there by then; half of the deadline.
    `failed_share`: of the calls, at most so many may fail or be answered with something left out.
    `lag_ms`: 99 of 100 calls must have been sent with no more delay, or the run says nothing."""

    p99_ms: float = 50.0
    failed_share: float = 0.001
    lag_ms: float = 20.0


OBJECTIVE = Objective()


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was found. `tries`: (rate, kept up) in the order tried; `at_rate`: the run at `rate`."""

    rate: float
    at_rate: Outcome
    tries: Sequence[tuple[float, bool]]


def keeps_up(outcome: Outcome, objective: Objective = OBJECTIVE) -> bool:
    """Whether the objective was met. GeneratorError if the generator did not keep up itself: the run says nothing."""
    outcome.check_generator(objective.lag_ms)
    left_out = outcome.failed / len(outcome.code) + outcome.degraded_share
    return outcome.latency_ms(99) <= objective.p99_ms and left_out <= objective.failed_share


def find_capacity(
    generator: Generator,
    offer: Offer,
    bound: float,
    *,
    steps: int = 7,
    objective: Objective = OBJECTIVE,
    say: Callable[[str], None] = lambda _: None,
) -> Capacity:
    """Bisects between 0 and `bound` calls a second with runs of `offer` at other rates; each is open loop.

    `bound`: a rate that it surely does not keep up with for long, such as 1.1 times what it answers one after another.
    RuntimeError if no rate tried was kept up with.
    """
    low, high = 0.0, bound
    best: Outcome | None = None
    tries = []
    for step in range(steps):
        # Capacity is usually near the bound: the first look is there, then halves.
        rate = bound * 0.85 if step == 0 else (low + high) / 2
        outcome = generator.run_on_time(replace(offer, rate=rate, seed=step + 1), objective.lag_ms)
        good = keeps_up(outcome, objective)
        say(
            f"  {rate:,.0f}/s: p99 {outcome.latency_ms(99):.1f} ms, {outcome.failed} failed, "
            f"{outcome.degraded_share:.1%} degraded{'' if good else ': too much'}"
        )
        tries.append((rate, good))
        low, high = (rate, high) if good else (low, rate)
        best = outcome if good else best
        if high - low <= 0.03 * bound:
            break
    if best is None:
        raise RuntimeError(f"no rate from {high:,.0f} to {bound:,.0f} calls/s was kept up with")
    return Capacity(low, best, tries)
