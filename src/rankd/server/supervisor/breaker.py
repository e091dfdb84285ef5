"""The brake on a process that dies again and again."""

from __future__ import annotations

from typing import Final

EARLY_S: Final = 30.0
"""A process that dies sooner than this after its start has died early."""

FREE_DEATHS: Final = 4
"""So many early deaths in a row are answered with a new start at once."""

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 30.0


class Breaker:
    """Says how long to wait before a process is started again.

    The fifth early death in a row costs FIRST_DELAY_S, each further one twice as much, up to
    MAX_DELAY_S. A process that lived EARLY_S closes the breaker.
    """

    def __init__(self) -> None:
        self.early_deaths = 0

    def died(self, lived_s: float) -> float:
        """A process died after `lived_s` seconds. Seconds to wait; 0: none."""
        if lived_s >= EARLY_S:
            self.early_deaths = 0
            return 0.0
        self.early_deaths += 1
        over = self.early_deaths - FREE_DEATHS - 1
        # 2**over without its end: 30 s are reached at the sixth.
        return 0.0 if over < 0 else min(FIRST_DELAY_S * 2.0 ** min(over, 10), MAX_DELAY_S)

    def lived(self, lived_s: float) -> None:
        """A process has lived so long."""
        if lived_s >= EARLY_S:
            self.early_deaths = 0

    @property
    def is_open(self) -> bool:
        """Whether starts are being held back."""
        return self.early_deaths > FREE_DEATHS
