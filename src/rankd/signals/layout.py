"""Which cells of a table keep which signal.

One table per entity; the signals in the order of their names, so that the order of declarations
changes nothing. A string has two cells: its normal form, which expressions read, and the text as it was
written, missing where it is the same.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rankd.kernels.table import Cell, CellRead
from rankd.types.schema import Entity, Signal, SignalKind

FORMAT: Final = 1
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
}


@dataclass(frozen=True, slots=True)
class SignalCells:
    """Where a signal is. `read`: what expressions read. `written`: of a string, the text as it was written where
    that is not its normal form; else None."""

    signal: Signal
    read: int
    written: int | None

    @property
    def ttl_ms(self) -> int:
        """0: never expires."""
        return 0 if self.signal.ttl_s is None else max(1, min(round(self.signal.ttl_s * 1000), _NEVER_MS))

    def reading(self) -> CellRead:
        """As expressions read it, with default and TTL."""
        return CellRead(
            self.read,
            divisor=_MS_PER_S if self.signal.kind is SignalKind.TIMESTAMP else 1.0,
            missing=float("nan") if self.signal.default is None else self.signal.default,
            ttl_ms=self.ttl_ms,
        )

    def stored(self) -> CellRead:
        """As it was written, with the TTL."""
        return CellRead(self.read, "stored", ttl_ms=self.ttl_ms)


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
        signals = {}
        for name in sorted(entity.signals):
            signal = entity.signals[name]
            read = len(cells)
            cells += _cells_of(signal)
            signals[name] = SignalCells(signal, read, read + 1 if len(cells) > read + 1 else None)
        return cls(entity, tuple(cells), signals, _fingerprint(entity))


def _cells_of(signal: Signal) -> Iterator[Cell]:
    kind, timed = _CELL_KINDS[signal.kind], signal.ttl_s is not None
    yield Cell(kind, signal.dimension if signal.kind is SignalKind.EMBEDDING else 0, timed)
    if signal.kind is SignalKind.STRING:
        yield Cell(kind)


def _fingerprint(entity: Entity) -> bytes:
    signals = [[name, s.type_name, s.ttl_s is not None] for name, s in sorted(entity.signals.items())]
    # Texts are kept in their normal form, which is of one version of Unicode.
    document = [FORMAT, unicodedata.unidata_version, entity.name, signals]
    return hashlib.sha256(json.dumps(document).encode()).digest()


DICTIONARY_FINGERPRINT: Final = hashlib.sha256(f"dictionary {FORMAT}".encode()).digest()
"""Of the dictionary, which has no cells."""
