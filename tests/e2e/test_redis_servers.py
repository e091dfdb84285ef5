"""Servers whose signals are shared through Redis: what they answer, when a write is seen, how often Redis is asked."""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Iterator

import pytest
from support.redis_servers import RedisCluster, RedisServer, redis_server
from support.serving import ServerProcess
from support.shared_servers import (
    USERS,
    channels,
    feature,
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
from rankd.types.text import composite_id
from rankd.v1 import signals_pb2 as sp
from rankd.v1.signals_pb2_grpc import SignalServiceStub

LONG_MS = 600_000
"""A row that is seen to change before that was invalidated."""


@pytest.fixture(scope="module", params=["one server", "cluster"])
def redis(request: pytest.FixtureRequest) -> Iterator[RedisServer | RedisCluster]:
    if request.param == "one server":
        with redis_server() as server:
            yield server
        return
    cluster = RedisCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def server(redis: RedisServer | RedisCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two workers over Redis, with rows."""
    folder = write_workspace(tmp_path_factory.mktemp("shared"), redis, cache_ttl_ms=LONG_MS)
    with serving(folder) as server:
        with Client(server.address) as client:
            fill(client)
        yield server


@pytest.fixture(scope="module")
def other(
    redis: RedisServer | RedisCluster, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Another machine: it comes when there are rows already."""
    folder = write_workspace(
        tmp_path_factory.mktemp("other"), redis, cache_ttl_ms=100, server={"metrics_listen": "127.0.0.1:0"}
    )
    with serving(folder, workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same workspace with rows of its own."""
    with serving(write_workspace(tmp_path_factory.mktemp("embedded")), workers=1) as server:
        with Client(server.address) as client:
            fill(client)
        yield server


def test_answers_are_those_of_the_embedded_backend(
    server: ServerProcess, other: ServerProcess, embedded: ServerProcess
) -> None:
    known = 0
    with channels(server, 4) as here, channels(other, 1) as (elsewhere,), channels(embedded, 1) as (there,):
        for number, user in enumerate([*USERS, "nobody", ""]):
            what = request(user, session=f"s{user}")
            expected = rank(there, what)
            for got in (rank(here[number % 4], what), rank(elsewhere, what)):
                for answer in (expected, got):
                    answer.ClearField("signal_ages")  # of the moment of writing
                    answer.ClearField("timings")
                assert got.SerializeToString() == expected.SerializeToString()
            known += sum(not math.isnan(value) for one in expected.features for value in one.values)
    assert known > 5_000


def test_a_write_is_seen_by_every_worker_at_once(server: ServerProcess) -> None:
    with channels(server) as open_channels:
        for price, channel in enumerate(open_channels):
            for reader in open_channels:  # has it cached
                user_age(reader, "user-1")
            write(channel, "item", ["item-1"], "price", [price])
            write(channel, "user", ["user-1"], "age", [price])
            assert [item_price(reader, "item-1") for reader in open_channels] == [price] * len(open_channels)
            assert [user_age(reader, "user-1") for reader in open_channels] == [price] * len(open_channels)


def test_so_are_deletions_and_what_is_forgotten(server: ServerProcess) -> None:
    pair = composite_id(["user-2", "Fjell"])
    with channels(server) as open_channels, Client(server.address) as client:
        stub = SignalServiceStub(open_channels[0])
        client.write_signals("item", ["item-2"], {"price": [5.0], "brand": ["Fjell"]})
        client.write_signals("user", ["user-2"], {"age": [40.0]})
        client.write_signals("user_brand", [pair], {"bought": [3.0]})

        def seen() -> set[tuple[str, ...]]:
            what = request("user-2", items=["item-2"])
            answers = [rank(reader, what) for reader in open_channels]
            return {tuple(str(feature(answer, name)[0]) for name in ("price", "age", "bought")) for answer in answers}

        assert seen() == {("5.0", "40.0", "3.0")}
        deleted = stub.DeleteSignals(sp.DeleteSignalsRequest(entity="user", ids=["user-2"]), timeout=10)
        assert deleted.deleted_count == 1
        assert seen() == {("5.0", "nan", "3.0")}
        assert client.forget_user("user-2")["user_brand"] >= 1
        assert seen() == {("5.0", "nan", "nan")}
        client.delete_signals("item", ["item-2"])
        assert seen() == {("nan", "nan", "nan")}
        client.write_signals("user", ["user-2"], {"age": [41.0]})
        assert seen() == {("nan", "41.0", "nan")}


def test_a_write_is_seen_on_another_machine(server: ServerProcess, other: ServerProcess) -> None:
    with channels(server, 1) as (here,), channels(other, 1) as (there,):
        for writer, reader, value in ((here, there, 1.0), (there, here, 2.0), (here, there, 3.0)):
            write(writer, "item", ["item-3"], "price", [value])
            until(lambda reader=reader, value=value: item_price(reader, "item-3") == value)
        write(here, "user", ["user-3"], "age", [value])
        until(lambda: user_age(there, "user-3") == value)  # when its cached row is too old
        SignalServiceStub(there).DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=["item-3"]), timeout=10)
        until(lambda: math.isnan(item_price(here, "item-3")))
        assert [user_age(c, "user-3") for c in (here, there)] == [value] * 2


def test_every_row_is_there_and_counted(server: ServerProcess, other: ServerProcess) -> None:
    with Client(server.address) as here, Client(other.address) as there:
        here.write_signals("session", ["counted"], {"depth": [1.0]})
        expected = {name: len([id_ for page in here.scan(name) for id_ in page.ids]) for name in ("item", "user")}
        for client in (here, there):
            until(lambda c=client: {n: c.describe_schema().row_counts[n] for n in expected} == expected)
            described = client.describe_schema(statistics=True)
            assert described.replica is not None
            assert described.replica.in_step
            assert described.replica.lag_s < 10.0
        assert here.get_signals("session", ["counted"]).columns["depth"] == [1.0]


def test_status_and_metrics_tell_of_the_replica(other: ServerProcess) -> None:
    told = next(row["replica"] for row in status(other)["processes"] if row["name"] == "keeper")
    assert told["in_step"]
    assert told["lag_s"] < 10.0
    assert "replica: in step with Redis, at most " in status_text(other)
    line = next(line for line in other.log if "metrics on" in line)
    url = line.partition("metrics on ")[2].strip()
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    assert "rankd_signal_replica_in_step 1.0" in text
    assert "rankd_signal_replica_lag_seconds 0." in text
    assert any("item: " in line and "rows read from Redis" in line for line in other.log)
