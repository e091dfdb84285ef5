"""Deadlines, cancellation, faults of our own: what the caller learns, and what the log says."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import grpc
import pytest
from support.rankers import hook
from support.serving import SCHEMA, details, running, search_plans

from rankd.errors import StoreError, StoreFullError, UnavailableError
from rankd.signals.embedded import open_embedded
from rankd.signals.store import WriteBatch, WriteResult
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

SECRET = "/var/secret/path password=hunter2"


class Store:
    """A store over a sound one whose writes do first what `act` does."""

    def __init__(self, sound: Any, act: Any) -> None:
        self._sound = sound
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sound, name)

    async def write(self, batch: WriteBatch) -> WriteResult:
        await self._act()
        return await self._sound.write(batch)


async def acting(act: Any) -> Store:
    return Store(await open_embedded(SCHEMA, None, 1_000), act)


def raising(error: BaseException) -> Any:
    async def act() -> None:
        raise error

    return act


REQUEST = pb.RankRequest(profile="search", request_id="req-1", candidates=pb.Candidates(ids=["a"]))
WRITE = sp.WriteSignalsRequest(
    entity="item", ids=["a"], columns=[sp.SignalColumn(signal="price", floats=sp.FloatValues(values=[1]))]
)


def everything_sent(error: Any) -> str:
    return repr((error.details(), error.trailing_metadata(), error.initial_metadata()))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError(SECRET), grpc.StatusCode.INTERNAL),
        (KeyError(SECRET), grpc.StatusCode.INTERNAL),
        (TimeoutError(SECRET), grpc.StatusCode.INTERNAL),
        (asyncio.CancelledError(SECRET), grpc.StatusCode.INTERNAL),
        (StoreError(SECRET), grpc.StatusCode.UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_nothing_of_the_inside_leaks(
    error: BaseException, code: grpc.StatusCode, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    store = await acting(raising(error))
    async with running(search_plans(store), store) as (server, client):
        hook(server, fail)
        with pytest.raises(grpc.RpcError) as caught:
            await client.ranking.Rank(REQUEST, timeout=5)
        sent: Any = caught.value
        _, info, violations = details(sent)
        with pytest.raises(grpc.RpcError) as caught:
            await client.signals.WriteSignals(WRITE, timeout=5)
        written: Any = caught.value
        hook(server, fail, on_thread=True)
        with pytest.raises(grpc.RpcError) as caught:
            await client.ranking.Rank(REQUEST, timeout=5)
        threaded: Any = caught.value
    assert (sent.code(), written.code(), threaded.code()) == (code, code, code)
    assert "req-1" in sent.details()
    assert info.metadata["request_id"] == "req-1"
    assert violations == []
    for text in map(everything_sent, (sent, written, threaded)):
        assert "hunter2" not in text
        assert type(error).__name__ not in text
        assert "Traceback" not in text
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged
    assert any(record.exc_info and SECRET in str(record.exc_info[1]) for record in logged)
    assert logged[0].request_id == "req-1"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StoreFullError("item: at most 5 rows"), grpc.StatusCode.RESOURCE_EXHAUSTED, "STORE_FULL"),
        (UnavailableError("the replica is being filled"), grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    ],
    ids=["full", "unavailable"],
)
async def test_expected_failures_say_what_they_are(
    error: Exception, code: grpc.StatusCode, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = await acting(raising(error))
    async with running(search_plans(store), store) as (_, client):
        with pytest.raises(grpc.RpcError) as caught:
            await client.signals.WriteSignals(WRITE)
    sent: Any = caught.value
    assert (sent.code(), sent.details(), details(sent)[1].reason) == (code, str(error), reason)
    assert not [record for record in caplog.records if record.exc_info]


async def test_client_faults_are_logged_without_a_traceback_and_not_more_than_ten_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "rankd.server")
    async with running() as (_, client):
        raw = client.raw("RankingService/Rank")
        started = time.monotonic()
        for _ in range(200):
            with pytest.raises(grpc.RpcError):
                await raw(b"\xff")
        seconds = time.monotonic() - started
    refused = [record for record in caplog.records if "refused" in record.getMessage()]
    assert 1 <= len(refused) <= 10 * (int(seconds) + 2)
    assert not any(record.exc_info for record in caplog.records)
    # What grpc itself logs at error level is a fault of ours.
    assert not [record for record in caplog.records if record.name.startswith("grpc") and record.levelno >= 40]


class Counting:
    """Counts entries, and hangs until told."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.let_go = asyncio.Event()

    async def __call__(self) -> None:
        self.entered += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def until(condition: Any, seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


async def test_the_callers_deadline_ends_the_work() -> None:
    act = Counting()
    store = await acting(act)
    async with running(search_plans(store), store) as (server, client):
        with pytest.raises(grpc.RpcError) as caught:
            await client.signals.WriteSignals(WRITE, timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
        await until(lambda: act.cancelled == act.entered == 1 and server.in_flight == 0)


async def test_the_servers_default_deadline_is_for_calls_without_one() -> None:
    act = Counting()
    store = await acting(act)
    async with running(search_plans(store), store, default_deadline_ms=100) as (server, client):
        with pytest.raises(grpc.RpcError) as caught:
            await client.signals.WriteSignals(WRITE)
        sent: Any = caught.value
        assert (sent.code(), details(sent)[1].reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        assert act.cancelled == 1
        call = asyncio.ensure_future(client.signals.WriteSignals(WRITE, timeout=30))
        await until(lambda: act.entered == 2)
        await asyncio.sleep(0.2)  # twice the default; the caller's own is longer
        act.let_go.set()
        assert (await call).written_count == 1
        await until(lambda: server.in_flight == 0)


async def test_a_deadline_that_has_passed_costs_no_work() -> None:
    class Context:
        code: Any = None
        metadata: Any = None

        def time_remaining(self) -> float:
            return 0.0

        def set_code(self, code: Any) -> None:
            self.code = code

        def set_details(self, text: str) -> None:
            pass

        def set_trailing_metadata(self, metadata: Any) -> None:
            self.metadata = metadata

    async def never(request: Any, call: Any) -> Any:
        raise AssertionError("worked")

    from rankd.server.rpc import Dispatcher

    context = Context()
    handler = Dispatcher().handler("s/M", pb.RankRequest, never)
    assert await handler(REQUEST.SerializeToString(), context) == b""
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert context.metadata[0][0] == "grpc-status-details-bin"


async def test_cancelled_calls_stop_and_leave_nothing() -> None:
    act = Counting()
    store = await acting(act)
    async with running(search_plans(store), store) as (server, client):
        calls = [client.signals.WriteSignals(WRITE) for _ in range(20)]
        tasks = [asyncio.ensure_future(call.wait_for_connection()) for call in calls]
        await until(lambda: act.entered == 20)
        for call in calls:
            call.cancel()
        await until(lambda: act.cancelled == 20 and server.in_flight == 0)
        await asyncio.gather(*tasks, return_exceptions=True)
        act.let_go.set()
        assert (await client.signals.WriteSignals(WRITE)).written_count == 1


async def test_long_lists_leave_the_loop_free() -> None:
    begun, let_go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert let_go.wait(10)

    async with running() as (server, client):
        ranking: Any = server._ranking
        quickly = ranking._ranker
        hook(server, wait, on_thread=True)
        slow = asyncio.ensure_future(client.ranking.Rank(REQUEST))
        assert await asyncio.to_thread(begun.wait, 10)
        ranking.replace(quickly)
        assert (await client.ranking.Rank(pb.RankRequest(profile="plain"))).total_count == 0
        assert not slow.done()
        let_go.set()
        assert (await slow).total_count == 1


async def test_a_burst_of_as_many_calls_as_may_wait_is_answered() -> None:
    async with running() as (_, client):
        answers = await asyncio.gather(*(client.ranking.Rank(REQUEST) for _ in range(64)))
    assert all(answer.total_count == 1 for answer in answers)
