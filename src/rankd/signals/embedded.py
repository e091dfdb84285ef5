"""EmbeddedStore: every signal in mapped tables of this machine, and in a journal where there is a data directory.

    write ─ check values ─ clean ─ queue ─ give codes ─ hold room ─ commit to the journal ─ publish in the tables

Reads never wait: they see what is published, and only what is on disk is ever published. Other processes may read
the same tables and write through this one: see rankd.signals.keeper.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rankd.errors import StoreError
from rankd.limits import RequestLimits
from rankd.signals.backing import (
    DELETED_DEFAULT,
    LOG_DEFAULT,
    SEEN_DEFAULT,
    Backing,
    Bounds,
    Opening,
    open_durable,
    open_transient,
)
from rankd.signals.categories import CategoryTable
from rankd.signals.changes import DeleteChange, WriteChange
from rankd.signals.check import is_id, value_faults
from rankd.signals.commits import CommitQueue
from rankd.signals.compaction import LogBounds
from rankd.signals.declared import Document
from rankd.signals.mapped import MappedTables
from rankd.signals.offloop import OffLoop
from rankd.signals.recall import Remembering
from rankd.signals.scanning import ids_of_user, scan, statistics
from rankd.signals.store import (
    EntityStatistics,
    Fetched,
    ScanPage,
    SignalRows,
    StoredRows,
    WriteBatch,
    WriteResult,
)
from rankd.types.schema import Schema

OnProgress = Callable[[int, int], None]


async def open_embedded(
    schema: Schema,
    data_dir: Path | None,
    max_rows_per_entity: int,
    *,
    max_bytes_per_entity: int = RequestLimits().max_bytes_per_entity,
    clock: Callable[[], float] = time.time,
    on_progress: OnProgress | None = None,
    seen: Remembering = SEEN_DEFAULT,
    deleted: Remembering = DELETED_DEFAULT,
    log: LogBounds = LOG_DEFAULT,
) -> EmbeddedStore:
    """Opens the store with what `data_dir` holds (None: nothing outlives the process).

    `clock` gives write times, in seconds since 1970. `on_progress(rows_done, rows_total)` is called
    while tables are made anew from the journal; the total is an estimate. `seen`: how write ids and event ids are
    remembered, `deleted`: deleted rows. StoreError if the directory cannot be used; it says why.
    """
    loop = asyncio.get_running_loop()
    bounds = Bounds(max_rows_per_entity, max_bytes_per_entity, seen, deleted, log)
    executor = ThreadPoolExecutor(1, thread_name_prefix="rankd-signals")

    def report(done: int, total: int) -> None:
        if on_progress is not None:
            loop.call_soon_threadsafe(on_progress, done, total)

    opening = Opening(report)
    open_ = partial(open_transient, schema, bounds, clock)
    if data_dir is not None:
        open_ = partial(open_durable, schema, data_dir, bounds, opening, clock)
    opened = loop.run_in_executor(executor, open_)
    try:
        backing = await asyncio.shield(opened)
    except asyncio.CancelledError:
        opening.stop.set()
        await asyncio.wait([opened])
        if opened.exception() is None:
            await loop.run_in_executor(executor, opened.result().close)
        executor.shutdown()
        raise
    except BaseException:
        executor.shutdown()
        raise
    return EmbeddedStore(schema, clock, backing, executor)


class EmbeddedStore:
    """Implements signals.store.SignalStore. Use `open_embedded`."""

    def __init__(
        self, schema: Schema, clock: Callable[[], float], backing: Backing, executor: ThreadPoolExecutor
    ) -> None:
        self._schema = schema
        self._clock = clock
        self._latest_ms = 0
        self._backing = backing
        self._executor = executor
        self._queue = CommitQueue(backing.run, executor)
        self._mapped = MappedTables.of(backing.layouts, backing.tables, backing.categories)
        self._offloop = OffLoop()
        self._is_closed = False

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def categories(self) -> CategoryTable:
        return self._backing.categories

    @property
    def tables(self) -> MappedTables:
        return self._mapped

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        return self._mapped.read(entity, ids, signals, now_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        return self._mapped.get(entity, ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        self._check_open()
        now_ms = self._now_ms()
        rejected = value_faults(self._schema.entities[batch.entity], batch, now_ms)
        room = self._backing.rooms[batch.entity]
        change = WriteChange(room, batch, {rejection.row for rejection in rejected}, now_ms)
        if change.written_count:
            await self._queue.submit(change)
        return WriteResult(change.written_count, rejected, change.late_count, change.repeated)

    def _now_ms(self) -> int:
        """Never goes back: what is written after a step of the clock is not of before what was written then."""
        self._latest_ms = max(self._latest_ms, round(self._clock() * 1000))
        return self._latest_ms

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        self._check_open()
        distinct = tuple(dict.fromkeys(id_ for id_ in ids if is_id(id_)))
        change = DeleteChange(self._backing.rooms[entity], distinct, self._now_ms())
        if distinct:
            await self._queue.submit(change)
        return change.deleted_count

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        return scan(self._mapped, entity, signals, cursor, most, now_s)

    async def forget(self, user_id: str) -> Mapping[str, int]:
        self._check_open()
        counts = {}
        for name, entity in self._schema.entities.items():
            ids = await self._offloop.run(ids_of_user, entity, self._mapped.tables[name], user_id)
            if ids and (count := await self.delete(name, ids)):
                counts[name] = count
        if counts:
            self._backing.compact()  # so that the log and the snapshot forget, too
        return counts

    @property
    def fetched(self) -> frozenset[str]:
        return frozenset()

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        return Fetched()

    def row_counts(self) -> Mapping[str, int]:
        return self._mapped.row_counts()

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        return await self._offloop.run(statistics, self._mapped, self._schema, now_s)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the tables of all entities take (without the category dictionary)."""
        return sum(table.used_bytes for table in self._backing.tables.tables.values())

    @property
    def kept(self) -> Document:
        """What is stored but not declared any more; the layout of tables depends on it. See signals.declared."""
        return self._backing.kept

    async def close(self) -> None:
        """Waits for what is being written, then lets go of the directory. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            await self._queue.drain()
            await self._offloop.close()
            try:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._backing.close)
            finally:
                self._executor.shutdown()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the signal store is closed")
