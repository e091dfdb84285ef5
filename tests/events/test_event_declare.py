"""Sources of a schema: what they compile to, and all that may be wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.event_world import SCHEMA, entity, signal

from rankd.errors import ExpressionError
from rankd.events.declare import compile_sources, own_id, source_faults
from rankd.events.nodes import Constant, Field, Lookup, ValueType
from rankd.server.configuration import inspect_workspace
from rankd.signals.categories import ScratchCategories
from rankd.types.schema import EventSource, Schema, Signal, SignalKind
from rankd.workspace import load_workspace


def with_signal(kind: SignalKind, of: str = "item", **source: Any) -> Schema:
    added = Signal("made", kind, dimension=3, half_life_s=1.0, source=EventSource(**{"events": ("click",), **source}))
    changed = SCHEMA.entities[of]
    return Schema({**SCHEMA.entities, of: replace(changed, signals={**changed.signals, "made": added})})


def test_the_world_compiles():
    updates = {f"{update.entity}.{update.signal.name}": update for update in compile_sources(SCHEMA)}
    assert len(updates) == 13
    assert updates["item.clicks_7d"].weight == Constant(1.0, ValueType.NUMBER)
    assert updates["user.recent"].value == Field("item_id", ValueType.TEXT)
    assert updates["user.tastes"].key == Lookup("item", "tags", ValueType.SET)
    assert updates["query_item.clicks"].id.is_query == (True, False)
    assert source_faults(SCHEMA) == []


@pytest.mark.parametrize(
    ("schema", "below", "message"),
    [
        (with_signal(SignalKind.EMBEDDING), "", "a signal of type embedding[3] cannot be made of events"),
        (with_signal(SignalKind.RATIO), "", "it is computed of two counters, which can"),
        (with_signal(SignalKind.SET), "", "; a list can"),
        (with_signal(SignalKind.COUNTER, value="1"), ".value", "takes weight, not value"),
        (with_signal(SignalKind.COUNTER, key="'a'"), ".key", "takes weight, not key"),
        (with_signal(SignalKind.WINDOW, weight="event.type"), ".weight", "the weight must be a number, not a text"),
        (with_signal(SignalKind.MAP), "", "expected key, got none"),
        (with_signal(SignalKind.MAP, key="event.value"), ".key", "the key must be a text or a set of texts"),
        (with_signal(SignalKind.LIST, weight="2"), ".weight", "takes value, not weight"),
        (with_signal(SignalKind.F32), "", "expected value, got none"),
        (with_signal(SignalKind.F32, value="event.type"), ".value", "the value must be a number, not a text"),
        (with_signal(SignalKind.TIMESTAMP, value="event.value"), ".value", "the value must be a time"),
        (with_signal(SignalKind.CATEGORY, value="event.value"), ".value", "the value must be a text"),
        (with_signal(SignalKind.COUNTER, where="event.type"), ".where", "the condition must be a condition"),
        (with_signal(SignalKind.COUNTER, where="event.typ == 'a'"), ".where", "did you mean `type`?"),
        (with_signal(SignalKind.COUNTER, events=()), ".events", "expected the types of the events, got none"),
        (with_signal(SignalKind.COUNTER, id="event.value"), ".id", "the id must be a text, not a number"),
        (with_signal(SignalKind.COUNTER, "brand"), "", ", user, visitor, but no brand"),
        (with_signal(SignalKind.COUNTER, "query_item", id="'a'"), ".id", "is joined of the event's own ids"),
    ],
)
def test_faults(schema: Schema, below: str, message: str):
    faults = source_faults(schema)
    assert len(faults) == 1
    assert message in faults[0].message
    assert faults[0].where.endswith(f".made.from{below}")
    with pytest.raises(ExpressionError):
        compile_sources(schema)


def test_all_faults_are_found():
    schema = with_signal(SignalKind.COUNTER, where="nope", weight="nope", value="1")
    assert [fault.where.rpartition(".")[2] for fault in source_faults(schema)] == ["value", "where", "weight"]


def test_ids_of_an_events_own_rows():
    def ids(name: str, *parts: list[str | None]) -> list[str | None]:
        row = own_id(SCHEMA, SCHEMA.entities[name])
        assert row is not None
        return row.join(parts)

    assert ids("item", ["a", None]) == ["a", None]
    assert ids("query", ["  Two  Words", None, " "]) == ["two words", None, None]
    assert ids("query_item", ["A", "B", None], ["p", None, "p"]) == ["1:a/p", None, None]
    assert own_id(SCHEMA, SCHEMA.entities["brand"]) is None
    assert own_id(SCHEMA, entity("x", signal("n", SignalKind.F32), key=("user", "brand"))) is None


WORKSPACE = """\
version: 1
schema:
  item:
    category: category
    clicks:
      type: decayed_counter
      half_life: 7d
      from:
        events: [click]
        where: event.postion <= 10
  user:
    affinity: {type: map, half_life: 7d, from: {events: [click], key: item.category}}
"""


def test_check_says_where_an_expression_is_wrong(tmp_path: Path):
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    inspection = inspect_workspace(load_workspace(tmp_path, {}), ScratchCategories())
    assert [str(problem) for problem in inspection.problems] == [
        "rankd.yaml:10: schema.item.clicks.from.where: an event has no `postion`; did you mean `position`? "
        "(column 1 of `event.postion <= 10`)"
    ]
    (tmp_path / "rankd.yaml").write_text(WORKSPACE.replace("postion", "position"))
    assert inspect_workspace(load_workspace(tmp_path, {}), ScratchCategories()).problems == []
