"""Events of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from rankd.errors import ConfigError
from rankd.events.files import parse_event, read_events
from rankd.signals.rowfile import BadRow
from rankd.types.event import Event

FULL = {
    "event_id": "e1", "type": "click", "time": "2024-01-02T03:04:05.678Z", "user_id": "u", "visitor_id": "v",
    "session_id": "s", "item_id": 12, "query": "red phone", "position": 3, "value": 1.5,
    "properties": {"price": 2, "colour": "red", "mobile": True, "gone": None},
}  # fmt: skip
EVENT = Event(
    "e1", "click", 1_704_164_645_678, "u", "v", "s", "12", "red phone", 3, 1.5,
    {"price": 2.0, "colour": "red", "mobile": True},
)  # fmt: skip


def test_every_field():
    assert parse_event(FULL) == EVENT
    flat = {**FULL, "properties": None, "properties.price": 2, "properties.colour": "red", "properties.mobile": True}
    assert parse_event(flat) == EVENT
    assert parse_event({"event_id": "e", "type": "t", "unix_millis": 5, "item_id": None}) == Event("e", "t", 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "t"}, "event_id: expected a text, got none"),
        ({"event_id": "e", "type": ""}, "type: expected a text, got none"),
        (
            {"event_id": "e", "type": "t", "item": "a"},
            "expected a field of events, got `item`; did you mean `item_id`?",
        ),
        ({"event_id": "e", "type": "t", "time": "soon"}, "time: expected milliseconds since 1970 or an ISO 8601 time"),
        ({"event_id": "e", "type": "t", "time": 1, "unix_millis": 2}, "unix_millis: expected the time once"),
        ({"event_id": "e", "type": "t", "position": -1}, "position: expected a whole number of 32 bits, got -1"),
        ({"event_id": "e", "type": "t", "position": 1.5}, "position: expected a whole number"),
        ({"event_id": "e", "type": "t", "value": "1"}, "value: expected a number, got '1'"),
        ({"event_id": "e", "type": "t", "value": True}, "value: expected a number, got True"),
        ({"event_id": "e", "type": "t", "value": 10**400}, "value: expected a finite number"),
        ({"event_id": "e", "type": "t", "user_id": ["u"]}, "user_id: expected text"),
        ({"event_id": "e", "type": "t", "properties": 3}, "properties: expected an object, got 3"),
        ({"event_id": "e", "type": "t", "properties": {"p": []}}, "properties.p: expected a number, a text, true or"),
    ],
)
def test_faults_name_the_field(values: dict[str, Any], message: str):
    with pytest.raises(ValueError) as caught:
        parse_event(values)
    assert str(caught.value).startswith(message)


def test_jsonl_with_bad_lines(tmp_path: Path):
    file = tmp_path / "events.jsonl"
    file.write_text(f'{json.dumps(FULL)}\n\n{{"type": "t"}}\nnonsense\n{{"event_id": "e", "type": "t", "at": 1}}\n')
    found = list(read_events(file))
    assert found[0] == (1, EVENT)
    assert [row.line for row in found[1:] if isinstance(row, BadRow)] == [3, 4, 5]


@pytest.mark.parametrize("how", ["struct", "map", "flat"])
def test_parquet(tmp_path: Path, how: str):
    rows: list[dict[str, Any]] = [{**FULL, "item_id": "12"}, {"event_id": "e2", "type": "view"}]
    properties = {"struct": {"price": 2.0}, "map": [("price", 2.0)]}
    for row in rows[:1]:
        del row["properties"]
        if how == "flat":
            row["properties.price"] = 2.0
        else:
            row["properties"] = properties[how]
    names = list(rows[0])
    columns = {name: [row.get(name) for row in rows] for name in names}
    types = {"properties": arrow.map_(arrow.string(), arrow.float64())} if how == "map" else {}
    arrays = {name: arrow.array(column, types.get(name)) for name, column in columns.items()}
    arrays["time"] = arrow.array([1_704_164_645_678, None], arrow.timestamp("ms"))
    file = tmp_path / "events.parquet"
    parquet.write_table(arrow.table(arrays), file)
    assert [event for _, event in read_events(file) if isinstance(event, Event)] == [
        Event("e1", "click", 1_704_164_645_678, "u", "v", "s", "12", "red phone", 3, 1.5, {"price": 2.0}),
        Event("e2", "view"),
    ]


def test_formats(tmp_path: Path):
    file = tmp_path / "events.csv"
    file.write_text("event_id\n")
    with pytest.raises(ConfigError, match="expected one of the formats jsonl, parquet"):
        list(read_events(file, "csv"))
