"""What stored items cost: bytes, and the time to look them up."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench import processes, shop

from path.callers import thread_cpu_s
from path.effort import Effort
from rankd.kernels.table import Cell, CellRead, CellWrite, TableReader
from rankd.kernels.table_writer import TableWriter

WIDTHS = (20, 50)
"""Signals an item."""
BATCH_ROWS = 50_000
BATCH_IDS = 1_000
"""Ids of one lookup."""
LISTS = 64
ROUNDS = 7
NOW_MS = 1_790_000_000_000


@dataclass(frozen=True, slots=True)
class StoredResult:
    """Of a table of f32 signals."""

    items: int
    signals: int
    file_bytes: int
    """Taken from the file system."""
    payload_bytes: int
    """Of the values alone."""
    id_bytes: int
    lookup_ns: float
    """CPU for one random id, all its signals gathered."""

    @property
    def ratio(self) -> float:
        """The files' bytes over those of values and ids."""
        return self.file_bytes / (self.payload_bytes + self.id_bytes)


def write_table(path: Path, items: int, signals: int) -> None:
    """A table of random numbers, some of them missing, through the writer's own interface."""
    values = shop.item_rows(signals, min(items, BATCH_ROWS))
    nothing = np.zeros(0, np.int64)
    room = items + BATCH_ROWS
    writer = TableWriter.create(str(path), [Cell("f32")] * signals, max_rows=room, max_bytes=4096 * room)
    for start in range(0, items, BATCH_ROWS):
        count = min(BATCH_ROWS, items - start)
        rows = np.arange(count)
        cells = [CellWrite(i, rows, np.ascontiguousarray(values[:count, i]), nothing) for i in range(signals)]
        writer.stage([shop.item_id(start + i) for i in range(count)], cells, NOW_MS).publish()
    writer.close()


def lookup_s(path: Path, items: int, signals: int, block_s: float) -> float:
    """CPU for one random id of a thousand asked for at once. RuntimeError if one is not found."""
    reader = TableReader(str(path))
    reading = reader.reading([CellRead(i) for i in range(signals)])
    # Ids of many requests, so that rows are not in the processor's caches because they were just read.
    lists = [[shop.item_id(n) for n in shop.choose_items(items, BATCH_IDS, seed).tolist()] for seed in range(LISTS)]
    if not all(reading.read(ids, NOW_MS).found.all() for ids in lists):
        raise RuntimeError("an id that was written is not found")
    rounds = [thread_cpu_s(lambda number: reading.read(lists[number % LISTS], NOW_MS), block_s) for _ in range(ROUNDS)]
    reader.close()
    return statistics.median(rounds) / BATCH_IDS


def measure(folder: Path, effort: Effort, core: int | None, say: Callable[[str], None]) -> list[StoredResult]:
    """A table of each width."""
    results = []
    for signals in WIDTHS:
        path = folder / f"table{signals}"
        write_table(path, effort.stored, signals)
        # What the file system gave, not what the files say they are long.
        file_bytes = sum(512 * file.stat().st_blocks for file in folder.glob(f"{path.name}.*"))
        with processes.on_core(core):
            found_s = lookup_s(path, effort.stored, signals, effort.block_s)
        payload, ids = 4 * signals * effort.stored, effort.stored * len(shop.item_id(0))
        results.append(StoredResult(effort.stored, signals, file_bytes, payload, ids, found_s * 1e9))
        r = results[-1]
        say(f"  {r.items:,} × {r.signals}: {r.ratio:.2f} times values and ids; {r.lookup_ns:.0f} ns an id")
        for file in folder.glob(f"{path.name}.*"):
            file.unlink()
    return results
