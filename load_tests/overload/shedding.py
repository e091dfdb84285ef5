"""Goodput at multiples of capacity, what comes after, who is served first, and whether probes pass meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np
from bench import processes, shop
from bench.processes import Running
from generator.capacity import Capacity, find_capacity
from generator.offer import RANK, Offer, Outcome, Stream
from generator.process import Generator
from grpc_health.v1 import health_pb2, health_pb2_grpc

from overload.effort import Effort

DEADLINE_S = 0.1
PAGE = 10
Say = Callable[[str], None]


@dataclass(slots=True)
class Probes:
    """Health checks on their own port, one after another, while the block runs."""

    target: str
    every_s: float = 0.02
    failed: int = 0
    waits_ms: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _probe(self) -> None:
        with grpc.insecure_channel(self.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while not self._stop.wait(self.every_s):
                started = time.perf_counter()
                try:
                    status = check(health_pb2.HealthCheckRequest(), timeout=1.0).status
                except grpc.RpcError:
                    status = None
                self.failed += status != health_pb2.HealthCheckResponse.SERVING
                self.waits_ms.append((time.perf_counter() - started) * 1e3)

    def __enter__(self) -> Probes:
        self._thread = threading.Thread(target=self._probe)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def p99_ms(self) -> float:
        """NaN if none was made."""
        return float(np.percentile(self.waits_ms, 99)) if self.waits_ms else float("nan")


@dataclass(slots=True)
class Overload:
    """One multiple of capacity."""

    factor: int
    outcome: Outcome
    """While it was offered."""
    recovered_s: float
    """Afterwards, at half of capacity."""
    probes: Probes

    def goodput(self, capacity: Capacity) -> float:
        """As a fraction of capacity."""
        return self.outcome.goodput / capacity.rate


@dataclass(slots=True)
class Shedding:
    """All of it."""

    cpu_ms: float
    """Server CPU of one call when there is nothing else to do."""
    capacity: Capacity
    overloads: list[Overload] = field(default_factory=list)
    mix: Outcome | None = None
    bare: dict[int, float] = field(default_factory=dict)
    """Goodput of a server without admission control, as a fraction of the same capacity, by factor."""


def cpu_per_call_s(server: Running, request: bytes, calls: int) -> float:
    """One call after another: the median of five blocks."""
    with grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)]) as channel:
        rank = channel.unary_unary(RANK)
        blocks = []
        for _ in range(5):
            before = server.cpu_s()
            for _ in range(calls):
                rank(request)
            blocks.append((server.cpu_s() - before) / calls)
    return statistics.median(blocks)


def measure(folder: Path, effort: Effort, generator: Generator, core: int | None, say: Say) -> Shedding:
    """Starts a server of one worker on one core and offers it more and more."""
    shop.write_workspace(folder / "heavy", [effort.heavy], base="item.s000")
    candidates = [shop.choose_items(effort.items, effort.heavy_candidates, seed) for seed in range(32)]
    requests = [shop.rank_request(shop.forest_name(effort.heavy), numbers, page_size=PAGE) for numbers in candidates]
    with ExitStack() as stack:
        server = stack.enter_context(processes.rankd(folder / "heavy", core))
        shop.write_items(server.target, shop.item_rows(effort.heavy.features, effort.items))
        cpu_per_call_s(server, requests[0], 10)
        cpu_s = cpu_per_call_s(server, requests[0], 20)
        say(f"a call takes {cpu_s * 1e3:.2f} ms of the server's CPU; looking for its capacity")
        offer = Offer(server.target, [Stream("live", requests)], 1.0, effort.capacity_s, DEADLINE_S)
        capacity = find_capacity(
            generator, offer, 1.1 / cpu_s, steps=effort.capacity_steps,
            objective=effort.objective, say=say,
        )  # fmt: skip
        found = Shedding(cpu_s * 1e3, capacity)
        say(f"capacity {capacity.rate:,.0f}/s; offering more")
        for factor in effort.factors:
            found.overloads.append(_overload(server, generator, offer, capacity.rate, factor, effort, say))
        found.mix = _mix(generator, offer, capacity.rate, effort, say)
    found.bare = _bare(folder, generator, requests, found, effort, core, say)
    return found


def _overload(
    server: Running, generator: Generator, offer: Offer, capacity: float, factor: int, effort: Effort, say: Say
) -> Overload:
    asked = replace(offer, rate=factor * capacity, seconds=effort.overload_s, after=(capacity / 2, effort.recovery_s))
    with Probes(server.health_target) as probes:
        outcome = generator.run_on_time(asked, effort.objective.lag_ms)
    during = outcome.part(0.0, asked.seconds)
    result = Overload(factor, during, outcome.recovered_s(asked.seconds), probes)
    say(f"  {factor}x: {during.goodput / capacity:.0%} of capacity; {during.statuses()}; {probes.failed} probes failed")
    return result


def _mix(generator: Generator, offer: Offer, capacity: float, effort: Effort, say: Say) -> Outcome:
    requests = offer.streams[0].requests
    streams = [Stream(name, requests, share=0.5, metadata=(("rankd-priority", name),)) for name in ("live", "batch")]
    asked = replace(offer, streams=streams, rate=3 * capacity, seconds=effort.priority_s)
    outcome = generator.run_on_time(asked, effort.objective.lag_ms)
    say(
        f"  half live, half batch at 3x: live {outcome.share_good('live'):.1%}, batch {outcome.share_good('batch'):.1%}"
    )
    return outcome


def _bare(
    folder: Path, generator: Generator, requests: list[bytes], found: Shedding, effort: Effort, core: int | None,
    say: Say,
) -> dict[int, float]:  # fmt: skip
    responses = folder / "responses"
    responses.mkdir(exist_ok=True)
    (responses / "call").write_bytes(bytes(200))
    shares = {}
    # What a bare echo costs is part of every call; the rest is spent on purpose.
    with processes.echo(responses, core, max(0.0, found.cpu_ms / 1e3 - 2e-4)) as server:
        for factor in (min(effort.factors), max(effort.factors)):
            stream = Stream("bare", requests, "/bare.Echo/call")
            asked = Offer(server.target, [stream], factor * found.capacity.rate, effort.bare_s, DEADLINE_S)
            shares[factor] = generator.run(asked).goodput / found.capacity.rate
            say(f"  without admission control, {factor}x: {shares[factor]:.0%}")
    return shares
