"""A store whose writes can be held back, and looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.store import WriteBatch, WriteResult
from rankd.types.schema import Schema


class HeldStore:
    """An EmbeddedStore in memory. `batches`: what was written, in order. `delay`: awaited before each write."""

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        self.batches: list[WriteBatch] = []
        self.delay: Callable[[], Awaitable[None]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, batch: WriteBatch) -> WriteResult:
        if self.delay is not None:
            await self.delay()
        self.batches.append(batch)
        return await self._store.write(batch)


async def open_held(schema: Schema) -> HeldStore:
    """An empty one."""
    return HeldStore(await open_embedded(schema, None, 1_000_000))
