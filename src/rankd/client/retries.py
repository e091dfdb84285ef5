"""Whether a failed attempt is followed by another, and after which pause. Pure: nothing waits here.

    UNAVAILABLE               nobody is there: at once on another connection, then after 20, 40, 80 … ms
    CANCELLED                 the server goes, or too many calls wait before it: after 20, 40, 80 … ms
    RESOURCE_EXHAUSTED        only if the server says when; not sooner than that, within a tight budget

CANCELLED is the *server's*: a server that stops ends calls so. What the caller cancels never comes here. gRPC's own
retries stay within one connection, give up with it, and take no notice of a delay that comes with a code they do
not retry; so the client's are made here, and gRPC's are off.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc

from rankd.client.errors import RankdRpcError

MAX_ATTEMPTS: Final = 7
"""With the pauses between them, they span about a second: a server that is replaced is back, or another is found."""

FIRST_PAUSE_S: Final = 0.02
MAX_PAUSE_S: Final = 0.5

LEAST_S: Final = 0.002
"""With less time than this left, nothing is begun."""

JITTER: Final = 0.2
"""Of every pause, up or (unless the server named it) down, so that clients do not come back together."""

LOST_BURST: Final = 1_000
"""Retries of lost calls that may be made at once: what was in flight when a server ended."""
OVERLOAD_BURST: Final = 10
ANSWERS_PER_RETRY: Final = 10
"""So many answered calls earn a retry: in the long run retries add a tenth to the calls, whatever fails."""

_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class Budget:
    """How many retries may be made: `burst` at once, and then one for ANSWERS_PER_RETRY. For many threads."""

    def __init__(self, burst: int) -> None:
        self._most = burst * ANSWERS_PER_RETRY
        self._left = self._most
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call was answered."""
        if self._left < self._most:
            with self._lock:
                self._left = min(self._most, self._left + 1)

    def spend(self) -> bool:
        """Takes one retry; False if there is none left."""
        with self._lock:
            if self._left < ANSWERS_PER_RETRY:
                return False
            self._left -= ANSWERS_PER_RETRY
            return True


@dataclass
class Retries:
    """The policy of one client and its budgets. `wait_for_ready`: UNAVAILABLE is retried up to the deadline."""

    enabled: bool = True
    wait_for_ready: bool = False
    clock: Callable[[], float] = time.monotonic
    uniform: Callable[[float, float], float] = random.uniform
    _lost: Budget = field(default_factory=lambda: Budget(LOST_BURST))
    _overload: Budget = field(default_factory=lambda: Budget(OVERLOAD_BURST))

    def succeeded(self) -> None:
        """A call was answered."""
        self._lost.earn()
        self._overload.earn()

    def pause_s(self, error: RankdRpcError, attempts: int, deadline_s: float) -> float | None:
        """Seconds to wait before the next attempt; None: the error is the call's.

        `attempts`: how many were made. `deadline_s`: the call's, on `clock`; the next attempt begins before it.
        """
        waits = self.wait_for_ready and error.code is grpc.StatusCode.UNAVAILABLE and error.reason is None
        if not (self.enabled or waits) or (attempts >= MAX_ATTEMPTS and not waits):
            return None
        left_s = deadline_s - self.clock()
        if error.code in _LOST:
            budget = self._lost
            # Where nobody was reached, another connection may reach someone now.
            step = attempts - (error.code is grpc.StatusCode.UNAVAILABLE)
            pause_s = min(max(self._backoff_s(step), error.retry_after_s or 0.0), left_s / 2)
        elif error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and error.retry_after_s is not None:
            budget = self._overload
            pause_s = error.retry_after_s * self.uniform(1.0, 1.0 + JITTER)
        else:
            return None
        if left_s < LEAST_S or pause_s >= left_s or not (waits or budget.spend()):
            return None
        return pause_s

    def _backoff_s(self, step: int) -> float:
        if step == 0:
            return 0.0
        pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(step - 1, 16))
        return pause_s * self.uniform(1.0 - JITTER, 1.0 + JITTER)
