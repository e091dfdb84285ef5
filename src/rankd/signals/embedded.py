"""EmbeddedStore: every signal in this process's memory, and on disk where there is a data directory.

    write ─ check values ─ clean ─ give codes ─ commit to the journal ─ apply to memory

Reads never wait: they see what is applied, and only what is on disk is ever applied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rankd.errors import StoreError
from rankd.signals.batches import category_texts, clean
from rankd.signals.categories import CategoryTable
from rankd.signals.changes import DeleteChange, Room, WriteChange
from rankd.signals.check import value_faults
from rankd.signals.commits import Change, CommitQueue
from rankd.signals.directory import DataDirectory
from rankd.signals.journal import Journal
from rankd.signals.store import SignalRows, StoredRows, WriteBatch, WriteResult
from rankd.signals.table import EntityTable
from rankd.types.schema import Schema

OnProgress = Callable[[int, int], None]
Result = TypeVar("Result")


async def open_embedded(
    schema: Schema,
    data_dir: Path | None,
    max_rows_per_entity: int,
    *,
    clock: Callable[[], float] = time.time,
    on_progress: OnProgress | None = None,
) -> EmbeddedStore:
    """Opens the store, loading what `data_dir` holds (None: memory only, nothing outlives the process).

    `clock` gives write times, in seconds since 1970. `on_progress(rows_done, rows_total)` is called
    while rows are loaded. StoreError if the directory cannot be used; it says why.
    """
    if data_dir is None:
        return EmbeddedStore(schema, max_rows_per_entity, clock, None)
    durable = await _Durable.open(schema, data_dir)
    try:
        store = EmbeddedStore(schema, max_rows_per_entity, clock, durable)
        await store.load(on_progress)
    except BaseException:
        await durable.close()
        raise
    return store


class _Durable:
    """A journal, the one thread it is used from, and the queue before it."""

    def __init__(self, directory: DataDirectory, journal: Journal, executor: ThreadPoolExecutor) -> None:
        self._directory = directory
        self._executor = executor
        self.journal = journal
        self.queue = CommitQueue(self._commit, executor)

    @classmethod
    async def open(cls, schema: Schema, path: Path) -> _Durable:
        directory = DataDirectory(path)
        executor = ThreadPoolExecutor(1, thread_name_prefix="rankd-signals")
        try:
            open_journal = asyncio.get_running_loop().run_in_executor(executor, Journal, path, schema, directory.sync)
            return cls(directory, await open_journal, executor)
        except BaseException:
            executor.shutdown()
            directory.close()
            raise

    def _commit(self, changes: list[Change]) -> None:
        self.journal.commit(
            [
                change.journalled
                for change in changes
                if isinstance(change, WriteChange | DeleteChange) and change.journalled is not None
            ]
        )

    async def close(self) -> None:
        await self.queue.drain()
        try:
            await self.run(self.journal.close)
        finally:
            self._executor.shutdown()
            self._directory.close()

    async def run(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Runs a method of the journal in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


class EmbeddedStore:
    """Implements signals.store.SignalStore. Use `open_embedded`."""

    def __init__(
        self, schema: Schema, max_rows_per_entity: int, clock: Callable[[], float], durable: _Durable | None
    ) -> None:
        self._schema = schema
        self._categories = CategoryTable()
        self._rooms = {
            entity.name: Room(entity.name, EntityTable(entity, self._categories), max_rows_per_entity)
            for entity in schema.entities.values()
        }
        self._clock = clock
        self._durable = durable
        self._is_closed = False

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def categories(self) -> CategoryTable:
        return self._categories

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        return self._rooms[entity].table.read(ids, signals, now_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        return self._rooms[entity].table.get(ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        self._check_open()
        declared = self._schema.entities[batch.entity]
        rejected = value_faults(declared, batch, self._categories)
        cleaned = clean(batch, {rejection.row for rejection in rejected})
        room = self._rooms[batch.entity]
        if not cleaned.ids:
            return WriteResult(0, rejected)
        change = WriteChange(room, cleaned, round(self._clock() * 1000))
        if self._durable is None:
            room.check(room.table.new_count(cleaned.ids))
        self._categories.intern_all(category_texts(cleaned.columns, declared))
        if self._durable is None:
            change.apply()
        else:
            await self._durable.queue.submit(change)
        return WriteResult(cleaned.written_count, rejected)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        self._check_open()
        change = DeleteChange(self._rooms[entity], tuple(dict.fromkeys(ids)))
        if self._durable is None:
            change.apply()
        else:
            await self._durable.queue.submit(change)
        return change.deleted_count

    def row_counts(self) -> Mapping[str, int]:
        return {name: len(room.table) for name, room in self._rooms.items()}

    @property
    def memory_bytes(self) -> int:
        """Bytes held by ids and values of all entities (without the category dictionary)."""
        return sum(room.table.memory_bytes for room in self._rooms.values())

    async def load(self, on_progress: OnProgress | None) -> None:
        """Fills the empty tables from the journal; for `open_embedded`."""
        durable = self._durable
        if durable is None:
            return
        counts = {name: await durable.run(durable.journal.row_count, name) for name in self._rooms}
        done, total = 0, sum(counts.values())
        for name, room in self._rooms.items():
            room.check(counts[name])
            entity = self._schema.entities[name]
            chunks = durable.journal.load(entity)
            while (rows := await durable.run(next, chunks, None)) is not None:
                self._categories.intern_all(category_texts(rows.columns, entity))
                room.table.apply(rows.ids, rows.columns, rows.written_ms, rows.keys, rows.value_times_ms)
                done += len(rows.ids)
                if on_progress is not None:
                    on_progress(done, total)
            if len(room.table) != counts[name]:
                raise StoreError(f"the journal is damaged: {counts[name] - len(room.table)} ids of {name} come twice")
            room.next_key = await durable.run(durable.journal.next_key, name)
        await durable.run(durable.journal.accept_types)

    async def close(self) -> None:
        """Waits for what is being written, then lets go of the directory. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            if self._durable is not None:
                await self._durable.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the signal store is closed")
