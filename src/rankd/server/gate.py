"""The gate of the ranking methods: admission with the real clocks, its refusals and its threads."""

from __future__ import annotations

import enum
from typing import Final

from rankd.errors import DeadlinePassedError, OverloadedError
from rankd.server.admission import Admission, CostClass, Refusal
from rankd.server.compute_pool import ComputePool
from rankd.server.loop_clock import LoopClock
from rankd.server.status import Refused, refused
from rankd.workspace import AdmissionSettings

RANKING_METHODS: Final = 3
"""Rank, BatchRank and Score, numbered from 0."""

INLINE_NS: Final = 1_000_000
"""Calls that are estimated to take longer go to a thread: from here on the hop is at most a tenth of a call
(`python load_tests/bench_inline.py`; the table is in docs/performance.md)."""

MOST_INLINE_NS: Final = 10_000_000
"""The longest call that the event loop runs itself when no thread is free for it. Of longer ones a refusal is
a small part (about 0.3 ms, most of it gRPC's), and others would wait too long for the loop."""


class Priority(enum.Enum):
    """The values of the metadata `rankd-priority`."""

    LIVE = "live"
    BATCH = "batch"


_TEXTS: Final = {
    Refusal.LATE: "the deadline had passed before the call was taken up",
    Refusal.SHORT: "less time is left than such calls take at present",
    Refusal.BUSY: "more calls than can be answered; batch calls are refused first",
}


class Gate:
    """Belongs to the event loop it was made on. `methods`: how many there are, numbered from 0."""

    def __init__(self, settings: AdmissionSettings, methods: int, threads: int) -> None:
        self.admission = Admission(settings, methods, threads, INLINE_NS)
        self.pool = ComputePool(self.admission, threads)
        self._clock = LoopClock()
        self._refusals: dict[tuple[Refusal, int], Refused] = {}
        self.refused_count = 0

    def admit(self, known: CostClass, live: bool, ladder: bool, left_ns: int | None, now_ns: int) -> int:
        """See Admission.admit."""
        if self.admission.due(now_ns):
            self.admission.look(now_ns, self._clock())
        return self.admission.admit(known, live, ladder, left_ns)

    def refusal(self, why: Refusal) -> Refused:
        """The answer to a refused call: made once for each reason and delay."""
        self.refused_count += 1
        key = why, self.admission.retry_after_ms()
        made = self._refusals.get(key)
        if made is None:
            text = _TEXTS[why]
            error = DeadlinePassedError(text) if why is Refusal.LATE else OverloadedError(text, key[1] / 1e3)
            made = self._refusals[key] = refused(error)
        return made

    def runs_here(self, service_ns: float, live: bool) -> bool | None:
        """Whether a long call runs on the event loop; None: nowhere, it is refused.

        Caller runs, as in Java's ThreadPoolExecutor.CallerRunsPolicy: when the threads have all they
        can do, a loop that works takes up no more calls. They wait in gRPC's core, which refuses what
        is too many at a fraction of what a refusal costs here.
        """
        if self.admission.has_room(live):
            return False
        return True if live and service_ns <= MOST_INLINE_NS else None

    def close(self) -> None:
        """Call when no call is in flight."""
        self.pool.close()
        self._clock.close()
