"""Where the values of one signal lie: one class per kind, all with one shape.

Rows are numbers from rankd.kernels.id_index. Every array has one element more than
the capacity: the last one is always missing, so that row -1 (an unknown id, an expired
value) reads as missing without a branch.

Ragged kinds keep their elements in arenas that are appended to, never overwritten: a
column that was handed out points into the arena of its time and stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.gather import GatherColumn
from rankd.signals.categories import CategoryTable
from rankd.signals.store import MapValues, SetValues, Values
from rankd.signals.values import I64_MISSING, range_elements
from rankd.types.columns import (
    MISSING_CODE,
    MISSING_LENGTH,
    CategoryColumn,
    Column,
    EmbeddingColumn,
    MapColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
)
from rankd.types.schema import Signal, SignalKind
from rankd.types.text import normalise

Rows = NDArray[np.int64]

MIN_CAPACITY = 64
MIN_COMPACT_ELEMENTS = 1 << 16


class SignalColumn(Protocol):
    """Storage of one signal's values, by row."""

    def grow(self, capacity: int) -> None:
        """Makes room for rows below `capacity`; new rows are missing."""

    def put(self, rows: Rows, values: Values) -> None:
        """Sets distinct rows. Category strings must have codes already."""

    def clear(self, rows: Rows) -> None:
        """Makes rows missing."""

    def parts(self) -> Sequence[GatherColumn]:
        """Where its values lie, as of now: `grow` replaces the arrays."""

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        """The column of what was gathered from `parts`, which it takes from `gathered`."""

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        """Positions in `rows` that have a value, ascending, and the values as they were written."""

    @property
    def memory_bytes(self) -> int:
        """Bytes held."""


def make_column(signal: Signal, categories: CategoryTable) -> SignalColumn:
    """An empty storage for the signal's kind."""
    match signal.kind:
        case SignalKind.F32:
            return FloatSignal()
        case SignalKind.I64:
            return IntSignal(1.0)
        case SignalKind.TIMESTAMP:
            return IntSignal(1000.0)
        case SignalKind.BOOL:
            return BoolSignal()
        case SignalKind.CATEGORY:
            return CategorySignal(categories)
        case SignalKind.STRING:
            return TextSignal()
        case SignalKind.EMBEDDING:
            return EmbeddingSignal(signal.dimension)
        case SignalKind.SET:
            return SetSignal(categories)
        case SignalKind.MAP:
            return MapSignal(categories)


class Slots:
    """An array by row that is `missing` where nothing was set, with the missing element at its end."""

    def __init__(self, dtype: type[np.generic], missing: Any, width: tuple[int, ...] = ()) -> None:
        self._missing = missing
        self.array: NDArray[Any] = np.full((1, *width), missing, dtype)

    def grow(self, capacity: int) -> None:
        old = len(self.array) - 1
        if capacity > old:
            array = np.empty((capacity + 1, *self.array.shape[1:]), self.array.dtype)
            array[:old] = self.array[:old]
            array[old:] = self._missing
            self.array = array

    def clear(self, rows: Rows) -> None:
        self.array[rows] = self._missing

    def take(self, rows: Rows) -> NDArray[Any]:
        return self.array.take(rows, axis=0)


class _ArraySignal:
    """What the kinds with one array share."""

    def __init__(self, dtype: type[np.generic], missing: Any, width: tuple[int, ...] = ()) -> None:
        self._slots = Slots(dtype, missing, width)

    def grow(self, capacity: int) -> None:
        self._slots.grow(capacity)

    def put(self, rows: Rows, values: Values) -> None:
        self._slots.array[rows] = values

    def clear(self, rows: Rows) -> None:
        self._slots.clear(rows)

    @property
    def memory_bytes(self) -> int:
        return int(self._slots.array.nbytes)


