"""Which cells of a table keep which signal.

One table per entity; the signals in the order of their names, so that the order of declarations
changes nothing. A string has two cells: its normal form, which expressions read, and the text as it was
written, missing where it is the same. So has a list: the set of its members, and records of members and times.
A windowed counter is a map of buckets, a ratio has no cell: it is read of those of two others.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rankd.kernels.table import Cell, CellRead
from rankd.signals.accumulate import bucket_count, bucket_ms
from rankd.types.schema import Entity, Signal, SignalKind

FORMAT: Final = 2
"""Of what tables hold. Raise it when cells or what they mean change: tables of another format are made anew."""

_NEVER_MS: Final = 2**63 - 1
"""A TTL that nothing outlives."""

_MS_PER_S: Final = 1000.0

_CELL_KINDS: Final = {
    SignalKind.F32: "f32",
    SignalKind.I64: "i64",
    SignalKind.TIMESTAMP: "i64",
    SignalKind.BOOL: "bool",
    SignalKind.CATEGORY: "code",
    SignalKind.STRING: "text",
    SignalKind.EMBEDDING: "vector",
    SignalKind.SET: "set",
    SignalKind.MAP: "map",
    SignalKind.COUNTER: "f64",
    SignalKind.WINDOW: "map",
    SignalKind.LIST: "set",
}

_CHANGING: Final = frozenset({SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.LIST})
"""Kinds whose values have times of their own more often than not."""


@dataclass(frozen=True, slots=True)
class SignalCells:
    """Where a signal is. `read`: what expressions read. `written`: of a string, the text as it was written where
    that is not its normal form; of a list, its records; else None. `parts`: of a ratio, numerator and denominator;
    then `read` is that of the numerator."""

    signal: Signal
    read: int
    written: int | None
    parts: tuple[SignalCells, SignalCells] | None = None

    @property
    def ttl_ms(self) -> int:
        """0: never expires."""
        return 0 if self.signal.ttl_s is None else max(1, min(round(self.signal.ttl_s * 1000), _NEVER_MS))

    def reading(self) -> CellRead:
        """As expressions read it, with default and TTL."""
        signal = self.signal
        missing = float("nan") if signal.default is None else signal.default
        plain = CellRead(self.read, missing=missing, ttl_ms=self.ttl_ms)
        if signal.half_life_s is not None:
            return plain._replace(part="decayed", half_life_ms=signal.half_life_s * _MS_PER_S)
        match signal.kind:
            case SignalKind.TIMESTAMP:
                return plain._replace(divisor=_MS_PER_S)
            case SignalKind.WINDOW:
                return plain._replace(part="window", bucket_ms=bucket_ms(signal), bucket_count=bucket_count(signal))
            case SignalKind.RATIO:
                return self._ratio(missing)
        return plain

    def _ratio(self, missing: float) -> CellRead:
        assert self.parts is not None
        numerator, denominator = (part.reading() for part in self.parts)
        prior = self.signal.prior
        return numerator._replace(
            part="ratio",
            missing=missing,
            denominator=denominator,
            prior_mean=0.0 if prior is None else prior.mean,
            prior_weight=0.0 if prior is None else prior.weight,
        )

    def stored(self) -> CellRead:
        """As it was written, with the TTL. Not of a ratio."""
        return CellRead(self.read, "stored", ttl_ms=self.ttl_ms)

    def time(self) -> CellRead:
        """The time of its value, with the TTL. Not of a ratio."""
        return CellRead(self.read, "time", ttl_ms=self.ttl_ms)

    def changed(self) -> CellRead:
        """When it was last set or cleared. Not of a ratio."""
        return CellRead(self.read, "changed")


@dataclass(frozen=True, slots=True)
class EntityLayout:
    """The cells of an entity's table. `fingerprint`: 32 bytes; tables of another one hold something else."""

    entity: Entity
    cells: Sequence[Cell]
    signals: Mapping[str, SignalCells]
    fingerprint: bytes

    @classmethod
    def of(cls, entity: Entity) -> EntityLayout:
        cells: list[Cell] = []
        signals: dict[str, SignalCells] = {}
        for signal in _stored(entity):
            read = len(cells)
            cells += _cells_of(signal)
            signals[signal.name] = SignalCells(signal, read, read + 1 if len(cells) > read + 1 else None)
        for name, signal in sorted(entity.signals.items()):
            if signal.ratio_of is not None:
                numerator, denominator = (signals[part] for part in signal.ratio_of)
                signals[name] = SignalCells(signal, numerator.read, None, (numerator, denominator))
        return cls(entity, tuple(cells), signals, _fingerprint(entity))

    @property
    def stored(self) -> list[SignalCells]:
        """Of the signals that have cells of their own."""
        return [cells for cells in self.signals.values() if cells.parts is None]


def _stored(entity: Entity) -> list[Signal]:
    return [signal for _, signal in sorted(entity.signals.items()) if signal.is_stored]


def _is_timed(signal: Signal) -> bool:
    return signal.ttl_s is not None or signal.half_life_s is not None or signal.kind in _CHANGING


def _cells_of(signal: Signal) -> Iterator[Cell]:
    width = signal.dimension if signal.kind is SignalKind.EMBEDDING else 0
    yield Cell(_CELL_KINDS[signal.kind], width, _is_timed(signal), signal.element.value)
    if signal.kind in (SignalKind.STRING, SignalKind.LIST):
        yield Cell("text")


def _fingerprint(entity: Entity) -> bytes:
    signals = [[signal.name, *signal.storing, _is_timed(signal)] for signal in _stored(entity)]
    # Texts are kept in their normal form, which is of one version of Unicode.
    document = [FORMAT, unicodedata.unidata_version, entity.name, signals]
    return hashlib.sha256(json.dumps(document).encode()).digest()


DICTIONARY_FINGERPRINT: Final = hashlib.sha256(f"dictionary {FORMAT}".encode()).digest()
"""Of the dictionary, which has no cells."""
