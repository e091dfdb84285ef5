"""Random and mutated requests over a socket: every call is answered, and never by a fault of our own.

RANKD_FUZZ_SCALE multiplies the number of calls (default 1: 3,000).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections import Counter
from pathlib import Path

import grpc
import pytest
from support import fuzz
from support.serving import SCHEMA, Client, running

from rankd.signals.embedded import open_embedded

CALLS = 3_000 * int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
IN_FLIGHT = 16

EXPECTED = {
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "CANCELLED",
}


def memory_bytes() -> int:
    """Resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def one(client: Client, rng: random.Random, seen: Counter[str]) -> None:
    method, data = fuzz.request(rng)
    # A call that hangs ends in DEADLINE_EXCEEDED, which is not expected.
    call = client.raw(method)(data, timeout=30)
    if rng.random() < 0.05:
        await asyncio.sleep(rng.random() * 0.002)
        call.cancel()
    try:
        await call
        seen["OK"] += 1
    except asyncio.CancelledError:
        seen["CANCELLED"] += 1
    except grpc.aio.AioRpcError as error:
        seen[error.code().name] += 1
        assert error.code().name in EXPECTED, (method, data, error.code(), error.details())


async def test_whatever_comes_is_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    store = await open_embedded(SCHEMA, tmp_path, 1_000_000)
    seen: Counter[str] = Counter()
    rng = random.Random(20_261)
    memory = []
    async with running(store=store) as (server, client):

        async def work(seed: int, calls: int) -> None:
            own = random.Random(seed)
            for _ in range(calls):
                await one(client, own, seen)

        for _ in range(5):
            await asyncio.gather(*(work(rng.getrandbits(64), CALLS // 5 // IN_FLIGHT) for _ in range(IN_FLIGHT)))
            memory.append(memory_bytes())
        assert server.in_flight == 0
    assert not caplog.records, caplog.text
    # Both sorts must have been tried, or the fuzzer no longer fits the contract.
    assert seen["OK"] > sum(seen.values()) / 5 and seen["INVALID_ARGUMENT"] > sum(seen.values()) / 5, seen
    # Coarse: a leak of one request's bytes for every call would be far more.
    assert memory[-1] - memory[1] < 8 * 2**20 + CALLS * 100, memory
    print(seen, [round(m / 2**20, 1) for m in memory])
