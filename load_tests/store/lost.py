"""Redis killed, and stopped, while Ranks go on: no call may fail, and all is as before soon after it is back."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import redis
from bench import processes, shop
from generator.offer import Offer, Outcome, Stream
from generator.process import Generator
from peers.servers import find_redis_server

from rankd.v1.ranking_pb2 import User
from store import shared
from store.effort import Effort

AWAY_S = 3.0


@dataclass(frozen=True, slots=True)
class LostResult:
    """`back_s`: from when Redis was there again until answers were, and stayed, complete."""

    fault: str
    calls: int
    failed: int
    degraded: int
    back_s: float
    p99_before_ms: float
    p99_away_ms: float


def _command(place: Path, port: int) -> list[str]:
    command = [find_redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""]
    return [*command, "--appendonly", "yes", "--appendfsync", "everysec"]


def _start(place: Path, port: int) -> processes.Running:
    return processes.start(_command(place, port), port, None, None)


def measure(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> list[LostResult]:
    """Each fault in the midst of a run of its own."""
    results = []
    for fault in ("kill -9", "SIGSTOP"):
        place = folder / f"lost-{len(results)}"
        place.mkdir()
        with ExitStack() as stack:
            (port,) = processes.free_ports(1)
            running = [_start(place, port)]
            stack.callback(lambda running=running: running[-1].kill())
            shared.write_workspace(place / "shop", running[0], cache_ttl_ms=200)
            schema = shared.schema_of(place / "shop")
            shared.fill(schema, running[0], [*shared.item_batches(2_000), *shared.user_batches(2_000)], say)
            server = stack.enter_context(processes.rankd(place / "shop", workers=2))
            generator = stack.enter_context(Generator(core))
            requests = [
                shop.rank_request(
                    shared.PROFILE, shop.choose_items(2_000, 50, i), user=User(user_id=shared.user_id(i % 2_000))
                )
                for i in range(512)
            ]
            offer = Offer(server.target, [Stream("rank", requests)], effort.lost_rate, effort.lost_s, 1.0)
            generator.start(offer)
            started = time.perf_counter()
            time.sleep(effort.lost_s / 4)
            away_at = time.perf_counter() - started
            back_at = _fault(fault, place, port, running) - started
            outcome = generator.result()
        results.append(_result(fault, outcome, away_at, back_at))
        r = results[-1]
        say(f"  {fault}: {r.calls:,} calls, {r.failed} failed, {r.degraded} degraded, complete {r.back_s:.2f} s after")
    return results


def _fault(fault: str, place: Path, port: int, running: list[processes.Running]) -> float:
    """Takes Redis away for AWAY_S; when it was there again."""
    if fault == "SIGSTOP":
        running[-1].process.send_signal(signal.SIGSTOP)
        time.sleep(AWAY_S)
        running[-1].process.send_signal(signal.SIGCONT)
        return time.perf_counter()
    running[-1].kill()
    time.sleep(AWAY_S)
    running.append(_start(place, port))
    with redis.Redis(port=port) as client:
        while True:
            # It listens before it has read its file.
            with contextlib.suppress(redis.RedisError):
                client.ping()
                return time.perf_counter()
            time.sleep(0.01)


def _result(fault: str, outcome: Outcome, away_at: float, back_at: float) -> LostResult:
    incomplete = (outcome.degraded > 0) | (outcome.code != 0)
    after = outcome.at_s[incomplete & (outcome.at_s >= away_at)]
    away = outcome.part(away_at, back_at)
    return LostResult(
        fault, len(outcome.code), outcome.failed, int((outcome.degraded > 0).sum()),
        back_s=max(0.0, float(after.max()) - back_at) if len(after) else 0.0,
        p99_before_ms=outcome.part(0.0, away_at).latency_ms(99), p99_away_ms=away.latency_ms(99),
    )  # fmt: skip
