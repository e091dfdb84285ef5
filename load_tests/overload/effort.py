"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

from bench.forest.shapes import Shape
from generator.capacity import OBJECTIVE, Objective

HEAVY = Shape(3000, 64, 20)
"""What is ranked with under overload: expensive enough that ten times capacity can be offered from one core."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds, rates and numbers of calls."""

    heavy: Shape = HEAVY
    heavy_candidates: int = 2_000
    items: int = 10_000
    objective: Objective = OBJECTIVE
    capacity_s: float = 4.0
    capacity_steps: int = 7
    overload_s: float = 8.0
    recovery_s: float = 3.0
    priority_s: float = 8.0
    bare_s: float = 4.0
    factors: tuple[int, ...] = (2, 5, 10)
    drain_calls: int = 100_000
    drain_rate: float = 900.0
    kill_s: float = 25.0
    kill_every_s: float = 5.0
    kill_rate: float = 300.0
    reloads: int = 100
    reload_every_s: float = 0.3
    reload_rate: float = 200.0
    reload_workers: int = 2


QUICK = Effort(
    heavy=Shape(100, 31, 20), items=3_000, objective=Objective(1e4, 1.0, 1e4), capacity_s=0.5, capacity_steps=2,
    overload_s=0.5, recovery_s=0.3, priority_s=0.5, bare_s=0.3, factors=(2,), drain_calls=1_500, drain_rate=150.0,
    kill_s=2.5, kill_every_s=1.5, kill_rate=100.0, reloads=4, reload_rate=100.0, reload_workers=1,
)  # fmt: skip
"""Shows that everything works, and nothing else."""
