"""Rows that are fetched for each call: round trips, single flight, the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.redis_servers import RedisServer, redis_server
from support.shared_servers import (
    channels,
    commands,
    fill,
    rank,
    request,
    serving,
    user_age,
    write,
    write_workspace,
)

from rankd.client import Client

USERS = [f"u{i}" for i in range(60)]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def reads(server: RedisServer) -> int:
    """How often Redis has read something from a connection."""
    with server.client() as client:
        return int(client.info("stats")["total_reads_processed"])


def test_all_rows_of_a_call_are_one_round_trip(redis: RedisServer, tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, redis, prefix="trips")
    with serving(folder, workers=1) as server, Client(server.address) as client, channels(server, 1) as (channel,):
        fill(client)
        client.write_signals("user", USERS, {"age": list(range(len(USERS)))})
        rank(channel, request("user-0", session="s"))
        rows_before, before = commands(redis), reads(redis)
        for user in USERS:
            assert not rank(channel, request(user, session=f"s{user}")).HasField("degradation")
        asked, rows = reads(redis) - before, commands(redis)
    gets = rows["get"] - rows_before["get"]
    # A user, a session, and the user with each brand of the candidates.
    assert gets == 6 * len(USERS)
    # What the replica does meanwhile, and this test.
    others = sum(rows[name] - rows_before.get(name, 0) for name in rows if name != "get")
    assert asked <= len(USERS) + others + 2


def test_who_asks_for_the_same_at_the_same_time_asks_once(redis: RedisServer, tmp_path: Path) -> None:
    folder = write_workspace(tmp_path, redis, prefix="flight", socket_timeout_ms=10_000)
    with serving(folder, workers=1) as server, channels(server, 1) as (channel,):
        write(channel, "user", ["u"], "age", [33.0])
        user_age(channel, "u")
        before = commands(redis)["get"]
        with redis.client() as client, ThreadPoolExecutor(16) as pool:
            client.client_pause(1_000, all=True)
            ages = list(pool.map(lambda _: user_age(channel, "u"), range(16)))
        assert ages == [33.0] * 16
        # The user, and the user with the (one) candidate's brand, which is not known.
        assert commands(redis)["get"] - before <= 2 * 2


def test_a_cached_row_is_used_again_for_a_while(redis: RedisServer, tmp_path: Path) -> None:
    here, there = (
        write_workspace(tmp_path / str(ttl), redis, prefix="ttl", cache_ttl_ms=ttl) for ttl in (600_000, 300)
    )
    with (
        serving(here, workers=1) as long,
        serving(there, workers=1) as short,
        channels(long, 1) as (slow,),
        channels(short, 1) as (quick,),
    ):
        write(slow, "user", ["u"], "age", [1.0])
        assert user_age(slow, "u") == user_age(quick, "u") == 1.0
        before = commands(redis)["get"]
        assert [user_age(slow, "u") for _ in range(20)] == [1.0] * 20
        assert commands(redis)["get"] == before
        # A write elsewhere is seen when the time is over, one through this machine at once.
        write(quick, "user", ["u"], "age", [2.0])
        assert user_age(quick, "u") == 2.0
        assert user_age(slow, "u") == 1.0
        write(slow, "user", ["other"], "age", [2.0])
        assert user_age(slow, "u") == 1.0
        write(slow, "user", ["u"], "age", [3.0])
        assert user_age(slow, "u") == 3.0
        time.sleep(0.4)
        assert user_age(quick, "u") == 3.0
