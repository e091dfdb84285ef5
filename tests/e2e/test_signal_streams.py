"""StreamSignals, ScanSignals, ForgetUser and DescribeSchema over a real socket with ordinary stubs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from support.held_store import HeldStore, open_held
from support.serving import SCHEMA, details, running

from rankd.server import signal_streams
from rankd.v1 import signals_pb2 as sp


def batch(number: int, rows: int = 3, cursor: str | None = None, **fields: Any) -> sp.StreamSignalsRequest:
    prices = sp.SignalColumn(signal="price", floats=sp.FloatValues(values=[number] * rows))
    ids = [f"i{number}-{row}" for row in range(rows)]
    write = sp.WriteSignalsRequest(entity="item", ids=ids, columns=[prices], **fields)
    return sp.StreamSignalsRequest(batch=write, cursor=f"c{number}" if cursor is None else cursor)


async def sent(*batches: sp.StreamSignalsRequest) -> AsyncIterator[sp.StreamSignalsRequest]:
    for one in batches:
        yield one


class Gate:
    """Holds writes back until it is opened; counts how many came."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.came = 0

    async def __call__(self) -> None:
        self.came += 1
        await self.open.wait()


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture
async def store() -> HeldStore:
    return await open_held(SCHEMA)


async def test_batches_are_answered_in_order(store: HeldStore) -> None:
    async with running(store=store) as (server, client):
        call = client.signals.StreamSignals(sent(*(batch(n) for n in range(20))))
        answers = [answer async for answer in call]
        assert [a.cursor for a in answers] == [f"c{n}" for n in range(20)]
        assert all(a.response.written_count == 3 for a in answers)
        assert [b.ids[0] for b in store.batches] == [f"i{n}-0" for n in range(20)]
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["i19-2"], signals=["price"]))
        assert list(got.columns[0].floats.values) == [19]
        assert await call.code() is grpc.StatusCode.OK
        assert server.in_flight == 0


async def test_an_empty_stream_is_answered() -> None:
    async with running() as (_, client):
        assert [a async for a in client.signals.StreamSignals(sent())] == []


async def test_rejected_rows_are_in_the_answer(store: HeldStore) -> None:
    bad = batch(1)
    bad.batch.columns[0].floats.values[1] = float("inf")
    async with running(store=store) as (_, client):
        answers = [a async for a in client.signals.StreamSignals(sent(bad, batch(2)))]
    assert [(r.row, r.field) for r in answers[0].response.rejected] == [(1, "columns[0].floats.values[1]")]
    assert [a.response.written_count for a in answers] == [2, 3]


FAULTY = [
    (sp.StreamSignalsRequest(batch=sp.WriteSignalsRequest(entity="itm", ids=["a"])), "batch.entity"),
    (sp.StreamSignalsRequest(), "batch.entity"),
    (batch(9, rows=0), "batch.ids"),
    (batch(9, cursor="x" * 1025), "cursor"),
]


@pytest.mark.parametrize(("faulty", "field"), FAULTY)
async def test_a_faulty_batch_ends_the_stream(store: HeldStore, faulty: sp.StreamSignalsRequest, field: str) -> None:
    async with running(store=store) as (server, client):
        call = client.signals.StreamSignals(sent(batch(1), batch(2), faulty, batch(3)))
        answers = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for answer in call:
                answers.append(answer.cursor)  # noqa: PERF401
        assert answers == ["c1", "c2"]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        _, info, violations = details(caught.value)
        assert [f for f, _ in violations] == [field]
        assert (info.metadata["cursor"], info.metadata["answered_batches"]) == ("c2", "2")
        assert info.metadata["request_id"]
        assert len(store.batches) == 2
        assert server.in_flight == 0


async def test_bytes_that_are_no_message_end_the_stream(store: HeldStore) -> None:
    async with running(store=store) as (_, client):
        raw = client.channel.stream_stream("/rankd.v1.SignalService/StreamSignals")
        call = raw(iter([batch(1).SerializeToString(), b"\xff\xff"]))
        assert sp.StreamSignalsResponse.FromString(await call.read()).cursor == "c1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert details(caught.value)[1].reason == "MALFORMED_MESSAGE"


