"""The store of a process beside the keeper, where signals are shared through Redis.

Replicated entities are read from the keeper's tables, fetched ones from Redis by way of this process's cache; writes go
through the keeper, which counts slots up before it answers: whoever reads after that, in whatever process, sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rankd.signals.backing import layouts_of
from rankd.signals.categories import CategoryTable
from rankd.signals.mapped import MappedTables
from rankd.signals.offloop import OffLoop
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.private import CacheOptions, PrivateRows
from rankd.signals.redis.slots import NAME as SLOTS_NAME
from rankd.signals.redis.slots import Slots
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.scanning import statistics
from rankd.signals.shared import SharedStore, open_shared
from rankd.signals.store import EntityStatistics, Fetched, ScanPage, SignalRows, StoredRows, WriteBatch, WriteResult
from rankd.signals.tableset import set_directory
from rankd.types.schema import Schema

_READ_S: Final = 1.0


async def open_shared_redis(
    schema: Schema,
    socket_path: Path,
    options: RedisOptions,
    cache: CacheOptions | None = None,
    *,
    on_replaced: Callable[[], None] | None = None,
) -> SharedRedisStore:
    """Connects to the keeper that listens on `socket_path`, and to Redis, which may be away. As `open_shared`."""
    shared = await open_shared(schema, socket_path, on_replaced=on_replaced)
    try:
        redis = await open_redis_store(schema, options)
        try:
            private = await _private(schema, shared, redis, options, cache or CacheOptions())
        except BaseException:
            await redis.close()
            raise
    except BaseException:
        await shared.close()
        raise
    return SharedRedisStore(shared, redis, private)


async def _private(
    schema: Schema, shared: SharedStore, redis: RedisStore, options: RedisOptions, cache: CacheOptions
) -> PrivateRows:
    tables = shared.table_set
    slots = Slots(set_directory(tables.directory, tables.set_id) / SLOTS_NAME, schema.entities, is_writer=False)
    private = PrivateRows(layouts_of(schema), tables, shared.categories, slots, redis, options, cache, shared.intern)
    await private.ready()
    return private


class SharedRedisStore:
    """Implements signals.store.SignalStore. Use `open_shared_redis`."""

    def __init__(self, shared: SharedStore, redis: RedisStore, private: PrivateRows) -> None:
        self._shared = shared
        self._redis = redis
        self._private = private
        self._offloop = OffLoop()
        self._is_closed = False
        self._fetched = frozenset(name for name, entity in shared.schema.entities.items() if entity.is_fetched)

    @property
    def schema(self) -> Schema:
        return self._shared.schema

    @property
    def categories(self) -> CategoryTable:
        return self._shared.categories

    @property
    def tables(self) -> MappedTables:
        return self._private.mapped

    @property
    def following(self) -> tuple[bool, float]:
        """Whether the tables follow Redis, and how many seconds they are behind at most."""
        return self._private.slots.following

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        fetched = None
        if entity in self._fetched:
            fetched = await self.fetch({entity: list(dict.fromkeys(ids))}, _READ_S)
        rows = self._private.mapped.read(entity, ids, signals, now_s)
        del fetched  # it has held the rows until here
        return rows

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        if entity in self._fetched:
            return await self._redis.get(entity, ids, signals, now_s)
        return self._private.mapped.get(entity, ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        return await self._shared.write(batch)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        return await self._shared.delete(entity, ids)

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        return await self._redis.scan(entity, signals, cursor, most, now_s)

    async def forget(self, user_id: str) -> Mapping[str, int]:
        return await self._shared.forget(user_id)

    @property
    def fetched(self) -> frozenset[str]:
        return self._fetched

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        return await self._private.fetcher.fetch(wanted, timeout_s)

    def row_counts(self) -> Mapping[str, int]:
        counts, tables = self._private.slots.row_counts, self._private.mapped.tables
        return {
            name: counts.get(name, 0) if name in self._fetched else len(tables[name]) for name in self.schema.entities
        }

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        here = await self._offloop.run(statistics, self._private.mapped, self.schema, now_s)
        if not self._fetched:
            return here
        there = await self._redis.statistics(now_s, self._fetched)
        return {name: there[name] if name in self._fetched else of for name, of in here.items()}

    async def close(self) -> None:
        """Lets go of tables and connections. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            await self._offloop.close()
            await self._private.close()
            await self._redis.close()
            await self._shared.close()
