"""Random declarations over random events: what DuckDB builds is what the stream comes to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from signals.conformance import rows_batch
from support.event_world import NOW_MS, entity, message, signal
from support.stored_rows import Rows, assert_near, built_rows

from rankd.events.batch.build import build
from rankd.events.batch.checks import History
from rankd.events.batch.engines import open_engine
from rankd.events.batch.history import to_parquet
from rankd.events.batch.tables import used_properties
from rankd.events.declare import compile_sources, source_faults
from rankd.events.model import from_messages
from rankd.events.stream import EventWriter
from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.signals.values import to_list
from rankd.types.schema import Entity, EventSource, Schema, Signal, SignalKind

SEEDS = round(3 * float(os.environ.get("RANKD_FUZZ_SCALE", "1")))
DAY_MS = 86_400_000
TYPES = ("click", "impression", "purchase", "rating")
TEXTS = ("event.type", "event.id", "event.item_id", "event.user_id", "event.session_id", "event.query",
         "event.properties.colour", "item.category", "item.title", "user.city", "'x'", "'red'")  # fmt: skip
NUMBERS = ("event.value", "event.position", "event.properties.w", "item.price", "item.stock", "user.age", "1", "2.5",
           "0", "0.1", "-3", "1000")  # fmt: skip
CONDITIONS = ("item.on_sale", "event.properties.flag == 1", "True", "event.value is None", "event.query is not None")
TIMES = ("event.time", "item.released")

ORDER = ("==", "!=", "<", "<=", ">", ">=")
LOOKED_UP = {
    "item": (
        signal("price", SignalKind.F32), signal("stock", SignalKind.I64), signal("on_sale", SignalKind.BOOL),
        signal("released", SignalKind.TIMESTAMP), signal("category", SignalKind.CATEGORY),
        signal("title", SignalKind.STRING), signal("tags", SignalKind.SET),
    ),
    "user": (signal("age", SignalKind.F32), signal("city", SignalKind.CATEGORY)),
}  # fmt: skip
KEYS: dict[str, tuple[str, ...]] = {
    "item": (), "user": (), "session": (), "query": (), "brand": (),
    "query_item": ("query", "item"), "user_category": ("user", "item.category"), "user_item": ("user", "item"),
}  # fmt: skip


class Grower:
    """Random texts of expressions."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def of(self, leaves: tuple[str, ...], more: list[Callable[[int], str]], depth: int) -> str:
        if depth == 0 or self._random.random() < 0.3:
            return self._random.choice(leaves)
        return f"({self._random.choice(more)(depth - 1)})"

    def number(self, depth: int) -> str:
        return self.of(
            NUMBERS,
            [
                lambda d: f"{self.number(d)} {self._random.choice('+-*/%')} {self.number(d)}",
                lambda d: f"{self.number(d)} if {self.condition(d)} else {self.number(d)}",
                lambda d: f"({self.time(d)} - {self.time(d)}) / 86400",
                lambda d: f"-{self.number(d)}",
            ],
            depth,
        )

    def text(self, depth: int) -> str:
        return self.of(TEXTS, [lambda d: f"{self.text(d)} if {self.condition(d)} else {self.text(d)}"], depth)

    def time(self, depth: int) -> str:
        return self.of(TIMES, [lambda d: f"{self.time(d)} + {self.number(d)} * 60"], depth)

    def condition(self, depth: int) -> str:
        return self.of(
            CONDITIONS,
            [
                lambda d: (
                    f"{self.number(d)} {self._random.choice(['==', '!=', '<', '<=', '>', '>='])} {self.number(d)}"
                ),
                lambda d: f"{self.text(d)} {self._random.choice(['==', '!='])} {self.text(d)}",
                lambda d: f"{self.time(d)} < {self.time(d)}",
                lambda d: f"{self.text(d)} in item.tags",
                lambda d: f"{self.text(d)} in ['red', 'click', 'p3']",
                lambda d: f"{self.condition(d)} {self._random.choice(['and', 'or'])} {self.condition(d)}",
                lambda d: f"not {self.condition(d)}",
                lambda d: f"{self.number(d)} is {self._random.choice(['', 'not '])}None",
            ],
            depth,
        )


