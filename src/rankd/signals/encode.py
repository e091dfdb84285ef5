"""From checked values to cells: strings get codes, texts their normal form, sets and maps an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import CellWrite
from rankd.signals.accumulate import NEVER_MS
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.layout import EntityLayout, SignalCells
from rankd.signals.store import ColumnValues, ListValues, MapValues, SetValues, Values, WindowValues
from rankd.signals.values import NO_ROWS, owners
from rankd.types.schema import SignalKind
from rankd.types.text import normalise

RECORD: Final = np.dtype([("time_ms", "<i8"), ("code", "<i4")])
"""Of a list: one for each member, newest first."""

_PLAIN: Final = frozenset(
    {SignalKind.F32, SignalKind.I64, SignalKind.TIMESTAMP, SignalKind.COUNTER, SignalKind.EMBEDDING}
)
"""Kinds whose cells take their values as they are."""


def encode(layout: EntityLayout, columns: Sequence[ColumnValues], categories: CategoryTable) -> list[CellWrite]:
    """What `columns` of distinct positions, which set and clear, come to: where values have times of their own, clears
    have them, too. StoreFullError if the dictionary has no room for all their strings."""
    texts: list[str] = []
    for column in columns:
        texts += _category_texts(column.values, layout.signals[column.signal].signal.kind)
    codes = categories.intern_all(texts) if texts else np.empty(0, np.int32)
    writes: list[CellWrite] = []
    start = 0
    for column in columns:
        cells = layout.signals[column.signal]
        if cells.signal.kind in _PLAIN:
            writes.append(_write(cells.read, column, np.ascontiguousarray(cast(NDArray[np.float32], column.values))))
            continue
        count = len(_category_texts(column.values, cells.signal.kind))
        writes += _cell_writes(cells, column, codes[start : start + count])
        start += count
    return writes


def _category_texts(values: Values, kind: SignalKind) -> Sequence[str]:
    """The strings of a column that have codes."""
    if isinstance(values, SetValues | ListValues):
        return values.members
    if isinstance(values, MapValues):
        return values.keys
    return cast(Sequence[str], values) if kind is SignalKind.CATEGORY else ()


def _write(
    cell: int,
    column: ColumnValues,
    values: NDArray[np.generic],
    lengths: NDArray[np.int64] | None = None,
    map_values: NDArray[np.float32] | None = None,
) -> CellWrite:
    times, clear_times = column.times_ms, column.clear_times_ms
    return CellWrite(cell, column.rows, values, column.clear_rows, lengths, map_values, times, clear_times)


def _cell_writes(cells: SignalCells, column: ColumnValues, codes: Codes) -> Iterator[CellWrite]:
    cell, values = cells.read, column.values
    if isinstance(values, SetValues):
        lengths, codes = _ordered_sets(codes, values.lengths)
        yield _write(cell, column, codes, lengths)
    elif isinstance(values, MapValues):
        order = np.lexsort((codes, owners(values.lengths)))
        yield _write(cell, column, codes[order], values.lengths, values.values[order])
    elif isinstance(values, WindowValues):
        yield _write(cell, column, values.buckets, values.lengths, values.counts)
    elif isinstance(values, ListValues):
        assert cells.written is not None
        lengths, ordered = _ordered_sets(codes, values.lengths)
        yield _write(cell, column, ordered, lengths)
        records = np.empty(len(codes), RECORD)
        records["time_ms"], records["code"] = values.times_ms, codes
        yield _write(cells.written, column, records.view(np.uint8), values.lengths * RECORD.itemsize)
    elif cells.signal.kind is SignalKind.CATEGORY:
        yield _write(cell, column, codes)
    elif cells.signal.kind is SignalKind.STRING:
        assert cells.written is not None
        yield from _texts(cells.read, cells.written, column)
    else:
        yield _write(cell, column, np.asarray(values, np.int8))


def _texts(read: int, written: int, column: ColumnValues) -> Iterator[CellWrite]:
    as_written = [text.encode() for text in cast(Sequence[str], column.values)]
    normal = [normalise(text) for text in cast(Sequence[str], column.values)]
    yield _text_write(read, column, normal)
    same = np.fromiter((a == b for a, b in zip(as_written, normal, strict=True)), np.bool_, len(normal))
    others = [text for text, is_same in zip(as_written, same.tolist(), strict=True) if not is_same]
    yield _text_write(written, _with_cleared(column, same), others)


def _with_cleared(column: ColumnValues, is_cleared: NDArray[np.bool_]) -> ColumnValues:
    """The rows and times of a column when some of its values are taken for clears, which keep their times."""
    clear_rows = np.concatenate([column.clear_rows, column.rows[is_cleared]])
    order = np.argsort(clear_rows)
    times, clear_times = column.times_ms, column.clear_times_ms
    if times is not None:
        known = NO_ROWS if clear_times is None else clear_times
        assert len(known) == len(column.clear_rows), "times of values without those of clears"
        clear_times = np.concatenate([known, times[is_cleared]])[order]
    return replace(
        column,
        rows=column.rows[~is_cleared],
        clear_rows=clear_rows[order],
        times_ms=None if times is None else times[~is_cleared],
        clear_times_ms=clear_times,
    )


def _text_write(cell: int, column: ColumnValues, texts: list[bytes]) -> CellWrite:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return _write(cell, column, np.frombuffer(b"".join(texts), np.uint8), lengths)


def _ordered_sets(codes: Codes, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], Codes]:
    """Lengths and codes of sets, ascending, each code once."""
    owner = owners(lengths)
    order = np.lexsort((codes, owner))
    owner, codes = owner[order], codes[order]
    first = np.ones(len(codes), np.bool_)
    first[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
    return np.bincount(owner[first], minlength=len(lengths)), codes[first]


def absent(columns: Sequence[ColumnValues], count: int) -> list[ColumnValues]:
    """`columns` of `count` rows, with times, as their absolute state: what they do not speak of was never written."""
    whole = []
    for column in columns:
        is_absent = np.ones(count, np.bool_)
        is_absent[column.rows] = False
        clear_rows = np.flatnonzero(is_absent)
        clear_times = np.full(count, NEVER_MS, np.int64)
        if column.clear_times_ms is not None:
            clear_times[column.clear_rows] = column.clear_times_ms
        whole.append(replace(column, clear_rows=clear_rows, clear_times_ms=clear_times[clear_rows]))
    return whole
