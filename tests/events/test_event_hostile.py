"""Whatever comes as an event: it is taken, or refused with a reason; nothing else is raised."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.event_world import NOW_MS, SCHEMA, RecordingStore

from rankd.events.files import parse_event, read_events
from rankd.events.model import from_messages
from rankd.events.stream import EventWriter
from rankd.events.ubi import read_ubi
from rankd.signals.rowfile import BadRow
from rankd.signals.store import Operation
from rankd.types.event import Event
from rankd.v1 import feedback_pb2 as pb

TEXTS = st.one_of(
    st.sampled_from(["", "a", "click", "purchase", "impression", "p1", " Two  words "]), st.text(max_size=600)
)
NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 1e300, -1e300, 5e-324]))


@st.composite
def messages(draw: st.DrawFn) -> pb.Event:
    event = pb.Event(event_id=draw(TEXTS)[:200], type=draw(TEXTS)[:80])
    for name in ("user_id", "visitor_id", "session_id", "item_id", "query"):
        if draw(st.booleans()):
            setattr(event, name, draw(TEXTS))
    if draw(st.booleans()):
        event.unix_millis = draw(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(NOW_MS - 10**10, NOW_MS)))
    if draw(st.booleans()):
        event.position = draw(st.integers(0, 2**32 - 1))
    if draw(st.booleans()):
        event.value = draw(NUMBERS)
    for name in draw(st.lists(st.sampled_from(["w", "language", "brand", "other"]), max_size=3, unique=True)):
        kind = draw(st.sampled_from(["text", "number", "flag", ""]))
        made = event.properties[name]
        if kind:
            setattr(made, kind, draw({"text": TEXTS, "number": NUMBERS, "flag": st.booleans()}[kind]))
    return event


@given(st.lists(messages(), max_size=8))
async def test_any_messages(sent: list[pb.Event]) -> None:
    store = RecordingStore(SCHEMA, {("item", "p1"): {"category": "c", "tags": ["x"]}})
    batch, faults, repeated = from_messages(sent, NOW_MS, 512)
    assert batch.length + len(faults) + repeated == len(sent)
    assert len({fault.position for fault in faults} | set(batch.positions.tolist())) == batch.length + len(faults)
    applied = await EventWriter(store).apply(batch, NOW_MS / 1000)
    assert applied.faults == [] and applied.repeated_count == 0
    taken = set(batch.texts["id"])
    for write in store.batches:
        assert write.event_ids is not None and write.event_ms is not None
        assert set(write.event_ids) <= taken
        assert all(write.ids)
        assert len(set(zip(write.ids, write.event_ids, strict=True))) == len(write.ids) == len(write.event_ms)
        touched = {row for column in write.columns for row in column.rows.tolist()}
        assert touched == set(range(len(write.ids))), "a row is there because something is written to it"
        for column in write.columns:
            added = SCHEMA.entities[write.entity].signals[column.signal].half_life_s or column.signal in (
                "clicks_7d", "views_7d", "tastes", "recent",
            )  # fmt: skip
            assert column.operation is (Operation.ADD if added else Operation.SET)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
NAMES = st.sampled_from(["event_id", "type", "time", "unix_millis", "user_id", "item_id", "query", "position", "value",
                         "properties", "properties.a", "nonsense"])  # fmt: skip


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_any_mapping(values: dict[str, Any]) -> None:
    try:
        event = parse_event(values)
    except ValueError as error:
        assert ": " in str(error) or "field of events" in str(error)
    else:
        assert isinstance(event, Event) and event.event_id and event.type


UBI_NAMES = st.sampled_from(["index", "action_name", "timestamp", "client_id", "user_query", "query_id", "user_id",
                             "event_attributes", "session_id"])  # fmt: skip


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.dictionaries(UBI_NAMES, JSON, max_size=5).map(lambda d: json.dumps(d).encode()),
            st.dictionaries(st.sampled_from(["object", "position", "session_id", "x"]), JSON).map(
                lambda d: json.dumps({"action_name": "click", "event_attributes": d}).encode()
            ),
        ),
        max_size=6,
    )
)
def test_any_lines(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "lines"
        file.write_bytes(b"\n".join(lines))
        count = file.read_bytes().count(b"\n") + 1
        for read in (read_ubi(file), read_events(file, "jsonl")):
            for row in read:
                assert 1 <= (row.line if isinstance(row, BadRow) else row[0]) <= count
