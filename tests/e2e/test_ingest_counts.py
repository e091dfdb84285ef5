"""From a Redis Stream through a consumer that is killed, into a real store: counts are exact."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.collect_server import CollectServer, collecting_into
from support.event_world import entity
from support.event_world import signal as signal_of
from support.redis_servers import RedisServer

from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import open_redis_store
from rankd.types.schema import EventSource, Schema, SignalKind

KEY, GROUP = "events", "rankd"

SCHEMA = Schema(
    {
        "item": entity(
            "item",
            signal_of("clicks", SignalKind.WINDOW, EventSource(("click",)), window_s=86_400.0, bucket_s=3_600.0),
            signal_of("weight", SignalKind.MAP, EventSource(("click",), key="event.user_id", weight="event.value")),
        ),
        "user": entity("user", signal_of("clicks", SignalKind.WINDOW, EventSource(("click",)), window_s=86_400.0,
                                      bucket_s=3_600.0)),
    }
)  # fmt: skip


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def server(redis: RedisServer) -> Iterator[CollectServer]:
    with collecting_into(lambda: open_redis_store(SCHEMA, RedisOptions(redis.url))) as it:
        yield it


def start(redis: RedisServer, server: CollectServer, consumer: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rankd", "ingest", "--redis-stream", redis.url, KEY, "--group", GROUP]
    command += ["--consumer", consumer, "--address", f"127.0.0.1:{server.port}", "--batch-events", "40", "--json"]
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def add(client: Redis, count: int, first: int = 0) -> None:
    now_ms = round(time.time() * 1000)
    with client.pipeline() as pipe:
        for i in range(first, first + count):
            event = {"event_id": f"e{i}", "type": "click", "item_id": f"p{i % 7}", "user_id": f"u{i % 3}", "value": 0.5,
                     "time": now_ms - i}  # fmt: skip
            pipe.xadd(KEY, {"event": json.dumps(event)})
        pipe.execute()


def until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end and process.poll() is None, "waited for too long"
        time.sleep(0.005)


def total(server: CollectServer, entity: str) -> float:
    """The sum of all windows."""
    page = server.run(server.store.scan, entity, ["clicks"], "", 1_000, time.time())
    assert not page.cursor
    return float(sum(column.values.counts.sum() for column in page.rows.columns))


def test_consumers_that_are_killed_count_nothing_twice(redis: RedisServer, server: CollectServer) -> None:
    count = 2_000
    with redis.client() as client:
        add(client, count)
        add(client, 300, 100)  # the same events in entries of their own
        for attempt, least in enumerate((200, 600, 1_000)):
            process = start(redis, server, f"killed-{attempt % 2}", "--claim-after", "0.5")
            until(lambda least=least: total(server, "item") >= least, process)
            process.kill()
            process.communicate()
        process = start(redis, server, "last", "--claim-after", "0.5", "--stop-when-idle", "1.5")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert int(client.xpending(KEY, GROUP)["pending"]) == 0
    assert json.loads(out)["rejected"] == 0
    assert total(server, "item") == total(server, "user") == count
    rows = server.run(server.store.get, "item", [f"p{i}" for i in range(7)], ["weight"], time.time())
    assert float(rows.columns[0].values.values.sum()) == count / 2


def test_one_that_hung_and_a_redis_that_hung(redis: RedisServer, server: CollectServer) -> None:
    """A consumer that stands still loses its entries to another; when it goes on, they count once all the same. A
    Redis that does not answer is waited for, with events that cannot be taken among those that can."""
    count = 900
    with redis.client() as client:
        add(client, count)
        hung = start(redis, server, "hung", "--claim-after", "60")
        until(lambda: total(server, "item") >= 80, hung)
        hung.send_signal(signal.SIGSTOP)
        other = start(redis, server, "other", "--claim-after", "0.3", "--stop-when-idle", "2.5")
        until(lambda: total(server, "item") == count, other)
        hung.send_signal(signal.SIGCONT)
        redis.stop()
        time.sleep(1.0)
        redis.go_on()
        client.xadd(KEY, {"event": "nonsense"})
        client.xadd(KEY, {"event": json.dumps({"event_id": "far", "type": "click", "time": 2**52})})
        add(client, 100, count)
        told, err = other.communicate(timeout=60)
        assert other.returncode in (0, 1), err
        hung.send_signal(signal.SIGTERM)
        told_too, err = hung.communicate(timeout=60)
        assert hung.returncode in (0, 1), err
        assert int(client.xpending(KEY, GROUP)["pending"]) == 0
        assert [fields[b"rejected_reason"].partition(b":")[0] for _, fields in client.xrange(f"{KEY}:rejected")] == [
            b"event", b"unix_millis",
        ]  # fmt: skip
    assert json.loads(told)["rejected"] + json.loads(told_too)["rejected"] == 2
    assert total(server, "item") == total(server, "user") == count + 100
