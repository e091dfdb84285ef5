"""What fetching a user from Redis adds to a Rank, beside a bare hiredis pipeline for the same bytes.

Two servers with the same profile on one Redis: one fetches the user for each call (no cache), the other has users in
its tables. What the fetch adds is the difference of their waits, round by round. The bare pipeline is a blocking
socket, hiredis to pack and parse, nothing else; it gets the same value. It is timed twice: in the rhythm of the calls,
one GET by the caller between two Ranks, as a caller would who reads the user first; and back to back, when everything
is in the caches and Redis has not gone to sleep, which no GET in a service is.
"""

from __future__ import annotations

import itertools
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis
import redis
from bench import processes, shop
from bench.processes import Running
from generator.offer import RANK
from path.callers import Block, Cost, GrpcCaller
from peers.servers import redis_server

from rankd.v1.ranking_pb2 import RankResponse, User
from store import shared
from store.effort import Effort

USERS = 2_000
CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Medians over the rounds, µs a call."""

    with_fetch_us: float
    without_us: float
    added_us: float
    bare_us: float
    """Between two Ranks."""
    tight_us: float
    """Back to back."""
    ratio: float
    """added / bare, the median of the rounds'."""
    tight_ratio: float
    added_cpu_us: float
    value_bytes: int
    round_trips: float
    """Commands that Redis was sent, a Rank."""


class BarePipeline:
    """GETs over one socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def get(self, key: bytes) -> bytes:
        """One round trip."""
        self._socket.sendall(hiredis.pack_command((b"GET", key)))
        while True:
            self._reader.feed(self._socket.recv(65_536))
            reply = self._reader.gets()
            if reply is not False:
                return reply

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def _bare_s(pipeline: BarePipeline, keys: list[bytes], calls: int) -> float:
    """Seconds a call."""
    waiting = list(itertools.islice(itertools.cycle(keys), calls))
    started = time.perf_counter()
    for key in waiting:
        pipeline.get(key)
    return (time.perf_counter() - started) / calls


def _between_s(
    pipeline: BarePipeline, keys: list[bytes], caller: GrpcCaller, requests: list[bytes], calls: int, core: int | None
) -> float:
    """Seconds a call of which each is followed by a Rank; asked from the servers' core, as theirs are."""
    total = 0.0
    for key, request in itertools.islice(zip(itertools.cycle(keys), itertools.cycle(requests), strict=False), calls):
        with processes.on_core(core):
            started = time.perf_counter()
            pipeline.get(key)
            total += time.perf_counter() - started
        caller.call(request)
    return total / calls


def _requests() -> list[bytes]:
    lists = [shop.choose_items(10_000, CANDIDATES, seed) for seed in range(8)]
    return [
        shop.rank_request(shared.PROFILE, lists[i % len(lists)], user=User(user_id=shared.user_id(i)))
        for i in range(USERS)
    ]


def _check(answer: bytes) -> None:
    response = RankResponse.FromString(answer)
    if len(response.ids) != CANDIDATES or response.HasField("degradation"):
        raise RuntimeError(f"a Rank was not answered as it should be: {response.degradation}")


def _calls(server: Running) -> int:
    with redis.Redis(port=server.port) as client:
        return int(client.info("stats")["total_commands_processed"])


def measure(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> FetchResult:
    """Rounds of both servers and the pipeline in turns."""
    place = folder / "fetch"
    place.mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(redis_server(place, None))
        for name in ("fetched", "replicated"):
            shared.write_workspace(place / name, store, user_storage=name)
        schema = shared.schema_of(place / "fetched")
        shared.fill(schema, store, [*shared.item_batches(10_000), *shared.user_batches(USERS)], say)
        servers = {n: stack.enter_context(processes.rankd(place / n, core)) for n in ("fetched", "replicated")}
        requests = _requests()
        blocks, callers = {}, {}
        for name, server in servers.items():
            caller = callers[name] = GrpcCaller(server, RANK)
            stack.callback(caller.close)
            _check(caller.call(requests[0]))
            blocks[name] = Block(caller, requests, 0.3)
            blocks[name].calls = effort.fetch_calls
        with redis.Redis(port=store.port) as client:
            keys = list(client.scan_iter(match="rk:{user.*", count=10_000))[:USERS]
            value_bytes = statistics.median(len(value) for value in client.mget(keys[:1]))
        bare = BarePipeline(store.port)
        stack.callback(bare.close)
        before = _calls(store)
        blocks["fetched"].measure()
        round_trips = (_calls(store) - before - 1) / effort.fetch_calls
        rounds: list[list[Any]] = []
        calls = effort.fetch_calls
        measures: list[Callable[[], float | Cost]] = [
            blocks["fetched"].measure,
            blocks["replicated"].measure,
            lambda: _between_s(bare, keys, callers["replicated"], requests, calls, core),
            lambda: _bare_s(bare, keys, calls),
        ]
        for number in range(effort.fetch_rounds):
            found = [(at, measures[at]()) for at in (range(4), reversed(range(4)))[number % 2]]
            rounds.append([value for _, value in sorted(found, key=lambda one: one[0])])
    result = FetchResult(
        with_fetch_us=1e6 * statistics.median(f.wall_s for f, _, _, _ in rounds),
        without_us=1e6 * statistics.median(p.wall_s for _, p, _, _ in rounds),
        added_us=1e6 * statistics.median(f.wall_s - p.wall_s for f, p, _, _ in rounds),
        bare_us=1e6 * statistics.median(b for _, _, b, _ in rounds),
        tight_us=1e6 * statistics.median(t for _, _, _, t in rounds),
        ratio=statistics.median((f.wall_s - p.wall_s) / b for f, p, b, _ in rounds),
        tight_ratio=statistics.median((f.wall_s - p.wall_s) / t for f, p, _, t in rounds),
        added_cpu_us=1e6 * statistics.median(f.cpu_s - p.cpu_s for f, p, _, _ in rounds),
        value_bytes=int(value_bytes),
        round_trips=round_trips,
    )
    say(
        f"  a fetch adds {result.added_us:.0f} µs, a bare GET takes {result.bare_us:.0f} µs: {result.ratio:.2f} "
        f"(back to back {result.tight_us:.0f} µs: {result.tight_ratio:.2f})"
    )
    return result
