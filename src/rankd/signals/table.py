"""The rows of one entity as the store's protocol has them, over a mapped table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import CellRead, Spans, Table, TableReading, TableRows
from rankd.signals.accumulate import NEVER_MS, States
from rankd.signals.categories import CategoryTable
from rankd.signals.decode import Cells, decode
from rankd.signals.layout import EntityLayout, SignalCells
from rankd.signals.store import ColumnValues, SignalRows, StoredRows, Values
from rankd.types.columns import (
    CategoryColumn,
    Column,
    EmbeddingColumn,
    MapColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
)
from rankd.types.schema import SignalKind

_MOST_READINGS = 64
"""How many combinations of signals are remembered; a profile asks for one."""

Times = NDArray[np.int64]


class EntityTable:
    """Reads a table of this layout. Safe for threads as far as the table is."""

    def __init__(self, layout: EntityLayout, table: Table, categories: CategoryTable) -> None:
        self.layout = layout
        self.table = table
        self._categories = categories
        self._readings: dict[tuple[str, ...], TableReading] = {}

    def __len__(self) -> int:
        return len(self.table)

    def read(self, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        """See SignalStore.read."""
        key = tuple(signals)
        reading = self._readings.get(key)
        if reading is None:
            if len(self._readings) >= _MOST_READINGS:
                self._readings.clear()
            reading = self.table.reading([self.layout.signals[name].reading() for name in signals])
            self._readings[key] = reading
        rows = reading.read(ids, round(now_s * 1000))
        columns = {
            name: _column(self.layout.signals[name].signal.kind, cells)
            for name, cells in zip(signals, rows.columns, strict=True)
        }
        return SignalRows(columns, rows.found)

    def get(self, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        """See SignalStore.get. A ratio is as of now, and missing where its counters are, whatever its prior."""
        wanted = [read for name in signals for read in _as_written(self.layout.signals[name])]
        rows = self.table.reading(wanted).read(ids, round(now_s * 1000))
        found = np.flatnonzero(rows.found)
        given = iter(rows.columns)
        columns = [self._column(self.layout.signals[name], given, found) for name in signals]
        return StoredRows(found, columns, rows.written_ms[found])

    def _column(self, cells: SignalCells, given: Iterator[Cells], found: NDArray[np.int64]) -> ColumnValues:
        if cells.parts is not None:
            values = cast(NDArray[np.float64], next(given))[found]
            times = np.maximum(*(cast(Times, next(given))[found] for _ in cells.parts))
            present = np.flatnonzero(~np.isnan(values) & (times != NEVER_MS))
            return _with_clears(cells, present, values[present].astype(np.float32), times[present], len(found))
        read = next(given)
        written = None if cells.written is None else cast(Spans, next(given))
        times = cast(Times, next(given))[found]
        present, stored = decode(cells, read, written, found, self._categories)
        return _with_clears(cells, present, stored, times[present], len(found))

    def exact(self, ids: Sequence[str]) -> StoredRows:
        """All that is known of some rows, whatever its age: of each stored signal its values and clears, each with its
        time. A row that is in neither was never written. What `encode` takes to make the same rows again."""
        rows, columns = self._exact(ids, self.layout.stored, None)
        found = np.flatnonzero(rows.found)
        return StoredRows(found, [_taken(column, rows.found) for column in columns], rows.written_ms[found])

    def states(self, ids: Sequence[str], signals: Sequence[str], now_ms: int) -> Mapping[str, States]:
        """What amounts are added to (see accumulate), by signal: of every id, the unknown ones never written. What has
        expired is no value, but its time stays."""
        _, columns = self._exact(ids, [self.layout.signals[name] for name in signals], now_ms)
        states = {}
        for column in columns:
            cleared = np.full(len(ids), NEVER_MS, np.int64)
            if column.clear_times_ms is not None:
                cleared[column.clear_rows] = column.clear_times_ms
            states[column.signal] = States.of(column, len(ids), cleared)
        return states

    def _exact(
        self, ids: Sequence[str], of: Sequence[SignalCells], now_ms: int | None
    ) -> tuple[TableRows, list[ColumnValues]]:
        """Columns of positions in the ids: values and clears with their times, TTLs applied if there is a `now_ms`."""
        wanted: list[CellRead] = []
        for cells in of:
            stored = cells.stored()
            wanted.append(stored if now_ms is not None else stored._replace(ttl_ms=0))
            wanted += [] if cells.written is None else [CellRead(cells.written, "stored")]
            wanted.append(cells.changed())
        rows = self.table.reading(wanted).read(ids, now_ms or 0)
        given = iter(rows.columns)
        every = np.arange(len(ids), dtype=np.int64)
        columns = []
        for cells in of:
            read = next(given)
            written = None if cells.written is None else cast(Spans, next(given))
            changed = cast(Times, next(given))
            present, values = decode(cells, read, written, every, self._categories)
            is_cleared = changed != NEVER_MS
            is_cleared[present] = False
            clear = np.flatnonzero(is_cleared)
            columns.append(
                ColumnValues(
                    cells.signal.name,
                    present,
                    values,
                    clear,
                    times_ms=changed[present],
                    clear_times_ms=changed[clear],
                )
            )
        return rows, columns


def _as_written(cells: SignalCells) -> Iterator[CellRead]:
    if cells.parts is not None:
        yield cells.reading()._replace(missing=float("nan"))
        yield from (part.time() for part in cells.parts)
        return
    yield cells.stored()
    if cells.written is not None:
        yield CellRead(cells.written, "stored")
    yield cells.time()


def _column(kind: SignalKind, cells: Cells) -> Column:
    if not isinstance(cells, Spans):
        if kind is SignalKind.CATEGORY:
            return CategoryColumn(cast(NDArray[np.int32], cells))
        if kind is SignalKind.EMBEDDING:
            return EmbeddingColumn(cast(NDArray[np.float32], cells))
        return NumericColumn(cast(NDArray[np.float64], cells))
    if kind is SignalKind.STRING:
        return TextColumn(cells.data, cells.offsets, cells.lengths)
    if cells.values is None:
        return SetColumn(cells.data, cells.offsets, cells.lengths)
    return MapColumn(cells.data, cells.values, cells.offsets, cells.lengths)


def _with_clears(
    cells: SignalCells, present: NDArray[np.int64], values: Values, times: Times, count: int
) -> ColumnValues:
    absent = np.ones(count, np.bool_)
    absent[present] = False
    return ColumnValues(cells.signal.name, present, values, np.flatnonzero(absent), times_ms=times)


def _taken(column: ColumnValues, is_found: NDArray[np.bool_]) -> ColumnValues:
    """The column with positions in the rows that were found; no others have values or clears."""
    place = np.cumsum(is_found) - 1
    return replace(column, rows=place[column.rows], clear_rows=place[column.clear_rows])
