"""From a Redis Stream through a consumer that is killed, into a real store: counts are exact."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from support.collect_server import CollectServer, collecting_into
from support.event_world import entity, signal
from support.redis_servers import RedisServer

from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import open_redis_store
from rankd.types.schema import EventSource, Schema, SignalKind

KEY, GROUP = "events", "rankd"

SCHEMA = Schema(
    {
        "item": entity(
            "item",
            signal("clicks", SignalKind.WINDOW, EventSource(("click",)), window_s=86_400.0, bucket_s=3_600.0),
            signal("weight", SignalKind.MAP, EventSource(("click",), key="event.user_id", weight="event.value")),
        ),
        "user": entity("user", signal("clicks", SignalKind.WINDOW, EventSource(("click",)), window_s=86_400.0,
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


def total(server: CollectServer, entity: str) -> float:
    """The sum of all windows."""
    page = server.run(server.store.scan, entity, ["clicks"], "", 1_000, time.time())
    assert not page.cursor
    return float(sum(column.values.counts.sum() for column in page.rows.columns))


def test_consumers_that_are_killed_count_nothing_twice(redis: RedisServer, server: CollectServer) -> None:
    count = 2_000
    now_ms = round(time.time() * 1000)
    with redis.client() as client, client.pipeline() as pipe:
        for i in range(count):
            event = {"event_id": f"e{i}", "type": "click", "item_id": f"p{i % 7}", "user_id": f"u{i % 3}", "value": 0.5,
                     "time": now_ms - i}  # fmt: skip
            pipe.xadd(KEY, {"event": json.dumps(event)})
        pipe.execute()
        for attempt, least in enumerate((200, 600, 1_000)):
            process = start(redis, server, f"killed-{attempt % 2}", "--claim-after", "0.5")
            end = time.monotonic() + 30
            while total(server, "item") < least:
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.005)
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
