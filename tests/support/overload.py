"""A model of a worker under an open load, in virtual time: gRPC's core, the event loop, threads, deadlines.

The loop takes one call after another from the core's queue (first in, first out), pays for taking
it, asks the admission it is given, and then works on it or refuses it; a long call goes to a thread.
Every refusal of the core costs the loop time, too, as if all shared one core: less kind than a
machine with a core to spare. Callers leave when their time is over; what is done for them after that is lost.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from rankd.server.admission import RUNG_BITS, Admission, CostClass
from rankd.workspace import AdmissionSettings

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Machine:
    """Costs in ns. `service_ns` by rung; `take_ns` for a call taken from the core, answered or refused."""

    service_ns: tuple[int, int, int]
    take_ns: int = 250_000
    core_refusal_ns: int = 25_000
    threads: int = 0
    deadline_ns: int = 100_000_000

    @property
    def capacity(self) -> float:
        """Full answers a second."""
        return SECOND * max(1, self.threads) / (self.service_ns[0] + self.take_ns)


@dataclass
class Outcome:
    """Of the measured part of a run: calls offered, answered in time, by rung, by priority, and refused."""

    offered: int = 0
    good: int = 0
    late: int = 0
    by_rung: list[int] = field(default_factory=lambda: [0, 0, 0])
    live: list[int] = field(default_factory=lambda: [0, 0])
    batch: list[int] = field(default_factory=lambda: [0, 0])
    latencies_ns: list[int] = field(default_factory=list)


class Simulation:
    """One run. `settings` None: a server without admission and with gRPC's own bounds."""

    def __init__(self, machine: Machine, settings: AdmissionSettings | None, seed: int = 1) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        self.admission = Admission(
            settings or AdmissionSettings(enabled=False),
            1,
            max(1, machine.threads),
            1_000_000 if machine.threads else 1e18,
        )
        self.naive = settings is None
        self.soft = settings.max_pending_calls if settings else 1_000
        self.hard = 2 * self.soft if settings else 3_000
        self.known: CostClass = self.admission.cost_class(0, 1_000)
        self.queue: deque[tuple[int, bool]] = deque()
        self.now = 0
        self.busy = 0
        self.free_at = [0] * machine.threads
        self.ends: list[tuple[int, int, int, bool, int, int]] = []  # calls at threads

    def run(self, rate: float, seconds: float, batch_share: float = 0.0, warm_s: float = 2.0) -> Outcome:
        """Poisson arrivals at `rate` a second; what arrives in the first `warm_s` is not counted."""
        out, end, warm = Outcome(), int(seconds * SECOND), int(warm_s * SECOND)
        next_at = 0
        while next_at < end:
            # Everything that has arrived by now knocks at the core.
            if next_at <= self.now or not self.queue:
                self._wait_until(next_at)
                self._finish(out, warm)
                live = self.random.random() >= batch_share
                if next_at >= warm:
                    out.offered += 1
                    (out.live if live else out.batch)[1] += 1
                self._knock(next_at, live)
                next_at += int(self.random.expovariate(rate) * SECOND)
                continue
            self._serve(out, warm)
        return out

    def _wait_until(self, at: int) -> None:
        if at > self.now:
            self.now = at

    def _spend(self, ns: int) -> None:
        self.now += ns
        self.busy += ns

    def _knock(self, at: int, live: bool) -> None:
        size = len(self.queue)
        if size >= self.soft and self.random.random() < (size - self.soft) / (self.hard - self.soft):
            self._spend(self.machine.core_refusal_ns)
            return
        self.queue.append((at, live))

    def _serve(self, out: Outcome, warm: int) -> None:
        """Takes one call from the core."""
        machine, admission = self.machine, self.admission
        while self.queue and self.now - self.queue[0][0] > machine.deadline_ns:
            self.queue.popleft()  # its caller has left; the core drops it by itself
        if not self.queue:
            return
        at, live = self.queue.popleft()
        self._spend(machine.take_ns)
        self._finish(out, warm)
        if admission.due(self.now):
            admission.look(self.now, self.busy)
        decision = 0 if self.naive else admission.admit(self.known, live, True, at + machine.deadline_ns - self.now)
        if decision < 0:
            return
        rung = decision & RUNG_BITS
        service = int(machine.service_ns[rung] * self.random.uniform(0.9, 1.1))
        if machine.threads and service > 1_000_000:
            if admission.has_room(live):
                self._to_thread(at, live, rung, service)
                return
            if not live:
                return
        self._spend(service)
        self.known.note(rung, service, 100)
        self._answer(out, warm, at, live, rung, self.now)

    def _to_thread(self, at: int, live: bool, rung: int, service: int) -> None:
        self.admission.enter(service)
        begin = max(self.now, heapq.heappop(self.free_at))
        heapq.heappush(self.free_at, begin + service)
        heapq.heappush(self.ends, (begin + service, begin, at, live, rung, self.now))

    def _finish(self, out: Outcome, warm: int) -> None:
        while self.ends and self.ends[0][0] <= self.now:
            end, begin, at, live, rung, asked = heapq.heappop(self.ends)
            self.admission.leave(end - begin)
            self.admission.limit.note(begin - asked, self.now)
            self.known.note(rung, end - begin, 100)
            self._answer(out, warm, at, live, rung, end)

    def _answer(self, out: Outcome, warm: int, at: int, live: bool, rung: int, end: int) -> None:
        if at < warm:
            return
        if end - at > self.machine.deadline_ns:
            out.late += 1
            return
        out.good += 1
        out.by_rung[rung] += 1
        (out.live if live else out.batch)[0] += 1
        out.latencies_ns.append(end - at)
