"""What the Python around an inline Rank costs: the handler with a ranker that does nothing.

    python load_tests/bench_handler.py

Prints µs a call, the median of rounds: everything that RankingService and admission do for a call
but Ranker.rank itself, and of it what an awaited empty handler costs. gRPC is not there: its
context is a stand-in whose time_remaining does what gRPC's does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from rankd.ranking.ranker import Ranked
from rankd.server.gate import RANKING_METHODS, Gate, Priority
from rankd.server.ranking_service import RankingService
from rankd.server.rpc import Dispatcher
from rankd.workspace import AdmissionSettings

DONE = Ranked(b"x" * 1_000, None, (), None, "", 100, 0, 100, 10, 0, False, ())


class NoRanker:
    """Answers at once."""

    def rank(self, method: int, data: bytes, **options: Any) -> Ranked:
        """What the compiled call would be given."""
        return DONE


class Context:
    """Of gRPC's context what is used of a call that goes well."""

    def __init__(self) -> None:
        self._deadline_s = time.time() + 3_600

    def time_remaining(self) -> float:
        """As gRPC computes it."""
        return max(self._deadline_s - time.time(), 0)


async def nothing(data: bytes, context: Any) -> bytes:
    """The least that a handler can be."""
    return data


async def measure(handler: Any, calls: int) -> float:
    """µs a call."""
    data, context = b"x" * 3_000, Context()
    for _ in range(1_000):
        await handler(data, context)
    started = time.perf_counter_ns()
    for _ in range(calls):
        await handler(data, context)
    return (time.perf_counter_ns() - started) / calls / 1e3


async def main() -> None:
    """Alternates, so that a busy machine is as bad to both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5_000)
    options = parser.parse_args()
    gate = Gate(AdmissionSettings(), RANKING_METHODS, 1)
    service = RankingService(NoRanker(), Dispatcher(None, 5_000.0), gate)  # type: ignore[arg-type]
    handler = service.handlers()["Rank"][Priority.LIVE]
    rounds = [
        (await measure(handler, options.calls), await measure(nothing, options.calls)) for _ in range(options.rounds)
    ]
    handled, empty = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"handler {handled:.2f} µs, empty {empty:.2f} µs")
    print(json.dumps({"bench": "handler", "us": round(handled - empty, 2)}))
    gate.close()


if __name__ == "__main__":
    asyncio.run(main())
