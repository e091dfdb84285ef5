"""Which calls are worked on, and how thoroughly: decided before anything of a call is read.

Pure logic: every time comes in as an argument (ns of CLOCK_MONOTONIC), so that tests and the
simulation of tests/server run it as the server does. What is known of a call before it is decoded
is its method, its size in bytes, its priority and the time it has left.

The layers, cheapest first:

1. gRPC's core bounds what waits for the event loop (`max_pending_calls`); it refuses without Python.
2. A call whose time is over, or shorter than its like have taken lately, is refused: work on it
   would be thrown away.
3. Calls that wait for a thread are bounded by a limit that follows the time they wait.
4. Under pressure batch calls are refused first, then answers are made cheaper, rung by rung.

Sources: CoDel, K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012: a queue
is bad if it never empties for an interval, whatever its length. "Overload Control for Scaling WeChat
Microservices" (SoCC 2018): waiting time, not response time, tells overload; priorities are shed first.
"""

from __future__ import annotations

import enum
from typing import Final

from rankd.workspace import AdmissionSettings

INTERVAL_NS: Final = 100_000_000
"""CoDel's: longer than a burst, shorter than a caller's patience."""

LOOK_NS: Final = 10_000_000
"""How often pressure is measured, at most."""

SMOOTHED_NS: Final = 200_000_000
"""What `busy` is an average over."""

BUSY_HIGH: Final = 0.95
BUSY_LOW: Final = 0.85
"""Shares of the event loop's time, smoothed over an interval. Between them pressure stays as it is."""

PRESSURE_TURN_NS: Final = 300_000_000
"""How long the loop must be busy for one step of pressure; an idle loop takes it back several times as fast."""

MOST_PRESSURE: Final = 3.0
"""0 to 1: a growing share of batch calls is refused. 1 to 3: a growing share of the rest goes down the ladder."""

SLACK_NS: Final = 1_000_000
"""For the way back to the caller."""

SMOOTHING: Final = 0.125
"""Of the moving averages of service times (RFC 6298's for round trips)."""

WORTHWHILE: Final = 0.9
"""Of the full answer's time: a rung that takes longer is not worth what it leaves out."""

GUESSES: Final = (1.0, 0.5, 0.25)
"""Of the full answer's time: what a rung takes that has not been tried yet."""

EASING: Final = 0.97
"""What is left in an interval of an estimate that refuses calls."""

FEWER: Final = 0.25
"""The share of the usual candidates that the middle rung re-scores."""

LEAST_FEWER: Final = 10
"""Candidates that the middle rung re-scores at least: about a screen."""

_SIZE_CLASSES: Final = 33


class Rung(enum.IntEnum):
    """How thoroughly a call is answered."""

    FULL = 0
    FEWER = 1
    BASE = 2


class Refusal(enum.IntEnum):
    """Why a call is not worked on."""

    LATE = -1
    """Its deadline has passed."""
    SHORT = -2
    """Less time is left than its like take."""
    BUSY = -3
    """More calls than can be answered; batch calls first."""


OVERLOAD: Final = 4
DEADLINE: Final = 8
"""Why a rung was left: bits added to the rung in a decision."""

RUNG_BITS: Final = 3
DECISIONS: Final = 16
"""Decisions are rungs with reasons, 0 to 15, or a Refusal."""