async def test_the_server_reads_on_only_while_there_is_room(store: HeldStore) -> None:
    store.delay = gate = Gate()
    handed = 0

    async def many() -> AsyncIterator[sp.StreamSignalsRequest]:
        nonlocal handed
        for n in range(400):
            handed += 1
            yield batch(n % 3, rows=9_000)

    async with running(store=store) as (_, client):
        call = client.signals.StreamSignals(many())
        await until(lambda: gate.came == 1)
        await asyncio.sleep(0.3)
        # One is being written, some wait, and a few more fill gRPC's windows; the others are not even asked for.
        assert gate.came == 1
        assert handed < 200, "some 100 KB each"
        gate.open.set()
        assert len([a async for a in call]) == 400


async def test_a_client_that_goes_leaves_nothing(store: HeldStore) -> None:
    store.delay = gate = Gate()
    async with running(store=store) as (server, client):
        call = client.signals.StreamSignals(sent(*(batch(n) for n in range(3))))
        await until(lambda: gate.came == 1)
        call.cancel()
        await until(lambda: server.in_flight == 0)
        gate.open.set()
        idle = client.signals.StreamSignals()
        await idle.write(batch(7))
        assert (await idle.read()).cursor == "c7"
        idle.cancel()
        await until(lambda: server.in_flight == 0)
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["i7-0"]))
        assert list(got.ids) == ["i7-0"]


async def test_a_deadline_of_the_client_holds_and_the_servers_default_does_not(store: HeldStore) -> None:
    async with running(store=store, default_deadline_ms=50) as (server, client):
        call = client.signals.StreamSignals()
        await asyncio.sleep(0.2)
        await call.write(batch(1))
        assert (await call.read()).cursor == "c1"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        short = client.signals.StreamSignals(timeout=0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await short.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: server.in_flight == 0)


async def test_a_server_that_ends_finishes_what_it_read(store: HeldStore) -> None:
    store.delay = gate = Gate()
    async with running(store=store, shutdown_grace_seconds=30.0) as (server, client):
        call = client.signals.StreamSignals()
        for n in range(3):
            await call.write(batch(n))
        await until(lambda: gate.came == 1)
        await asyncio.sleep(0.1)
        ending = asyncio.ensure_future(server.drain())
        await asyncio.sleep(0.1)
        gate.open.set()
        answers = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                answers.append((await call.read()).cursor)
        assert answers == ["c0", "c1", "c2"]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert details(caught.value)[1].metadata["cursor"] == "c2"
        await ending


async def test_a_scan_gives_every_row_and_can_be_taken_up_again(
    store: HeldStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal_streams, "FIRST_PAGE_ROWS", 10)
    async with running(store=store) as (server, client):
        for n in range(10):
            await client.signals.WriteSignals(batch(n, rows=100).batch)
        request = sp.ScanSignalsRequest(entity="item", signals=["price"])
        pages = [page async for page in client.signals.ScanSignals(request)]
        ids = [i for page in pages for i in page.rows.ids]
        values = [v for page in pages for v in page.rows.columns[0].floats.values]
        assert len(ids) == len(set(ids)) == 1000
        assert all(value == int(i.partition("-")[0][1:]) for i, value in zip(ids, values, strict=True))
        assert [page.cursor == "" for page in pages] == [False] * (len(pages) - 1) + [True]
        assert len(pages[0].rows.ids) <= 20 < len(pages[-2].rows.ids)
        assert all(not page.rows.missing_ids for page in pages)
        request.cursor = pages[1].cursor
        rest = [i async for page in client.signals.ScanSignals(request) for i in page.rows.ids]
        assert rest == ids[len(pages[0].rows.ids) + len(pages[1].rows.ids) :]
        small = sp.ScanSignalsRequest(entity="item", page_rows=7)
        sizes = [len(page.rows.ids) async for page in client.signals.ScanSignals(small)]
        assert sum(sizes) == 1000 and len(sizes) > 1000 // 14
        empty = [page async for page in client.signals.ScanSignals(sp.ScanSignalsRequest(entity="user"))]
        assert [(list(page.rows.ids), page.cursor) for page in empty] == [([], "")]
        await until(lambda: server.in_flight == 0)