def make_signal(random: Random, entity_name: str, number: int) -> Signal:
    grower, name = Grower(random), f"s{number}"
    given: dict[str, Any] = {"events": tuple(random.sample(TYPES, random.randint(1, 3)))}
    if random.random() < 0.5:
        given["where"] = grower.condition(2)
    if entity_name == "brand" or (random.random() < 0.15 and not KEYS[entity_name]):
        given["id"] = grower.text(1)
    kind = random.choice([SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.MAP, SignalKind.LIST, SignalKind.F32,
                          SignalKind.I64, SignalKind.BOOL, SignalKind.TIMESTAMP, SignalKind.CATEGORY,
                          SignalKind.STRING])  # fmt: skip
    more: dict[str, Any] = {}
    if kind in (SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.MAP) and random.random() < 0.6:
        given["weight"] = grower.number(2)
    match kind:
        case SignalKind.COUNTER:
            more["half_life_s"] = random.choice([3_600.0, 86_400.0, 7e6])
        case SignalKind.WINDOW:
            more["window_s"], more["bucket_s"] = random.choice(
                [(86_400.0, 3_600.0), (604_800.0, 43_200.0), (60.0, 1.0)]
            )
        case SignalKind.MAP:
            given["key"] = random.choice(["item.tags", grower.text(2)])
            more["half_life_s"] = random.choice([None, 86_400.0, 7e6])
        case SignalKind.LIST:
            more["dimension"] = random.choice([1, 3, 20])
            if random.random() < 0.5:
                given["value"] = grower.text(2)
        case SignalKind.F32 | SignalKind.I64:
            given["value"] = grower.number(3)
        case SignalKind.BOOL:
            given["value"] = grower.condition(2)
        case SignalKind.TIMESTAMP:
            given["value"] = grower.time(2)
        case _:
            given["value"] = grower.text(2)
    return signal(name, kind, EventSource(**given), **more)


def make_schema(random: Random) -> Schema:
    """Ten signals or so that compile."""
    base = Schema({name: entity(name, *LOOKED_UP.get(name, ()), key=key) for name, key in KEYS.items()})
    made: dict[str, list[Signal]] = {name: [] for name in KEYS}
    while sum(map(len, made.values())) < 10:
        name = random.choice(list(KEYS))
        found = make_signal(random, name, len(made[name]))
        declared = Entity(name, {**base.entities[name].signals, found.name: found}, KEYS[name])
        if not source_faults(Schema({**base.entities, name: declared})):
            made[name].append(found)
    return Schema({name: entity(name, *LOOKED_UP.get(name, ()), *made[name], key=key) for name, key in KEYS.items()})


def make_rows(random: Random) -> dict[str, dict[str, dict[str, Any]]]:
    """What is stored already, by entity and id; some signals of some rows."""
    items: dict[str, dict[str, Any]] = {}
    for number in range(12):
        row = {"price": number / 4, "stock": number - 5, "on_sale": number % 2 == 0, "category": f"c{number % 3}",
               "released": NOW_MS - number * DAY_MS, "title": f"p{number}", "tags": {"red", f"p{number}"}}  # fmt: skip
        items[f"p{number}"] = {name: value for name, value in row.items() if random.random() < 0.8}
    return {"item": items, "user": {"ann": {"age": 40.0, "city": "graz"}, "v1": {"age": 7.5}}}


def make_events(random: Random, count: int) -> list[dict[str, Any]]:
    """No two at the same time: ties are decided by arrival in the one and by id in the other."""
    found = []
    for number, at in enumerate(random.sample(range(NOW_MS - 9 * DAY_MS, NOW_MS), count)):
        event: dict[str, Any] = {
            "type": random.choice([*TYPES, "scroll"]),
            "item_id": random.choice([None, "", *(f"p{i}" for i in range(14))]),
            "user_id": random.choice([None, "", "ann", "bob", "zoë/1:2"]),
            "visitor_id": random.choice([None, "v1"]),
            "session_id": random.choice([None, "s1", "s2"]),
            "query": random.choice([None, " ", "Red  Shoe", "red shoe", "STRASSE"]),
            "position": random.choice([None, 0, 1, 7]),
            "value": random.choice([None, 0.0, 0.5, 12.25, -3.0]),
            "properties": {
                name: value
                for name, value in (
                    ("w", random.choice([1.0, 2.5, -0.75])), ("flag", random.random() < 0.5),
                    ("colour", random.choice(["red", "blue", ""])),
                )
                if random.random() < 0.7
            },
        }  # fmt: skip
        event = {name: value for name, value in event.items() if value is not None}
        found.append({"event_id": f"e{number}", "time": at, **event})
    return found


