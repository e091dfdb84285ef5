"""Batches of events to what is written."""

from __future__ import annotations

import numpy as np
import pytest
from support.event_world import NOW_MS, SCHEMA, RecordingStore, batch_of, entity, message, signal

from rankd.events.model import from_messages
from rankd.events.stream import EventWriter
from rankd.signals.store import Rejection, WriteResult
from rankd.types.schema import EventSource, Schema, SignalKind
from rankd.types.text import composite_id

NOW_S = NOW_MS / 1000
PHONE = {("item", "p1"): {"category": "phones", "tags": ["new", "red"]}}


async def test_one_event_touches_what_is_declared():
    store = RecordingStore(SCHEMA, PHONE)
    event = message(
        "e1", item_id="p1", user_id="ann", visitor_id="v", query=" Red  Phone",
        properties={"w": 2.0, "language": "de", "brand": "acme"},
    )  # fmt: skip
    applied = await EventWriter(store).apply(batch_of(event), NOW_S)
    assert applied.faults == [] and applied.repeated_count == 0
    assert store.written("item") == [("p1", "e1", {"clicks_7d": ("+", 1.0), "heat": ("+", 1.0)})]
    assert store.written("user") == [
        ("ann", "e1", {
            "affinity": ("+", {"phones": 1.0}), "tastes": ("+", {"new": 2.0, "red": 2.0}), "recent": ("+", "p1"),
            "language": "de",
        }),
    ]  # fmt: skip
    assert store.written("query") == [("red phone", "e1", {"clicks": ("+", 1.0)})]
    assert store.written("query_item") == [(composite_id(["red phone", "p1"]), "e1", {"clicks": ("+", 1.0)})]
    assert store.written("user_category") == [(composite_id(["ann", "phones"]), "e1", {"n": ("+", 1.0)})]
    assert store.written("brand") == [("acme", "e1", {"n": ("+", 1.0)})]
    assert [batch.event_ms.tolist() for batch in store.batches if batch.event_ms is not None] == [[NOW_MS]] * 6


async def test_conditions_weights_and_times():
    store = RecordingStore(SCHEMA)
    await EventWriter(store).apply(
        batch_of(
            message("far", item_id="a", position=11),
            message("near", item_id="a", position=10),
            message("sale", "purchase", -60.5, item_id="b", value=9.99),
            message("view", "impression", item_id="a"),
            message("other", "scroll", item_id="a", user_id="u"),
        ),
        NOW_S,
    )
    assert store.written("item") == [
        ("a", "far", {"clicks_7d": ("+", 1.0)}),
        ("a", "near", {"clicks_7d": ("+", 1.0), "heat": ("+", 1.0)}),
        ("b", "sale", {"heat": ("+", 5.0), "last_paid": pytest.approx(9.99), "last_sold": NOW_MS - 60_500}),
        ("a", "view", {"views_7d": ("+", 1.0)}),
    ]
    assert {batch.entity for batch in store.batches} == {"item"}


async def test_what_is_missing_changes_nothing():
    store = RecordingStore(SCHEMA)
    await EventWriter(store).apply(batch_of(message("e1", user_id="u"), message("e2", item_id="gone")), NOW_S)
    assert store.written("item") == [("gone", "e2", {"clicks_7d": ("+", 1.0), "heat": ("+", 1.0)})]
    assert store.written("user") == []  # no item, no category
    assert store.written("query") == []


async def test_a_visitor_is_a_user_who_is_not_known():
    store = RecordingStore(SCHEMA)
    await EventWriter(store).apply(batch_of(message("e1", visitor_id="v", item_id="p")), NOW_S)
    assert store.written("user") == [("v", "e1", {"recent": ("+", "p")})]


async def test_lookups_are_one_read_per_entity():
    store = RecordingStore(SCHEMA, PHONE)
    events = [message(f"e{i}", item_id=f"p{i % 3}", user_id="u") for i in range(30)]
    await EventWriter(store).apply(batch_of(*events), NOW_S)
    assert [(name, ids, sorted(signals)) for name, ids, signals in store.reads] == [
        ("item", ["p0", "p1", "p2"], ["category", "tags"])
    ]


