"""Threads for long calls: as many as there are cores, in front of them a queue that admission bounds.

What a thread has begun runs to its end, whoever still waits for it; until then it counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from rankd.server.admission import Admission

ResultT = TypeVar("ResultT")


class ComputePool:
    """Runs work that releases the GIL. Belongs to one event loop."""

    def __init__(self, admission: Admission, threads: int) -> None:
        self._admission = admission
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rankd-rank")
        self.abandoned = 0

    async def run(self, work: Callable[[], ResultT], service_ns: float) -> tuple[ResultT, int]:
        """`work` on a thread; its result, and the ns it waited. `service_ns`: what it will take, as far as is known.

        Cancelled while it waits for a thread: it is not begun. Cancelled while it runs: it counts as
        `abandoned` until it ends.
        """
        admission = self._admission
        asked_ns = time.monotonic_ns()

        def timed() -> tuple[int, ResultT]:
            return time.monotonic_ns(), work()

        admission.enter(service_ns)
        future = self._executor.submit(timed)
        try:
            began_ns, result = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # wrap_future has passed the cancellation on; what already runs, cannot be cancelled.
            if not future.done():
                self._abandon(future, service_ns)
            else:
                admission.leave(service_ns)
            raise
        except BaseException:
            admission.leave(service_ns)
            raise
        admission.leave(service_ns)
        admission.limit.note(began_ns - asked_ns, began_ns)
        return result, began_ns - asked_ns

    def _abandon(self, future: Future[tuple[int, ResultT]], service_ns: float) -> None:
        loop = asyncio.get_running_loop()
        self.abandoned += 1

        def ended() -> None:
            self.abandoned -= 1
            self._admission.leave(service_ns)

        def tell(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ended)

        future.add_done_callback(tell)

    def close(self) -> None:
        """Lets the threads end; what waits for one is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)
