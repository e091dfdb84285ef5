"""What is known about what: entities and their typed signals."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


class SignalKind(enum.Enum):
    """The type of a stored value. `Signal.type_name` is its name in rankd.yaml."""

    F32 = "f32"  # float32; NaN is missing
    I64 = "i64"  # int64; reads into features as float64, exact up to 2**53
    TIMESTAMP = "timestamp"  # milliseconds since 1970; reads into features as seconds, float64
    BOOL = "bool"  # reads into features as 0 or 1
    CATEGORY = "category"  # a string of few values, dictionary encoded
    STRING = "string"  # text, for text features
    EMBEDDING = "embedding"  # n float32
    SET = "set"  # distinct category strings
    MAP = "map"  # category string -> float32


@dataclass(frozen=True, slots=True)
class Signal:
    """One declared signal.

    `dimension` is n of embedding[n], else 0. `default` replaces a missing
    number on reading (numeric kinds only). `ttl_s`: seconds after its write at
    which a value becomes missing; None: never.
    """

    name: str
    kind: SignalKind
    dimension: int = 0
    default: float | None = None
    ttl_s: float | None = None

    @property
    def type_name(self) -> str:
        """The type as rankd.yaml writes it: "f32", "embedding[16]" and so on."""
        return f"embedding[{self.dimension}]" if self.kind is SignalKind.EMBEDDING else self.kind.value


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of thing that signals are kept about, such as item or user."""

    name: str
    signals: Mapping[str, Signal]


@dataclass(frozen=True)
class Schema:
    """All entities, by name. `version` is a fingerprint of the declarations."""

    entities: Mapping[str, Entity] = field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """12 hex digits; the same declarations give the same, whatever their order."""
        return fingerprint(
            {
                e.name: {s.name: [s.type_name, s.default, s.ttl_s] for s in e.signals.values()}
                for e in self.entities.values()
            }
        )


def fingerprint(document: object) -> str:
    """The first 12 hex digits of the SHA-256 of a JSON-able document (keys sorted)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
