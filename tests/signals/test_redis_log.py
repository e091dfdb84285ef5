"""The log of changes, what is trimmed of it, and rows of older declarations, over a real server and a real Cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from redis import Redis
from signals.conftest import Place
from signals.redis_oracle import plain_rows
from signals.test_redis_store import NOW_MS, SCHEMA, all_rows, column, opened, prices, wipe

from rankd.signals.redis.codec import Status
from rankd.signals.redis.store import RedisStore
from rankd.signals.redis.writing import Commit
from rankd.signals.store import WriteBatch
from rankd.types.schema import Entity, Schema, Signal, SignalKind


async def follow(store: RedisStore, positions: dict[tuple[str, int], bytes], rows: dict[str, float | None]) -> int:
    """Applies changes until there are none; how many."""
    count = 0
    while changes := await store.read_changes(positions, 0.05):
        for change in changes:
            positions[(change.entity, change.bucket)] = change.position
            count += len(change.rows)
            assert len(change.records) == len(change.rows) == len(change.is_own)
            for i, id_ in enumerate(change.rows.ids):
                one = change.rows.take(np.array([i]))
                is_live = one.status[0] == Status.LIVE
                rows[id_] = float(one.columns["price"].values[0]) if is_live else None  # type: ignore[index, arg-type]
    return count


async def test_the_log_tells_every_change_in_order(place: Place) -> None:
    commits: list[Commit] = []

    async def note(commit: Commit) -> None:
        commits.append(commit)

    store, other = await opened(place), await opened(place)
    store.on_commit = note
    await store.write(prices(["a"], [0.5]))
    positions = {("item", bucket): at for bucket, at in (await store.log_ends("item")).items()}
    assert len(positions) == 16
    ids = [f"i{i}" for i in range(200)]
    for turn in range(3):
        await store.write(prices(ids, [float(turn)] * 200))
        await other.write(prices(ids[:100], [turn + 0.5] * 100))
    await store.delete("item", ids[:10])
    rows: dict[str, float | None] = {}
    assert await follow(store, positions, rows) == 3 * 300 + 10
    assert rows == {id_: None if int(id_[1:]) < 10 else 2.5 if int(id_[1:]) < 100 else 2.0 for id_ in ids}
    assert len(commits) == 5
    assert positions == {("item", bucket): at for bucket, at in (await other.log_ends("item")).items()}
    assert all(max(commits[3].lasts) < 16 and last <= positions["item", b] for b, last in commits[3].lasts.items())
    assert commits[4].rows.status.tolist() == [Status.TOMBSTONE] * 10
    assert await store.log.gaps(positions) == []
    await store.write(WriteBatch("user", ["u"], []))  # fetched: nobody follows
    assert set((await store.log_ends("user")).values()) == {b"0-0"}
    await store.close()
    await other.close()


async def test_a_log_that_was_trimmed_has_a_gap(place: Place) -> None:
    store = await opened(place, shards=1, stream_length=100)
    start = await store.log_ends("item")
    assert start == {0: b"0-0"}
    ids = [f"i{i}" for i in range(100)]
    await store.write(prices(ids[:20], [1.0] * 20))
    early = await store.log_ends("item")
    assert await store.log.gaps({("item", 0): start[0]}) == []
    for turn in range(20):
        await store.write(prices(ids, [float(turn)] * 100))
    late = await store.log_ends("item")
    for at in (start[0], early[0]):
        (gap,) = await store.log.gaps({("item", 0): at})
        assert (gap.is_gap, gap.position, len(gap.rows)) == (True, late[0], 0)
    assert await store.log.gaps({("item", 0): late[0]}) == []
    wipe(place)
    (gap,) = await store.log.gaps({("item", 0): late[0]})  # and so has one that was lost
    assert gap.position == b"0-0"
    await store.close()


async def test_changes_are_waited_for(place: Place) -> None:
    store, other = await opened(place), await opened(place)
    positions = {("item", bucket): at for bucket, at in (await store.log_ends("item")).items()}
    waiting = asyncio.create_task(store.read_changes(positions, 5.0))
    await asyncio.sleep(0.05)
    await other.write(prices(["a"], [1.0]))
    (change,) = await asyncio.wait_for(waiting, 2.0)
    assert (change.rows.ids, change.is_own.tolist()) == (["a"], [False])
    assert await store.read_changes(positions | {("item", change.bucket): change.position}, 0.01) == []
    await store.close()
    await other.close()


async def test_rows_of_an_older_declaration(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    old = await opened(place)
    await old.write(WriteBatch("item", ["a"], [column("price", [0], [1.0]), column("title", [0], ["t"])]))
    signals = dict(SCHEMA.entities["item"].signals)
    del signals["title"]
    signals["vector"] = Signal("vector", SignalKind.EMBEDDING, 3)
    schema = Schema({**SCHEMA.entities, "item": Entity("item", signals)})
    new = await opened(place, schema=schema)
    assert (await all_rows_of(new, ["a"]))["a"][1] == {"price": (NOW_MS, 1.0)}
    await new.write(prices(["b"], [2.0]))
    await new.write(WriteBatch("item", ["a"], [column("stock", [0], [3])]))
    assert (await all_rows_of(new, ["a"]))["a"][1] == {"price": (NOW_MS, 1.0), "stock": (NOW_MS, 3)}
    assert (await all_rows(old, ["a", "b"]))["b"][1] == {"price": (NOW_MS, 2.0)}
    with Redis.from_url(place.url) as client:
        if not place.is_cluster:
            client.delete(new.keys.schema)
            third = await opened(place)
            assert await all_rows(third, ["a"]) == {}
            assert "of a layout that is not in" in caplog.text
            await third.close()
    await old.close()
    await new.close()


async def all_rows_of(store: RedisStore, ids: list[str]) -> dict[str, Any]:
    names = [s.name for s in store.schema.entities["item"].signals.values() if s.is_stored]
    return plain_rows(ids, await store.get("item", ids, names, store._clock()))
