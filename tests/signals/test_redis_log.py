"""The log of changes, what is trimmed of it, and rows of older declarations, over a real server and a real Cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from redis import Redis
from signals.conftest import Place
from signals.store_oracle import plain_rows
from signals.test_redis_store import NOW_MS, SCHEMA, all_rows, column, opened, prices

from rankd.errors import StoreError
from rankd.signals.redis.codec import Status
from rankd.signals.redis.connection import open_connection
from rankd.signals.redis.rows import RedisRows
from rankd.signals.redis.store import RedisStore
from rankd.signals.redis.writing import Commit
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.types.schema import Element, Entity, Schema, Signal, SignalKind


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
    await store.write(prices([f"i{i}" for i in range(200)], [0.5] * 200))  # every node knows the script after it
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
    place.wipe()
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


def schema_with(**signals: Signal | None) -> Schema:
    """SCHEMA with signals of item changed; None: removed."""
    declared = {**SCHEMA.entities["item"].signals, **signals}
    kept = {name: signal for name, signal in declared.items() if signal is not None}
    return Schema({**SCHEMA.entities, "item": Entity("item", kept)})


async def test_signals_are_removed_and_added(place: Place) -> None:
    """What one machine does not know (any more) it carries along, until it is told to drop it."""
    old = await opened(place)
    await old.write(WriteBatch("item", ["a"], [column("price", [0], [1.0]), column("title", [0], ["t"])]))
    schema = schema_with(title=None, size=Signal("size", SignalKind.I64))
    new = await opened(place, schema=schema)
    assert (await all_rows_of(new, ["a"]))["a"][1] == {"price": (NOW_MS, 1.0)}
    sizes = ColumnValues("size", np.array([0]), np.array([7]), np.zeros(0, np.int64))
    await new.write(WriteBatch("item", ["a"], [sizes]))
    assert (await all_rows(old, ["a"]))["a"][1] == {"price": (NOW_MS, 1.0), "title": (NOW_MS, "t")}
    again = await opened(place)
    await again.write(prices(["a"], [2.0]))
    assert (await all_rows_of(new, ["a"]))["a"][1] == {"price": (NOW_MS, 2.0), "size": (NOW_MS, 7)}
    await new.rows.drop_undeclared()
    await new.write(prices(["a"], [3.0]))
    assert (await all_rows(again, ["a"]))["a"][1] == {"price": (NOW_MS, 3.0)}
    assert (await all_rows_of(new, ["a"]))["a"][1] == {"price": (NOW_MS, 3.0), "size": (NOW_MS, 7)}
    for store in (old, new, again):
        await store.close()


async def test_a_signal_of_another_type_is_refused(place: Place) -> None:
    old = await opened(place)
    await old.write(prices(["a"], [1.0]))
    retyped = schema_with(vector=Signal("vector", SignalKind.EMBEDDING, 3, element=Element.F16))
    with pytest.raises(StoreError, match=r"item\.vector is declared embedding\[3\], element f16, but .* `rankd schema"):
        await opened(place, schema=retyped)
    rows = RedisRows(retyped, place.options(), open_connection(place.options()))
    await rows.drop_undeclared()
    new = RedisStore(rows, old._clock, None)
    await new.write(prices(["b"], [2.0]))
    assert (await all_rows_of(new, ["a", "b"]))["a"][1] == {"price": (NOW_MS, 1.0)}
    with pytest.raises(StoreError, match=r"item\.vector"):
        await opened(place)
    await old.close()
    await new.close()


async def test_rows_whose_declaration_is_lost(single: Place, caplog: pytest.LogCaptureFixture) -> None:
    old = await opened(single, schema=schema_with(size=Signal("size", SignalKind.I64)))
    await old.write(prices(["a"], [1.0]))
    with Redis.from_url(single.url) as client:
        client.delete(old.keys.schema)
    new = await opened(single)
    assert await all_rows(new, ["a"]) == {}
    assert "of a layout that is not in" in caplog.text
    with Redis.from_url(single.url) as client:
        client.hset(old.keys.schema, "item", "nonsense")
    with pytest.raises(StoreError, match="is not of this rankd"):
        await opened(single)
    await old.close()
    await new.close()


async def all_rows_of(store: RedisStore, ids: list[str]) -> dict[str, Any]:
    names = [s.name for s in store.schema.entities["item"].signals.values() if s.is_stored]
    return plain_rows(ids, await store.get("item", ids, names, store._clock()))
