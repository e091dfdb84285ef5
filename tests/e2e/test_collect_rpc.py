"""FeedbackService over a real socket, through the client."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from support.event_world import entity, signal
from support.serving import running

from rankd.client import AsyncClient, Client, Event, InvalidRequestError, RequestError
from rankd.signals.embedded import open_embedded
from rankd.types.schema import EventSource, Schema, SignalKind
from rankd.v1 import feedback_pb2 as fp

PAID = ("purchase",)

SCHEMA = Schema(
    {
        "item": entity(
            "item",
            signal("category", SignalKind.CATEGORY),
            signal("last_paid", SignalKind.F32, EventSource(PAID, value="event.value", where="event.value > 0")),
            signal("last_sold", SignalKind.TIMESTAMP, EventSource(PAID, value="event.time")),
            signal("place", SignalKind.I64, EventSource(("click",), value="event.position")),
        ),
        "user": entity(
            "user",
            signal("likes", SignalKind.CATEGORY, EventSource(PAID, value="item.category")),
            signal("mobile", SignalKind.BOOL, EventSource(PAID, value="event.properties.mobile")),
        ),
    }
)


@asynccontextmanager
async def collecting(**server: Any) -> AsyncIterator[AsyncClient]:
    store = await open_embedded(SCHEMA, None, 1_000_000)
    async with running({}, store, **server) as (it, _), AsyncClient(it.address) as client:
        yield client


async def values(client: AsyncClient, entity: str, id_: str) -> dict[str, Any]:
    return dict((await client.get_signals(entity, [id_])).rows()).get(id_, {})


async def test_events_are_in_the_signals_when_they_are_answered() -> None:
    at = datetime(2024, 5, 6, tzinfo=UTC)
    async with collecting() as client:
        await client.write_signals("item", ["p"], {"category": ["phones"]})
        result = await client.collect(
            [
                {"event_id": "e1", "type": "purchase", "time": at, "user_id": "u", "item_id": "p", "value": 9.5,
                 "properties": {"mobile": True, "note": "x", "n": 1}},
                Event("e2", "click", item_id="p", position=4),
                fp.Event(event_id="e3", type="scroll"),
            ]
        )  # fmt: skip
        assert (result.accepted_count, result.repeated_count, result.rejected) == (3, 0, ())
        item = await values(client, "item", "p")
        assert (item["last_paid"], item["place"]) == (9.5, 4)
        assert item["last_sold"].astype(int) == at.timestamp() * 1000
        assert await values(client, "user", "u") == {"likes": "phones", "mobile": True}


async def test_bad_events_are_refused_one_by_one() -> None:
    async with collecting() as client:
        events = [Event(f"e{i}", "click", item_id="p", position=i) for i in range(1_201)]
        events[3] = Event("", "click")
        events[700] = Event("far", "click", time_ms=round(time.time() * 1000) + 3_700_000)
        events[1_200] = Event("text", "purchase", item_id="p", value=float("inf"))
        result = await client.collect(events, batch_events=1_000)
        assert result.accepted_count == 1_198
        assert [(r.row, r.field) for r in result.rejected] == [
            (3, "events[3].event_id"),
            (700, "events[700].unix_millis"),
            (1_200, "events[200].value"),
        ]
        assert (await values(client, "item", "p"))["place"] == 1_199


async def test_a_value_that_the_store_refuses_names_its_event() -> None:
    async with collecting() as client:
        result = await client.collect(
            [Event("a", "purchase", item_id="p", value=1e300), Event("b", "purchase", item_id="q", value=2.0)]
        )
        assert (result.accepted_count, [r.field for r in result.rejected]) == (1, ["events[0]"])
        assert result.rejected[0].description.startswith("item.last_paid: expected a finite number")


async def test_requests_that_are_refused_whole() -> None:
    async with collecting(limits={"max_write_rows": 2}) as client:
        with pytest.raises(InvalidRequestError, match="expected 1 to 2 events, got 3"):
            await client.collect([Event(f"e{i}", "click") for i in range(3)])
        assert (await client.collect([])).accepted_count == 0


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"event_id": "e", "typ": "click"}, "events[0].typ: expected one of event_id"),
        ({"event_id": 1}, "events[0].event_id: expected a string"),
        ({"time": datetime(2024, 1, 1)}, "events[0].time: expected a datetime with a time zone"),
        ({"position": 1.5}, "events[0].position: expected a whole number of 32 bits"),
        ({"value": "1"}, "events[0].value: expected a number"),
        ({"properties": {"p": [1]}}, 'events[0].properties["p"]: expected a number, a text'),
    ],
)
def test_what_cannot_be_sent(event: dict[str, Any], message: str) -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(RequestError) as caught:
        client.collect([event])
    assert str(caught.value).startswith(message)
