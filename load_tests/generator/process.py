"""The generator as a process: started once, offered to many times."""

from __future__ import annotations

import multiprocessing
import os
from types import TracebackType
from typing import Self

from generator.offer import GeneratorError, Offer, Outcome
from generator.sender import serve_offers

SLACK_S = 60.0
"""Beyond an offer's own time."""


class Generator:
    """One sender on one core. Use as a context manager."""

    def __init__(self, core: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")  # never fork: gRPC may run in this process
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve_offers, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._limit_s = 0.0
        if core is not None and self._process.pid is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def start(self, offer: Offer) -> None:
        """Begins; `result` waits for the end."""
        self._limit_s = offer.seconds + offer.deadline_s + SLACK_S
        self._pipe.send(offer)

    def done(self, wait_s: float = 0.0) -> bool:
        """Whether `result` would come at once; looks for so long."""
        return self._pipe.poll(wait_s)

    def result(self) -> Outcome:
        """What came of the offer that was started last."""
        if not self._pipe.poll(self._limit_s):
            raise GeneratorError(f"no result after {self._limit_s:.0f} s")
        found = self._pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def run(self, offer: Offer) -> Outcome:
        """Both."""
        self.start(offer)
        return self.result()

    def run_on_time(self, offer: Offer, lag_ms: float, tries: int = 3) -> Outcome:
        """`run`, again where the generator was late: something else may have had its core for a moment. The last
        outcome, late or not: what is late counts against the server, since latencies start when calls were due."""
        for left in reversed(range(tries)):
            outcome = self.run(offer)
            if outcome.is_on_time(lag_ms) or not left:
                break
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
