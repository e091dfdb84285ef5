"""Rows of one entity as Redis keeps them: each packed whole into one value, with its id, layout, version and times.

The layout's fingerprint is of what stored values depend on (names, types, half-lives, buckets). A row of another layout
is read by the declaration that was kept under its fingerprint: signals of the same name and storing are taken over.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rankd.kernels import packed as kernel
from rankd.kernels.packed import PackedColumn, PackedLayout
from rankd.signals.accumulate import NEVER_MS
from rankd.signals.redis.parts import Parts, cell_of, no_parts, values_of
from rankd.signals.store import ColumnValues, Values
from rankd.types.schema import Element, Entity, Signal, SignalKind, fingerprint

NONE: Final = 0
VALUE: Final = 1
CLEARED: Final = 2
"""States of a value: never written, there, cleared at its time."""


class Status(enum.IntEnum):
    """What became of one row."""

    MISSING = kernel.MISSING
    LIVE = kernel.LIVE
    TOMBSTONE = kernel.TOMBSTONE  # deleted, at its latest time
    WRONG_ID = kernel.WRONG_ID  # a reply that belongs to another row: never used
    DAMAGED = kernel.DAMAGED
    OTHER_LAYOUT = kernel.OTHER_LAYOUT  # and none that is known


@dataclass(frozen=True, slots=True)
class StateColumn:
    """One signal of n rows: `state` uint8 (n,), `times_ms` int64 (n,) where there is a state, `parts`: of the rows that
    have a value, in order."""

    signal: Signal
    state: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    parts: Parts

    @property
    def values(self) -> Values:
        """Of the rows that have a value, as ColumnValues has them."""
        return values_of(self.signal, self.parts)

    def take(self, rows: NDArray[np.int64]) -> StateColumn:
        """The column of some rows, in that order."""
        state = self.state[rows]
        places = np.cumsum(self.state == VALUE) - 1
        parts = self.parts.take(places[rows[state == VALUE]])
        return StateColumn(self.signal, state, self.times_ms[rows], parts)


@dataclass(frozen=True, slots=True)
class RowStates:
    """n rows as stored. `status` uint8 (n,), a Status; `versions` int64 (n,), rising with every change of a row;
    `latest_ms` int64 (n,): the latest time of anything of a row; of a tombstone: of the deletion. `columns`: by signal.
    """

    ids: Sequence[str]
    status: NDArray[np.uint8]
    versions: NDArray[np.int64]
    latest_ms: NDArray[np.int64]
    columns: Mapping[str, StateColumn]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> RowStates:
        """Some rows, in that order."""
        return RowStates(
            [self.ids[i] for i in rows.tolist()],
            self.status[rows],
            self.versions[rows],
            self.latest_ms[rows],
            {name: column.take(rows) for name, column in self.columns.items()},
        )

    def where(self, status: Status) -> NDArray[np.int64]:
        """Positions of rows of a status, ascending."""
        return np.flatnonzero(self.status == status)

    def to_columns(self, signals: Iterable[str]) -> list[ColumnValues]:
        """Every row whole: values and clears with their times; what was never written is cleared at NEVER_MS."""
        columns = []
        for name in signals:
            column = self.columns[name]
            rows = np.flatnonzero(column.state == VALUE)
            clear = np.flatnonzero(column.state != VALUE)
            cleared = np.where(column.state[clear] == CLEARED, column.times_ms[clear], NEVER_MS)
            columns.append(
                ColumnValues(name, rows, column.values, clear, times_ms=column.times_ms[rows], clear_times_ms=cleared)
            )
        return columns


class RowCodec:
    """Packs and unpacks rows of an entity. Immutable; safe for threads."""

    def __init__(self, entity: str, signals: Iterable[Signal]) -> None:
        self.entity = entity
        self.signals: Sequence[Signal] = tuple(sorted((s for s in signals if s.is_stored), key=lambda s: s.name))
        document = [self.entity, [[s.name, *s.storing] for s in self.signals]]
        self.fingerprint = int(fingerprint(document)[:8], 16)
        self.declaration = json.dumps(document)
        self._layout = PackedLayout([cell_of(signal) for signal in self.signals], self.fingerprint)

    @classmethod
    def of(cls, entity: Entity) -> RowCodec:
        """Of an entity as declared."""
        return cls(entity.name, entity.signals.values())

    @classmethod
    def declared(cls, declaration: str | bytes) -> RowCodec:
        """The inverse of `declaration`. ValueError if it is none."""
        try:
            entity, signals = json.loads(declaration)
            return cls(entity, [_declared(*signal) for signal in signals])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a declaration of signals: {error}") from error

    @cached_property
    def _storing(self) -> dict[str, list[object]]:
        return {signal.name: signal.storing for signal in self.signals}

    def pack(self, rows: RowStates) -> list[bytes]:
        """One value per row. Rows are LIVE or TOMBSTONE; a tombstone's columns have no state."""
        columns = [_packed(rows.columns[signal.name]) for signal in self.signals]
        return self._layout.pack(rows.status, rows.ids, rows.versions, rows.latest_ms, columns)

    def unpack(
        self,
        values: Sequence[bytes | None],
        ids: Sequence[str] | None = None,
        older: Mapping[int, RowCodec] | None = None,
    ) -> RowStates:
        """The inverse; None: no such row. `ids`: whose rows they must be. `older`: of other layouts, by fingerprint.
        Any bytes will do: see Status."""
        rows = self._layout.unpack(values, ids)
        columns = {
            signal.name: StateColumn(signal, column.state, column.times_ms, _unpacked(column))
            for signal, column in zip(self.signals, rows.columns, strict=True)
        }
        states = RowStates(rows.ids, rows.status, rows.versions, rows.latest_ms, columns)
        others = states.where(Status.OTHER_LAYOUT)
        if len(others) and older:
            for print_ in np.unique(rows.fingerprints[others]).tolist():
                if codec := older.get(print_):
                    these = others[rows.fingerprints[others] == print_]
                    states = self._with_others(states, these, codec.unpack([values[i] for i in these.tolist()]), codec)
        return states

    def unknown(self, values: Sequence[bytes | None], known: Mapping[int, RowCodec]) -> set[int]:
        """Fingerprints of layouts that are needed to unpack the values and are neither this one nor known."""
        rows = self._layout.unpack(values)
        others = rows.fingerprints[rows.status == Status.OTHER_LAYOUT]
        return set(np.unique(others).tolist()) - set(known)

    def _with_others(self, states: RowStates, rows: NDArray[np.int64], others: RowStates, codec: RowCodec) -> RowStates:
        """States with some rows taken from those of another layout."""
        status = states.status.copy()
        status[rows] = others.status
        columns = dict(states.columns)
        for name, column in states.columns.items():
            if codec._storing.get(name) == self._storing[name]:
                columns[name] = put(column, rows, others.columns[name])
        return replace(states, status=status, columns=columns)

    def blank(self, ids: Sequence[str]) -> RowStates:
        """Rows of which nothing is known."""
        n = len(ids)
        zeros = np.zeros(n, np.int64)
        columns = {s.name: StateColumn(s, np.zeros(n, np.uint8), zeros, no_parts(s)) for s in self.signals}
        return RowStates(ids, np.zeros(n, np.uint8), zeros, zeros, columns)


