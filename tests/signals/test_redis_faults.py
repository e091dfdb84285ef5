"""Redis that is slow, silent, cut off mid-reply, stopped or killed, as who fetches rows sees it, and the replica."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
from load_tests.faults.proxy import FaultProxy, Faults
from signals.conformance import NOW_S, Clock, get_rows, plain_column, read_plain, rows_batch, schema_of
from signals.keeper_host import eventually
from signals.test_redis_cancelled import IDS, batch, fetch_with
from signals.test_redis_cancelled import SCHEMA as FETCHED
from support.redis_servers import RedisServer, redis_server

from rankd.errors import UnavailableError
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.private import CacheOptions
from rankd.signals.redis.replicated import ReplicatedStore, open_replicated
from rankd.signals.redis.store import open_redis_store
from rankd.types.schema import Signal, SignalKind

SCALE = float(os.environ.get("RANKD_FUZZ_SCALE", "1"))
REPLICATED = schema_of(item=[Signal("price", SignalKind.F32)])
SHORT = {"socket_timeout_s": 0.1, "connect_timeout_s": 0.2, "write_timeout_s": 0.3, "scan_timeout_s": 2.0, "shards": 2}

FAULTS = [
    Faults(is_black_hole=True),
    Faults(is_refusing=True),
    Faults(delay_s=0.5),
    Faults(cut_after=0),
    Faults(cut_after=37),
    Faults(bytes_per_s=200),
]


@pytest.fixture
async def proxy(one_server: RedisServer) -> AsyncIterator[FaultProxy]:
    one_server.flush()
    async with FaultProxy("127.0.0.1", one_server.port) as proxy:
        yield proxy


def url(proxy: FaultProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


async def fetching(at: str, **cache: float) -> ReplicatedStore:
    options = RedisOptions(at, **SHORT)  # type: ignore[arg-type]
    return await open_replicated(FETCHED, options, None, 1_000, cache=CacheOptions(**cache), clock=Clock())  # type: ignore[arg-type]


async def complete(store: ReplicatedStore, ids: list[str]) -> None:
    """Fetches until Redis is there; what comes is right."""
    for _ in range(500):
        if (await store.fetch({"item": ids}, 1.0)).is_complete:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come back")


@pytest.mark.parametrize("faults", FAULTS, ids=str)
async def test_a_fetch_never_fails_and_uses_what_is_there(proxy: FaultProxy, faults: Faults) -> None:
    store = await fetching(url(proxy), ttl_s=0.0)
    await store.write(batch(IDS[:20], 1))
    await complete(store, IDS[:10])
    proxy.faults = faults
    for _ in range(4):
        fetched = await store.fetch({"item": IDS[:20]}, 0.25)
        assert (fetched.is_complete, fetched.is_stale) == (False, True)
        numbers, names = await asyncio.wait_for(_as_they_are(store), 1.0)
        assert numbers == [1.0] * 10 + [None] * 10
        assert names == [f"{id_} 1".encode() for id_ in IDS[:10]] + [None] * 10
    proxy.faults = Faults()
    await complete(store, IDS)
    assert await fetch_with(store)(IDS[:20]) == 20
    await store.close()


async def _as_they_are(store: ReplicatedStore) -> list[list[object]]:
    """Of rows that are not fetched again."""
    rows = store.tables.read("item", IDS[:20], ["number", "name"], NOW_S)
    return [plain_column(store, rows.columns[name]) for name in ("number", "name")]


async def test_replies_cut_at_any_place_bring_no_value_of_another_row(proxy: FaultProxy) -> None:
    """Beside a writer: what a fetch says is complete is right, and whatever is there is of its row."""
    store = await fetching(url(proxy), ttl_s=0.0)
    await store.write(batch(IDS, 0))
    rng = random.Random(3)
    cut = 0
    for number in range(round(60 * SCALE)):
        proxy.faults = Faults(cut_after=rng.randrange(2_000)) if number % 3 else Faults()
        fetched = await store.fetch({"item": rng.sample(IDS, 40)}, 1.0)
        cut += not fetched.is_complete
        there = store.tables.read("item", IDS, ["number", "name"], NOW_S)
        numbers, names = (plain_column(store, there.columns[name]) for name in ("number", "name"))
        for id_, value, name in zip(IDS, numbers, names, strict=True):
            assert name == (None if value is None else f"{id_} {value:g}".encode())
    assert cut > 0
    proxy.faults = Faults()
    await complete(store, IDS)
    assert await fetch_with(store)(IDS) == len(IDS)
    await store.close()


async def test_fetches_and_a_server_that_is_stopped_and_killed() -> None:
    with redis_server() as server:
        store = await fetching(server.url, ttl_s=0.0)
        await store.write(batch(IDS[:5], 1))
        await complete(store, IDS[:5])
        server.stop()
        assert not (await store.fetch({"item": IDS[:5]}, 1.0)).is_complete
        with pytest.raises(UnavailableError):
            await store.write(batch(IDS[:5], 2))
        server.go_on()
        await complete(store, IDS[:5])
        assert await fetch_with(store)(IDS[:5]) == 5
        server.kill()
        fetched = await store.fetch({"item": IDS[:5]}, 1.0)
        assert (fetched.is_complete, fetched.is_stale) == (False, True)
        server.start()
        await complete(store, IDS[:5])
        rows = store.tables.read("item", IDS[:5], ["number"], NOW_S)
        assert not rows.found.any()  # it kept nothing, and neither does the cache
        await store.close()


async def _written_elsewhere(server: RedisServer, rows: dict[str, float]) -> None:
    """By another machine, past the proxy."""
    other = await open_redis_store(REPLICATED, RedisOptions(server.url, shards=2))
    await other.write(rows_batch("item", [(id_, {"price": price}) for id_, price in rows.items()], REPLICATED))
    await other.delete("item", ["gone"])
    await other.close()


@pytest.mark.parametrize("faults", FAULTS, ids=str)
async def test_a_replica_serves_on_and_catches_up(proxy: FaultProxy, one_server: RedisServer, faults: Faults) -> None:
    options = RedisOptions(url(proxy), **SHORT)  # type: ignore[arg-type]
    store = await open_replicated(REPLICATED, options, None, 1_000)
    await store.write(rows_batch("item", [("a", {"price": 1.0}), ("gone", {"price": 9.0})], REPLICATED))
    await eventually(lambda: store.replica.is_following)
    proxy.faults = faults
    await _written_elsewhere(one_server, {"a": 2.0, "b": 3.0})
    assert (await get_rows(store, "item", ["gone", "a"]))["gone"] == {"price": 9.0} or proxy.faults.delay_s
    await eventually(lambda: not store.replica.is_following or bool(proxy.faults.delay_s or proxy.faults.bytes_per_s))
    proxy.faults = Faults()
    await eventually(lambda: store.tables.tables["item"].find(["b", "gone"]).tolist() == [True, False])
    assert await read_plain(store, ["a", "b", "gone"], "price") == [[2.0, 3.0, None]]
    await eventually(lambda: store.replica.is_following)
    await store.close()


async def test_a_replica_serves_what_a_server_that_was_killed_has_lost() -> None:
    with redis_server() as server:
        options = RedisOptions(server.url, **SHORT)  # type: ignore[arg-type]
        # By the true time: versions go on from what they were, even where nobody knows what that was.
        store = await open_replicated(REPLICATED, options, None, 1_000)
        await store.write(rows_batch("item", [("a", {"price": 1.0}), ("gone", {})], REPLICATED))
        server.stop()
        await eventually(lambda: not store.replica.is_following)
        assert await read_plain(store, ["a"], "price") == [[1.0]]
        server.go_on()
        await eventually(lambda: store.replica.is_following)
        server.kill()
        await eventually(lambda: not store.replica.is_following)
        assert await read_plain(store, ["a"], "price") == [[1.0]]
        server.start()
        await eventually(lambda: store.replica.is_following)
        await _written_elsewhere(server, {"b": 2.0})
        await eventually(lambda: store.tables.tables["item"].find(["b", "gone"]).tolist() == [True, False])
        assert await read_plain(store, ["a", "b"], "price") == [[1.0, 2.0]]
        await store.close()
