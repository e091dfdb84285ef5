"""Redis is lost, in every way, under Ranks: no call fails, answers say what they lack, and all comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from load_tests.faults.proxy import Faults
from support.proxy_thread import ProxyThread
from support.redis_servers import RedisServer, redis_server
from support.serving import ServerProcess
from support.shared_servers import (
    Load,
    channels,
    fill,
    item_price,
    rank,
    refusal,
    request,
    serving,
    status,
    until,
    user_age,
    write,
    write_workspace,
)

from rankd.client import Client
from rankd.v1 import ranking_pb2 as pb

AWAY_S = 0.5
STALE = pb.Degradation(level=pb.DEGRADATION_LEVEL_STALE_SIGNALS, reasons=["signals_unavailable"])


@dataclass
class World:
    """A server that speaks with its Redis by way of a proxy."""

    redis: RedisServer
    proxy: ProxyThread
    server: ServerProcess


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """It keeps its data on disk."""
    with redis_server("--appendonly", "yes") as redis, ProxyThread(redis.port) as proxy:
        folder = write_workspace(tmp_path_factory.mktemp("lost"), redis, url=proxy.url, cache_ttl_ms=100)
        with serving(folder) as server:
            with Client(server.address) as client:
                fill(client)
            yield World(redis, proxy, server)


Take = Callable[[World], None]


def proxied(faults: Faults) -> tuple[Take, Take]:
    return lambda world: world.proxy.set(faults), lambda world: world.proxy.set(Faults())


LOSSES: dict[str, tuple[Take, Take]] = {
    "killed": (lambda world: world.redis.kill(), lambda world: world.redis.start()),
    "stopped": (lambda world: world.redis.stop(), lambda world: world.redis.go_on()),
    "refusing": proxied(Faults(is_refusing=True)),
    "a black hole": proxied(Faults(is_black_hole=True)),
    "too slow": proxied(Faults(delay_s=0.5)),
    "cut in the midst of replies": proxied(Faults(cut_after=40)),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_no_call_fails_and_all_comes_back(world: World, loss: str) -> None:
    take, give_back = LOSSES[loss]
    with channels(world.server, 4) as open_channels, Load(world.server) as load:
        write(open_channels[0], "user", ["before"], "age", [1.0])
        until(lambda: load.whole(0.0) > 50)
        assert not load.degraded()
        take(world)
        taken = time.monotonic()
        until(lambda: load.degraded(taken))
        failures = [
            refusal(lambda: write(open_channels[0], "item", ["lost"], "price", [9.0])),
            refusal(lambda: write(open_channels[1], "user", ["lost"], "age", [9.0])),
        ]
        # Who wants no rows of Redis's is answered whole.
        assert not rank(open_channels[0], request("")).HasField("degradation")
        time.sleep(max(0.0, taken + AWAY_S - time.monotonic()))
        give_back(world)
        back = time.monotonic()
        until(lambda: load.whole(back) > 50 and load.whole(time.monotonic() - 0.5) > 0 and _quiet(load))
        until(lambda: _can_write(open_channels[0]))
        writes_s = time.monotonic() - back
    assert load.failed == []
    assert all(told == STALE for told in load.degraded())
    slowest = max(took for _, _, took in failures)
    print(
        f"\n{loss}: {len(load.answers)} calls, 0 failed, {len(load.degraded())} degraded,"
        f" slowest {load.slowest():.3f} s;"
        f" whole again {max(0.0, load.last_incomplete() - back):.2f} s after, written again {writes_s:.2f} s;"
        f" refused after {slowest:.2f} s: {failures[-1][1]}"
    )
    for code, said, _ in failures:
        assert code is grpc.StatusCode.UNAVAILABLE
        assert said.startswith("Redis ")
        assert "127.0.0.1" not in said
    # Nothing old is used once Redis answers again.
    with channels(world.server) as open_channels:
        write(open_channels[0], "user", ["before"], "age", [2.0])
        write(open_channels[0], "item", ["item-0"], "price", [2.0])
        assert {user_age(c, "before") for c in open_channels} == {2.0}
        assert {item_price(c, "item-0") for c in open_channels} == {2.0}
    until(lambda: _replica(world.server)["in_step"])


def test_slow_is_not_lost(world: World) -> None:
    world.proxy.set(Faults(delay_s=0.02))
    with Load(world.server) as load, channels(world.server, 1) as (channel,):
        until(lambda: load.whole(0.0) > 50)
        write(channel, "user", ["slow"], "age", [1.0])
        assert user_age(channel, "slow") == 1.0
    world.proxy.set(Faults())
    assert load.failed == []
    assert len(load.degraded()) < len(load.answers) / 10  # a stall of this machine's is none of Redis's


def _quiet(load: Load) -> bool:
    return time.monotonic() - load.last_incomplete() > 0.5


def _can_write(channel: grpc.Channel) -> bool:
    try:
        write(channel, "item", ["again"], "price", [1.0])
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        return False
    return True


def _replica(server: ServerProcess) -> dict[str, object]:
    return next(row["replica"] for row in status(server)["processes"] if row["name"] == "keeper")  # type: ignore[no-any-return]