def put(column: StateColumn, rows: NDArray[np.int64], by: StateColumn) -> StateColumn:
    """The column with what `by` has in its rows, which are distinct, in the places of some."""
    state, times = column.state.copy(), column.times_ms.copy()
    source = np.cumsum(column.state == VALUE) - 1  # which value is a row's
    source[rows] = column.parts.count + np.cumsum(by.state == VALUE) - 1
    state[rows], times[rows] = by.state, by.times_ms
    parts = column.parts.then(by.parts).take(source[state == VALUE])
    return StateColumn(column.signal, state, times, parts)


def _packed(column: StateColumn) -> PackedColumn:
    parts = column.parts
    return PackedColumn(column.state, column.times_ms, parts.lengths, parts.texts, parts.ints, parts.fixed)


def _unpacked(column: PackedColumn) -> Parts:
    count = int(np.count_nonzero(column.state == VALUE))
    return Parts(count, column.lengths, column.texts, column.ints, column.fixed)


def _declared(name: str, type_name: str, element: str, half_life_s: Any, bucket_s: Any) -> Signal:
    kind, _, dimension = type_name.rstrip("]").partition("[")
    return Signal(
        name,
        SignalKind(kind),
        int(dimension or 0),
        element=Element(element),
        half_life_s=half_life_s,
        bucket_s=bucket_s,
    )