def write_files(folder: Path, schema: Schema, events: list[dict[str, Any]]) -> list[History]:
    """Events in three files that share some: Parquet with columns, Parquet with a struct, and JSON lines."""
    third = len(events) // 3
    parts = [events[: third + 9], events[third : 2 * third + 9], events[2 * third :]]
    flat = [{k: v for k, v in e.items() if k != "properties"} for e in parts[0]]
    for row, event in zip(flat, parts[0], strict=True):
        row |= {f"properties.{name}": event["properties"].get(name) for name in ("w", "flag", "colour")}
    fields = [("event_id", pa.string()), ("type", pa.string()), ("time", pa.int64())]
    fields += [(name, pa.string()) for name in ("item_id", "user_id", "visitor_id", "session_id", "query")]
    fields += [("position", pa.int32()), ("value", pa.float32())]
    properties = [("w", pa.float64()), ("flag", pa.bool_()), ("colour", pa.string())]
    columns = pa.schema([*fields, *((f"properties.{name}", kind) for name, kind in properties)])
    pq.write_table(pa.Table.from_pylist(flat, columns), folder / "0.parquet")
    whole = pa.schema([*fields, ("properties", pa.struct(properties))])
    pq.write_table(pa.Table.from_pylist(parts[1], whole), folder / "1.parquet")
    lines = folder / "2.jsonl"
    lines.write_text("".join(json.dumps(event) + "\n" for event in parts[2]))
    bad: list[Any] = []
    to_parquet(lines, folder / "2.parquet", used_properties(compile_sources(schema)), bad.append)
    assert not bad
    return [History.of(folder / f"{number}.parquet") for number in range(3)]


def write_rows(folder: Path, rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, list[Path]]:
    """What expressions look up, as Parquet."""
    kinds = {SignalKind.F32: pa.float32(), SignalKind.I64: pa.int64(), SignalKind.BOOL: pa.bool_(),
             SignalKind.TIMESTAMP: pa.timestamp("ms"), SignalKind.SET: pa.list_(pa.string())}  # fmt: skip
    found = {}
    for name, declared in LOOKED_UP.items():
        columns = {"id": pa.array(list(rows[name]))}
        for one in declared:
            values = [row.get(one.name) for row in rows[name].values()]
            values = [sorted(value) if isinstance(value, set) else value for value in values]
            columns[one.name] = pa.array(values, kinds.get(one.kind, pa.string()))
        found[name] = [folder / f"{name}.rows.parquet"]
        pq.write_table(pa.table(columns), found[name][0])
    return found


