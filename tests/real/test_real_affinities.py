"""Real ratings as affinities of users by genre: built, streamed, and by a plain query."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real import data
from signals.conformance import rows_batch
from support.event_world import entity, signal

from rankd.events.batch.build import build
from rankd.events.batch.checks import History
from rankd.events.batch.engines import open_engine
from rankd.events.batch.results import read_batches
from rankd.events.files import read_events
from rankd.events.model import from_messages
from rankd.events.stream import EventWriter
from rankd.signals.embedded import open_embedded
from rankd.signals.rowfile import BadRow
from rankd.signals.store import MapValues, WindowValues
from rankd.signals.values import to_list
from rankd.types.schema import EventSource, Schema, SignalKind
from rankd.v1 import feedback_pb2 as pb

MOVIELENS = "reco_ml_latest_small"
RATING = ("rating",)
NOW_S = 1_790_000_000.0
SCHEMA = Schema(
    {
        e.name: e
        for e in (
            entity(
                "item",
                signal("genres", SignalKind.SET),
                signal("ratings_4w", SignalKind.WINDOW, EventSource(RATING), window_s=28 * 86_400.0, bucket_s=86_400.0),
            ),
            entity(
                "user",
                signal("rated", SignalKind.MAP, EventSource(RATING, key="item.genres")),
                signal("liked", SignalKind.MAP, EventSource(RATING, where="event.value >= 4", key="item.genres")),
                signal("stars", SignalKind.MAP, EventSource(RATING, key="item.genres", weight="event.value")),
                signal("last", SignalKind.TIMESTAMP, EventSource(RATING, value="event.time")),
            ),
        )
    }
)
RATINGS = "(SELECT * FROM read_csv('{ratings}') WHERE try_cast(timestamp AS BIGINT) IS NOT NULL)"
"""One line of the file is damaged: its time is text."""
COUNTS = f"""
    SELECT 'u' || userId, genre, count(*), count(*) FILTER (rating >= 4), sum(rating)
    FROM {RATINGS} JOIN
    (SELECT movieId, unnest(string_split(genres, '|')) AS genre FROM read_csv('{{movies}}')) USING (movieId)
    GROUP BY ALL
"""
TAGS = ("rated", "liked", "stars")
Affinities = dict[str, dict[str, dict[str, float]]]


def unpacked(folder: Path, tmp_path: Path) -> Path:
    with gzip.open(folder / "ratings.csv.gz") as packed, (tmp_path / "ratings.csv").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return tmp_path / "ratings.csv"


def plain_affinities(ratings: Path, movies: Path) -> Affinities:
    """By signal, user and genre."""
    found: Affinities = {name: {} for name in TAGS}
    for user, genre, *counts in duckdb.sql(COUNTS.format(ratings=ratings, movies=movies)).fetchall():
        for name, count in zip(TAGS, counts, strict=True):
            if count:
                found[name].setdefault(user, {})[genre] = count
    return found


def write_files(tmp_path: Path, ratings: Path, movies: Path) -> tuple[Path, Path]:
    """Events and items as Parquet."""
    events, items = tmp_path / "events.parquet", tmp_path / "items.parquet"
    duckdb.sql(
        f"""COPY (SELECT userId || '-' || movieId AS event_id, 'rating' AS type, timestamp::BIGINT * 1000 AS time,
        'u' || userId AS user_id, 'm' || movieId AS item_id, rating::DOUBLE AS value
        FROM {RATINGS.format(ratings=ratings)}) TO '{events}' (FORMAT parquet)"""
    )
    duckdb.sql(
        f"""COPY (SELECT 'm' || movieId AS id, string_split(genres, '|') AS genres FROM read_csv('{movies}'))
        TO '{items}' (FORMAT parquet)"""
    )
    return events, items


@pytest.mark.timeout(240)
async def test_affinities_by_genre(tmp_path: Path) -> None:
    folder = data.folder(MOVIELENS)
    if folder is None:
        pytest.skip(f"real data {MOVIELENS} is absent (RANKD_DATA, default ../shared/data)")
    ratings, movies = unpacked(folder, tmp_path), folder / "movies.csv"
    events, items = write_files(tmp_path, ratings, movies)
    expected = plain_affinities(ratings, movies)
    assert pq.read_metadata(events).num_rows == 100_835
    with open_engine("duckdb") as engine:
        build(engine, SCHEMA, [History.of(events)], {"item": [items]}, tmp_path / "out", now_ms=round(NOW_S * 1000))
    found: Affinities = {name: {} for name in TAGS}
    for batch in read_batches(SCHEMA.entities["user"], tmp_path / "out/user.parquet"):
        for column in batch.columns:
            if isinstance(column.values, MapValues):
                for row, genres in zip(column.rows.tolist(), to_list(column.values), strict=True):
                    found[column.signal][batch.ids[row]] = genres
    assert found == expected

    store = await open_embedded(SCHEMA, None, 100_000, clock=lambda: NOW_S)
    genres = pq.read_table(items).to_pydict()
    await store.write(
        rows_batch(
            "item", [(i, {"genres": set(g)}) for i, g in zip(genres["id"], genres["genres"], strict=True)], SCHEMA
        )
    )
    writer = EventWriter(store)
    chunk: list[pb.Event] = []
    for each in [*read_events(events), None]:
        assert not isinstance(each, BadRow)
        if each is not None:
            e = each[1]
            chunk.append(
                pb.Event(event_id=e.event_id, type=e.type, unix_millis=e.time_ms, user_id=e.user_id,
                         item_id=e.item_id, value=e.value)
            )  # fmt: skip
        if len(chunk) == 5_000 or each is None:
            batch, faults, _ = from_messages(chunk, round(NOW_S * 1000), 512)
            assert not faults
            assert not (await writer.apply(batch, NOW_S)).faults
            chunk = []
    users = list(expected["rated"])
    stored = await store.get("user", users, TAGS, NOW_S)
    for column in stored.columns:
        streamed = {users[row]: g for row, g in zip(column.rows.tolist(), to_list(column.values), strict=True)}
        assert streamed == expected[column.signal]
    ids = pa.array(genres["id"]).to_pylist()
    windows = (await store.get("item", ids, ["ratings_4w"], NOW_S)).columns[0]
    assert isinstance(windows.values, WindowValues)
    by_item = dict(zip([ids[i] for i in windows.rows.tolist()], to_list(windows.values), strict=True))
    for batch in read_batches(SCHEMA.entities["item"], tmp_path / "out/item.parquet"):
        (column,) = batch.columns
        for row, buckets in zip(column.rows.tolist(), to_list(column.values), strict=True):
            assert dict(by_item.pop(batch.ids[row])) == dict(buckets)
    assert not by_item
    assert len(np.unique(windows.rows)) == 9_724  # movies that were rated
    await store.close()