async def test_pages_of_large_rows_are_small(store: HeldStore) -> None:
    async with running(store=store) as (_, client):
        for n in range(4):
            titles = sp.SignalColumn(signal="title", strings=sp.StringValues(values=["x" * 60_000] * 100))
            ids = [f"{n}-{i}" for i in range(100)]
            await client.signals.WriteSignals(sp.WriteSignalsRequest(entity="item", ids=ids, columns=[titles]))
        sizes = [p.ByteSize() async for p in client.signals.ScanSignals(sp.ScanSignalsRequest(entity="item"))]
        assert sum(sizes) > 400 * 60_000
        assert max(sizes) <= 4 * 1024 * 1024, "what gRPC's clients take by default"
        assert max(sizes[1:]) < 1.1 * signal_streams.PAGE_BYTES


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (sp.ScanSignalsRequest(entity="itm"), "entity"),
        (sp.ScanSignalsRequest(entity="item", signals=["prize"]), "signals[0]"),
        (sp.ScanSignalsRequest(entity="item", cursor="no cursor"), "cursor"),
        (sp.ScanSignalsRequest(entity="item", page_rows=10_001), "page_rows"),
    ],
)
async def test_a_faulty_scan_is_refused(store: HeldStore, request_: sp.ScanSignalsRequest, field: str) -> None:
    async with running(store=store) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [page async for page in client.signals.ScanSignals(request_)]
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [f for f, _ in details(caught.value)[2]] == [field]


async def test_a_scan_that_nobody_reads_waits_and_ends_with_its_client(store: HeldStore) -> None:
    async with running(store=store) as (server, client):
        titles = sp.SignalColumn(signal="title", strings=sp.StringValues(values=["x" * 60_000] * 200))
        for n in range(5):
            ids = [f"{n}-{i}" for i in range(200)]
            await client.signals.WriteSignals(sp.WriteSignalsRequest(entity="item", ids=ids, columns=[titles]))
        scans = 0
        scan = store.scan

        async def counted(*arguments: Any) -> Any:
            nonlocal scans
            scans += 1
            return await scan(*arguments)

        store.scan = counted  # type: ignore[method-assign]
        call = client.signals.ScanSignals(sp.ScanSignalsRequest(entity="item"))
        await call.read()
        await asyncio.sleep(0.3)
        assert scans < 30, "60 MB are not read for a client that does not take them"
        call.cancel()
        await until(lambda: server.in_flight == 0)


async def test_a_user_is_forgotten(store: HeldStore) -> None:
    async with running(store=store) as (_, client):
        age = sp.SignalColumn(signal="age", floats=sp.FloatValues(values=[30, 40]))
        await client.signals.WriteSignals(sp.WriteSignalsRequest(entity="user", ids=["u1", "u2"], columns=[age]))
        answer = await client.signals.ForgetUser(sp.ForgetUserRequest(user_id="u1"))
        assert dict(answer.deleted_counts) == {"user": 1}
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="user", ids=["u1", "u2"]))
        assert (list(got.ids), list(got.missing_ids)) == (["u2"], ["u1"])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.signals.ForgetUser(sp.ForgetUserRequest())
        assert [f for f, _ in details(caught.value)[2]] == ["user_id"]


async def test_statistics_only_if_asked_for(store: HeldStore) -> None:
    async with running(store=store) as (_, client):
        await client.signals.WriteSignals(batch(1).batch)
        plain = await client.signals.DescribeSchema(sp.DescribeSchemaRequest())
        item = plain.entities[0]
        assert not item.signals[0].HasField("statistics") and not item.used_bytes
        full = await client.signals.DescribeSchema(sp.DescribeSchemaRequest(include_statistics=True))
        item = full.entities[0]
        by_name = {s.name: s.statistics for s in item.signals}
        assert item.row_count == 3 and item.used_bytes > 0
        assert by_name["price"].filled_count == 3
        assert 0 <= by_name["price"].median_age_seconds <= by_name["price"].greatest_age_seconds < 60
        assert by_name["brand"].filled_count == 0 and not by_name["brand"].HasField("median_age_seconds")
        assert not full.HasField("replica")


async def test_reads_are_bounded_by_bytes(store: HeldStore) -> None:
    async with running(store=store, limits={"max_read_bytes": 20_000_000}) as (_, client):
        ids = [f"{i:04}" for i in range(1000)]
        for start in range(0, 1000, 200):
            titles = sp.SignalColumn(signal="title", strings=sp.StringValues(values=["x" * 30_000] * 200))
            part = ids[start : start + 200]
            await client.signals.WriteSignals(sp.WriteSignalsRequest(entity="item", ids=part, columns=[titles]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=ids))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        ((field, text),) = details(caught.value)[2]
        assert field == "ids" and "ids[0] to ids[511] would do" in text
        got = await client.signals.GetSignals(sp.GetSignalsRequest(entity="item", ids=["no", *ids[:511]]))
        assert list(got.ids) == ids[:511] and list(got.missing_ids) == ["no"]
        title = next(c for c in got.columns if c.signal == "title")
        price = next(c for c in got.columns if c.signal == "price")
        assert list(title.rows) == list(range(511)) == list(price.clear_rows)
        assert len(title.strings.values) == 511
