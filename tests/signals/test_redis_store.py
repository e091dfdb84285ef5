"""RedisStore over a real server and a real Cluster: several at once, what is applied once, damage, slots that move."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from redis import Redis
from signals.conftest import Place
from signals.store_oracle import plain_rows
from support.redis_servers import RedisCluster, redis_server

from rankd.errors import RequestError, StoreError, StoreFullError, UnavailableError
from rankd.signals.redis.codec import RowCodec
from rankd.signals.redis.keys import Keys
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.store import ColumnValues, Operation, WriteBatch
from rankd.signals.values import from_list
from rankd.types.schema import Entity, Prior, Schema, Signal, SignalKind, Storage
from rankd.types.text import composite_id

NOW_MS = 1_763_700_000_000

_ITEM = [
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64),
    Signal("title", SignalKind.STRING),
    Signal("tags", SignalKind.SET),
    Signal("vector", SignalKind.EMBEDDING, 2),
    Signal("heat", SignalKind.COUNTER, half_life_s=60.0),
    Signal("likes", SignalKind.MAP, half_life_s=60.0),
    Signal("weights", SignalKind.MAP),
    Signal("clicks", SignalKind.WINDOW, window_s=40.0, bucket_s=10.0),
    Signal("views", SignalKind.WINDOW, window_s=40.0, bucket_s=10.0),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "views"), prior=Prior(0.5, 2.0)),
    Signal("recent", SignalKind.LIST, 2),
    Signal("brief", SignalKind.F32, ttl_s=60.0),
]
SCHEMA = Schema(
    {
        "item": Entity("item", {s.name: s for s in _ITEM}),
        "user": Entity("user", {"age": Signal("age", SignalKind.F32)}),
        "user_category": Entity(
            "user_category", {"n": Signal("n", SignalKind.COUNTER, half_life_s=60.0)}, ("user", "item.category")
        ),
        "query_user": Entity("query_user", {"n": Signal("n", SignalKind.F32)}, ("query", "user"), Storage.FETCHED),
    }
)


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> float:
        return self.now_ms / 1000


async def opened(place: Place, clock: Clock | None = None, schema: Schema = SCHEMA, **options: Any) -> RedisStore:
    return await open_redis_store(schema, place.options(**options), clock=clock or Clock())


def column(name: str, rows: list[int], values: list[Any], clear: tuple[int, ...] = (), **more: Any) -> ColumnValues:
    signal = SCHEMA.entities["item"].signals[name]
    if more.get("operation") is Operation.ADD and signal.kind is SignalKind.WINDOW:
        given: Any = np.array(values, np.float64)
    elif more.get("operation") is Operation.ADD and signal.kind is SignalKind.LIST:
        given = values
    else:
        given = from_list(signal, values)
    return ColumnValues(name, np.array(rows, np.int64), given, np.array(clear, np.int64), **more)


def prices(ids: list[str], values: list[float], **more: Any) -> WriteBatch:
    return WriteBatch("item", ids, [column("price", list(range(len(ids))), values)], **more)


STORED = [s.name for s in _ITEM if s.is_stored]


async def all_rows(store: RedisStore, ids: list[str]) -> dict[str, Any]:
    return plain_rows(ids, await store.get("item", ids, STORED, store._clock()))


async def test_written_here_and_read_there(place: Place) -> None:
    first, second = await opened(place), await opened(place)
    ids = [f"i{i}" for i in range(2_000)]
    await first.write(prices(ids, [float(i) for i in range(2_000)]))
    rows = await all_rows(second, [*ids[::-1], "nobody"])
    assert {id_: row[1]["price"] for id_, row in rows.items()} == {id_: (NOW_MS, float(id_[1:])) for id_ in ids}
    await second.refresh_counts()
    assert second.row_counts()["item"] == first.row_counts()["item"] == 2_000
    await first.close()
    await second.close()


async def test_counts_that_were_asked_for_before_a_write_are_older(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(place)
    await store.write(prices(["a"], [1.0]))
    ask = store.connection.run

    async def ask_and_write(*arguments: Any, **options: Any) -> Any:
        replies = await ask(*arguments, **options)
        monkeypatch.undo()
        await store.write(prices(["b", "c"], [1.0, 1.0]))
        return replies

    monkeypatch.setattr(store.connection, "run", ask_and_write)
    await store.refresh_counts()
    assert store.row_counts()["item"] == 3
    await store.refresh_counts()
    assert store.row_counts()["item"] == 3
    await store.close()


async def test_increments_of_many_at_once_are_all_there(place: Place) -> None:
    """Stores of several processes, each with several batches on their way, on the same few rows."""
    stores = [await opened(place, shards=2) for _ in range(3)]
    ids = ["a", "b", "c"]
    add = WriteBatch("item", ids, [column("clicks", [0, 1, 2], [1.0, 2.0, 4.0], operation=Operation.ADD)])
    results = await asyncio.gather(*(store.write(add) for store in stores for _ in range(10)))
    assert {result.written_count for result in results} == {3}
    rows = await all_rows(stores[0], ids)
    assert [sum(rows[id_][1]["clicks"][1].values()) for id_ in ids] == [30.0, 60.0, 120.0]
    for store in stores:
        await store.close()


async def test_a_batch_with_its_id_is_written_once(place: Place) -> None:
    clock = Clock()
    store = await opened(place, clock)
    ids = [f"i{i}" for i in range(700)]
    batch = WriteBatch(
        "item", ids, [column("heat", list(range(700)), [1.0] * 700, operation=Operation.ADD)], write_id="one"
    )
    assert (await store.write(batch)).repeated == []
    again = await store.write(batch)
    assert (again.written_count, again.repeated) == (700, list(range(700)))
    assert (await store.write(replace(batch, write_id="two"))).repeated == []
    rows = await all_rows(store, ids)
    assert {row[1]["heat"] for row in rows.values()} == {(NOW_MS, 2.0)}
    clock.now_ms += 24 * 3_600_000 + 1_000
    await store.write(replace(batch, write_id="three"))  # what is older than a day is forgotten
    assert (await store.write(batch)).repeated == []
    await store.close()


async def test_events_are_applied_once_for_each_row(place: Place) -> None:
    store = await opened(place)
    add = column("heat", [0, 1, 2, 3], [1.0, 2.0, 4.0, 8.0], operation=Operation.ADD)
    batch = WriteBatch("item", ["a", "b", "a", "a"], [add], event_ids=["e", "e", "e", ""])
    assert (await store.write(batch)).repeated == [2]
    assert (await store.write(batch)).repeated == [0, 1, 2]
    rows = await all_rows(store, ["a", "b"])
    assert (rows["a"][1]["heat"][1], rows["b"][1]["heat"][1]) == (1.0 + 8.0 + 8.0, 2.0)
    await store.close()


async def test_a_faulty_row_is_rejected_alone(place: Place) -> None:
    store = await opened(place)
    result = await store.write(prices(["a", "b", "\ud800", ""], [1.0, float("inf"), 1.0, 1.0]))
    assert [rejection.row for rejection in result.rejected] == [1, 2, 3]
    assert result.written_count == 1
    assert (await store.write(prices([""], [1.0]))).written_count == 0
    assert list(await all_rows(store, ["a", "b"])) == ["a"]
    assert await store.delete("item", ["\ud800", ""]) == 0
    await store.close()


async def test_a_scan_gives_every_row(place: Place) -> None:
    store = await opened(place)
    ids = [f"i{i}" for i in range(3_000)]
    await store.write(prices(ids, [float(i) for i in range(3_000)]))
    await store.write(WriteBatch("user", ["i1"], []))
    await store.delete("item", ["i7"])
    found: dict[str, float] = {}
    cursor, pages = "", 0
    while cursor or not pages:
        page = await store.scan("item", ["price"], cursor, 500, NOW_MS / 1000)
        assert page.rows.found.tolist() == list(range(len(page.ids)))
        found |= dict(zip(page.ids, page.rows.columns[0].values.tolist(), strict=True))  # type: ignore[union-attr]
        cursor, pages = page.cursor, pages + 1
    assert found == {id_: float(id_[1:]) for id_ in ids if id_ != "i7"}
    assert pages > 3
    for bad in ("x", "1.2", "-1.0.0", "1.1.fffffffffffffffff"):
        with pytest.raises(RequestError):
            await store.scan("item", ["price"], bad, 10, 0.0)
    stale = await store.scan("item", ["price"], "1.0.0", 10, 0.0)  # of other nodes: from the beginning
    assert stale.ids
    await store.close()


async def test_a_user_is_forgotten_everywhere(place: Place) -> None:
    store = await opened(place)
    for user in ("u*", "u**", "v"):
        await store.write(WriteBatch("user", [user], []))
        await store.write(WriteBatch("user_category", [composite_id([user, f"c{i}"]) for i in range(50)], []))
        await store.write(WriteBatch("query_user", [composite_id(["q", user])], []))
        await store.write(WriteBatch("item", [user], []))
    assert await store.forget("u*") == {"user": 1, "user_category": 50, "query_user": 1}
    assert await store.forget("u*") == {}
    await store.refresh_counts()
    assert store.row_counts() == {"item": 3, "user": 2, "user_category": 100, "query_user": 2}
    await store.close()


async def test_ratios_and_expiry_are_of_the_moment_of_reading(place: Place) -> None:
    clock = Clock()
    store = await opened(place, clock)
    add = Operation.ADD
    ago = np.array([NOW_MS - 25_000, NOW_MS], np.int64)
    columns = [
        column("clicks", [0, 1], [1.0, 2.0], operation=add),
        column("views", [0, 1], [4.0, 6.0], operation=add),
        column("brief", [0], [1.0]),
    ]
    await store.write(WriteBatch("item", ["a", "a", "b"], columns, event_ms=np.append(ago, NOW_MS)))

    async def read(now_ms: int) -> list[Any]:
        rows = plain_rows(["a", "b"], await store.get("item", ["a", "b"], ["ctr", "brief"], now_ms / 1000))
        return [rows[i][1].get(s, (0, None))[1] for i in ("a", "b") for s in ("ctr", "brief")]

    assert await read(NOW_MS) == [pytest.approx((3 + 1) / (10 + 2)), 1.0, None, None]
    assert await read(NOW_MS + 20_000) == [pytest.approx((2 + 1) / (6 + 2)), 1.0, None, None]
    assert await read(NOW_MS - 25_000 + 60_000) == [pytest.approx((2 + 1) / (6 + 2)), None, None, None]
    assert await read(NOW_MS + 60_000) == [0.5, None, None, None]
    await store.close()


async def test_statistics(place: Place) -> None:
    clock = Clock()
    store = await opened(place, clock)
    ids = [f"i{i}" for i in range(100)]
    await store.write(prices(ids, [1.0] * 100))
    clock.now_ms += 10_000
    await store.write(prices(ids[:40], [1.0] * 40))
    told = (await store.statistics(clock()))["item"]
    assert told.row_count == 100
    assert 100 * 100 < told.used_bytes < 100 * 300
    assert (told.signals["price"].filled_count, told.signals["stock"].filled_count) == (100, 0)
    assert (told.signals["price"].median_age_s, told.signals["price"].greatest_age_s) == (10.0, 10.0)
    assert np.isnan(told.signals["stock"].median_age_s)
    await store.close()


async def test_damaged_rows_and_rows_of_others(single: Place, caplog: pytest.LogCaptureFixture) -> None:
    store = await opened(single)
    await store.write(prices(["a", "b"], [1.0, 2.0]))
    with Redis.from_url(single.url) as client:
        a, b = (store.keys.row("item", id_) for id_ in ("a", "b"))
        client.set(a, client.get(b))  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="rows of other ids"):
            await all_rows(store, ["a"])
        with pytest.raises(UnavailableError, match="rows of other ids"):
            await open_short(single).write(prices(["a"], [1.0]))
        client.set(a, b"\x01nonsense that is long enough")
        assert list(await all_rows(store, ["a", "b"])) == ["b"]
        assert "damaged" in caplog.text
        await store.write(prices(["a"], [3.0]))
        assert (await all_rows(store, ["a"]))["a"][1] == {"price": (NOW_MS, 3.0)}
        client.delete(b)
        client.lpush(b, "x")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await store.write(prices(["b"], [1.0]))
    await store.close()


def open_short(place: Place) -> RedisStore:
    from rankd.signals.redis.connection import open_connection
    from rankd.signals.redis.rows import RedisRows

    options = place.options(write_timeout_s=0.2)
    return RedisStore(RedisRows(SCHEMA, options, open_connection(options)), Clock(), None)


async def test_full_memory_is_told(single: Place) -> None:
    with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        store = await open_redis_store(SCHEMA, RedisOptions(server.url))
        with pytest.raises(StoreFullError, match="no memory left"):
            for i in itertools.count():
                ids = [f"{i} {j} {'x' * 400}" for j in range(1_000)]
                await store.write(prices(ids, [1.0] * 1_000))
        assert len(await store.rows.packed({"item": ["a"]}, 1.0)) == 1
        await store.close()


async def test_slots_move_under_way(one_cluster: RedisCluster, cluster: Place) -> None:
    """A bucket's slot goes to another master while it is written to and read: ASK, then MOVED."""
    store = await opened(cluster, shards=1)
    ids = [f"i{i}" for i in range(60)]
    await store.write(prices(ids, [0.0] * 60))
    slot = store.keys.slot("item", 0)
    owner = store.connection.node_of(store.keys.row("item", "i0"))
    assert owner is not None
    clients = {f"127.0.0.1:{server.port}": server.client() for server in one_cluster.servers}
    source = clients.pop(owner.name)
    name, target = next(iter(clients.items()))
    source_id, target_id = (client.execute_command("CLUSTER MYID").decode() for client in (source, target))
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
    keys = source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000)
    assert len(keys) == 60 + 2  # and the log and the count
    source.execute_command("MIGRATE", "127.0.0.1", name.rpartition(":")[2], "", 0, 5_000, "KEYS", *keys)
    assert len(await all_rows(store, ids)) == 60  # ASK
    writing = asyncio.create_task(store.write(prices(ids, [1.0] * 60)))  # TRYAGAIN, until the slot has moved
    await asyncio.sleep(0.2)
    assert not writing.done()
    for client in (target, source, *clients.values()):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
    await writing
    rows = await all_rows(store, ids)  # MOVED
    assert {row[1]["price"][1] for row in rows.values()} == {1.0}
    for turn in range(100):  # a node that has not heard of it yet may have been asked
        await store.write(prices(ids, [2.0] * 60))
        if store.connection.node_of(store.keys.row("item", "i0")).name == name:  # type: ignore[union-attr]
            break
        assert turn < 99
        await asyncio.sleep(0.05)
    await store.close()
    source.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", target_id)  # and back, for the other tests
    target.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", source_id)
    left = target.execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000)
    target.execute_command("MIGRATE", "127.0.0.1", owner.name.rpartition(":")[2], "", 0, 5_000, "KEYS", *left)
    for client in (source, *clients.values()):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", source_id)
        client.close()


