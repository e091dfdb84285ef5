"""What a process needs to fetch rows for its requests: tables of its own, caches over them, connections, slots."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from redis.asyncio.connection import SSLConnection, parse_url

from rankd.kernels.table import Table
from rankd.kernels.table_writer import TableWriter
from rankd.signals.categories import CategoryTable
from rankd.signals.layout import EntityLayout
from rankd.signals.mapped import MappedTables
from rankd.signals.redis.cache import RowCache
from rankd.signals.redis.fetch import Fetcher, Intern
from rankd.signals.redis.nodes import Nodes
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.slots import Slots
from rankd.signals.redis.store import RedisStore
from rankd.signals.redis.wire import Address
from rankd.signals.runtime import RuntimeDirectory
from rankd.signals.tableset import AnyTable, TableSet, disk_errors
from rankd.types.schema import Schema

_READY_S: Final = 1.0
_PINNED_ROWS: Final = 65_536
"""Room beyond the cache's bound for rows of requests in flight."""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """`ttl_s`: how long a fetched row may be used again (0: only by requests that come while it is on its way).
    `most_rows`: kept, of each entity. `max_bytes`: of each entity's table."""

    ttl_s: float = 1.0
    most_rows: int = 65_536
    max_bytes: int = 64 * 1024**3


def fetched_entities(schema: Schema) -> frozenset[str]:
    """Entities whose rows are read for each request."""
    return frozenset(name for name, entity in schema.entities.items() if entity.is_fetched)


class PrivateRows:
    """See the module's docstring. Belongs to one event loop, but for the tables."""

    def __init__(
        self,
        layouts: Mapping[str, EntityLayout],
        shared: TableSet[AnyTable],
        categories: CategoryTable,
        slots: Slots,
        store: RedisStore,
        options: RedisOptions,
        cache: CacheOptions,
        intern: Intern,
    ) -> None:
        """`layouts`: of all entities. `shared`: the machine's tables; those of fetched entities are replaced by private
        ones in `mapped`. StoreError if they cannot be made."""
        names = fetched_entities(store.schema)
        self.slots = slots
        self._holder = RuntimeDirectory()
        made: dict[str, TableWriter] = {}
        try:
            with disk_errors(self._holder.path):
                for name in sorted(names):
                    made[name] = TableWriter.create(
                        str(self._holder.path / f"fetched-{name}"),
                        layouts[name].cells,
                        max_rows=2 * cache.most_rows + _PINNED_ROWS,
                        max_bytes=cache.max_bytes,
                        fingerprint=layouts[name].fingerprint,
                    )
        except BaseException:
            for table in made.values():
                table.close()
            self._holder.close()
            raise
        self._made = made
        tables: dict[str, Table] = {**shared.tables, **made}
        everything = TableSet(shared.directory, shared.set_id, tables, shared.dictionary)
        self.mapped = MappedTables.of(layouts, everything, categories)
        """All entities, for compiled code and for reads."""
        caches = {
            name: RowCache(
                layouts[name],
                store.codecs[name],
                table,
                shared.dictionary,
                categories,
                cache.most_rows,
                store.rows.layouts(name),
            )
            for name, table in made.items()
        }
        self._nodes = Nodes(
            address_of(options),
            is_cluster=options.cluster,
            connect_timeout_s=options.connect_timeout_s,
            timeout_s=options.socket_timeout_s,
        )
        self.fetcher = Fetcher(
            caches,
            store.keys,
            self._nodes,
            slots,
            ttl_s=cache.ttl_s,
            timeout_s=options.socket_timeout_s,
            intern=intern,
            declare=store.rows.learn,
        )

    async def ready(self) -> None:
        """Returns when Redis is connected, or known to be away."""
        await self._nodes.ready(_READY_S)

    async def close(self) -> None:
        """Nothing may be reading the tables any more."""
        await self.fetcher.close()
        for table in self._made.values():
            table.close()
        self.slots.close()
        await asyncio.to_thread(self._holder.close)


def address_of(options: RedisOptions) -> Address:
    """Where the options say Redis is. ValueError for a URL that is none."""
    settings: dict[str, Any] = dict(parse_url(options.url))
    address = Address(
        username=options.username or "", password=options.password or "", database=int(settings.get("db", 0))
    )
    if "path" in settings:
        return replace(address, path=str(settings["path"]))
    tls = ssl.create_default_context() if settings.get("connection_class") is SSLConnection else None
    return replace(address, host=str(settings.get("host", "localhost")), port=int(settings.get("port", 6379)), tls=tls)
