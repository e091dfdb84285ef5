"""rankd ingest --redis-stream with a real Redis: every entry counts once, whatever dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from support.fake_collect import FakeCollect, collecting
from support.redis_servers import RedisServer

KEY, GROUP = "events", "rankd"


@pytest.fixture
def fake() -> Iterator[FakeCollect]:
    with collecting() as served:
        yield served


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.close()


def start(redis: RedisServer, fake_port: int, consumer: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rankd", "ingest", "--redis-stream", redis.url, KEY, "--group", GROUP]
    command += ["--consumer", consumer, "--address", f"127.0.0.1:{fake_port}", "--timeout", "2", "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, int], str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, json.loads(out) if out else {}, err


def add(client: Redis, start: int, end: int) -> None:
    with client.pipeline() as pipe:
        for i in range(start, end):
            pipe.xadd(KEY, {"event": json.dumps({"event_id": f"e{i}", "type": "click"})})
        pipe.execute()


def until(what: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


def pending(client: Redis) -> int:
    return int(client.xpending(KEY, GROUP)["pending"])


def test_entries_of_both_shapes_and_rejects(fake: FakeCollect, redis: RedisServer, tmp_path: Path) -> None:
    with redis.client() as client:
        client.xadd(KEY, {"event": '{"event_id": "a", "type": "click", "value": 2, "properties": {"p": true}}'})
        flat = {"type": "click", "item_id": "i", "time": "1700000000000", "position": "3", "value": "1.5",
                "query": "", "properties": '{"n": 1}', "properties.colour": "red"}  # fmt: skip
        own_id = client.xadd(KEY, flat).decode()
        for poison in (
            {"event": "nonsense"}, {"event": "[]"}, {"type": "click", "value": "much"}, {b"\xff": b"x"},
            {"event_id": "r", "type": "refused"}, {"event_id": "s", "typ": "click"},
        ):  # fmt: skip
            client.xadd(KEY, poison)
        rejects = tmp_path / "rejects.jsonl"
        code, summary, err = finish(start(redis, fake.port, "c", "--stop-when-idle", "0.1", "--rejects", str(rejects)))
        assert code == 1, err
        assert (summary["accepted"], summary["rejected"]) == (2, 6)
        assert fake.events["a"].properties["p"].flag and fake.events["a"].value == 2
        event = next(event for id_, event in fake.events.items() if id_.startswith(own_id))
        assert (event.item_id, event.unix_millis, event.position, event.value) == ("i", 1_700_000_000_000, 3, 1.5)
        assert (event.properties["n"].number, event.properties["colour"].text) == (1, "red")
        assert pending(client) == 0
        rejected = [fields for _, fields in client.xrange(f"{KEY}:rejected")]
        assert [fields[b"rejected_reason"].decode().partition(":")[0] for fields in rejected] == [
            "event", "event", "value", "expected UTF-8, got other bytes", "type",
            "expected a field of events, got `typ`; did you mean `type`?",
        ]  # fmt: skip
        assert rejected[0][b"event"] == b"nonsense"
        assert len(rejects.read_text().splitlines()) == 6
        assert f"{KEY}:rejected: " in err


def test_events_of_before_are_acknowledged_and_left_out(fake: FakeCollect, redis: RedisServer) -> None:
    """--since, after build-signals --until."""
    with redis.client() as client:
        for event_id, time_ms in (("before", 1_767_225_599_999), ("then", 1_767_225_600_000), ("now", None)):
            client.xadd(KEY, {"event": json.dumps({"event_id": event_id, "type": "click", "time": time_ms})})
        code, summary, err = finish(start(redis, fake.port, "c", "--stop-when-idle", "0.1", "--since", "2026-01-01"))
        assert code == 0, err
        assert (summary["accepted"], summary["earlier"]) == (2, 1)
        assert set(fake.events) == {"then", "now"}
        assert pending(client) == 0


def test_two_consumers_share_and_signals_end_them(fake: FakeCollect, redis: RedisServer) -> None:
    fake.delay_s = 0.005
    with redis.client() as client:
        add(client, 0, 400)
        both = [start(redis, fake.port, name, "--batch-events", "20") for name in ("one", "two")]
        until(lambda: len(fake.counts) == 400)
        until(lambda: pending(client) == 0)
        # One alone may have taken all, and the other still be about to start.
        until(lambda: len(client.xinfo_consumers(KEY, GROUP)) == 2)
        both[0].send_signal(signal.SIGTERM)
        both[1].send_signal(signal.SIGINT)
        ends = [finish(process) for process in both]
        assert [code for code, _, _ in ends] == [0, 0]
        assert sum(summary["accepted"] for _, summary, _ in ends) == 400
    assert set(fake.counts.values()) == {1}


@pytest.mark.parametrize("name_after", ["one", "two"], ids=["the same again", "another takes over"])
def test_a_killed_consumer_loses_nothing(fake: FakeCollect, redis: RedisServer, name_after: str) -> None:
    fake.delay_s = 0.01
    with redis.client() as client:
        add(client, 0, 1_000)
        killed = start(redis, fake.port, "one", "--batch-events", "50")
        until(lambda: len(fake.counts) >= 200)
        killed.kill()
        killed.communicate()
        assert pending(client) > 0 or len(fake.counts) < 1_000
        add(client, 1_000, 1_100)
        code, summary, err = finish(
            start(redis, fake.port, name_after, "--claim-after", "0.3", "--stop-when-idle", "1.5")
        )
        assert code == 0, err
        assert pending(client) == 0
    assert set(fake.counts) == {f"e{i}" for i in range(1_100)}
    assert max(fake.counts.values()) <= 2, "only what was under way came twice, and says so"
    assert summary["repeated"] == sum(count - 1 for count in fake.counts.values())


def test_it_waits_for_redis_and_for_the_server(fake: FakeCollect, redis: RedisServer) -> None:
    with redis.client() as client:
        add(client, 0, 10)
        process = start(redis, fake.port, "c", "--stop-when-idle", "3")
        until(lambda: len(fake.counts) == 10)
        redis.kill()
        time.sleep(0.3)
        redis.start()
        fake.fail_after = 0
        add(client, 10, 20)
        time.sleep(0.5)
        fake.fail_after = 1_000_000
        until(lambda: len(fake.counts) == 20)
        code, _, err = finish(process)
    assert code == 0, err
    assert "waiting: Redis: " in err
    assert "going on" in err
