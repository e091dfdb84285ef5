"""Servers that start while Redis is away, or with settings that do not fit what is there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.redis_servers import RedisCluster, RedisServer, free_port, redis_server
from support.serving import ServerProcess
from support.shared_servers import (
    SCHEMA,
    channels,
    fill,
    item_price,
    rank,
    request,
    serving,
    status,
    status_text,
    until,
    user_age,
    write,
    write_workspace,
)

from rankd.client import Client
from rankd.errors import ConfigError, StoreError
from rankd.server.stores import open_keeper_store
from rankd.workspace import load_workspace

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(address: str) -> int | None:
    """None: nobody listens yet."""
    with grpc.insecure_channel(address) as channel:
        try:
            return int(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status)
        except grpc.RpcError:
            return None


def says(server: ServerProcess, text: str) -> bool:
    return any(text in line for line in server.log)


def test_without_tables_it_waits_for_redis(tmp_path: Path) -> None:
    with redis_server() as redis:
        at = f"127.0.0.1:{free_port()}"
        folder = write_workspace(tmp_path, redis, server={"health_listen": at})
        redis.kill()
        with serving(folder, wait=False) as server:
            until(lambda: says(server, "the replica does not follow: Redis cannot be reached: Connection refused"))
            assert health(at) == NOT_SERVING
            keeper = next(row for row in status(server)["processes"] if row["name"] == "keeper")
            assert keeper["state"] != "ready"
            assert server.process.poll() is None
            redis.start()
            server.wait_ready()
            assert health(at) == SERVING
            with channels(server, 1) as (channel,):
                write(channel, "item", ["item-0"], "price", [3.0])
                assert item_price(channel, "item-0") == 3.0


@pytest.mark.slow
def test_with_tables_it_serves_at_once_and_catches_up_later(tmp_path: Path) -> None:
    with redis_server("--appendonly", "yes") as redis:
        here = write_workspace(tmp_path / "here", redis, server={"data_dir": "data"})
        with serving(here) as server, Client(server.address) as client:
            fill(client)
        redis.kill()
        with serving(here) as server, channels(server, 4) as open_channels:
            assert says(server, "signal tables taken up as they were")
            told = [rank(c, request("user-1", items=["item-0"])) for c in open_channels]
            assert {str(answer.degradation.reasons) for answer in told} == {"['signals_unavailable']"}
            known = [rank(c, request("")) for c in open_channels]
            assert all(not answer.HasField("degradation") and len(answer.missing_ids) == 0 for answer in known)
            assert "replica: not in step with Redis, no full copy yet" in status_text(server)
            redis.start()
            until(lambda: not rank(open_channels[0], request("user-1")).HasField("degradation"))
            until(lambda: "replica: in step with Redis" in status_text(server))
            assert not says(server, "rows read from Redis")
            write(open_channels[0], "user", ["user-1"], "age", [3.0])
            assert {user_age(c, "user-1") for c in open_channels} == {3.0}


@pytest.mark.slow
def test_what_changed_while_it_was_down_is_read_from_the_log(tmp_path: Path) -> None:
    with redis_server() as redis:
        here = write_workspace(tmp_path / "here", redis, server={"data_dir": "data"})
        there = write_workspace(tmp_path / "there", redis)
        with serving(there, workers=1) as other, Client(other.address) as client:
            fill(client)
            with serving(here, workers=1):
                pass
            client.write_signals("item", ["item-0", "new"], {"price": [8.0, 9.0]})
            client.delete_signals("item", ["item-1"])
            with serving(here, workers=1) as server, channels(server, 1) as (channel,):
                until(lambda: item_price(channel, "new") == 9.0)
                assert item_price(channel, "item-0") == 8.0
                assert math.isnan(item_price(channel, "item-1"))
                assert not says(server, "rows read from Redis")
    with redis_server() as another, serving(write_workspace(here, another, server={"data_dir": "data"})) as server:
        # Tables of another Redis are not taken up.
        assert says(server, "item: 0 rows read from Redis")
        with channels(server, 1) as (channel,):
            assert math.isnan(item_price(channel, "item-0"))


Misfit = Callable[[RedisServer | RedisCluster, Path], Path]


def retyped(redis: RedisServer | RedisCluster, folder: Path) -> Path:
    schema: dict[str, Any] = {**SCHEMA, "item": {**SCHEMA["item"], "price": "i64"}}
    return write_workspace(folder, redis, schema=schema)


MISFITS: dict[str, tuple[Misfit, list[str]]] = {
    "retyped": (retyped, ["item.price", "declared i64", "f32", "rankd schema migrate"]),
    "other groups": (lambda r, f: write_workspace(f, r, shards=8), ["signals.redis.shards is 8", "4 groups"]),
    "no Cluster": (lambda r, f: write_workspace(f, r, cluster=True), ["signals.redis.cluster is true"]),
    "no such file": (
        lambda r, f: write_workspace(f, r, password_file="gone"),
        ["signals.redis.password_file", "gone", "No such file"],
    ),
    "no such user": (
        lambda r, f: write_workspace(f, r, username="nobody", password_file="rankd.yaml"),
        ["signals.redis.username"],
    ),
    "no URL": (lambda r, f: write_workspace(f, r, url="http://127.0.0.1"), ["signals.redis.url", "redis://127.0.0.1"]),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Redis that has rows."""
    with redis_server() as redis:
        folder = write_workspace(tmp_path_factory.mktemp("first"), redis)
        with serving(folder, workers=1) as server, Client(server.address) as client:
            fill(client)
        yield redis