class CostClass:
    """What calls of one method and size took lately, and how many candidates were re-scored.

    `service_ns`: by rung, the mean; 0: not known. `bound_ns`: what nearly all stay below: the mean and twice
    the mean deviation (as RFC 6298 does for round trips). Where calls are let in whose time just suffices,
    the mean alone would be too little for half of them.
    """

    __slots__ = ("_deviation_ns", "bound_ns", "refused", "rescored", "service_ns")

    def __init__(self) -> None:
        self.service_ns = [0.0, 0.0, 0.0]
        self.bound_ns = [0.0, 0.0, 0.0]
        self._deviation_ns = [0.0, 0.0, 0.0]
        self.rescored = 0.0
        self.refused = False

    def fewer(self) -> int:
        """How many candidates the middle rung re-scores."""
        return max(LEAST_FEWER, int(self.rescored * FEWER))

    def helps(self, rung: int) -> bool:
        """Whether the rung is cheaper than the full answer, as far as is known."""
        return self.service_ns[rung] <= WORTHWHILE * self.service_ns[0]

    def note(self, rung: int, took_ns: float, rescored: int) -> None:
        """A call of this class was answered."""
        known = self.service_ns[rung]
        if known:
            error = took_ns - known
            self.service_ns[rung] = known + SMOOTHING * error
            self._deviation_ns[rung] += SMOOTHING * (abs(error) - self._deviation_ns[rung])
        else:
            self.service_ns[rung] = took_ns
            self._deviation_ns[rung] = took_ns / 8
        self.bound_ns[rung] = self.service_ns[rung] + 2.0 * self._deviation_ns[rung]
        if not rung:
            self.rescored = self.rescored + SMOOTHING * (rescored - self.rescored) if known else rescored

    def bound(self, rung: int) -> float:
        """`bound_ns`, or a guess for a rung that has not been tried."""
        return self.bound_ns[rung] or GUESSES[rung] * self.bound_ns[0]

    def ease(self) -> None:
        """Lowers what is known a little."""
        for rung in Rung:
            self.service_ns[rung] *= EASING
            self._deviation_ns[rung] *= EASING
            self.bound_ns[rung] *= EASING


class ConcurrencyLimit:
    """How many calls may be at the threads, waiting or running.

    Additive increase, multiplicative decrease (Chiu and Jain 1989) on CoDel's signal: the least time
    that a call of the interval waited. Above `target_ns` the queue never emptied: it is `standing`, and
    the limit shrinks.
    """

    __slots__ = (
        "_ends_ns",
        "_least",
        "_least_wait_ns",
        "_most",
        "_target_ns",
        "_touched",
        "_waits",
        "limit",
        "standing",
    )

    def __init__(self, least: int, most: int, target_ns: float) -> None:
        self._least = least
        self._most = most
        self._target_ns = target_ns
        self._least_wait_ns = 0.0
        self._waits = 0
        self._touched = False
        self._ends_ns = 0
        self.limit = float(most)
        self.standing = False

    def touch(self) -> None:
        """A call found the limit reached."""
        self._touched = True

    def note(self, wait_ns: float, now_ns: int) -> None:
        """A call has waited so long for a thread."""
        if not self._waits or wait_ns < self._least_wait_ns:
            self._least_wait_ns = wait_ns
        self._waits += 1
        if now_ns < self._ends_ns:
            return
        self.standing = self._least_wait_ns > self._target_ns
        if self.standing:
            self.limit = max(float(self._least), self.limit * 0.8)
        elif self._touched:
            self.limit = min(float(self._most), self.limit + 1.0)
        self._waits, self._touched, self._ends_ns = 0, False, now_ns + INTERVAL_NS


