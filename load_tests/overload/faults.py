"""Servers that are restarted and workers that are killed while clients go on asking. Clients retry; none may fail."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes, shop
from bench.forest.shapes import Shape
from bench.processes import Running
from generator.offer import Offer, Outcome, Stream
from generator.process import Generator

from overload.effort import Effort
from overload.shedding import Say

SMALL = Shape(100, 31, 20)
CANDIDATES = 20
ITEMS = 1_000
DRAIN_S = 2.0
"""rankd's default: how long a server that ends goes on answering."""
DEADLINE_S = 2.0
"""Retries included."""
PAUSE_S = 1.5
"""Between a server's coming back and the next one's end: a client that lost a server looks for it once a second."""


@dataclass(slots=True)
class Faults:
    """What clients saw, and how often the fault happened meanwhile."""

    outcome: Outcome
    count: int
    ready_s: list[float] = field(default_factory=list)
    """From each fault until everything was as before."""


def write_workspace(folder: Path) -> list[bytes]:
    """A small ranking workspace; requests for it."""
    shop.write_workspace(folder, [SMALL], server={"drain_seconds": DRAIN_S})
    name = shop.forest_name(SMALL)
    return [shop.rank_request(name, shop.choose_items(ITEMS, CANDIDATES, seed)) for seed in range(32)]


def drain(folder: Path, effort: Effort, generator: Generator, say: Say) -> Faults:
    """Two servers behind round robin; one after the other gets SIGTERM, ends and comes back while calls go on."""
    commands, servers = [], []
    with ExitStack() as stack:
        stack.callback(lambda: [server.stop() for server in servers])
        for name in ("a", "b"):
            requests = write_workspace(folder / name)
            port, health_port = processes.free_ports(2)
            commands.append((processes.rankd_command(folder / name, port, health_port), port, health_port, None))
            said = stack.enter_context(tempfile.TemporaryFile())
            servers.append(processes.start(*commands[-1], said=said))
            shop.write_items(servers[-1].target, shop.item_rows(SMALL.features, ITEMS))
        target = "ipv4:" + ",".join(server.target for server in servers)
        seconds = effort.drain_calls / effort.drain_rate
        generator.start(
            Offer(target, [Stream("live", requests)], effort.drain_rate, seconds, DEADLINE_S, via_client=True)
        )
        ready = []
        for number in itertools.cycle((0, 1)):
            if generator.done(PAUSE_S):
                break
            started = time.perf_counter()
            servers[number].stop()
            servers[number] = processes.start(*commands[number])
            ready.append(time.perf_counter() - started)
        outcome = generator.result()
    say(f"rolling restarts: {len(ready)}, {len(outcome.code):,} calls, {outcome.failed} failed")
    return Faults(outcome, len(ready), ready)


def kill_workers(folder: Path, effort: Effort, generator: Generator, say: Say) -> Faults:
    """`rankd serve --workers 2`, and kill -9 of one of them again and again."""
    requests = write_workspace(folder / "killed")
    with processes.rankd(folder / "killed", workers=2) as server:
        shop.write_items(server.target, shop.item_rows(SMALL.features, ITEMS))
        offer = Offer(
            server.target, [Stream("live", requests)], effort.kill_rate, effort.kill_s, DEADLINE_S, via_client=True
        )
        generator.start(offer)
        ready = []
        for number in itertools.count():
            if generator.done(effort.kill_every_s):
                break
            ready.append(_kill_one(server, number))
        outcome = generator.result()
    say(f"workers killed: {len(ready)}, {len(outcome.code):,} calls, {outcome.failed} failed")
    return Faults(outcome, len(ready), ready)


def _kill_one(server: Running, number: int, limit_s: float = 30.0) -> float:
    """Seconds until there are as many workers as before."""
    before = server.find_workers()
    os.kill(before[number % len(before)], signal.SIGKILL)
    started = time.perf_counter()
    while len(set(server.find_workers()) - {before[number % len(before)]}) < len(before):
        if time.perf_counter() - started > limit_s:
            raise TimeoutError(f"a worker that was killed was not replaced within {limit_s:g} s")
        time.sleep(0.02)
    return time.perf_counter() - started