async def test_closed_is_closed(single: Place) -> None:
    store = await opened(single)
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.write(prices(["a"], [1.0]))
    with pytest.raises(UnavailableError, match="closed"):
        await store.rows.packed({"item": ["a"]}, 1.0)


def test_names_of_keys() -> None:
    keys = Keys("rk", 4)
    for id_ in ("a", "log", "{x}", "}:", "ü", "a:b"):
        key = keys.row("item", id_)
        assert keys.id_of("item", key) == id_
        assert keys.id_of("items", key) is None
    assert keys.id_of("item", keys.log("item", 0)) is None
    assert keys.id_of("item", b"rk:{item.0}:\xff") is None
    assert keys.id_of("item", b"rk:{item.9}:a") is None
    assert keys.buckets(["a", "b"]) == [keys.bucket("a"), keys.bucket("b")]
    assert keys.row_pattern("item", "a*[") == b"rk:{item.*}:a\\*\\[*"
    for prefix, shards in (("", 4), ("a{", 4), ("a", 0), ("x" * 65, 1)):
        with pytest.raises(ValueError):
            Keys(prefix, shards)


def test_fingerprints_are_of_what_is_stored() -> None:
    one = RowCodec.of(SCHEMA.entities["item"])
    signals = dict(reversed(SCHEMA.entities["item"].signals.items()))
    signals["price"] = replace(signals["price"], default=1.0, ttl_s=5.0)
    assert RowCodec.of(Entity("item", signals)).fingerprint == one.fingerprint
    assert RowCodec.of(Entity("thing", signals)).fingerprint != one.fingerprint
