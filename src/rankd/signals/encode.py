"""From checked values to cells: strings get codes, texts their normal form, sets and maps an order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table import CellWrite
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.layout import EntityLayout, SignalCells
from rankd.signals.store import ColumnValues, MapValues, SetValues, Values
from rankd.signals.values import NO_ROWS
from rankd.types.schema import SignalKind
from rankd.types.text import normalise

Times = Mapping[str, NDArray[np.int64]]

_NO_TIMES: Times = {}


def encode(
    layout: EntityLayout, columns: Sequence[ColumnValues], categories: CategoryTable, times_ms: Times = _NO_TIMES
) -> list[CellWrite]:
    """What `columns` of distinct positions come to. StoreFullError if the dictionary has no room for all their strings.

    `times_ms`: by signal, the write time of each value of its column, where that is not the row's.
    """
    texts: list[str] = []
    for column in columns:
        texts += _category_texts(layout.signals[column.signal], column.values)
    codes = categories.intern_all(texts)
    writes: list[CellWrite] = []
    start = 0
    for column in columns:
        cells = layout.signals[column.signal]
        count = len(_category_texts(cells, column.values))
        times = times_ms.get(column.signal) if cells.signal.ttl_s is not None else None
        writes += _cell_writes(cells, column, codes[start : start + count], times)
        start += count
    return writes


def _category_texts(cells: SignalCells, values: Values) -> Sequence[str]:
    """The strings of a column that have codes."""
    if isinstance(values, SetValues):
        return values.members
    if isinstance(values, MapValues):
        return values.keys
    return cast(Sequence[str], values) if cells.signal.kind is SignalKind.CATEGORY else ()


def _cell_writes(
    cells: SignalCells, column: ColumnValues, codes: Codes, times: NDArray[np.int64] | None
) -> Iterator[CellWrite]:
    cell, rows, clear, values = cells.read, column.rows, column.clear_rows, column.values
    match cells.signal.kind:
        case SignalKind.CATEGORY:
            yield CellWrite(cell, rows, codes, clear, times_ms=times)
        case SignalKind.SET:
            lengths, codes = _ordered_sets(codes, cast(SetValues, values).lengths)
            yield CellWrite(cell, rows, codes, clear, lengths, times_ms=times)
        case SignalKind.MAP:
            maps = cast(MapValues, values)
            order = _order_within(codes, maps.lengths)
            yield CellWrite(cell, rows, codes[order], clear, maps.lengths, maps.values[order], times)
        case SignalKind.STRING:
            assert cells.written is not None
            yield from _texts(cells.read, cells.written, column, times)
        case SignalKind.BOOL:
            yield CellWrite(cell, rows, np.asarray(values, np.int8), clear, times_ms=times)
        case _:
            yield CellWrite(cell, rows, np.ascontiguousarray(cast(NDArray[np.float32], values)), clear, times_ms=times)


def _texts(read: int, written: int, column: ColumnValues, times: NDArray[np.int64] | None) -> Iterator[CellWrite]:
    as_written = [text.encode() for text in cast(Sequence[str], column.values)]
    normal = [normalise(text) for text in cast(Sequence[str], column.values)]
    yield _text_write(read, column.rows, normal, column.clear_rows, times)
    same = np.fromiter((a == b for a, b in zip(as_written, normal, strict=True)), np.bool_, len(normal))
    others = [text for text, is_same in zip(as_written, same.tolist(), strict=True) if not is_same]
    clear = np.sort(np.concatenate([column.clear_rows, column.rows[same]]))
    yield _text_write(written, column.rows[~same], others, clear, None)


def _text_write(
    cell: int, rows: NDArray[np.int64], texts: list[bytes], clear: NDArray[np.int64], times: NDArray[np.int64] | None
) -> CellWrite:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return CellWrite(cell, rows, np.frombuffer(b"".join(texts), np.uint8), clear, lengths, times_ms=times)


def _order_within(codes: Codes, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order that sorts codes within each row."""
    return np.lexsort((codes, np.repeat(np.arange(len(lengths)), lengths)))


def _ordered_sets(codes: Codes, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], Codes]:
    """Lengths and codes of sets, ascending, each code once."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((codes, owner))
    owner, codes = owner[order], codes[order]
    first = np.ones(len(codes), np.bool_)
    first[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
    return np.bincount(owner[first], minlength=len(lengths)), codes[first]


def absent(columns: Sequence[ColumnValues], count: int) -> list[ColumnValues]:
    """`columns` of `count` rows with everything cleared that they do not set."""
    cleared = []
    for column in columns:
        is_absent = np.ones(count, np.bool_)
        is_absent[column.rows] = False
        clear = np.flatnonzero(is_absent) if is_absent.any() else NO_ROWS
        cleared.append(ColumnValues(column.signal, column.rows, column.values, clear))
    return cleared
