"""How fast rankd is back with a million items on disk, and what each further worker takes."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import processes, shop
from bench.processes import Running
from generator.offer import RANK

from path.callers import GrpcCaller
from path.effort import Effort
from rankd.signals.embedded import open_embedded
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.signals.values import NO_ROWS
from rankd.workspace import load_workspace

SIGNALS = 50
BATCH_ROWS = 20_000
WORKERS = (1, 3)
CALLERS = 12
CANDIDATES = 500


@dataclass(frozen=True, slots=True)
class RestartResult:
    """Seconds are medians; megabytes are of 10^6 bytes."""

    items: int
    write_s: float
    """Into the store, from a process of its own."""
    first_s: float
    """From spawning `rankd serve` to SERVING: the first time after that."""
    orderly_s: float
    """After SIGTERM."""
    killed_s: float
    """After kill -9 of all processes."""
    pss_mb: dict[int, float]
    """Of all processes together, by the number of workers: a page that many map counts once."""

    @property
    def restart_s(self) -> float:
        """The longer."""
        return max(self.orderly_s, self.killed_s)

    @property
    def worker_mb(self) -> float:
        """What one more worker adds."""
        few, many = WORKERS
        return (self.pss_mb[many] - self.pss_mb[few]) / (many - few)


async def _write(workspace: Path, items: int) -> None:
    loaded = load_workspace(workspace, {})
    limits = loaded.settings.server.limits
    store = await open_embedded(loaded.schema, loaded.data_dir, limits.max_rows_per_entity)
    values = shop.item_rows(SIGNALS, min(items, BATCH_ROWS))
    for start in range(0, items, BATCH_ROWS):
        count = min(BATCH_ROWS, items - start)
        rows = np.arange(count)
        columns = [
            ColumnValues(name, rows, np.ascontiguousarray(values[:count, i]), NO_ROWS)
            for i, name in enumerate(shop.signal_names(SIGNALS))
        ]
        ids = [shop.item_id(start + i) for i in range(count)]
        result = await store.write(WriteBatch("item", ids, columns))
        if result.written_count != count:
            raise RuntimeError(f"{count - result.written_count} rows were not written")
    await store.close()


def _pss_mb(workspace: Path, requests: list[bytes], workers: int) -> float:
    """After every worker has answered calls."""
    with processes.rankd(workspace, workers=workers) as server, ExitStack() as stack:
        for _ in range(CALLERS):
            caller = GrpcCaller(server, RANK)
            stack.callback(caller.close)
            for request in requests:
                caller.call(request)
        return sum(processes.pss_bytes(pid) for pid in server.pids()) / 1e6


def _starts(workspace: Path, count: int, end: Callable[[Running], object]) -> list[float]:
    """Seconds until SERVING, each after the end before it."""
    port, health_port = processes.free_ports(2)
    command = processes.rankd_command(workspace, port, health_port)
    found = []
    for _ in range(count + 1):
        server = processes.start(command, port, health_port, None)
        found.append(server.ready_s)
        end(server)
    return found


def measure(folder: Path, effort: Effort, say: Callable[[str], None]) -> RestartResult:
    """Writes the items, then starts and ends `rankd serve` again and again. Every core may be used."""
    workspace, shape = folder / "restart", effort.echo_shape
    shop.write_workspace(workspace, [shape], signals=SIGNALS)
    started = time.perf_counter()
    asyncio.run(_write(workspace, effort.stored))
    write_s = time.perf_counter() - started
    say(f"  {effort.stored:,} × {SIGNALS} written in {write_s:.1f} s")
    orderly = _starts(workspace, effort.restarts, Running.stop)
    killed = _starts(workspace, effort.restarts, Running.kill)
    lists = [shop.choose_items(effort.stored, CANDIDATES, seed) for seed in range(8)]
    requests = [shop.rank_request(shop.forest_name(shape), one) for one in lists]
    pss_mb = {workers: _pss_mb(workspace, requests, workers) for workers in WORKERS}
    result = RestartResult(
        effort.stored, write_s, orderly[0], statistics.median(orderly[1:]), statistics.median(killed[1:]), pss_mb
    )
    say(f"  back after SIGTERM {result.orderly_s:.2f} s, after kill -9 {result.killed_s:.2f} s")
    say(f"  a worker more: {result.worker_mb:.0f} MB")
    return result
