"""Tables follow Redis: after a stop, after a gap, after Redis lost what it had; and a Cluster that changes."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.redis_servers import RedisCluster, RedisServer, redis_server
from support.serving import ServerProcess
from support.shared_servers import (
    ITEMS,
    USERS,
    Load,
    channels,
    fill,
    item_price,
    process_id,
    rank,
    request,
    serving,
    status,
    stopped,
    until,
    user_age,
    write,
    write_workspace,
)

from rankd.client import Client
from rankd.signals.redis.keys import Keys

pytestmark = pytest.mark.slow

MANY = [f"m{i}" for i in range(4_000)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def says(server: ServerProcess, text: str) -> bool:
    return any(text in line for line in server.log)


def in_step(server: ServerProcess) -> bool:
    told = next(row["replica"] for row in status(server)["processes"] if row["name"] == "keeper")
    return told is not None and bool(told["in_step"])


def test_a_replica_that_stood_still_catches_up(redis: RedisServer, tmp_path: Path) -> None:
    """At first its log reaches back to where it was, then it does not."""
    one, two = (write_workspace(tmp_path / name, redis, prefix="still", stream_length=100) for name in ("one", "two"))
    with (
        serving(one, workers=1) as here,
        serving(two, workers=1) as there,
        Client(here.address) as client,
        channels(there, 1) as (reader,),
    ):
        client.write_signals("item", ["a", "gone"], {"price": [1.0, 1.0]})
        until(lambda: item_price(reader, "gone") == 1.0)
        keeper = process_id(there, "keeper")
        with stopped(keeper):
            client.write_signals("item", ["a", *ITEMS], {"price": [2.0] * (1 + len(ITEMS))})
            # Its workers answer with what they have.
            assert item_price(reader, "a") == 1.0
        until(lambda: item_price(reader, "a") == 2.0)
        assert not says(there, "all rows are read again")
        with stopped(keeper):
            client.delete_signals("item", ["gone"])
            client.write_signals("item", MANY, {"price": [3.0] * len(MANY)})
            client.write_signals("item", ["a"], {"price": [3.0]})
        until(lambda: item_price(reader, "a") == 3.0 and math.isnan(item_price(reader, "gone")))

        def prices() -> set[float]:
            answer = rank(reader, request("", items=MANY[:1_000]))
            return set(next(c for c in answer.features if c.name == "price").values)

        until(lambda: prices() == {3.0})  # the log says of "a" and "gone" before all rows have been read
        assert says(there, "no longer reach back to where this machine is: all rows are read again")
        write(reader, "item", ["a"], "price", [4.0])
        assert item_price(reader, "a") == 4.0


def test_redis_that_comes_back_empty_takes_nothing_away(tmp_path: Path) -> None:
    with (
        redis_server() as redis,
        serving(write_workspace(tmp_path, redis)) as server,
        Client(server.address) as client,
        channels(server, 4) as open_channels,
    ):
        fill(client)
        client.write_signals("item", ["item-1"], {"price": [7.0]})
        expected = rank(open_channels[0], request("")).SerializeToString
        with Load(server) as load:
            until(lambda: load.whole(0.0) > 20)
            redis.kill()
            time.sleep(0.3)
            redis.start()
            back = time.monotonic()
            until(lambda: says(server, "item: Redis has lost what it had in 4 of 4 groups of rows"))
            until(lambda: in_step(server) and load.whole(back) > 20)
        assert load.failed == []
        assert [rank(c, request("")).SerializeToString() for c in open_channels] == [expected()] * 4
        # Rows that are fetched are gone; all can be written again.
        assert {math.isnan(user_age(c, "user-1")) for c in open_channels} == {True}
        client.write_signals("item", ["item-1"], {"price": [8.0]})
        client.write_signals("user", ["user-1"], {"age": [8.0]})
        assert {(item_price(c, "item-1"), user_age(c, "user-1")) for c in open_channels} == {(8.0, 8.0)}
        client.delete_signals("item", ["item-1"])
        assert {math.isnan(item_price(c, "item-1")) for c in open_channels} == {True}


def test_a_cluster_changes_under_load(tmp_path: Path) -> None:
    """A slot moves, with its keys between two nodes for a while; then a master is lost, and comes back."""
    cluster = RedisCluster()
    try:
        _change(cluster, tmp_path)
    finally:
        cluster.close()


def _change(cluster: RedisCluster, folder: Path) -> None:
    keys = Keys("rk", 4)
    with serving(write_workspace(folder, cluster)) as server, channels(server, 4) as open_channels:
        with Client(server.address) as client:
            fill(client)
        write(open_channels[0], "user", USERS, "age", [1.0] * len(USERS))
        with Load(server) as load:
            for entity in ("user", "item"):
                for bucket in range(2):
                    with cluster.moving(keys.slot(entity, bucket)):
                        assert [user_age(c, user) for c in open_channels for user in USERS] == [1.0] * 4 * len(USERS)
                    write(open_channels[0], "item", ["item-1"], "price", [bucket])
                    assert {item_price(c, "item-1") for c in open_channels} == {bucket}
            assert not load.degraded()
            lost = cluster.servers[2]
            lost.kill()
            until(lambda: load.degraded())
            whole = [not rank(open_channels[0], request(user)).HasField("degradation") for user in ("", "", "")]
            assert all(whole)
            lost.start()
            back = time.monotonic()
            until(lambda: time.monotonic() - load.last_incomplete() > 1.0, 40.0)
        print(f"\na master back: whole again after {load.last_incomplete() - back:.2f} s")
        assert load.failed == []
        until(lambda: in_step(server), 40.0)
        write(open_channels[0], "user", USERS, "age", [5.0] * len(USERS))
        write(open_channels[0], "item", ITEMS, "price", [5.0] * len(ITEMS))
        assert {user_age(c, user) for c in open_channels for user in USERS} == {5.0}
        assert {item_price(c, item) for c in open_channels for item in ITEMS} == {5.0}


@pytest.mark.parametrize("data_dir", ["data", None])
def test_a_keeper_that_is_killed_is_back(redis: RedisServer, tmp_path: Path, data_dir: str | None) -> None:
    """With tables that it finds again; without, workers are replaced."""
    folder = write_workspace(tmp_path, redis, prefix=f"killed-{data_dir}", server={"data_dir": data_dir})
    with serving(folder) as server:
        with Client(server.address) as client:
            fill(client)
        with channels(server, 4) as open_channels, Load(server, tries=3) as load:
            expected = rank(open_channels[0], request("user-1")).SerializeToString()
            until(lambda: load.whole(0.0) > 20)
            workers, keeper = pids(server, "worker"), pids(server, "keeper")
            os.kill(keeper.pop(), signal.SIGKILL)
            until(lambda: in_step(server) and can_write(server))
            if data_dir is None:
                until(lambda: len(pids(server, "worker")) == 2 and not workers & pids(server, "worker"), 40.0)
            else:
                assert pids(server, "worker") == workers
        assert load.failed == []
        until(lambda: can_write(server))
        with channels(server) as open_channels:
            assert {rank(c, request("user-1")).SerializeToString() for c in open_channels} == {expected}
            write(open_channels[0], "item", ["item-0"], "price", [4.0])
            write(open_channels[0], "user", ["user-1"], "age", [4.0])
            assert {(item_price(c, "item-0"), user_age(c, "user-1")) for c in open_channels} == {(4.0, 4.0)}


def pids(server: ServerProcess, role: str) -> set[int]:
    """Of the processes of a role that are there."""
    return {row["pid"] for row in status(server)["processes"] if row["name"].startswith(role) and row["pid"]}


def can_write(server: ServerProcess) -> bool:
    try:
        with channels(server, 1) as (channel,):
            write(channel, "session", ["any"], "depth", [1.0])
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        return False
    return True
