"""Every way in which signals are stored, opened the same way for the suites of this folder.

| name | what |
| --- | --- |
| memory, durable | EmbeddedStore without and with a data directory |
| shared | SharedStore through a keeper in another process, over an EmbeddedStore with a data directory |
| redis, cluster | RedisStore alone, on one Redis and on a Cluster of three masters |
| replicated, replicated-cluster | ReplicatedStore: users and what is kept of them are fetched, the rest is replicated |
| fetched, fetched-cluster | ReplicatedStore, all of whose entities are fetched |
| worker, worker-fetched | SharedRedisStore beside a keeper in another process, both ways |
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from signals.conformance import SCHEMA, Clock, Traits
from signals.conftest import Place
from signals.keeper_host import Hosted, KeeperHost, open_beside, open_hosted

from rankd.signals.categories import CategoryTable
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.replicated import open_replicated
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.store import SignalRows, WriteBatch
from rankd.types.schema import Schema, Storage

EMBEDDED: Final = Traits()
REDIS: Final = Traits(keeps_deletions=False)
FETCHED: Final = replace(REDIS, bounds_rows=False)
ALONE: Final = replace(FETCHED, has_tables=False)

TRAITS: Final = {
    "memory": replace(EMBEDDED, is_durable=False),
    "durable": EMBEDDED,
    "shared": EMBEDDED,
    "redis": ALONE,
    "cluster": ALONE,
    "replicated": REDIS,
    "replicated-cluster": REDIS,
    "fetched": FETCHED,
    "fetched-cluster": FETCHED,
    "worker": REDIS,
    "worker-fetched": FETCHED,
}
"""By the name of the backend: all that there is of differences."""

BACKENDS: Final = tuple(TRAITS)
SHARDS: Final = 4


class Backend:
    """Opens stores of one kind; all see the same data. `find`: gives fixtures by name."""

    def __init__(self, name: str, directory: Path, find: Callable[[str], Any]) -> None:
        self.name = name
        self.traits = TRAITS[name]
        self._directory = directory
        self._is_fetched = "fetched" in name
        self._options: RedisOptions | None = None
        self._host: KeeperHost | None = None
        if name not in ("memory", "durable", "shared"):
            place: Place = find("cluster" if "cluster" in name else "single")
            self._options = place.options(shards=SHARDS)
        if name == "shared" or name.startswith("worker"):
            self._host = find("keeper_host")
        self._opened: list[Any] = []

    async def __call__(self, schema: Schema = SCHEMA, max_rows: int = 1000, clock: Any = None) -> Any:
        """A SignalStore."""
        store = await self._open(self._placed(schema), max_rows, clock or Clock())
        self._opened.append(store)
        return store

    def _placed(self, schema: Schema) -> Schema:
        if not self._is_fetched:
            return schema
        return Schema({name: replace(e, storage=Storage.FETCHED) for name, e in schema.entities.items()})

    async def _open(self, schema: Schema, max_rows: int, clock: Any) -> Any:
        options = self._options
        if self._host is not None:
            data_dir = self._directory / "data" if options is None else None
            return await open_hosted(self._host, schema, max_rows, clock, data_dir, options)
        if options is None:
            data_dir = None if self.name == "memory" else self._directory / "data"
            return await open_embedded(schema, data_dir, max_rows, clock=clock)
        if self.name in ("redis", "cluster"):
            return Readable(
                await open_redis_store(schema, options, clock=clock),
                await open_embedded(schema, None, 1_000_000, clock=_far),
            )
        return await open_replicated(schema, options, None, max_rows, clock=clock)

    async def beside(self, store: Any) -> Any:
        """Another store over the same data, of another process where a backend has such; else the same."""
        if isinstance(store, Hosted):
            return await open_beside(store, self._options)
        if isinstance(store, Readable):
            return await self._opened_beside(store)
        return store

    async def _opened_beside(self, store: Readable) -> Any:
        other = await self._open(store.schema, 0, store.clock)
        self._opened.append(other)
        return other

    async def end(self) -> None:
        """Closes what a test left open."""
        for store in self._opened:
            await store.close()


def _far() -> float:
    """Nothing is ahead of this."""
    return 1e12


class Readable:
    """A RedisStore, which has no tables to read from, with an embedded store for that: what `get` gives of rows goes
    into it before they are read there. If `get` left anything out, or had it with another time, that would be seen."""

    def __init__(self, redis: RedisStore, rows: EmbeddedStore) -> None:
        self.redis = redis
        self._rows = rows
        self._numbers = itertools.count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.redis, name)

    @property
    def clock(self) -> Any:
        return self.redis._clock

    @property
    def categories(self) -> CategoryTable:
        return self._rows.categories

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        stored = [s.name for s in self.schema.entities[entity].signals.values() if s.is_stored]
        rows = await self.redis.get(entity, ids, stored, now_s)
        names = [f"{next(self._numbers)}" for _ in ids]  # of their own: nothing of an earlier reading is in the way
        none = np.empty(0, np.int64)
        columns = [replace(column, clear_rows=none) for column in rows.columns]
        batch = WriteBatch(entity, [names[i] for i in rows.found.tolist()], columns, rows.written_ms)
        result = await self._rows.write(batch)
        assert (result.written_count, result.late_count) == (len(batch.ids), 0)
        return await self._rows.read(entity, names, signals, now_s)

    async def close(self) -> None:
        await self.redis.close()
        await self._rows.close()
