"""A circuit breaker (M. Nygard, "Release It!", 2007): who does not answer is left alone a while, then asked by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_FAILURES: Final = 3
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 0.8


class Breaker:
    """Opens after some failures in a row; `allows` is False then, but for one probe after each pause, which doubles up
    to 0.8 s. Whoever was allowed says how it went, or that it does not know (`forgo`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._probe_at: float | None = None
        self._is_probing = False

    @property
    def state(self) -> str:
        """ "closed", "open", "half-open" (a probe is on its way)."""
        if self._probe_at is None:
            return "closed"
        return "half-open" if self._is_probing else "open"

    def allows(self) -> bool:
        """Whether to try. True while open: the caller is the probe."""
        if self._probe_at is None:
            return True
        if self._is_probing or self._clock() < self._probe_at:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0
        self._pause_s = _FIRST_PAUSE_S
        self._probe_at = None
        self._is_probing = False

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        if self._probe_at is not None and not self._is_probing:
            return  # one that was sent before it opened
        if self._is_probing:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if self._is_probing or self._failures >= _FAILURES:
            self._is_probing = False
            self._probe_at = self._clock() + self._pause_s

    def forgo(self) -> None:
        """Nobody knows: the caller was cancelled. A probe may be tried again at once."""
        self._is_probing = False
