"""EmbeddedStore: every signal in this process's memory.

write ─ check values ─ clean ─ room? ─ apply
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rankd.errors import StoreError, StoreFullError
from rankd.signals.batches import CleanBatch, category_texts, clean
from rankd.signals.categories import CategoryTable
from rankd.signals.check import value_faults
from rankd.signals.store import SignalRows, StoredRows, WriteBatch, WriteResult
from rankd.signals.table import EntityTable
from rankd.types.schema import Schema


async def open_embedded(
    schema: Schema,
    data_dir: Path | None,
    max_rows_per_entity: int,
    *,
    clock: Callable[[], float] = time.time,
    on_progress: Callable[[int, int], None] | None = None,
) -> EmbeddedStore:
    """Opens the store, loading what `data_dir` holds (None: memory only, nothing outlives the process).

    `clock` gives write times, in seconds since 1970. `on_progress(rows_done, rows_total)` is called
    while rows are loaded. StoreError if the directory cannot be used; it says why.
    """
    if data_dir is not None:
        raise StoreError("a data directory is not supported yet")
    return EmbeddedStore(schema, max_rows_per_entity, clock)


class EmbeddedStore:
    """Implements signals.store.SignalStore. Use `open_embedded`."""

    def __init__(self, schema: Schema, max_rows_per_entity: int, clock: Callable[[], float]) -> None:
        self._schema = schema
        self._categories = CategoryTable()
        self._tables = {entity.name: EntityTable(entity, self._categories) for entity in schema.entities.values()}
        self._max_rows = max_rows_per_entity
        self._clock = clock

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def categories(self) -> CategoryTable:
        return self._categories

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        return self._tables[entity].read(ids, signals, now_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        return self._tables[entity].get(ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        rejected = value_faults(self._schema.entities[batch.entity], batch, self._categories)
        cleaned = clean(batch, {rejection.row for rejection in rejected})
        self._check_room(cleaned)
        self._intern(cleaned)
        self._tables[batch.entity].apply(cleaned.ids, cleaned.columns, self._now_ms())
        return WriteResult(cleaned.written_count, rejected)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        return self._tables[entity].delete(ids)

    def row_counts(self) -> Mapping[str, int]:
        return {name: len(table) for name, table in self._tables.items()}

    @property
    def memory_bytes(self) -> int:
        """Bytes held by ids and values of all entities (without the category dictionary)."""
        return sum(table.memory_bytes for table in self._tables.values())

    async def close(self) -> None:
        self._tables = {}

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    def _check_room(self, batch: CleanBatch) -> None:
        table = self._tables[batch.entity]
        if len(table) + len(batch.ids) <= self._max_rows:
            return
        new = table.new_count(batch.ids)
        if len(table) + new > self._max_rows:
            raise StoreFullError(
                f"expected at most {self._max_rows} rows of {batch.entity}, got {new} new ones "
                f"with {len(table)} stored; delete some or raise max_rows_per_entity"
            )

    def _intern(self, batch: CleanBatch) -> None:
        self._categories.intern_all(category_texts(batch.columns, self._schema.entities[batch.entity]))
