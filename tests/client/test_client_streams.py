"""stream, scan, forget_user, times and operations of both clients."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import grpc
import numpy as np
import pytest
from support.fake_rankd import FakeRankd, error_info, status

from rankd.client import (
    AsyncClient,
    Client,
    DeadlineError,
    InvalidRequestError,
    RequestError,
    ServerUnavailableError,
    StreamBatch,
    composite_id,
    streaming,
)
from rankd.v1 import signals_pb2 as sp


def batches(count: int, start: int = 0):
    for n in range(start, count):
        yield StreamBatch("item", [f"i{n}"], {"price": [float(n)]}, cursor=f"c{n}")


async def async_batches(count: int):
    for one in batches(count):
        await asyncio.sleep(0)
        yield one


def in_order(fake: FakeRankd, count: int) -> bool:
    applied = [request.cursor for request in fake.requests("StreamSignals")]
    return applied == [f"c{n}" for n in range(count)] and len(set(fake.applied)) == count


def test_a_stream_gives_every_batch_in_order(client, fake):
    answers = list(client.stream(batches(100)))
    assert [(a.number, a.cursor) for a in answers] == [(n, f"c{n}") for n in range(100)]
    assert answers[3].result.written_count == 1 and answers[3].result.late_count == 1
    assert in_order(fake, 100) and fake.stream_count == 1
    assert list(client.stream([])) == []


@pytest.mark.parametrize("drops", [[0], [1, 1, 1], [3, 0, 0, 7], [99]])
def test_a_lost_connection_is_taken_up_again(client, fake, drops):
    fake.drops = list(drops)
    answers = list(client.stream(batches(100), patience_s=20))
    assert [a.cursor for a in answers] == [f"c{n}" for n in range(100)]
    assert in_order(fake, 100), "nothing lost, nothing twice, in order"
    assert fake.stream_count == 1 + len(drops) and not fake.drops


@pytest.mark.parametrize("drops", [[], [0], [1, 1, 1], [3, 0, 0, 7], [99]])
async def test_the_same_from_asyncio(fake, drops):
    fake.drops = list(drops)
    async with AsyncClient(f"127.0.0.1:{fake.port}") as client:
        answers = [a.cursor async for a in client.stream(async_batches(100), patience_s=20)]
        assert answers == [f"c{n}" for n in range(100)]
        assert in_order(fake, 100)
        assert [a async for a in client.stream([])] == []


def test_what_is_unanswered_is_bounded(client, fake):
    taken = 0

    def counted():
        nonlocal taken
        for one in batches(50):
            taken += 1
            yield one

    stream = client.stream(counted())
    for done, _ in enumerate(stream, 1):
        assert taken - done < streaming.MAX_UNANSWERED + 1
        if done == 20:
            stream.close()
    assert taken < 30


async def test_an_answer_comes_while_the_next_batch_is_waited_for(fake):
    may_go_on = asyncio.Event()

    async def slow():
        yield StreamBatch("item", ["a"], {"price": [1]}, cursor="first")
        await may_go_on.wait()
        yield StreamBatch("item", ["b"], {"price": [1]}, cursor="second")

    async with AsyncClient(f"127.0.0.1:{fake.port}") as client:
        stream = client.stream(slow())
        assert (await anext(stream)).cursor == "first"
        may_go_on.set()
        assert [a.cursor async for a in stream] == ["second"]


# Refused at once, or, on a machine that is busy, not even that in time.
GIVEN_UP = (ServerUnavailableError, DeadlineError)


def test_a_server_that_stays_away_is_given_up(fake):
    with Client("127.0.0.1:1") as client, pytest.raises(GIVEN_UP):
        list(client.stream([sp.StreamSignalsRequest(cursor="x")], patience_s=0.3))
    with Client("127.0.0.1:1") as client, pytest.raises(GIVEN_UP):
        list(client.scan("item", patience_s=0.3))


async def test_a_server_that_stays_away_is_given_up_by_asyncio():
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(GIVEN_UP):
            _ = [a async for a in client.stream([sp.StreamSignalsRequest(cursor="x")], patience_s=0.3)]
        with pytest.raises(GIVEN_UP):
            _ = [a async for a in client.scan("item", patience_s=0.3)]


def test_a_batch_that_cannot_be_sent_is_said(client):
    bad = StreamBatch("item", ["a"], {"price": ["dear"]})
    with pytest.raises(RequestError, match=r'columns\["price"\]\[0\]'):
        list(client.stream([*batches(2), bad]))


@pytest.mark.parametrize("drops", [[], [0], [2, 1]])
def test_a_scan_goes_on_where_it_was(client, fake, drops):
    fake.drops = list(drops)
    pages = list(client.scan("item", ["price"]))
    assert [i for page in pages for i in page.ids] == [f"{n}-{x}" for n in range(5) for x in "ab"]
    assert [page.columns["price"] for page in pages] == [[float(n), None] for n in range(5)]
    assert [page.cursor for page in pages] == ["1", "2", "3", "4", ""]
    assert dict(pages[1].rows()) == {"1-a": {"price": 1.0}, "1-b": {"price": None}}
    assert pages[3].written_at[0] == np.datetime64(3, "s")
    assert next(iter(client.scan("item", cursor="3"))).ids[0] == "3-a"


async def test_a_scan_from_asyncio(fake):
    fake.drops = [2, 1]
    async with AsyncClient(f"127.0.0.1:{fake.port}") as client:
        assert [i async for page in client.scan("item") for i in page.ids] == [
            f"{n}-{x}" for n in range(5) for x in "ab"
        ]


def test_a_refused_scan_is_not_tried_again(client, fake):
    fake.failures = [status(grpc.StatusCode.INVALID_ARGUMENT, "no", error_info("UNKNOWN_NAME"))]
    with pytest.raises(InvalidRequestError):
        list(client.scan("itm"))
    assert fake.count("ScanSignals") == 1


def test_a_user_is_forgotten(client, fake):
    assert client.forget_user("u1") == {"user": 1, "user_category": 7}
    assert fake.requests("ForgetUser")[0].user_id == "u1"
    with pytest.raises(RequestError):
        client.forget_user(7)


def test_times_operations_and_ids_of_writes_are_sent(client, fake):
    client.write_signals("item", ["a", "b"], {"price": [1, 2]}, times=datetime(2026, 1, 1, tzinfo=UTC), write_id="w")
    client.write_signals(
        "item", ["a", "b", "c"], {"taste": [{"k": 1}] * 3, "price": [1, 2, 3]}, operations={"taste": "add"},
        times=np.array([1, 2, 3], "datetime64[s]"), event_ids=["e1", "e2", "e3"], batch_rows=2, write_id="x",
    )  # fmt: skip
    client.write_signals("item", ["a"], {"taste": [{"k": 1}]}, operations={"taste": "add"}, times=[5])
    client.write_signals("item", ["a"], {"brand": ["z"]}, operations={"brand": "set"})
    one, first, second, added, plain = fake.requests("WriteSignals")
    assert list(one.unix_millis) == [1_767_225_600_000] and one.write_id == "w"
    assert list(first.unix_millis) == [1000, 2000] and list(second.unix_millis) == [3000]
    assert (first.write_id, second.write_id) == ("x/0", "x/2")
    assert list(first.event_ids) == ["e1", "e2"] and list(second.event_ids) == ["e3"]
    assert [c.operation for c in first.columns] == [sp.OPERATION_ADD, sp.OPERATION_UNSPECIFIED]
    assert added.write_id and list(added.unix_millis) == [5], "a retry must not add again"
    assert not plain.write_id and not plain.unix_millis


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"times": [1]}, "times"),
        ({"times": "now"}, "times"),
        ({"times": [1, None]}, "times[1]"),
        ({"event_ids": ["e"]}, "event_ids"),
        ({"operations": {"price": "max"}}, 'operations["price"]'),
        ({"operations": {"prize": "add"}}, 'operations["prize"]'),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(client, fake, more, path):
    with pytest.raises(RequestError) as caught:
        client.write_signals("item", ["a", "b"], {"price": [1, 2]}, **more)
    assert caught.value.violations[0].field == path
    assert not fake.calls


def test_statistics_of_the_schema(client, fake):
    signal = fake.schema.entities[0].signals[0]
    signal.statistics.filled_count = 2
    signal.statistics.median_age_seconds = 5
    fake.schema.entities[0].used_bytes = 99
    fake.schema.replica.lag_seconds = 0.5
    found = client.describe_schema(statistics=True)
    assert fake.requests("DescribeSchema")[0].include_statistics
    of_price = found.statistics["item"]["price"]
    assert (of_price.filled_count, of_price.median_age_s, of_price.greatest_age_s) == (2, 5.0, None)
    assert found.used_bytes == {"item": 99} and found.replica is not None
    assert (found.replica.in_step, found.replica.lag_s) == (False, 0.5)


def test_ids_of_composite_entities():
    assert composite_id(["iphone", "p1"]) == "6:iphone/p1"
