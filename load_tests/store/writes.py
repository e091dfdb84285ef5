"""Durable writes of batches: rankd's embedded store beside SQLite and LMDB, used directly and as durable.

Every batch is 1,000 rows of 20 f32 signals, and is acknowledged after its bytes are on the disk. With several batches
on their way a store may put them on the disk together: SQLite and LMDB are given as many rows a transaction then.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray

from rankd.signals.embedded import open_embedded
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.signals.values import NO_ROWS
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from store.effort import Effort

BATCH_ROWS = 1_000
SIGNALS = 20
IN_FLIGHT = (1, 8)
"""Batches on their way at once."""
NAMES = [f"s{i:02d}" for i in range(SIGNALS)]
SCHEMA = Schema({"item": Entity("item", {name: Signal(name, SignalKind.F32) for name in NAMES})})
MAP_BYTES = 1 << 34

Rows = tuple[list[str], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Medians over the rounds, in rows a second; ratios are medians of the rounds' ratios."""

    in_flight: int
    rankd: float
    sqlite: float
    lmdb: float
    over_sqlite: float
    over_lmdb: float
    raw_file: float
    """The same bytes appended to a file with one fdatasync a group: what the disk allows."""
    over_raw_file: float


def make_rows(batches: int, seed: int) -> list[Rows]:
    """Ids come in any order, and half of them twice, so that rows are both inserted and replaced."""
    random = np.random.default_rng(seed)
    total = batches * BATCH_ROWS
    made = []
    for number in range(batches):
        values = random.random((BATCH_ROWS, SIGNALS), np.float32)
        numbers = random.permutation(max(total // 2, BATCH_ROWS))[:BATCH_ROWS]
        made.append(([f"product-{number:08d}" for number in numbers.tolist()], values))
    return made


def to_batch(rows: Rows) -> WriteBatch:
    """As the service hands it to the store."""
    ids, values = rows
    positions = np.arange(len(ids))
    columns = [ColumnValues(name, positions, values[:, i].copy(), NO_ROWS) for i, name in enumerate(NAMES)]
    return WriteBatch("item", ids, columns)


def write_rankd(folder: Path, rows: Sequence[Rows], in_flight: int) -> float:
    """Rows a second."""
    batches = [to_batch(one) for one in rows]

    async def run() -> float:
        store = await open_embedded(SCHEMA, folder, 50_000_000)
        waiting = iter(batches)

        async def writer() -> None:
            for batch in waiting:
                if (await store.write(batch)).rejected:
                    raise RuntimeError("rows were rejected")

        started = time.perf_counter()
        await asyncio.gather(*(writer() for _ in range(in_flight)))
        elapsed_s = time.perf_counter() - started
        await store.close()
        return len(batches) * BATCH_ROWS / elapsed_s

    return asyncio.run(run())


def write_sqlite(folder: Path, rows: Sequence[Rows], in_flight: int) -> float:
    """One table with a column a signal; WAL, synchronous=FULL; a transaction for each group of batches."""
    database = sqlite3.connect(folder / "rows.sqlite3", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"CREATE TABLE item (id TEXT PRIMARY KEY, {', '.join(f'{n} REAL' for n in NAMES)}) WITHOUT ROWID")
    updates = ", ".join(f"{name}=excluded.{name}" for name in NAMES)
    marks = ", ".join("?" * (SIGNALS + 1))
    upsert = f"INSERT INTO item VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {updates}"
    tuples = [[(id_, *values) for id_, values in zip(ids, matrix.tolist(), strict=True)] for ids, matrix in rows]
    groups = [[row for part in tuples[at : at + in_flight] for row in part] for at in range(0, len(rows), in_flight)]
    started = time.perf_counter()
    for group in groups:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(upsert, group)
        database.execute("COMMIT")
    elapsed_s = time.perf_counter() - started
    database.close()
    return len(rows) * BATCH_ROWS / elapsed_s


def write_lmdb(folder: Path, rows: Sequence[Rows], in_flight: int) -> float:
    """One packed value a row; synced at each commit."""
    environment = lmdb.open(str(folder / "rows.lmdb"), map_size=MAP_BYTES, sync=True, metasync=True)
    pairs = [[(id_.encode(), one.tobytes()) for id_, one in zip(ids, matrix, strict=True)] for ids, matrix in rows]
    groups = [[pair for part in pairs[at : at + in_flight] for pair in part] for at in range(0, len(rows), in_flight)]
    started = time.perf_counter()
    for group in groups:
        with environment.begin(write=True) as transaction:
            for key, value in group:
                transaction.put(key, value)
    elapsed_s = time.perf_counter() - started
    environment.close()
    return len(rows) * BATCH_ROWS / elapsed_s


def write_raw(folder: Path, rows: Sequence[Rows], in_flight: int) -> float:
    """The values and ids appended to a file."""
    parts = ["\0".join(ids).encode() + matrix.tobytes() for ids, matrix in rows]
    groups = [b"".join(parts[at : at + in_flight]) for at in range(0, len(parts), in_flight)]
    file = os.open(folder / "rows.raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    started = time.perf_counter()
    for group in groups:
        os.write(file, group)
        os.fdatasync(file)
    elapsed_s = time.perf_counter() - started
    os.close(file)
    return len(rows) * BATCH_ROWS / elapsed_s


_WAYS: dict[str, Callable[[Path, Sequence[Rows], int], float]] = {
    "rankd": write_rankd, "sqlite": write_sqlite, "lmdb": write_lmdb, "raw": write_raw,
}  # fmt: skip


def measure(folder: Path, effort: Effort, say: Callable[[str], None]) -> list[WriteResult]:
    """Each number of batches on their way, in rounds that go through the stores in turns."""
    results = []
    for in_flight in IN_FLIGHT:
        rounds: list[dict[str, float]] = []
        for number in range(effort.write_rounds):
            rows = make_rows(effort.write_batches, number)
            ways = list(_WAYS.items())
            found = {}
            for name, write in ways[number % len(ways) :] + ways[: number % len(ways)]:
                place = folder / f"writes-{name}"
                place.mkdir()
                found[name] = write(place, rows, in_flight)
                shutil.rmtree(place)
            rounds.append(found)

        def median(figure: Callable[[dict[str, float]], float], rounds: list[dict[str, float]] = rounds) -> float:
            return statistics.median(figure(one) for one in rounds)

        results.append(
            WriteResult(
                in_flight,
                rankd=median(lambda r: r["rankd"]),
                sqlite=median(lambda r: r["sqlite"]),
                lmdb=median(lambda r: r["lmdb"]),
                over_sqlite=median(lambda r: r["rankd"] / r["sqlite"]),
                over_lmdb=median(lambda r: r["rankd"] / r["lmdb"]),
                raw_file=median(lambda r: r["raw"]),
                over_raw_file=median(lambda r: r["rankd"] / r["raw"]),
            )
        )
        r = results[-1]
        say(
            f"  {in_flight} batches on their way: {r.rankd:,.0f} rows/s, SQLite {r.sqlite:,.0f}, LMDB {r.lmdb:,.0f}, "
            f"a bare file {r.raw_file:,.0f}"
        )
    return results
