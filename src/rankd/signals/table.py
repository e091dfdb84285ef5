"""The rows of one entity as the store's protocol has them, over a mapped table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import CellRead, Spans, Table, TableReading
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.layout import EntityLayout, SignalCells
from rankd.signals.store import ColumnValues, MapValues, SetValues, SignalRows, StoredRows, Values
from rankd.signals.values import I64_MISSING, range_elements
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

Cells = NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64] | Spans


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
        """See SignalStore.get."""
        wanted: list[CellRead] = []
        for name in signals:
            cells = self.layout.signals[name]
            wanted.append(cells.stored())
            if cells.written is not None:
                wanted.append(CellRead(cells.written, "stored"))
        rows = self.table.reading(wanted).read(ids, round(now_s * 1000))
        found = np.flatnonzero(rows.found)
        given = iter(rows.columns)
        columns = []
        for name in signals:
            cells = self.layout.signals[name]
            read = next(given)
            written = None if cells.written is None else cast(Spans, next(given))
            present, values = self._values(cells, read, written, found)
            columns.append(_with_clears(name, present, values, len(found)))
        return StoredRows(found, columns, rows.written_ms[found])

    def _values(
        self, cells: SignalCells, read: Cells, written: Spans | None, found: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Values]:
        """Positions in `found` that have a value, ascending, and the values as they were written."""
        if isinstance(read, Spans):
            lengths = read.lengths[found]
            present = np.flatnonzero(lengths >= 0)
            rows = found[present]
            match cells.signal.kind:
                case SignalKind.SET:
                    return present, self._sets(read, rows)
                case SignalKind.MAP:
                    return present, self._maps(read, rows)
            assert written is not None
            return present, _texts(read, written, rows)
        values = read[found]
        match cells.signal.kind:
            case SignalKind.F32:
                present = np.flatnonzero(~np.isnan(values))
            case SignalKind.EMBEDDING:
                present = np.flatnonzero(~np.isnan(values[:, 0]))
            case SignalKind.I64 | SignalKind.TIMESTAMP:
                present = np.flatnonzero(values != I64_MISSING)
            case _:
                present = np.flatnonzero(values >= 0)
        some = values[present]
        if cells.signal.kind is SignalKind.BOOL:
            return present, some != 0
        if cells.signal.kind is SignalKind.CATEGORY:
            return present, self._categories.texts(cast(Codes, some))
        return present, cast(Values, some)

    def _sets(self, read: Spans, rows: NDArray[np.int64]) -> SetValues:
        lengths = read.lengths[rows].astype(np.int64)
        texts = self._categories.texts(read.data[range_elements(read.offsets[rows], lengths)])
        members: list[str] = []
        start = 0
        for length in lengths.tolist():
            members += sorted(texts[start : start + length])
            start += length
        return SetValues(members, lengths)

    def _maps(self, read: Spans, rows: NDArray[np.int64]) -> MapValues:
        assert read.values is not None
        lengths = read.lengths[rows].astype(np.int64)
        elements = range_elements(read.offsets[rows], lengths)
        keys = self._categories.texts(read.data[elements])
        owner = np.repeat(np.arange(len(lengths)), lengths).tolist()
        order = sorted(range(len(keys)), key=lambda i: (owner[i], keys[i]))
        return MapValues([keys[i] for i in order], read.values[elements][np.asarray(order, np.int64)], lengths)


def _texts(normal: Spans, written: Spans, rows: NDArray[np.int64]) -> list[str]:
    """Texts as written: in their own cell, or else the same as their normal form."""
    texts = []
    for row in rows.tolist():
        spans = written if written.lengths[row] >= 0 else normal
        start = spans.offsets[row]
        texts.append(spans.data[start : start + spans.lengths[row]].tobytes().decode())
    return texts


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


def _with_clears(signal: str, present: NDArray[np.int64], values: Values, count: int) -> ColumnValues:
    absent = np.ones(count, np.bool_)
    absent[present] = False
    return ColumnValues(signal, present, values, np.flatnonzero(absent))
