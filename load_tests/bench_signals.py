"""The embedded store alone: rows written and read a second, bytes a row, seconds to open again, with its tables and
without.

    python load_tests/bench_signals.py [--rows 100000]

One core, one event loop; 20 signals an item. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.store import ColumnValues, SetValues, Values, WriteBatch
from rankd.signals.values import NO_ROWS
from rankd.types.schema import Entity, Schema, Signal, SignalKind

KINDS = (
    [SignalKind.F32] * 10
    + [SignalKind.I64] * 2
    + [SignalKind.TIMESTAMP, SignalKind.BOOL]
    + [SignalKind.CATEGORY] * 3
    + [SignalKind.STRING, SignalKind.SET, SignalKind.EMBEDDING]
)
SIGNALS = [Signal(f"s{i}", kind, 16 if kind is SignalKind.EMBEDDING else 0) for i, kind in enumerate(KINDS)]
SCHEMA = Schema({"item": Entity("item", {signal.name: signal for signal in SIGNALS})})
BATCH_ROWS = 10_000


def values_of(signal: Signal, count: int, generator: np.random.Generator) -> Values:
    """Random values of a signal's kind."""
    match signal.kind:
        case SignalKind.F32:
            return generator.random(count, np.float32)
        case SignalKind.I64 | SignalKind.TIMESTAMP:
            return generator.integers(0, 10**12, count)
        case SignalKind.BOOL:
            return generator.random(count) < 0.5
        case SignalKind.SET:
            members = [f"tag{i}" for i in generator.integers(0, 500, 3 * count)]
            return SetValues(members, np.full(count, 3))
        case SignalKind.EMBEDDING:
            return generator.random((count, 16), np.float32)
        case SignalKind.CATEGORY:
            return [f"category{i}" for i in generator.integers(0, 500, count)]
        case _:
            return [f"A product's title {i}" for i in generator.integers(0, 10**6, count)]


def batches(rows: int) -> list[WriteBatch]:
    """Batches of at most BATCH_ROWS rows with all signals."""
    generator = np.random.default_rng(0)
    found = []
    for start in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - start)
        positions = np.arange(count)
        columns = [ColumnValues(s.name, positions, values_of(s, count, generator), NO_ROWS) for s in SIGNALS]
        found.append(WriteBatch("item", [f"product-{i:08d}" for i in range(start, start + count)], columns))
    return found


async def write_rate(store: EmbeddedStore, writes: list[WriteBatch]) -> float:
    """Rows a second."""
    started = time.perf_counter()
    for batch in writes:
        await store.write(batch)
    return sum(len(batch.ids) for batch in writes) / (time.perf_counter() - started)


async def read_us(store: EmbeddedStore, rows: int) -> float:
    """Median microseconds to read 1,000 random ids with all signals."""
    ids = [f"product-{i:08d}" for i in np.random.default_rng(1).integers(0, rows, 1000)]
    names = [signal.name for signal in SIGNALS]
    times = []
    for _ in range(300):
        started = time.perf_counter()
        await store.read("item", ids, names, 0.0)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e6


def disk_bytes(directory: str) -> int:
    """What the files of the journal hold."""
    return sum(path.stat().st_size for path in Path(directory).iterdir() if path.is_file())


async def measure(rows: int) -> dict[str, float]:
    """All figures, by name with the unit last."""
    writes = batches(rows)
    memory = await open_embedded(SCHEMA, None, rows)
    figures = {
        "write_memory_rows_per_s": await write_rate(memory, writes),
        "read_1000x20_us": await read_us(memory, rows),
    }
    figures["memory_per_row_bytes"] = memory.memory_bytes / rows
    with tempfile.TemporaryDirectory() as directory:
        durable = await open_embedded(SCHEMA, Path(directory), rows)
        figures["write_durable_rows_per_s"] = await write_rate(durable, writes)
        await durable.close()
        figures["disk_per_row_bytes"] = disk_bytes(directory) / rows
        started = time.perf_counter()
        await (await open_embedded(SCHEMA, Path(directory), rows)).close()
        figures["open_s"] = time.perf_counter() - started
        shutil.rmtree(Path(directory) / TABLES_NAME)
        started = time.perf_counter()
        await (await open_embedded(SCHEMA, Path(directory), rows)).close()
        figures["open_anew_s"] = time.perf_counter() - started
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    figures = asyncio.run(measure(rows))
    for name, figure in figures.items():
        print(f"{name:26} {figure:12,.1f}")
    print(json.dumps({"bench": "signals", "rows": rows, **{name: round(f, 1) for name, f in figures.items()}}))


if __name__ == "__main__":
    main()
