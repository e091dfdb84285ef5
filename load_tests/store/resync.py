"""What a machine needs to have all items from Redis, how much Redis needs for users, and how soon a change is seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import processes, shop
from generator.offer import Offer, Stream
from generator.process import Generator
from peers.servers import redis_server

from rankd.client import Client
from rankd.v1.ranking_pb2 import User
from store import shared
from store.effort import Effort

PROBES = 20
"""Items whose change is looked for."""


@dataclass(frozen=True, slots=True)
class ResyncResult:
    """From spawning `rankd serve` to SERVING, all processes."""

    items: int
    seconds: float
    empty_s: float
    """The same without any rows: what the processes need."""
    items_per_s: float
    """Over `seconds`, start of the processes included."""


@dataclass(frozen=True, slots=True)
class MemoryResult:
    """Of users with 20 signals in Redis."""

    users: int
    bytes_per_user: float
    gib_per_million: float


@dataclass(frozen=True, slots=True)
class LagResult:
    """From sending a write to one machine until another machine's GetSignals shows it, ms."""

    changes: int
    p50_ms: float
    p99_ms: float
    from_acknowledgement_p99_ms: float
    rank_rate: float
    write_rate: float


def measure_resync(folder: Path, effort: Effort, say: Callable[[str], None]) -> ResyncResult:
    """A machine that has nothing yet."""
    place = folder / "resync"
    place.mkdir()
    with redis_server(place, None) as store:
        shared.write_workspace(place / "empty", store, prefix="none")
        with processes.rankd(place / "empty") as server:
            empty_s = server.ready_s
        shared.write_workspace(place / "full", store)
        shared.fill(shared.schema_of(place / "full"), store, shared.item_batches(effort.items), say)
        with processes.rankd(place / "full") as server:
            seconds = server.ready_s
            with Client(server.target) as client:
                found = client.describe_schema().row_counts["item"]
        if found != effort.items:
            raise RuntimeError(f"of {effort.items:,} items {found:,} came")
    say(f"  {effort.items:,} items in {seconds:.1f} s ({empty_s:.1f} s of it without any)")
    return ResyncResult(effort.items, seconds, empty_s, effort.items / seconds)


def measure_memory(folder: Path, effort: Effort, say: Callable[[str], None]) -> MemoryResult:
    """Redis's own figure, before and after."""
    place = folder / "memory"
    place.mkdir()
    with redis_server(place, None) as store:
        shared.write_workspace(place / "users", store)
        before = shared.used_bytes(store)
        shared.fill(shared.schema_of(place / "users"), store, shared.user_batches(effort.users), say)
        each = (shared.used_bytes(store) - before) / effort.users
    say(f"  {each:.0f} bytes a user")
    return MemoryResult(effort.users, each, each * 1e6 / 2**30)


class _Writer(threading.Thread):
    """Writes items to one machine as long as it is let."""

    def __init__(self, target: str, rows: int) -> None:
        super().__init__(daemon=True)
        self._target, self._rows = target, rows
        self.stopping = threading.Event()
        self.written = 0

    def run(self) -> None:
        random = np.random.default_rng(1)
        with Client(self._target, batch_timeout_s=30.0) as client:
            while not self.stopping.wait(0.1):
                numbers = random.choice(self._rows - PROBES, 200, replace=False) + PROBES
                values = random.random(len(numbers), np.float32)
                client.write_signals("item", [shop.item_id(n) for n in numbers.tolist()], {"s001": values})
                self.written += len(numbers)


def measure_lag(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> LagResult:
    """Two machines on one Redis; Ranks on the second, writes on the first, and single changes looked for."""
    place = folder / "lag"
    place.mkdir()
    rows = 10_000
    with ExitStack() as stack:
        store = stack.enter_context(redis_server(place, None))
        for name in ("one", "two"):
            shared.write_workspace(place / name, store, cache_ttl_ms=1_000)
        shared.fill(
            shared.schema_of(place / "one"), store, [*shared.item_batches(rows), *shared.user_batches(2_000)], say
        )
        one = stack.enter_context(processes.rankd(place / "one"))
        two = stack.enter_context(processes.rankd(place / "two"))
        generator = stack.enter_context(Generator(core))
        requests = [
            shop.rank_request(shared.PROFILE, shop.choose_items(rows, 100, i), user=User(user_id=shared.user_id(i)))
            for i in range(64)
        ]
        writer = _Writer(one.target, rows)
        writer.start()
        generator.start(
            Offer(two.target, [Stream("rank", requests)], effort.replica_rate, effort.replica_s, 1.0, via_client=True)
        )
        sent, acknowledged = _look(one.target, two.target, generator)
        writer.stopping.set()
        writer.join()
        outcome = generator.result()
    result = LagResult(
        len(sent), float(np.percentile(sent, 50)), float(np.percentile(sent, 99)),
        float(np.percentile(acknowledged, 99)), outcome.goodput, writer.written / effort.replica_s,
    )  # fmt: skip
    say(f"  {result.changes} changes: {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms")
    return result


def _look(writing: str, reading: str, generator: Generator) -> tuple[list[float], list[float]]:
    """For each change the ms until it was seen elsewhere: from sending it, and from its acknowledgement."""
    from_sent, from_acknowledged = [], []
    with Client(writing) as writer, Client(reading) as reader:
        number = 0
        while not generator.done():
            number += 1
            id_, value = shop.item_id(number % PROBES), float(number)
            started = time.perf_counter()
            writer.write_signals("item", [id_], {"s000": [value]})
            acknowledged = time.perf_counter()
            while reader.get_signals("item", [id_], ["s000"]).columns["s000"] != [value]:
                if time.perf_counter() - acknowledged > 10.0:
                    raise TimeoutError("a change was not seen on the other machine within 10 s")
            seen = time.perf_counter()
            from_sent.append(1e3 * (seen - started))
            from_acknowledged.append(1e3 * (seen - acknowledged))
            time.sleep(0.02)
    return from_sent, from_acknowledged