async def test_an_entity_whose_id_is_looked_up_can_be_looked_up():
    schema = Schema(
        {
            e.name: e
            for e in (
                entity("item", signal("category", SignalKind.CATEGORY)),
                entity("user_category", signal("w", SignalKind.F32), key=("user", "item.category")),
                entity("user", signal("n", SignalKind.COUNTER, EventSource(("click",), weight="user_category.w"))),
            )
        }
    )
    rows = {("item", "p"): {"category": "c"}, ("user_category", composite_id(["u", "c"])): {"w": 3.0}}
    store = RecordingStore(schema, rows)
    await EventWriter(store).apply(batch_of(message("e", item_id="p", user_id="u")), NOW_S)
    assert store.written("user") == [("u", "e", {"n": ("+", 3.0)})]


async def test_one_event_and_id_is_one_row_whatever_declares_it():
    schema = Schema(
        {
            "item": entity(
                "item",
                signal("n", SignalKind.COUNTER, EventSource(("click",))),
                signal("m", SignalKind.COUNTER, EventSource(("click",), id="event.properties.other")),
            )
        }
    )
    store = RecordingStore(schema)
    await EventWriter(store).apply(
        batch_of(
            message("e1", item_id="a", properties={"other": "a"}), message("e2", item_id="b", properties={"other": "a"})
        ),
        NOW_S,
    )
    assert store.written("item") == [
        ("a", "e1", {"n": ("+", 1.0), "m": ("+", 1.0)}),
        ("a", "e2", {"m": ("+", 1.0)}),
        ("b", "e2", {"n": ("+", 1.0)}),
    ]


async def test_an_event_has_come_before_if_all_its_rows_have():
    store = RecordingStore(SCHEMA, PHONE)
    writer = EventWriter(store)
    event = message("e1", item_id="p1", user_id="ann")
    store.fail.add("user")
    with pytest.raises(ConnectionError):
        await writer.apply(batch_of(event), NOW_S)
    store.fail.clear()
    assert (await writer.apply(batch_of(event), NOW_S)).repeated_count == 0  # item had it, user had not
    assert (await writer.apply(batch_of(event, message("e2", item_id="x")), NOW_S)).repeated_count == 1


async def test_a_row_that_is_refused_names_its_event():
    store = RecordingStore(SCHEMA)
    store.result["item"] = WriteResult(1, [Rejection(1, "heat", "expected a finite number, got inf")])
    messages = [message("", item_id="a"), message("e1", item_id="a"), message("e2", item_id="b")]
    batch, faults, _ = from_messages(messages, NOW_MS, 512)
    assert [(f.position, f.field) for f in faults] == [(0, "event_id")]
    applied = await EventWriter(store).apply(batch, NOW_S)
    assert [(f.position, f.field, f.description) for f in applied.faults] == [
        (2, "", "item.heat: expected a finite number, got inf")
    ]


async def test_whole_numbers_lose_what_is_behind_the_point():
    schema = Schema({"item": entity("item", signal("n", SignalKind.I64, EventSource(("click",), value="event.value")))})
    store = RecordingStore(schema)
    values = [2.9, -2.9, 1e300]
    await EventWriter(store).apply(
        batch_of(*(message(f"e{i}", item_id="a", value=value) for i, value in enumerate(values))), NOW_S
    )
    assert [row["n"] for _, _, row in store.written("item")] == [2, -2, int(np.float64(2.0**63 - 1024))]


def test_events_that_cannot_be_taken():
    far = message("late", at_s=3_700)
    messages = [
        message("ok"), message("e" * 129), message("a", type=""), message("b", type="t" * 65), far,
        message("c", user_id="ü" * 257), message("d", value=float("inf")), message("f", query="q" * 8_193),
        message("g", properties={f"p{i}": 1.0 for i in range(65)}), message("h", properties={"p": "x" * 8_193}),
        message("i", properties={"p": float("nan")}), message("ok"),
    ]  # fmt: skip
    batch, faults, repeated = from_messages(messages, NOW_MS, 512)
    assert batch.texts["id"] == ["ok"]
    assert repeated == 1
    assert [(f.position, f.field) for f in faults] == [
        (1, "event_id"), (2, "type"), (3, "type"), (4, "unix_millis"), (5, "user_id"), (6, "value"), (7, "query"),
        (8, "properties"), (9, 'properties["p"]'), (10, 'properties["p"]'),
    ]  # fmt: skip
    assert "got 3,700 s ahead" in faults[3].description
    assert faults[4].description == "expected at most 512 bytes, got 514"
