"""From cells to values as they were written: the inverse of encode."""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import Spans
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.encode import RECORD
from rankd.signals.layout import SignalCells
from rankd.signals.store import ListValues, MapValues, SetValues, Values, WindowValues
from rankd.signals.values import I64_MISSING, owners, range_elements
from rankd.types.schema import SignalKind

Cells: TypeAlias = NDArray[np.float64] | NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64] | Spans
"""What a reading of the part "stored" gives for one cell."""

Rows: TypeAlias = NDArray[np.int64]


def decode(
    cells: SignalCells, read: Cells, written: Spans | None, rows: Rows, categories: CategoryTable
) -> tuple[Rows, Values]:
    """Positions in `rows` that have a value, ascending, and these values. `rows`: positions in what was read."""
    if isinstance(read, Spans):
        present = np.flatnonzero(read.lengths[rows] >= 0)
        return present, _ragged(cells.signal.kind, read, written, rows[present], categories)
    values = read[rows]
    match cells.signal.kind:
        case SignalKind.F32 | SignalKind.COUNTER:
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
        return present, categories.texts(cast(Codes, some))
    return present, cast(Values, some)


def _ragged(kind: SignalKind, read: Spans, written: Spans | None, rows: Rows, categories: CategoryTable) -> Values:
    match kind:
        case SignalKind.SET:
            return _sets(read, rows, categories)
        case SignalKind.MAP:
            return _maps(read, rows, categories)
        case SignalKind.WINDOW:
            assert read.values is not None
            lengths, elements = _elements(read, rows)
            return WindowValues(read.data[elements], read.values[elements], lengths)
    assert written is not None
    return _lists(written, rows, categories) if kind is SignalKind.LIST else _texts(read, written, rows)


def _elements(spans: Spans, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = spans.lengths[rows].astype(np.int64)
    return lengths, range_elements(spans.offsets[rows], lengths)


def _sets(read: Spans, rows: Rows, categories: CategoryTable) -> SetValues:
    lengths, elements = _elements(read, rows)
    texts = categories.texts(read.data[elements])
    members: list[str] = []
    start = 0
    for length in lengths.tolist():
        members += sorted(texts[start : start + length])
        start += length
    return SetValues(members, lengths)


def _maps(read: Spans, rows: Rows, categories: CategoryTable) -> MapValues:
    assert read.values is not None
    lengths, elements = _elements(read, rows)
    keys = categories.texts(read.data[elements])
    owner = owners(lengths).tolist()
    order = sorted(range(len(keys)), key=lambda i: (owner[i], keys[i]))
    return MapValues([keys[i] for i in order], read.values[elements][np.asarray(order, np.int64)], lengths)


def _lists(written: Spans, rows: Rows, categories: CategoryTable) -> ListValues:
    lengths, elements = _elements(written, rows)
    records = np.ascontiguousarray(written.data[elements]).view(RECORD)
    members = categories.texts(np.ascontiguousarray(records["code"]))
    return ListValues(members, records["time_ms"].astype(np.int64), lengths // RECORD.itemsize)


def _texts(normal: Spans, written: Spans, rows: Rows) -> list[str]:
    """Texts as written: in their own cell, or else the same as their normal form."""
    texts = []
    for row in rows.tolist():
        spans = written if written.lengths[row] >= 0 else normal
        start = spans.offsets[row]
        texts.append(spans.data[start : start + spans.lengths[row]].tobytes().decode())
    return texts
