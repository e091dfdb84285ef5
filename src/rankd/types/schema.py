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
    EMBEDDING = "embedding"  # n numbers
    SET = "set"  # distinct category strings
    MAP = "map"  # category string -> float32; with a half-life, every value decays
    COUNTER = "decayed_counter"  # float64 as of its time; reads as value * 2**-((now - time) / half-life)
    WINDOW = "windowed_counter"  # float32 by bucket of time; reads as the sum of the window's buckets
    RATIO = "ratio"  # not stored: of two windowed counters, with a prior
    LIST = "list"  # the last n strings with their times, newest first; reads into features as a set


class Element(enum.Enum):
    """What an embedding's numbers are stored as. They read as float32."""

    F32 = "f32"
    F16 = "f16"
    I8 = "i8"  # with one float32 scale a row: the largest magnitude / 127


class Storage(enum.Enum):
    """Where a worker finds an entity's rows when signals are shared through Redis."""

    REPLICATED = "replicated"  # every machine has all rows in its tables
    FETCHED = "fetched"  # read for each request


@dataclass(frozen=True, slots=True)
class Prior:
    """Of a ratio: (numerator + mean * weight) / (denominator + weight)."""

    mean: float
    weight: float


@dataclass(frozen=True, slots=True)
class EventSource:
    """Which events update a signal, and how. Expressions are of rankd.events.

    `events`: types of events. `id`: the entity's id (default: the event's own of that entity). `where`: a condition.
    `weight`: what a counter or a map's value grows by (default 1). `key`: of a map. `value`: of any other type.
    """

    events: tuple[str, ...]
    id: str | None = None
    where: str | None = None
    weight: str | None = None
    key: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """One declared signal.

    `dimension` is n of embedding[n] and list[n], else 0. `default` replaces a missing
    number on reading (numeric kinds only). `ttl_s`: seconds after its write at
    which a value becomes missing; None: never. `half_life_s`: of a decayed counter, or a map that decays.
    `window_s` and `bucket_s`: of a windowed counter; the window is a whole number of buckets, the current one, which
    is not full yet, included. `ratio_of`: numerator and denominator, windowed counters of the same entity.
    """

    name: str
    kind: SignalKind
    dimension: int = 0
    default: float | None = None
    ttl_s: float | None = None
    element: Element = Element.F32
    half_life_s: float | None = None
    window_s: float | None = None
    bucket_s: float | None = None
    ratio_of: tuple[str, str] | None = None
    prior: Prior | None = None
    source: EventSource | None = None

    @property
    def type_name(self) -> str:
        """The type as rankd.yaml writes it: "f32", "embedding[16]" and so on."""
        has_dimension = self.kind in (SignalKind.EMBEDDING, SignalKind.LIST)
        return f"{self.kind.value}[{self.dimension}]" if has_dimension else self.kind.value

    @property
    def is_stored(self) -> bool:
        """False: computed from others when it is read; it cannot be written."""
        return self.kind is not SignalKind.RATIO

    @property
    def storing(self) -> list[object]:
        """What stored values depend on: where it differs, they are not of this signal."""
        return [self.type_name, self.element.value, self.half_life_s, self.bucket_s]


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of thing that signals are kept about, such as item or user.

    `key`: of a composite entity such as query_item, what its ids are joined of: entities (`user`, `visitor`,
    `session`, `query`, `item`), or a category signal of the candidates (`item.category`); see types.text.composite_id.
    `storage`: None: by what it is (see `is_fetched`).
    """

    name: str
    signals: Mapping[str, Signal]
    key: tuple[str, ...] = ()
    storage: Storage | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether its rows are read for each request where signals are shared through Redis."""
        if self.storage is not None:
            return self.storage is Storage.FETCHED
        return (self.key or (self.name,))[0] in ("user", "visitor", "session")


@dataclass(frozen=True)
class Schema:
    """All entities, by name. `version` is a fingerprint of the declarations."""

    entities: Mapping[str, Entity] = field(default_factory=dict)

    @cached_property
    def version(self) -> str:
        """12 hex digits; the same declarations give the same, whatever their order. Sources and storage do not count:
        they change neither what is stored nor how it reads."""
        return fingerprint(
            {e.name: [list(e.key), {s.name: _reading(s) for s in e.signals.values()}] for e in self.entities.values()}
        )


def _reading(signal: Signal) -> list[object]:
    prior = signal.prior and [signal.prior.mean, signal.prior.weight]
    return [*signal.storing, signal.default, signal.ttl_s, signal.window_s, signal.ratio_of, prior]


def fingerprint(document: object) -> str:
    """The first 12 hex digits of the SHA-256 of a JSON-able document (keys sorted)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
