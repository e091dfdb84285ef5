"""A store that has all of the protocol, in memory: an EmbeddedStore, and in Python what that lacks so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rankd.errors import Reason, RequestError
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.store import (
    EntityStatistics,
    Fetched,
    ScanPage,
    SignalStatistics,
    WriteBatch,
    WriteResult,
)
from rankd.types.schema import Schema


class WholeStore:
    """`batches`: what was written, in order. `delay`: awaited before each write."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self._ids: dict[str, dict[str, None]] = {name: {} for name in store.schema.entities}
        self._written: set[str] = set()
        self.batches: list[WriteBatch] = []
        self.delay: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, batch: WriteBatch) -> WriteResult:
        if self.delay is not None:
            await self.delay()
        if batch.write_id and batch.write_id in self._written:
            return WriteResult(len(batch.ids), [], repeated=range(len(batch.ids)))
        result = await self._store.write(batch)
        self.batches.append(batch)
        self._written.add(batch.write_id)
        bad = {r.row for r in result.rejected}
        self._ids[batch.entity].update(dict.fromkeys(i for n, i in enumerate(batch.ids) if n not in bad))
        return result

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        for i in ids:
            self._ids[entity].pop(i, None)
        return await self._store.delete(entity, ids)

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        if cursor and not cursor.isdigit():
            raise RequestError.one(Reason.INVALID_FIELD, "cursor", "a cursor of a scan", repr(cursor))
        start = int(cursor or 0)
        ids = list(self._ids[entity])
        some = ids[start : start + most]
        rows = await self._store.get(entity, some, signals, now_s)
        return ScanPage(some, rows, str(start + most) if start + most < len(ids) else "")

    async def forget(self, user_id: str) -> Mapping[str, int]:
        return {"user": await self.delete("user", [user_id])}

    @property
    def fetched(self) -> frozenset[str]:
        return frozenset()

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        return Fetched()

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        found = {}
        for entity in self._store.schema.entities.values():
            ids = list(self._ids[entity.name])
            rows = await self._store.get(entity.name, ids, list(entity.signals), now_s)
            ages = now_s - rows.written_ms / 1000
            signals = {}
            for column in rows.columns:
                own = ages[column.rows]
                known = (float(np.median(own)), float(own.max())) if len(own) else (np.nan, np.nan)
                signals[column.signal] = SignalStatistics(len(own), *known)
            found[entity.name] = EntityStatistics(len(ids), 100 * len(ids), signals)
        return found


async def open_whole(schema: Schema) -> WholeStore:
    """An empty one."""
    return WholeStore(await open_embedded(schema, None, 1_000_000))
