"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, rows and seconds."""

    write_batches: int = 400
    write_rounds: int = 5
    items: int = 1_000_000
    users: int = 1_000_000
    fetch_rounds: int = 15
    fetch_calls: int = 400
    replica_s: float = 20.0
    replica_rate: float = 200.0
    lost_s: float = 20.0
    lost_rate: float = 100.0


QUICK = Effort(
    write_batches=8, write_rounds=2, items=3_000, users=2_000, fetch_rounds=2, fetch_calls=20, replica_s=1.0,
    replica_rate=50.0, lost_s=6.0, lost_rate=30.0,
)  # fmt: skip
"""Shows that everything works, and nothing else."""
