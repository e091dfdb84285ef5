"""Mapped tables as whoever reads them has them: the protocol's reads, and the tables themselves for compiled code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankd.kernels.table import CellRead, Table, TableReading
from rankd.signals.categories import CategoryTable
from rankd.signals.layout import EntityLayout
from rankd.signals.store import SignalRows, StoredRows
from rankd.signals.table import EntityTable
from rankd.signals.tableset import AnyTable, TableSet


@dataclass(frozen=True, slots=True)
class MappedTables:
    """`tables`: by entity. `dictionary`: of categories; a code is a row number of it. Immutable; the tables are valid
    while their store is open. Safe for threads as the tables are, but for `read`, which belongs to one."""

    tables: Mapping[str, Table]
    dictionary: Table
    directory: str
    set_id: int
    _entities: Mapping[str, EntityTable]

    @classmethod
    def of(
        cls, layouts: Mapping[str, EntityLayout], tables: TableSet[AnyTable], categories: CategoryTable
    ) -> MappedTables:
        entities = {name: EntityTable(layout, tables.tables[name], categories) for name, layout in layouts.items()}
        return cls(tables.tables, tables.dictionary, str(tables.directory), tables.set_id, entities)

    def rows_of(self, entity: str) -> EntityTable:
        """The rows of an entity, exactly."""
        return self._entities[entity]

    def columns(self, entity: str, signals: Sequence[str]) -> list[CellRead]:
        """How the table of an entity is read to give signals as expressions see them: default and TTL applied, strings
        in their normal form. KeyError for a signal that is not declared."""
        layout = self._entities[entity].layout
        return [layout.signals[name].reading() for name in signals]

    def times(self, entity: str, signals: Sequence[str]) -> list[CellRead]:
        """The same of the times of these values: int64, ms since 1970."""
        return [read._replace(part="time") for read in self.columns(entity, signals)]

    def reading(self, entity: str, signals: Sequence[str]) -> TableReading:
        """`columns`, checked and ready."""
        return self.tables[entity].reading(self.columns(entity, signals))

    def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        """See SignalStore.read."""
        return self._entities[entity].read(ids, signals, now_s)

    def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        """See SignalStore.get."""
        return self._entities[entity].get(ids, signals, now_s)

    def row_counts(self) -> dict[str, int]:
        """Rows per entity."""
        return {name: len(table) for name, table in self.tables.items()}
