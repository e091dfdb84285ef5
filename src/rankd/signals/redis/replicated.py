"""ReplicatedStore: the store of the one process of a machine that writes, where signals are shared through Redis.

    write ─ RedisStore ─ one script ─ committed ─ own tables ─ invalidation ─ answer
    tables ─ replica ─ resync, then the logs of all machines

Redis has the truth. Rows of replicated entities are read from this machine's tables, which the replica keeps in step,
those of fetched entities from Redis, by way of a cache. Other processes of the machine write through this one
(signals.keeper) and read the same tables (redis.shared).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from rankd.errors import StoreError, UnavailableError
from rankd.kernels.table_writer import TableWriter
from rankd.limits import RequestLimits
from rankd.signals.backing import layouts_of
from rankd.signals.categories import CategoryTable
from rankd.signals.check import is_id
from rankd.signals.declared import Document
from rankd.signals.directory import DataDirectory
from rankd.signals.layout import EntityLayout
from rankd.signals.mapped import MappedTables
from rankd.signals.offloop import OffLoop
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.private import CacheOptions, PrivateRows, fetched_entities
from rankd.signals.redis.replica import OnProgress, Replica, ReplicaState
from rankd.signals.redis.slots import NAME as SLOTS_NAME
from rankd.signals.redis.slots import Slots
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.redis.tables import Positions, ReplicaTables, load_positions
from rankd.signals.runtime import RuntimeDirectory
from rankd.signals.scanning import statistics
from rankd.signals.store import (
    EntityStatistics,
    Fetched,
    ScanPage,
    SignalRows,
    StoredRows,
    WriteBatch,
    WriteResult,
)
from rankd.signals.tableset import (
    TableSet,
    UnfitError,
    attach_tables,
    close_cleanly,
    create_tables,
    new_set_id,
    remove_other_sets,
    set_directory,
)
from rankd.types.schema import Schema

REPLICA_NAME: Final = "replica"
"""In the data directory: the sets of tables of a replica."""

_LOG = logging.getLogger(__name__)


async def open_replicated(
    schema: Schema,
    options: RedisOptions,
    data_dir: Path | None,
    max_rows_per_entity: int,
    *,
    max_bytes_per_entity: int = RequestLimits().max_bytes_per_entity,
    cache: CacheOptions | None = None,
    clock: Callable[[], float] = time.time,
    on_progress: OnProgress | None = None,
    is_alone: bool = True,
) -> ReplicatedStore:
    """Opens the store and fills the tables.

    `data_dir`: where tables are kept and taken up again at the next start, without reading everything from Redis; None:
    they end with the process. Without any to be taken up this waits for Redis for as long as it is away. `is_alone`:
    requests are answered by this process; else others do that, and it fetches nothing. StoreError.
    """
    layouts = layouts_of(schema)
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, thread_name_prefix="rankd-replica")
    source = f"{options.url} {options.prefix} {options.shards}"

    def open_tables() -> tuple[DataDirectory | RuntimeDirectory, TableSet[TableWriter], Positions]:
        return _open_tables(layouts, data_dir, max_bytes_per_entity, source)

    holder, tables, positions = await loop.run_in_executor(executor, open_tables)
    is_taken_up = bool(positions)
    store = ReplicatedStore(
        await open_redis_store(schema, options, clock=clock),
        ReplicaTables(layouts, tables, max_rows_per_entity, max_bytes_per_entity),
        holder,
        executor,
        source=source,
        positions=positions,
        on_progress=on_progress,
    )
    try:
        if is_alone:
            await store.begin_fetching(options, cache or CacheOptions(max_bytes=max_bytes_per_entity))
        await store.begin_following(wait=not is_taken_up)
    except BaseException:
        await store.close()
        raise
    return store


class ReplicatedStore:
    """Implements signals.store.SignalStore. Use `open_replicated`."""

    def __init__(
        self,
        redis: RedisStore,
        tables: ReplicaTables,
        holder: DataDirectory | RuntimeDirectory,
        executor: ThreadPoolExecutor,
        *,
        source: str,
        positions: Positions,
        on_progress: OnProgress | None,
    ) -> None:
        self._redis = redis
        self._tables = tables
        self._holder = holder
        self._executor = executor
        self._fetched = fetched_entities(redis.schema)
        self._slots = Slots(
            set_directory(tables.tables.directory, tables.tables.set_id) / SLOTS_NAME,
            redis.schema.entities,
            is_writer=True,
        )
        self._replica = Replica(
            redis,
            tables,
            [name for name in redis.schema.entities if name not in self._fetched],
            executor,
            source=source,
            positions=positions,
            on_progress=on_progress,
            tell=self._slots.tell,
        )
        self._mapped = MappedTables.of(tables.layouts, tables.tables, tables.categories)
        # What was written while no keeper was there to say so.
        self._slots.bump_all()
        self._private: PrivateRows | None = None
        self._counting: asyncio.Task[None] | None = None
        self._offloop = OffLoop()
        self._is_closed = False
        redis.check_room = self._check_room

    async def begin_fetching(self, options: RedisOptions, cache: CacheOptions) -> None:
        """For `open_replicated`."""

        async def intern(texts: Sequence[str]) -> object:
            return self.categories.intern_all(texts)

        tables = self._tables
        slots = Slots(
            set_directory(tables.tables.directory, tables.tables.set_id) / SLOTS_NAME,
            self.schema.entities,
            is_writer=False,
        )
        self._private = PrivateRows(
            tables.layouts, tables.tables, tables.categories, slots, self._redis, options, cache, intern
        )
        self._mapped = self._private.mapped
        await self._private.ready()

    async def begin_following(self, *, wait: bool) -> None:
        """For `open_replicated`. `wait`: until the tables have everything."""
        self._replica.start()
        if self._fetched:
            self._counting = asyncio.create_task(self._count_rows())
        if wait:
            await self._replica.filled()
        else:
            _LOG.info("signal tables taken up as they were; what has changed since is read from Redis")

    async def _count_rows(self) -> None:
        """Of fetched entities, which are in no table here, again and again."""
        while True:
            with contextlib.suppress(UnavailableError):
                await self._redis.refresh_counts(self._fetched)
                self._slots.tell_rows(self._redis.row_counts())
            await asyncio.sleep(_COUNT_S)

    @property
    def schema(self) -> Schema:
        return self._redis.schema

    @property
    def categories(self) -> CategoryTable:
        return self._tables.categories

    @property
    def tables(self) -> MappedTables:
        return self._mapped

    @property
    def kept(self) -> Document:
        """Nothing: the tables are made of what is declared; Redis has the rest."""
        return {}

    @property
    def replica(self) -> ReplicaState:
        """How the tables follow Redis."""
        return self._replica.state

    @property
    def following(self) -> tuple[bool, float]:
        """Whether the tables follow Redis, and how many seconds they are behind at most."""
        return self._slots.following

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        if entity in self._fetched:
            fetched = await self.fetch({entity: list(dict.fromkeys(ids))}, _READ_S)
            rows = self._mapped.read(entity, ids, signals, now_s)
            del fetched  # it has held the rows until here
            return rows
        return self._mapped.read(entity, ids, signals, now_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        if entity in self._fetched:
            return await self._redis.get(entity, ids, signals, now_s)
        return self._mapped.get(entity, ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        self._check_open()
        try:
            return await self._redis.write(batch)
        finally:
            # Whatever came of it: it may have been written.
            self._invalidate(batch.entity, batch.ids)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        self._check_open()
        try:
            return await self._redis.delete(entity, ids)
        finally:
            self._invalidate(entity, ids)

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        return await self._redis.scan(entity, signals, cursor, most, now_s)

    async def forget(self, user_id: str) -> Mapping[str, int]:
        self._check_open()
        try:
            return await self._redis.forget(user_id)
        finally:
            if not self._is_closed:
                self._slots.bump_all()
                self._slots.tell_rows(self._redis.row_counts())

    @property
    def fetched(self) -> frozenset[str]:
        return self._fetched

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        if self._private is None:
            raise StoreError("this process fetches no rows")
        return await self._private.fetcher.fetch(wanted, timeout_s)

    def row_counts(self) -> Mapping[str, int]:
        counts = self._redis.row_counts()
        tables = self._mapped.tables
        return {
            name: counts.get(name, 0) if name in self._fetched else len(tables[name]) for name in self.schema.entities
        }

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        here = await self._offloop.run(statistics, self._mapped, self.schema, now_s)
        if not self._fetched:
            return here
        there = await self._redis.statistics(now_s, self._fetched)
        return {name: there[name] if name in self._fetched else of for name, of in here.items()}

    async def close(self) -> None:
        """Notes how far the replica is and lets go of everything. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])
        await self._offloop.close()
        await self._replica.close()
        if self._private is not None:
            await self._private.close()
        await self._redis.close()
        self._slots.close()
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._close_tables)
        finally:
            self._executor.shutdown()

    def _close_tables(self) -> None:
        try:
            if isinstance(self._holder, RuntimeDirectory):
                self._tables.tables.close()
            else:
                close_cleanly(self._tables.tables.all_tables)
        except OSError as error:
            _LOG.warning("the signal tables could not be put on the disk; they will be made anew: %s", error)
        finally:
            self._holder.close()

    def _invalidate(self, entity: str, ids: Sequence[str]) -> None:
        if entity in self._fetched and not self._is_closed:
            self._slots.bump(entity, [id_ for id_ in ids if is_id(id_)])  # others were refused
            self._slots.tell_rows(self._redis.row_counts())

    def _check_room(self, entity: str, ids: list[str]) -> None:
        if entity not in self._fetched:
            self._tables.check_room(entity, ids)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the signal store is closed")


