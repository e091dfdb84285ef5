"""Click logs through `rankd ingest` into a store, against counts made without rankd."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from real import data, events
from support.collect_server import CollectServer, collecting_into
from support.event_world import entity, signal
from support.redis_servers import RedisServer

from rankd.cli.main import cli
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import open_redis_store
from rankd.signals.store import (
    ColumnValues,
    ListValues,
    MapValues,
    SetValues,
    StoredRows,
    WindowValues,
    WriteBatch,
)
from rankd.signals.values import NO_ROWS
from rankd.types.schema import EventSource, Schema, SignalKind
from rankd.types.text import composite_id, query_key

WEEK_S, DAY_S = 7 * 86_400.0, 86_400.0

SCHEMA = Schema(
    {
        e.name: e
        for e in (
            entity(
                "item",
                signal("clicks", SignalKind.WINDOW, EventSource(("click",)), window_s=WEEK_S, bucket_s=3_600.0),
                signal("views", SignalKind.WINDOW, EventSource(("impression",)), window_s=WEEK_S, bucket_s=3_600.0),
                signal("heat", SignalKind.COUNTER,
                       EventSource(("click", "cart", "purchase"), where="event.position is None or event.position <= 5",
                                   weight="10 if event.type == 'purchase' else 3 if event.type == 'cart' else 1"),
                       half_life_s=DAY_S),
                signal("segments", SignalKind.MAP, EventSource(("click",), key="event.properties.segment")),
                signal("genres", SignalKind.SET),
                signal("last_position", SignalKind.I64, EventSource(("click",), value="event.position")),
            ),
            entity(
                "user",
                signal("recent", SignalKind.LIST, EventSource(("click",)), dimension=5),
                signal("genres", SignalKind.MAP,
                       EventSource(("rating",), key="item.genres", weight="event.value - 2.5")),
                signal("taste", SignalKind.MAP, EventSource(("rating",), key="item.genres"), half_life_s=365 * DAY_S),
            ),
            entity("query_item", signal("clicks", SignalKind.COUNTER, EventSource(("click",)), half_life_s=DAY_S),
                   key=("query", "item")),
        )
    }
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[CollectServer]:
    redis = RedisServer()
    try:
        with collecting_into(lambda: open_redis_store(SCHEMA, RedisOptions(redis.url))) as it:
            yield it
    finally:
        redis.close()


def folder_of(name: str) -> Path:
    folder = data.folder(name)
    if folder is None:
        pytest.skip(f"real data {name} is absent (RANKD_DATA, default ../shared/data)")
    return folder


def ingest(server: CollectServer, *arguments: str | Path) -> dict[str, int]:
    sent = ["ingest", *map(str, arguments), "--address", f"127.0.0.1:{server.port}", "--json", "--timeout", "60"]
    result = CliRunner().invoke(cli, sent, prog_name="rankd")
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def stored(server: CollectServer, entity: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Values by signal of each id, a counter with its time; what has no value is left out."""
    signals = list(SCHEMA.entities[entity].signals)
    rows: StoredRows = server.run(server.store.get, entity, list(ids), signals, 1.8e9)
    found: dict[str, dict[str, Any]] = {ids[i]: {} for i in rows.found.tolist()}
    names = list(found)
    for column in rows.columns:
        values, at = column.values, 0
        for n, row in enumerate(column.rows.tolist()):
            if isinstance(values, np.ndarray):
                assert column.times_ms is not None
                found[names[row]][column.signal] = (values[n], int(column.times_ms[n]))
                continue
            assert isinstance(values, WindowValues | MapValues | ListValues)
            part = slice(at, at := at + int(values.lengths[n]))
            if isinstance(values, WindowValues):
                made: Any = dict(zip(values.buckets[part].tolist(), values.counts[part].tolist(), strict=True))
            elif isinstance(values, MapValues):
                made = dict(zip(values.keys[part], values.values[part].tolist(), strict=True))
            else:
                made = list(values.members[part])
            found[names[row]][column.signal] = made
    return found


def test_open_bandit(server: CollectServer, tmp_path: Path) -> None:
    """40,000 real impressions and their clicks; sent twice, they count once."""
    folder = folder_of(events.BANDIT)
    file = tmp_path / "events.jsonl"
    count = events.write_bandit(folder, file)
    told = ingest(server, file)
    print(f"open bandit: {count} events, {told['events_per_second']} events/s", file=sys.stderr)
    assert (told["accepted"], told["repeated"], told["rejected"]) == (count, 0, 0)
    assert ingest(server, file)["repeated"] == count

    views, clicks = defaultdict(list), defaultdict(list)
    segments: dict[str, Counter[str]] = defaultdict(Counter)
    for log, row in events.bandit_rows(folder):
        item, at = f"{log}:{row['item_id']}", events.time_ms(row["timestamp"])
        views[item].append(at)
        if row["click"] == "1":
            clicks[item].append((at, int(row["position"])))
            segments[item][row["user_feature_0"]] += 1
    found = stored(server, "item", list(views))
    assert len(found) == len(views) >= 100
    for item, row in found.items():
        assert row["views"] == events.windows(views[item], events.HOUR_MS, 168)
        if item not in clicks:
            assert set(row) == {"views"}
            continue
        times = [at for at, _ in clicks[item]]
        assert row["clicks"] == events.windows(times, events.HOUR_MS, 168)
        assert row["segments"] == dict(segments[item])
        value, newest = events.decayed([(at, 1.0) for at in times], DAY_S * 1000)
        assert row["heat"] == (pytest.approx(value, rel=1e-12), newest)
        assert row["last_position"][1] == newest
        assert row["last_position"][0] in {place for at, place in clicks[item] if at == newest}


