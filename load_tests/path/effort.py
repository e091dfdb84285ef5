"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

from bench.forest.shapes import Shape

ECHO_SHAPE = Shape(500, 31, 20)
PEER_SHAPE = Shape(500, 31, 100)
BLOCK_CALLS = 3
"""At least so many calls a block."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Rounds, seconds and items."""

    rounds: int = 15
    block_s: float = 0.25
    items: int = 100_000
    peer_items: int = 20_000
    peer_rounds: int = 7
    stored: int = 1_000_000
    lookups: int = 300
    restarts: int = 3
    echo_shape: Shape = ECHO_SHAPE
    peer_shape: Shape = PEER_SHAPE


QUICK = Effort(
    rounds=2, block_s=0.02, items=2_000, peer_items=2_000, peer_rounds=2, stored=5_000, lookups=5, restarts=1,
    echo_shape=Shape(20, 31, 20), peer_shape=Shape(20, 31, 100),
)  # fmt: skip
"""Shows that everything works, and nothing else."""