class FloatSignal(_ArraySignal):
    """f32; NaN is missing."""

    def __init__(self) -> None:
        super().__init__(np.float32, np.nan)

    def parts(self) -> Sequence[GatherColumn]:
        return (GatherColumn("float", self._slots.array),)

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return NumericColumn(next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        values = self._slots.take(rows)
        present = np.flatnonzero(~np.isnan(values))
        return present, values[present]


class IntSignal(_ArraySignal):
    """i64, or timestamps in ms; reads as values / divisor."""

    def __init__(self, divisor: float) -> None:
        super().__init__(np.int64, I64_MISSING)
        self._divisor = divisor

    def parts(self) -> Sequence[GatherColumn]:
        return (GatherColumn("int64", self._slots.array, self._divisor),)

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return NumericColumn(next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        values = self._slots.take(rows)
        present = np.flatnonzero(values != I64_MISSING)
        return present, values[present]


class BoolSignal(_ArraySignal):
    """bool, as int8; -1 is missing."""

    def __init__(self) -> None:
        super().__init__(np.int8, -1)

    def parts(self) -> Sequence[GatherColumn]:
        return (GatherColumn("int8", self._slots.array),)

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return NumericColumn(next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        values = self._slots.take(rows)
        present = np.flatnonzero(values >= 0)
        return present, values[present] != 0


class CategorySignal(_ArraySignal):
    """category, as codes."""

    def __init__(self, categories: CategoryTable) -> None:
        super().__init__(np.int32, MISSING_CODE)
        self._categories = categories

    def put(self, rows: Rows, values: Values) -> None:
        self._slots.array[rows] = self._categories.codes(cast(Sequence[str], values))

    def parts(self) -> Sequence[GatherColumn]:
        return (GatherColumn("code", self._slots.array),)

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return CategoryColumn(next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        codes = self._slots.take(rows)
        present = np.flatnonzero(codes >= 0)
        return present, self._categories.texts(codes[present])


class EmbeddingSignal(_ArraySignal):
    """embedding; a row that starts with NaN is missing."""

    def __init__(self, dimension: int) -> None:
        super().__init__(np.float32, np.nan, (dimension,))

    def parts(self) -> Sequence[GatherColumn]:
        return (GatherColumn("vector", self._slots.array),)

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return EmbeddingColumn(next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        values = self._slots.take(rows)
        present = np.flatnonzero(~np.isnan(values[:, 0]))
        return present, values[present]


class Ragged:
    """Rows of different lengths in parallel arenas that only grow, and are replaced when half is garbage."""

    def __init__(self, *dtypes: type[np.generic]) -> None:
        self._offsets = Slots(np.int64, 0)
        self._lengths = Slots(np.int32, MISSING_LENGTH)
        self.arenas: list[NDArray[Any]] = [np.empty(0, dtype) for dtype in dtypes]
        self._used = 0
        self._garbage = 0

    def grow(self, capacity: int) -> None:
        self._offsets.grow(capacity)
        self._lengths.grow(capacity)

    def put(self, rows: Rows, lengths: NDArray[np.int64], *parts: NDArray[Any]) -> None:
        """Sets distinct rows to consecutive pieces of `parts`."""
        self._discard(rows)
        total = int(lengths.sum())
        if self._used + total > len(self.arenas[0]):
            self._replace(self._used, max(2 * len(self.arenas[0]), self._used + total, 1024))
        for arena, part in zip(self.arenas, parts, strict=True):
            arena[self._used : self._used + total] = part
        self._offsets.array[rows] = self._used + np.cumsum(lengths) - lengths
        self._lengths.array[rows] = lengths
        self._used += total
        if self._garbage > MIN_COMPACT_ELEMENTS and self._garbage > self._used // 2:
            self._compact()

    def clear(self, rows: Rows) -> None:
        self._discard(rows)
        self._offsets.clear(rows)
        self._lengths.clear(rows)

    def parts(self) -> Sequence[GatherColumn]:
        """Offsets and lengths, to be gathered in this order."""
        return GatherColumn("offset", self._offsets.array), GatherColumn("code", self._lengths.array)

    def ranges(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offsets and lengths of rows; length -1 where missing."""
        return self._offsets.take(rows), self._lengths.take(rows)

    @property
    def memory_bytes(self) -> int:
        slots = self._offsets.array.nbytes + self._lengths.array.nbytes
        return int(slots + sum(arena.nbytes for arena in self.arenas))

    def _discard(self, rows: Rows) -> None:
        self._garbage += int(np.maximum(self._lengths.take(rows), 0).sum(dtype=np.int64))

    def _replace(self, used: int, capacity: int) -> None:
        for i, old in enumerate(self.arenas):
            arena = np.empty(capacity, old.dtype)
            arena[:used] = old[:used]
            self.arenas[i] = arena

    def _compact(self) -> None:
        live = np.flatnonzero(self._lengths.array > 0)
        offsets, lengths = self._offsets.array[live], self._lengths.array[live].astype(np.int64)
        elements = range_elements(offsets, lengths)
        self.arenas = [arena[elements] for arena in self.arenas]
        # Unlike arenas, offsets may change in place: readers were given copies.
        self._offsets.array[live] = np.cumsum(lengths) - lengths
        self._used = len(elements)
        self._garbage = 0


class TextSignal:
    """string: as written, for `get`, and normalised, for text features."""

    def __init__(self) -> None:
        self._written = Ragged(np.uint8)
        self._normal = Ragged(np.uint8)

    def grow(self, capacity: int) -> None:
        self._written.grow(capacity)
        self._normal.grow(capacity)

    def put(self, rows: Rows, values: Values) -> None:
        texts = cast(Sequence[str], values)
        self._put(self._written, rows, [text.encode() for text in texts])
        self._put(self._normal, rows, [normalise(text) for text in texts])

    @staticmethod
    def _put(ragged: Ragged, rows: Rows, pieces: list[bytes]) -> None:
        lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
        ragged.put(rows, lengths, np.frombuffer(b"".join(pieces), np.uint8))

    def clear(self, rows: Rows) -> None:
        self._written.clear(rows)
        self._normal.clear(rows)

    def parts(self) -> Sequence[GatherColumn]:
        return self._normal.parts()

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return TextColumn(self._normal.arenas[0], next(gathered), next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        offsets, lengths = self._written.ranges(rows)
        present = np.flatnonzero(lengths >= 0)
        data = self._written.arenas[0]
        pairs = zip(offsets[present].tolist(), lengths[present].tolist(), strict=True)
        return present, [data[start : start + length].tobytes().decode() for start, length in pairs]

    @property
    def memory_bytes(self) -> int:
        return self._written.memory_bytes + self._normal.memory_bytes


def _by_row_and_code(
    codes: NDArray[np.int32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row of every element, and the order that sorts codes within each row."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return owner, np.lexsort((codes, owner))


class SetSignal:
    """set: ascending distinct codes."""

    def __init__(self, categories: CategoryTable) -> None:
        self._ragged = Ragged(np.int32)
        self._categories = categories

    def grow(self, capacity: int) -> None:
        self._ragged.grow(capacity)

    def put(self, rows: Rows, values: Values) -> None:
        assert isinstance(values, SetValues)
        codes = self._categories.codes(values.members)
        owner, order = _by_row_and_code(codes, values.lengths)
        owner, codes = owner[order], codes[order]
        first = np.ones(len(codes), np.bool_)
        first[1:] = (owner[1:] != owner[:-1]) | (codes[1:] != codes[:-1])
        self._ragged.put(rows, np.bincount(owner[first], minlength=len(rows)), codes[first])

    def clear(self, rows: Rows) -> None:
        self._ragged.clear(rows)

    def parts(self) -> Sequence[GatherColumn]:
        return self._ragged.parts()

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        return SetColumn(self._ragged.arenas[0], next(gathered), next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        offsets, lengths = self._ragged.ranges(rows)
        present = np.flatnonzero(lengths >= 0)
        taken = lengths[present].astype(np.int64)
        members: list[str] = []
        for start, length in zip(offsets[present].tolist(), taken.tolist(), strict=True):
            members += sorted(self._categories.texts(self._ragged.arenas[0][start : start + length]))
        return present, SetValues(members, taken)

    @property
    def memory_bytes(self) -> int:
        return self._ragged.memory_bytes


class MapSignal:
    """map: ascending distinct codes, each with a float32."""

    def __init__(self, categories: CategoryTable) -> None:
        self._ragged = Ragged(np.int32, np.float32)
        self._categories = categories

    def grow(self, capacity: int) -> None:
        self._ragged.grow(capacity)

    def put(self, rows: Rows, values: Values) -> None:
        assert isinstance(values, MapValues)
        codes = self._categories.codes(values.keys)
        _, order = _by_row_and_code(codes, values.lengths)
        self._ragged.put(rows, values.lengths, codes[order], values.values[order])

    def clear(self, rows: Rows) -> None:
        self._ragged.clear(rows)

    def parts(self) -> Sequence[GatherColumn]:
        return self._ragged.parts()

    def column(self, gathered: Iterator[NDArray[Any]]) -> Column:
        keys, values = self._ragged.arenas
        return MapColumn(keys, values, next(gathered), next(gathered))

    def get(self, rows: Rows) -> tuple[Rows, Values]:
        offsets, lengths = self._ragged.ranges(rows)
        present = np.flatnonzero(lengths >= 0)
        taken = lengths[present].astype(np.int64)
        elements = range_elements(offsets[present], taken)
        codes, values = (arena[elements] for arena in self._ragged.arenas)
        keys = self._categories.texts(codes)
        owner = np.repeat(np.arange(len(taken)), taken).tolist()
        order = sorted(range(len(keys)), key=lambda i: (owner[i], keys[i]))
        return present, MapValues([keys[i] for i in order], values[np.asarray(order, np.int64)], taken)

    @property
    def memory_bytes(self) -> int:
        return self._ragged.memory_bytes