async def streamed(
    random: Random, schema: Schema, rows: dict[str, dict[str, dict[str, Any]]], events: list[dict[str, Any]]
) -> SignalStore:
    """The events in another order, in batches of all sizes, some of them twice."""
    store = await open_embedded(schema, None, 100_000, clock=lambda: NOW_MS / 1000)
    for name, of_entity in rows.items():
        await store.write(rows_batch(name, list(of_entity.items()), schema))
    writer, order = EventWriter(store), [*events, *random.sample(events, len(events) // 8)]
    random.shuffle(order)
    while order:
        size = random.randint(1, 90)
        batch, order = order[:size], order[size:]
        messages = [
            message(e["event_id"], e["type"], (e["time"] - NOW_MS) / 1000,
                    **{k: v for k, v in e.items() if k not in ("event_id", "type", "time")})
            for e in batch
        ]  # fmt: skip
        taken, faults, _ = from_messages(messages, NOW_MS, 512)
        assert not faults
        assert not (await writer.apply(taken, NOW_MS / 1000)).faults
    return store


async def streamed_rows(store: SignalStore, declared: Entity, names: list[str]) -> Rows:
    page = await store.scan(declared.name, names, "", 100_000, NOW_MS / 1000)
    found: Rows = {id_: {} for id_ in page.ids}
    for column in page.rows.columns:
        one = declared.signals[column.signal]
        assert column.times_ms is not None
        for row, value, at in zip(column.rows.tolist(), to_list(column.values), column.times_ms.tolist(), strict=True):
            if one.kind is SignalKind.WINDOW:
                assert one.bucket_s is not None
                value = {int(bucket) * round(one.bucket_s * 1000): n for bucket, n in dict(value).items()}
            elif one.kind is SignalKind.LIST:
                value = [member for member, _ in value]
            found[page.ids[row]][one.name] = (dict(value) if one.kind is SignalKind.MAP else value, at)
    return {id_: row for id_, row in found.items() if row}


@pytest.mark.parametrize("seed", range(5, 5 + SEEDS))
async def test_random_declarations_agree(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    schema, rows, events = make_schema(random), make_rows(random), make_events(random, 240)
    sources = [f"{u.entity}.{u.signal.name}: {u.signal.type_name} {u.signal.source}" for u in compile_sources(schema)]
    print("\n".join(sources))
    with open_engine("duckdb", threads=1) as engine:
        outcome = build(engine, schema, write_files(tmp_path, schema, events), write_rows(tmp_path, rows),
                        tmp_path / "out", now_ms=NOW_MS)  # fmt: skip
    assert outcome.fault_count == 0
    store = await streamed(random, schema, rows, events)
    for one in outcome.entities:
        declared = schema.entities[one.entity]
        names = [name for name, each in declared.signals.items() if each.source is not None]
        found = await streamed_rows(store, declared, names)
        assert_near(built_rows(declared, one.path), found)
    await store.close()
    assert np.sum([one.row_count for one in outcome.entities]) > 0


def test_values_out_of_range_leave_a_signal_alone(tmp_path: Path) -> None:
    """As the stream refuses them; whole numbers go as far as int64."""
    sources = {
        "f": (SignalKind.F32, {"value": "event.value"}), "i": (SignalKind.I64, {"value": "event.value"}),
        "t": (SignalKind.TIMESTAMP, {"value": "event.time + event.value"}),
        "m": (SignalKind.MAP, {"key": "event.query", "weight": "event.value"}),
        "c": (SignalKind.CATEGORY, {"value": "event.query"}), "s": (SignalKind.STRING, {"value": "event.query"}),
        "b": (SignalKind.BOOL, {"value": "not event.query == event.user_id"}),
    }  # fmt: skip
    schema = Schema(
        {"item": entity("item", *(signal(n, kind, EventSource(("x",), **more)) for n, (kind, more) in sources.items()))}
    )
    rows = [("huge", -1e300, "ok"), ("long", 2.75, "ü" * 129), ("good", -2.75, "ü" * 128)]
    table = {"event_id": [row[0] for row in rows], "type": ["x"] * 3, "time": [10_000] * 3}
    table |= {"item_id": table["event_id"], "value": [row[1] for row in rows], "query": [row[2] for row in rows]}
    pq.write_table(pa.table(table), tmp_path / "events.parquet")
    with open_engine("duckdb", threads=1) as engine:
        outcome = build(engine, schema, [History.of(tmp_path / "events.parquet")], {}, tmp_path, now_ms=NOW_MS)
    found = built_rows(schema.entities["item"], outcome.entities[0].path)
    values = {id_: {name: value for name, (value, _) in row.items()} for id_, row in found.items()}
    least = -(2**63) + 1024
    assert values == {
        "huge": {"i": least, "t": least, "c": "ok", "s": "ok"},
        "long": {"f": 2.75, "i": 2, "t": 12_750, "s": "ü" * 129},
        "good": {"f": -2.75, "i": -2, "t": 7_250, "m": {"ü" * 128: -2.75}, "c": "ü" * 128, "s": "ü" * 128},
    }