_READ_S: Final = 1.0
_COUNT_S: Final = 5.0
"""How often the rows of fetched entities are counted; those written here are counted at once."""


def _open_tables(
    layouts: Mapping[str, EntityLayout], data_dir: Path | None, max_bytes: int, source: str
) -> tuple[DataDirectory | RuntimeDirectory, TableSet[TableWriter], Positions]:
    """Tables and how far they are: taken up if they can be, else empty."""
    if data_dir is None:
        runtime = RuntimeDirectory()
        try:
            return runtime, create_tables(runtime.path / REPLICA_NAME, new_set_id(), layouts, max_bytes), {}
        except BaseException:
            runtime.close()
            raise
    holder = DataDirectory(data_dir)
    try:
        path = data_dir / REPLICA_NAME
        for set_id in _set_ids(path):
            positions = load_positions(path, set_id, source)
            if not positions:
                continue
            try:
                tables = attach_tables(path, set_id, layouts, max_bytes)
            except UnfitError as error:
                _LOG.warning("the signal tables are made anew from Redis: %s", error)
                continue
            remove_other_sets(path, set_id)
            return holder, tables, positions
        remove_other_sets(path, 0)
        return holder, create_tables(path, new_set_id(), layouts, max_bytes), {}
    except BaseException:
        holder.close()
        raise


def _set_ids(path: Path) -> list[int]:
    """Sets that are there, the newest first."""
    found = []
    for child in path.iterdir() if path.is_dir() else ():
        try:
            found.append(int(child.name, 16))
        except ValueError:
            continue
    return sorted(found, reverse=True)