def refused(folder: Path) -> str:
    """What a server says that does not start."""
    with ServerProcess(folder) as server:
        assert server.wait() == 1
    said = "".join(server.log)
    assert "Traceback" not in said
    return said


def refused_here(folder: Path) -> str:
    """The same of what the keeper opens, in this process."""

    async def open_and_close() -> None:
        store = await open_keeper_store(load_workspace(folder, {}), lambda done, total: None)
        await store.close()

    with pytest.raises((ConfigError, StoreError)) as caught:
        asyncio.run(open_and_close())
    return str(caught.value)


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_is_said_with_its_setting(used: RedisServer, tmp_path: Path, misfit: str) -> None:
    make, expected = MISFITS[misfit]
    folder = make(used, tmp_path / "other")
    said = refused(folder) if misfit == "retyped" else refused_here(folder)
    for text in expected:
        assert text in said, said


@pytest.mark.slow
def test_the_documented_user_may_do_all_that_is_needed(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "shared-signals.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("ACL SETUSER")]
    words = line.replace("PASSWORD", "pw").split()
    for at, cluster in ((RedisServer(), False), (RedisCluster(), True)):
        try:
            for one in at.servers if isinstance(at, RedisCluster) else [at]:
                with one.client() as admin:
                    admin.execute_command(*words)
            folder = write_workspace(
                tmp_path / str(cluster), at, username="rankd", password_file="password", server={"data_dir": "data"}
            )
            (folder / "password").write_text("pw")
            for turn in range(2):  # the second time its tables are taken up
                with serving(folder, workers=1) as server, Client(server.address) as client:
                    fill(client)
                    assert client.forget_user("user-0") == {"user": 1, "user_brand": 4}
                    assert client.delete_signals("item", [f"item-{turn}"]) == 1
                    assert client.describe_schema(statistics=True).replica.in_step  # type: ignore[union-attr]
                    with channels(server, 1) as (channel,):
                        assert not rank(channel, request("user-1")).HasField("degradation")
                assert not says(server, "refused"), server.log
                assert not says(server, "NOPERM"), server.log
            for one in at.servers if isinstance(at, RedisCluster) else [at]:
                with one.client() as admin:
                    assert admin.acl_log() == []
        finally:
            at.close()


def test_a_password_that_is_wanted_and_a_cluster_that_is_not(tmp_path: Path) -> None:
    with redis_server("--requirepass", "s3cret") as redis:
        said = refused_here(write_workspace(tmp_path / "none", redis))
        assert "signals.redis.password_file" in said
        folder = write_workspace(tmp_path / "some", redis, password_file="password")
        (folder / "password").write_text("wr0ng\n")
        said = refused(folder)
        assert "signals.redis.password_file" in said
        assert "wr0ng" not in said
        (folder / "password").write_text("s3cret\n")
        with serving(folder, workers=1) as server, channels(server, 1) as (channel,):
            write(channel, "user", ["u"], "age", [3.0])
            assert user_age(channel, "u") == 3.0
    cluster = RedisCluster()
    try:
        said = refused_here(write_workspace(tmp_path / "flag", cluster, cluster=False))
        assert "signals.redis.cluster is false, but Redis is a node of a Cluster" in said
    finally:
        cluster.close()
