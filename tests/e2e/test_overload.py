"""What callers see of admission: refusals, priorities, and what a thread still does for those who left."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from support.rankers import hook
from support.serving import details, running

from rankd.server.admission import Admission
from rankd.server.server import Server
from rankd.v1 import ranking_pb2 as pb

REQUEST = pb.RankRequest(profile="search", request_id="req-1", candidates=pb.Candidates(ids=["a"]))
BATCH = (("rankd-priority", "batch"),)
MS = 1_000_000


def admission_of(server: Server) -> Admission:
    gate: Any = server._gate
    return gate.admission


def under_pressure(server: Server, pressure: float) -> None:
    """Holds the pressure, whatever the loop does."""
    admission: Any = admission_of(server)
    admission.pressure = pressure
    admission.due = lambda now_ns: False


async def refusal(call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value


def retry_info(error: Any) -> int:
    """Of the details, ms."""
    status, _, _ = details(error)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return retry.retry_delay.ToMilliseconds()


async def test_batch_calls_are_refused_under_pressure_and_told_when_to_come_again() -> None:
    async with running() as (server, client):
        under_pressure(server, 1.0)
        for method in (client.ranking.Rank, client.ranking.Score):
            error = await refusal(
                method(REQUEST if method is client.ranking.Rank else pb.ScoreRequest(), metadata=BATCH)
            )
            _, info, _ = details(error)
            assert (error.code(), info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
            assert retry_info(error) == 100
            assert ("grpc-retry-pushback-ms", "100") in tuple(error.trailing_metadata())
        for metadata in ((), (("rankd-priority", "live"),), (("rankd-priority", "???"),)):
            assert (await client.ranking.Rank(REQUEST, metadata=metadata)).total_count == 1
        admission_of(server).pressure = 0.0
        assert (await client.ranking.Rank(REQUEST, metadata=BATCH)).total_count == 1


async def test_a_call_that_cannot_be_in_time_is_refused_at_once() -> None:
    async with running(admission={"ladder": "off"}) as (server, client):
        for size in range(4, 200):
            admission_of(server).cost_class(0, size).note(0, 2_000 * MS, 1)
        started = time.monotonic()
        error = await refusal(client.ranking.Rank(REQUEST, timeout=1.0))
        assert time.monotonic() - started < 0.9
        assert (error.code(), details(error)[1].reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert (await client.ranking.Rank(REQUEST, timeout=10.0)).total_count == 1


async def test_without_admission_nothing_of_this_happens() -> None:
    async with running(admission={"enabled": False}) as (server, client):
        under_pressure(server, 3.0)
        for size in range(4, 200):
            admission_of(server).cost_class(0, size).note(0, 2_000 * MS, 1)
        assert (await client.ranking.Rank(REQUEST, timeout=1.0, metadata=BATCH)).total_count == 1


async def until(condition: Any, seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


async def test_what_a_thread_still_does_for_a_caller_that_left_counts() -> None:
    begun, let_go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert let_go.wait(10)

    async with running() as (server, client):
        hook(server, wait, on_thread=True)
        call = client.ranking.Rank(REQUEST)
        waiting = asyncio.ensure_future(call.wait_for_connection())
        assert await asyncio.to_thread(begun.wait, 10)
        call.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await until(lambda: server._gate.pool.abandoned == 1)  # type: ignore[union-attr]
        assert server.in_flight == 1
        assert admission_of(server).at_threads == 1
        let_go.set()
        await until(lambda: server.in_flight == 0)
        assert (admission_of(server).at_threads, admission_of(server).backlog_ns) == (0, 0.0)


def resident_kb() -> int:
    """Of this process: server and client."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4


async def test_thousands_of_random_cancellations_leave_nothing() -> None:
    choose = random.Random(1)
    async with running() as (server, client):
        hook(server, lambda: time.sleep(choose.random() * 0.002), on_thread=True)
        seen: list[tuple[int, int]] = []
        for _ in range(4):
            for _ in range(25):
                calls = [client.ranking.Rank(REQUEST, metadata=choose.choice([(), BATCH])) for _ in range(20)]
                waiting = [asyncio.ensure_future(call.code()) for call in calls]
                await asyncio.sleep(choose.random() * 0.01)
                for call in choose.sample(calls, 14):
                    call.cancel()
                await asyncio.gather(*waiting)
            await until(lambda: server.in_flight == 0)
            gc.collect()
            seen.append((threading.active_count(), resident_kb()))
        assert admission_of(server).at_threads == 0
        assert seen[-1][0] <= seen[0][0]
        assert seen[-1][1] <= seen[1][1] + 4_096, seen
