"""The rows of one entity in memory: an index from ids to rows, and a column per signal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.gather import Gather, GatherColumn
from rankd.kernels.id_index import IdIndex
from rankd.signals.categories import CategoryTable
from rankd.signals.columns import MIN_CAPACITY, Rows, SignalColumn, Slots, make_column
from rankd.signals.store import ColumnValues, SignalRows, StoredRows, Values
from rankd.types.schema import Entity, Signal

_NEVER_MS = 2**63 - 1
"""A TTL that nothing outlives."""

_MOST_READINGS = 64
"""How many combinations of signals are remembered; a profile asks for one."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A signal, where its values lie, and when they were written (ms; only with a TTL)."""

    signal: Signal
    column: SignalColumn
    written_ms: Slots | None

    def live(self, rows: Rows, now_ms: int) -> Rows:
        """`rows` with -1 where the value has outlived its TTL."""
        if self.written_ms is None or self.signal.ttl_s is None:
            return rows
        expired = now_ms - self.written_ms.take(rows) >= round(self.signal.ttl_s * 1000)
        return np.where(expired, -1, rows) if expired.any() else rows

    def gathered(self, part: GatherColumn) -> GatherColumn:
        """`part` of the column with the signal's default and TTL."""
        missing = np.nan if self.signal.default is None else self.signal.default
        if self.written_ms is None or self.signal.ttl_s is None:
            return part._replace(missing=missing)
        ttl_ms = min(round(self.signal.ttl_s * 1000), _NEVER_MS)
        return part._replace(missing=missing, written_ms=self.written_ms.array, ttl_ms=ttl_ms)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How some signals are read in one call, until the table grows."""

    gather: Gather
    columns: Sequence[tuple[str, SignalColumn]]

    @classmethod
    def of(cls, kept: Mapping[str, _Kept], signals: Sequence[str]) -> _Reading:
        """Of signals by name, distinct."""
        parts = [kept[name].gathered(part) for name in signals for part in kept[name].column.parts()]
        return cls(Gather(parts), [(name, kept[name].column) for name in signals])


class EntityTable:
    """Synchronous, and not safe for threads: its owner is the event loop."""

    def __init__(self, entity: Entity, categories: CategoryTable) -> None:
        self._entity = entity
        self._index = IdIndex()
        self._kept = {
            signal.name: _Kept(
                signal, make_column(signal, categories), Slots(np.int64, 0) if signal.ttl_s is not None else None
            )
            for signal in entity.signals.values()
        }
        self._written_ms = Slots(np.int64, 0)
        self._journal_keys = Slots(np.int64, -1)
        self._capacity = 0
        self._readings: dict[tuple[str, ...], _Reading] = {}

    def __len__(self) -> int:
        return len(self._index)

    @property
    def memory_bytes(self) -> int:
        """Bytes held by ids and values (without the category dictionary)."""
        times = [kept.written_ms.array.nbytes for kept in self._kept.values() if kept.written_ms is not None]
        return (
            self._index.memory_bytes
            + sum(kept.column.memory_bytes for kept in self._kept.values())
            + sum(times)
            + self._written_ms.array.nbytes
            + self._journal_keys.array.nbytes
        )

    def new_count(self, ids: Sequence[str]) -> int:
        """How many of distinct ids are not in the table."""
        return int(np.count_nonzero(self._index.find(ids) < 0))

    def journal_keys(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The keys under which the journal knows the ids, int64; -1 where an id is new."""
        keys: NDArray[np.int64] = self._journal_keys.take(self._index.find(ids))
        return keys

    def apply(
        self,
        ids: Sequence[str],
        columns: Sequence[ColumnValues],
        written_ms: NDArray[np.int64] | int,
        journal_keys: NDArray[np.int64] | None = None,
        value_times_ms: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        """Upserts distinct ids. Category strings must have codes.

        `written_ms`: of every row, or of all. `value_times_ms`: by signal, the write time of each
        value of its column where that is not the row's (when rows are loaded back).
        """
        rows = self._index.insert(ids)
        if self._index.row_bound > self._capacity:
            self._grow(max(2 * self._capacity, self._index.row_bound, MIN_CAPACITY))
        self._written_ms.array[rows] = written_ms
        if journal_keys is not None:
            self._journal_keys.array[rows] = journal_keys
        for values in columns:
            kept = self._kept[values.signal]
            if len(values.rows):
                targets = rows[values.rows]
                kept.column.put(targets, values.values)
                if kept.written_ms is not None:
                    times = written_ms if value_times_ms is None else value_times_ms[values.signal]
                    kept.written_ms.array[targets] = times
            if len(values.clear_rows):
                kept.column.clear(rows[values.clear_rows])

    def read(self, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        """See SignalStore.read."""
        rows = self._index.find(ids)
        reading = self._readings.get(tuple(signals))
        if reading is None:
            if len(self._readings) == _MOST_READINGS:
                self._readings.clear()
            reading = self._readings[tuple(signals)] = _Reading.of(self._kept, signals)
        gathered = iter(reading.gather.read(rows, round(now_s * 1000)))
        columns = {name: column.column(gathered) for name, column in reading.columns}
        return SignalRows(columns, rows >= 0)

    def get(self, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        """See SignalStore.get."""
        all_rows = self._index.find(ids)
        found = np.flatnonzero(all_rows >= 0)
        rows = all_rows[found]
        now_ms = round(now_s * 1000)
        columns = []
        for name in signals:
            kept = self._kept[name]
            present, values = kept.column.get(kept.live(rows, now_ms))
            columns.append(_with_clears(name, present, values, len(rows)))
        return StoredRows(found, columns, self._written_ms.take(rows))

    def delete(self, ids: Sequence[str]) -> int:
        """Removes rows and everything in them; returns how many there were."""
        removed = self._index.remove(ids)
        rows = removed[removed >= 0]
        if len(rows):
            # A later insert gets these rows and must find them missing.
            for kept in self._kept.values():
                kept.column.clear(rows)
            self._journal_keys.clear(rows)
        return len(rows)

    def _grow(self, capacity: int) -> None:
        self._readings.clear()
        for kept in self._kept.values():
            kept.column.grow(capacity)
            if kept.written_ms is not None:
                kept.written_ms.grow(capacity)
        self._written_ms.grow(capacity)
        self._journal_keys.grow(capacity)
        self._capacity = capacity


def _with_clears(signal: str, present: Rows, values: Values, count: int) -> ColumnValues:
    absent = np.ones(count, np.bool_)
    absent[present] = False
    return ColumnValues(signal, present, values, np.flatnonzero(absent))
