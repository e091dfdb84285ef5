"""How busy the event loop is: the time its thread ran, or was ready and had no core.

A loop that is overloaded never waits for work. Linux counts both times per thread in schedstat
(Documentation/scheduler/sched-stats.rst); elsewhere the thread's CPU time stands in, which takes a
loop that other processes keep from its core for an idle one.
"""

from __future__ import annotations

import os
import threading
import time


class LoopClock:
    """A clock (ns) that stands still while the thread waits; for the thread that made it. A reading takes 2 µs."""

    def __init__(self) -> None:
        self._file = -1
        try:
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
            self._read()
        except (OSError, ValueError):
            self.close()

    def __call__(self) -> int:
        return time.thread_time_ns() if self._file < 0 else self._read()

    def _read(self) -> int:
        ran_ns, waited_ns, _ = os.pread(self._file, 64, 0).split()
        return int(ran_ns) + int(waited_ns)

    def close(self) -> None:
        """Gives the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