def test_user_behavior_insights(server: CollectServer) -> None:
    folder = folder_of(events.UBI)
    told = ingest(server, folder / "ubi_queries_events.ndjson.gz", "--format", "ubi")
    documents = list(events.ubi_documents(folder))
    print(f"UBI: {len(documents)} events, {told['events_per_second']} events/s", file=sys.stderr)
    assert (told["accepted"], told["rejected"], len(documents)) == (3_448, 0, 3_448)
    queries = events.ubi_queries(folder)
    views, clicks, pairs, recent = defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list)
    heat: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for document in documents:
        attributes = document.get("event_attributes") or {}
        item = (attributes.get("object") or {}).get("object_id")
        place = (attributes.get("position") or {}).get("ordinal")
        type, at = document["action_name"], events.time_ms(document["timestamp"])
        query = document.get("user_query") or queries.get(document.get("query_id"))
        weight = {"click": 1.0, "add_to_cart": 3.0, "purchase": 10.0}.get(type)
        if item and weight and (place is None or place <= 5):
            heat[item].append((at, weight))
        if item and type == "impression":
            views[item].append(at)
        if item and type == "click":
            clicks[item].append(at)
            recent[document["client_id"]].append((at, item))
            if query and query_key(query):
                pairs[composite_id([query_key(query), item])].append((at, 1.0))
    items = stored(server, "item", list({**views, **clicks, **heat}))
    assert len(items) >= 500
    for item, row in items.items():
        assert row.get("views") == (events.windows(views[item], events.HOUR_MS, 168) if item in views else None)
        assert row.get("clicks") == (events.windows(clicks[item], events.HOUR_MS, 168) if item in clicks else None)
        value, newest = events.decayed(heat[item], DAY_S * 1000) if item in heat else (None, None)
        assert row.get("heat") == (None if item not in heat else (pytest.approx(value, rel=1e-12), newest))
    rows = stored(server, "query_item", list(pairs))
    assert len(rows) == len(pairs) > 100
    for pair, row in rows.items():
        value, newest = events.decayed(pairs[pair], DAY_S * 1000)
        assert row["clicks"] == (pytest.approx(value, rel=1e-12), newest)
    lists = stored(server, "user", list(recent))
    assert set(lists) == set(recent)
    for user, row in lists.items():
        newest = {item: at for at, item in sorted(recent[user])}
        assert len(set(row["recent"])) == len(row["recent"])
        # Which of several items of one time comes first depends on the order in which they were sent.
        assert [newest[item] for item in row["recent"]] == sorted(newest.values(), reverse=True)[:5]


def test_ratings_as_affinities_by_genre(server: CollectServer, tmp_path: Path) -> None:
    """20,000 ratings, with and without decay; genres are looked up in the store."""
    folder = folder_of(events.MOVIES)
    genres, rated = events.movie_genres(folder), events.ratings(folder)[:20_000]
    movies = sorted({movie for _, movie, _, _ in rated})
    values = SetValues([g for m in movies for g in genres[m]], np.array([len(genres[m]) for m in movies], np.int64))
    column = ColumnValues("genres", np.arange(len(movies), dtype=np.int64), values, NO_ROWS)
    server.run(server.store.write, WriteBatch("item", movies, [column]))
    file = tmp_path / "ratings.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for i, (user, movie, rating, at) in enumerate(rated):
            event = {
                "event_id": f"r{i}",
                "type": "rating",
                "time": at,
                "user_id": user,
                "item_id": movie,
                "value": rating,
            }
            out.write(json.dumps(event) + "\n")
    assert ingest(server, file)["accepted"] == len(rated)
    plain: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    times: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for user, movie, rating, at in rated:
        for genre in genres[movie]:
            plain[user][genre] += rating - 2.5
            times[user][genre].append(at)
    users = stored(server, "user", list(plain))
    assert len(users) == len(plain) > 100
    for user, row in users.items():
        assert row["genres"] == pytest.approx(dict(plain[user]), rel=1e-4, abs=1e-3)
        newest = max(at for of_genre in times[user].values() for at in of_genre)
        expected = {
            genre: sum(2.0 ** ((at - newest) / (365 * DAY_S * 1000)) for at in of_genre)
            for genre, of_genre in times[user].items()
        }
        assert row["taste"] == pytest.approx(expected, rel=1e-4, abs=1e-3)