class Admission:
    """See the module's docstring. Belongs to one thread: the event loop's.

    `at_threads`: calls that wait for or run on a thread. `pressure`: 0 to MOST_PRESSURE.
    """

    def __init__(self, settings: AdmissionSettings, methods: int, threads: int, inline_ns: float) -> None:
        """`methods` are numbered from 0; calls that take longer than `inline_ns` go to one of `threads`."""
        self._enabled = settings.enabled
        self._lowest = {"off": Rung.FULL, "fewer": Rung.FEWER, "base": Rung.BASE}[settings.ladder]
        self._threads = threads
        self._inline_ns = inline_ns
        self._classes = [CostClass() for _ in range(methods * _SIZE_CLASSES)]
        most = max(settings.max_concurrency, threads + 1)
        self.limit = ConcurrencyLimit(threads + 1, most, settings.target_queue_ms * 1e6)
        self.at_threads = 0
        self.backlog_ns = 0.0
        self.pressure = 0.0
        self.busy = 0.0
        self._full = False
        self._shed = self._step = 0.0
        self._looked_ns = 0
        self._eased_ns = 0
        self._busy_ns = 0

    def cost_class(self, method: int, size: int) -> CostClass:
        """What is known of calls of `method` with `size` bytes."""
        return self._classes[method * _SIZE_CLASSES + min(size.bit_length(), _SIZE_CLASSES - 1)]

    def admit(self, known: CostClass, live: bool, ladder: bool, left_ns: int | None) -> int:
        """The rung with its reasons, or a Refusal. `left_ns`: to the deadline. `ladder`: cheaper answers exist."""
        if left_ns is not None and left_ns <= 0:
            return Refusal.LATE
        if not self._enabled:
            return Rung.FULL
        lowest = self._lowest if ladder else Rung.FULL
        decision = 0
        if self.pressure:
            if not live and self._sheds():
                return Refusal.BUSY
            if lowest and self.pressure > 1.0:
                rung = min(self._stepped(), lowest)
                if rung and known.helps(rung):
                    decision = rung + OVERLOAD
        if left_ns is None:
            return decision
        rung = decision & RUNG_BITS
        if self._suffices(known.bound(rung), left_ns):
            return decision
        for lower in range(rung + 1, lowest + 1):
            if known.helps(lower) and self._suffices(known.bound(lower), left_ns):
                return (decision & ~RUNG_BITS) + lower | DEADLINE
        known.refused = True
        return Refusal.SHORT

    def _suffices(self, bound_ns: float, left_ns: int) -> bool:
        """Whether a call of this service time can be answered in the time left. What is not known is tried."""
        if bound_ns > self._inline_ns:
            bound_ns += self.backlog_ns / self._threads
        return not bound_ns or bound_ns + SLACK_NS <= left_ns

    def _sheds(self) -> bool:
        """Whether this batch call is one of the share to refuse: evenly spread, not by chance."""
        self._shed += min(self.pressure, 1.0)
        if self._shed < 1.0:
            return False
        self._shed -= 1.0
        return True

    def _stepped(self) -> int:
        """The rung of this call: the share of each rung follows the pressure."""
        steps = self.pressure - 1.0
        self._step += steps - int(steps)
        rung = int(steps)
        if self._step >= 1.0:
            self._step -= 1.0
            rung += 1
        return rung

    def has_room(self, live: bool) -> bool:
        """Whether one more call may wait for a thread. Batch calls may only take idle ones."""
        room = self.at_threads < (int(self.limit.limit) if live else self._threads)
        if not room and live:
            self._full = True
            self.limit.touch()
        return room or not self._enabled

    def enter(self, service_ns: float) -> None:
        """A call goes to the threads."""
        self.at_threads += 1
        self.backlog_ns += service_ns

    def leave(self, service_ns: float) -> None:
        """It has left them; with what `enter` was told."""
        self.at_threads -= 1
        self.backlog_ns = max(0.0, self.backlog_ns - service_ns) if self.at_threads else 0.0

    def due(self, now_ns: int) -> bool:
        """Whether it is time to `look`."""
        return now_ns - self._looked_ns >= LOOK_NS

    def look(self, now_ns: int, busy_ns: int) -> None:
        """Measures pressure. `busy_ns`: how long the event loop has run or wanted to, since any fixed time."""
        wall_ns = now_ns - self._looked_ns
        waiting = self._full or (self.limit.standing and self.at_threads > self._threads)
        share = 1.0 if waiting else min(1.0, (busy_ns - self._busy_ns) / wall_ns)
        self.busy += min(1.0, wall_ns / SMOOTHED_NS) * (share - self.busy)
        steps = wall_ns / PRESSURE_TURN_NS
        if self.busy >= BUSY_HIGH:
            # After a pause the loop's share is that of one call.
            self.pressure = min(MOST_PRESSURE, self.pressure + min(steps, INTERVAL_NS / PRESSURE_TURN_NS))
        elif self.busy < BUSY_LOW:
            # Slowly near the bound, so as not to swing; within a second when the load has gone.
            self.pressure = max(0.0, self.pressure - steps * 12.0 * (BUSY_LOW - self.busy) ** 2)
        self._full = False
        self._looked_ns, self._busy_ns = now_ns, busy_ns
        if now_ns - self._eased_ns >= INTERVAL_NS:
            self._ease()
            self._eased_ns = now_ns

    def _ease(self) -> None:
        """Estimates that keep all calls of a class out would never be corrected: they fade until one gets through."""
        for known in self._classes:
            if known.refused:
                known.refused = False
                known.ease()

    def retry_after_ms(self) -> int:
        """When a refused caller should come again."""
        return 50 << min(3, int(self.pressure))
