"""From which length on a call is better off on a thread than on the event loop.

    python load_tests/bench_inline.py

Work of a given length that holds no GIL (SHA-256, as the kernels hold none) is done on the loop and
by the pool that serves long calls, alternating, with the same clock for both: the process's CPU time. Printed for every
length: CPU µs a call in both places, the hop's share, and how long a loop that is wanted now has to wait
for it. The last line names the shortest length at which the hop is at most a tenth of the call.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import statistics
import time
from collections.abc import Awaitable, Callable

from rankd.server.admission import Admission
from rankd.server.compute_pool import ComputePool
from rankd.server.role import loop_factory
from rankd.workspace import AdmissionSettings

LENGTHS_US = (50, 100, 200, 500, 1_000, 2_000, 5_000)
MOST_SHARE = 0.1


def work_of(length_us: float) -> Callable[[], bytes]:
    """GIL-free work that takes about as long."""
    block = b"x" * 1_000_000
    best_us = math.inf
    for _ in range(20):
        started = time.perf_counter()
        hashlib.sha256(block).digest()
        best_us = min(best_us, (time.perf_counter() - started) * 1e6)
    size = int(len(block) * length_us / best_us)
    part = block * (size // len(block) + 1)
    part = part[:size]
    return lambda: hashlib.sha256(part).digest()


async def cpu_us(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """CPU µs a call, one after another."""
    before = time.process_time_ns()
    for _ in range(calls):
        await call()
    return (time.process_time_ns() - before) / calls / 1e3


class Wait:
    """The longest time between two turns of a callback that is always due."""

    def __init__(self) -> None:
        self.longest_ns = 0
        self._last_ns = time.perf_counter_ns()
        self._handle: asyncio.Handle | None = None

    def look(self) -> None:
        """One turn."""
        now = time.perf_counter_ns()
        self.longest_ns, self._last_ns = max(self.longest_ns, now - self._last_ns), now
        self._handle = asyncio.get_running_loop().call_soon(self.look)

    def end(self) -> float:
        """The last turn; µs."""
        if self._handle is not None:
            self._handle.cancel()
        return max(self.longest_ns, time.perf_counter_ns() - self._last_ns) / 1e3


async def longest_wait_us(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """How long a loop that is wanted has to wait during a call: the median of calls."""
    waits = []
    for _ in range(calls):
        wait = Wait()
        wait.look()
        await asyncio.sleep(0)
        await call()
        waits.append(wait.end())
    return statistics.median(waits)


async def measure(rounds: int, calls: int) -> None:
    """The table, and the line for machines."""
    admission = Admission(AdmissionSettings(), 1, 1, 0.0)
    pool = ComputePool(admission, 1)
    print(
        f"{'length':>8} {'loop':>8} {'thread':>8} {'hop':>6} {'share':>6}   the loop waits: {'loop':>7} {'thread':>7}"
    )
    crossover, hops = None, []
    for length_us in LENGTHS_US:
        work = work_of(length_us)

        async def here(work: Callable[[], bytes] = work) -> bytes:
            return work()

        async def there(work: Callable[[], bytes] = work) -> object:
            return await pool.run(work, 0.0)

        pairs = [(await cpu_us(here, calls), await cpu_us(there, calls)) for _ in range(rounds)]
        # The least of each: what else the machine does only adds.
        inline, thread = (min(column) for column in zip(*pairs, strict=True))
        hop = thread - inline
        hops.append(hop)
        waits = await longest_wait_us(here, 30), await longest_wait_us(there, 30)
        share = hop / thread
        print(
            f"{length_us:>8} {inline:>8.0f} {thread:>8.0f} {hop:>6.0f} {share:>6.0%}"
            f"   {'':>16}{waits[0]:>7.0f} {waits[1]:>7.0f}"
        )
        if crossover is None and share <= MOST_SHARE:
            crossover = length_us
    pool.close()
    print(json.dumps({"bench": "inline", "hop_us": round(statistics.median(hops)), "crossover_us": crossover}))


def main() -> None:
    """The server's own event loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(measure(options.rounds, options.calls))


if __name__ == "__main__":
    main()
