"""How a signal is declared: its type and what goes with it.

Must live here: the keys of one signal and the rules between them. Must not: rules between signals
(references.py), what the expressions of `from` mean (rankd.events).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from rankd.limits import LEAST_BUCKET_S, MAX_EVENT_TYPE_BYTES, MAX_EXPRESSION_CHARS, MAX_WINDOW_BUCKETS
from rankd.types.schema import Element, EventSource, Prior, Signal, SignalKind
from rankd.workspace.settings import Section
from rankd.workspace.values import DURATION_PATTERN, IDENTIFIER_PATTERN, check_identifier, parse_duration, parse_type
from rankd.workspace.yaml_text import shown

_F32_MAX = 3.4028234663852886e38
_SIZED = r"(embedding|list)\[[1-9][0-9]{0,3}\]"
_TYPES = [k.value for k in SignalKind]
_COUNTERS = (SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.RATIO)
_DEFAULT_KINDS = (SignalKind.F32, SignalKind.I64, SignalKind.TIMESTAMP, SignalKind.BOOL, *_COUNTERS)
_GROWING = (SignalKind.COUNTER, SignalKind.WINDOW, SignalKind.MAP)
_WITHOUT_EVENTS = (SignalKind.EMBEDDING, SignalKind.SET, SignalKind.RATIO)

_NEEDED = {SignalKind.COUNTER: "half_life", SignalKind.WINDOW: "window", SignalKind.RATIO: "of"}
"""What a type cannot be without; it has no short form then."""

_KEYS = {
    "element": (SignalKind.EMBEDDING,),
    "half_life": (SignalKind.COUNTER, SignalKind.MAP),
    "window": (SignalKind.WINDOW,),
    "bucket": (SignalKind.WINDOW,),
    "of": (SignalKind.RATIO,),
    "prior": (SignalKind.RATIO,),
}
"""Which types have which key; all may have a default, ttl and from but for those that say otherwise."""

_BUCKETS_MS = (
    *(1_000, 2_000, 5_000, 10_000, 15_000, 30_000),
    *(minutes * 60_000 for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * 3_600_000 for hours in (1, 2, 3, 6, 12)),
    *(days * 86_400_000 for days in (1, 2, 7)),
)
_LEAST_BUCKETS = 24


def _check_type(text: str) -> str:
    parse_type(text, _TYPES, "a signal type")
    return text


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


def expression_text(value: Any) -> Any:
    """A constant expression may be written as a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return repr(value)
    if not isinstance(value, str):
        raise ValueError(f"expected an expression (text or a number), got {shown(value)}")
    return value


def type_schema(names: list[str], what: str, sized: str = _SIZED) -> WithJsonSchema:
    """JSON Schema of a type's name; `sized`: the pattern of those with a number."""
    plain = "|".join(n for n in names if n not in ("embedding", "list"))
    return WithJsonSchema({"type": "string", "pattern": f"^({plain}|{sized})$", "description": what})


Identifier: TypeAlias = Annotated[
    str, AfterValidator(check_identifier), WithJsonSchema({"type": "string", "pattern": IDENTIFIER_PATTERN})
]
SignalType: TypeAlias = Annotated[str, AfterValidator(_check_type), type_schema(_TYPES, "Its type.")]
Duration: TypeAlias = Annotated[
    str, AfterValidator(_check_duration), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})
]
Expression: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=MAX_EXPRESSION_CHARS),
    BeforeValidator(expression_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION_CHARS}, {"type": "number"}]}
    ),
]
EventType: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_EVENT_TYPE_BYTES)]


def check_distinct(names: list[str]) -> list[str]:
    """The names, if none comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"expected distinct names, got {shown(name)} twice")
        seen.add(name)
    return names


class PriorSection(Section):
    """What a ratio of little is near to: (numerator + mean * weight) / (denominator + weight)."""

    mean: float = Field(ge=-_F32_MAX, le=_F32_MAX)
    """The ratio of what nothing is known about."""
    weight: float = Field(gt=0, le=_F32_MAX)
    """How much of the denominator it takes to outweigh it."""


class SourceSection(Section):
    """Which events update a signal, and how."""

    events: list[EventType] = Field(min_length=1, max_length=64)
    """Types of events: impression, click, cart, purchase, dwell or any other name."""
    id: Expression | None = None
    """Of which row; default: the event's own of the entity."""
    where: Expression | None = None
    """A condition; default: every event of the types."""
    weight: Expression | None = None
    """By how much a counter or a value of a map grows; default: 1."""
    key: Expression | None = None
    """The key of a map."""
    value: Expression | None = None
    """The value of any other type; of a list its new member, by default the item."""

    @field_validator("events")
    @classmethod
    def _check_events(cls, value: list[str]) -> list[str]:
        for name in value:
            if len(name.encode()) > MAX_EVENT_TYPE_BYTES:
                raise ValueError(f"expected names of at most {MAX_EVENT_TYPE_BYTES} bytes, got {shown(name)}")
        return check_distinct(value)


class SignalSection(Section):
    """A signal: `price: f32`, or a mapping with more."""

    type: SignalType
    """f32, i64, timestamp, bool, category, string, embedding[n], set, map, decayed_counter, windowed_counter, ratio
    or list[n]."""
    default: Annotated[Any, WithJsonSchema({"type": ["number", "boolean", "null"]})] = None
    """What a missing value reads as: a number (true or false for bool); null: it stays missing."""
    ttl: Duration | None = None
    """How long after its time a value becomes missing: 30s, 15m, 12h, 7d; null: never."""
    element: Literal["f32", "f16", "i8"] | None = None
    """What an embedding's numbers are stored as; default: f32."""
    half_life: Duration | None = None
    """Of a decayed_counter, or of a map whose values decay: after which time half is left."""
    window: Duration | None = None
    """Of a windowed_counter: how far back it counts; a whole number of buckets."""
    bucket: Duration | None = None
    """Of a windowed_counter: how finely time is divided; default: some 24 to 60 buckets a window."""
    of: Annotated[list[Identifier], Field(min_length=2, max_length=2)] | None = None
    """Of a ratio: numerator and denominator, windowed counters of the entity with one window and bucket."""
    prior: PriorSection | None = None
    """Of a ratio: what it is without data; default: missing."""
    from_: SourceSection | None = Field(default=None, alias="from")
    """Which events update it; default: it is only written."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @field_validator("default")
    @classmethod
    def _check_default(cls, value: Any, info: Any) -> float | None:
        if value is None or "type" not in info.data:
            return None
        kind = _kind(info.data["type"])
        if kind not in _DEFAULT_KINDS:
            raise ValueError(f"expected no default for a signal of type {info.data['type']}, got {shown(value)}")
        if kind is SignalKind.BOOL:
            if not isinstance(value, bool):
                raise ValueError(f"expected true or false, got {shown(value)}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, got {shown(value)}")
        number = float(value)
        if not math.isfinite(number) or (kind is SignalKind.F32 and abs(number) > _F32_MAX):
            raise ValueError(f"expected a number within the range of {kind.value}, got {shown(value)}")
        if kind is SignalKind.I64 and not (number.is_integer() and abs(number) <= 2**53):
            raise ValueError(f"expected a whole number of at most 2**53, got {shown(value)}")
        return number

    @field_validator("ttl", "element", "half_life", "window", "bucket", "of", "prior")
    @classmethod
    def _check_key(cls, value: Any, info: Any) -> Any:
        if value is None or "type" not in info.data:
            return value
        kind, name = _kind(info.data["type"]), info.field_name
        if kind not in _KEYS.get(name, _TTL_KINDS):
            raise ValueError(f"expected no {name} for a signal of type {info.data['type']}, got {shown(value)}")
        return value

    @field_validator("bucket")
    @classmethod
    def _check_bucket(cls, value: str | None, info: Any) -> str | None:
        window = info.data.get("window")
        if value is not None and window is not None:
            bucket_ms(window, value)
        return value

    @field_validator("prior")
    @classmethod
    def _check_prior(cls, value: PriorSection | None, info: Any) -> PriorSection | None:
        if value is not None and info.data.get("default") is not None:
            raise ValueError("expected no prior beside a default, which would never be used; got both")
        return value

    @field_validator("from_")
    @classmethod
    def _check_source(cls, value: SourceSection | None, info: Any) -> SourceSection | None:
        if value is None or "type" not in info.data:
            return value
        kind, of_type = _kind(info.data["type"]), f"a signal of type {info.data['type']}"
        if kind in _WITHOUT_EVENTS:
            raise ValueError(f"expected no events for {of_type}, got some")
        for name, is_taken, is_needed in (
            ("weight", kind in _GROWING, False),
            ("key", kind is SignalKind.MAP, kind is SignalKind.MAP),
            ("value", kind not in _GROWING, kind not in (*_GROWING, SignalKind.LIST)),
        ):
            given = getattr(value, name)
            if given is not None and not is_taken:
                raise ValueError(f"expected no {name} for {of_type}, got {shown(given)}")
            if given is None and is_needed:
                raise ValueError(f'expected the key "{name}" for {of_type}, got none')
        return value

    @model_validator(mode="after")
    def _check_complete(self) -> SignalSection:
        needed = _NEEDED.get(_kind(self.type))
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f'expected the key "{needed}" for a signal of type {self.type}, got none')
        if self.window is not None and self.bucket is None:
            bucket_ms(self.window, None)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core))
        short = dict(schema["properties"]["type"])
        short["pattern"] = f"^({'|'.join(_SHORT)}|{_SIZED})$"
        return {"anyOf": [short, dict(schema)]}


_TTL_KINDS = tuple(kind for kind in SignalKind if kind is not SignalKind.RATIO)
_SHORT = [kind.value for kind in SignalKind if kind not in (*_NEEDED, SignalKind.EMBEDDING, SignalKind.LIST)]


def _kind(type_name: str) -> SignalKind:
    return SignalKind(parse_type(type_name, _TYPES, "a signal type")[0])


def bucket_ms(window: str, bucket: str | None) -> int:
    """How long the buckets of a window are, in milliseconds. ValueError if it is no whole number of them, or of too
    many. None: the longest round length of which the window has 24 or more."""
    whole = _millis(window)
    if bucket is None:
        fitting = [ms for ms in _BUCKETS_MS if whole % ms == 0 and whole // ms <= MAX_WINDOW_BUCKETS]
        fine = [ms for ms in fitting if whole // ms >= _LEAST_BUCKETS]
        if not fitting:
            raise ValueError(f"expected a bucket for a window of {window}, of which none fits by itself; got none")
        return max(fine) if fine else fitting[0]
    length = _millis(bucket)
    if length < LEAST_BUCKET_S * 1000:
        raise ValueError(f"expected a bucket of at least {LEAST_BUCKET_S:g}s, got {shown(bucket)}")
    if whole % length or not 1 <= whole // length <= MAX_WINDOW_BUCKETS:
        raise ValueError(
            f"expected a bucket of which the window {window} is a whole number, at most {MAX_WINDOW_BUCKETS}, "
            f"got {shown(bucket)}"
        )
    return length


def _millis(duration: str) -> int:
    seconds = parse_duration(duration)
    millis = round(seconds * 1000)
    if not math.isclose(millis, seconds * 1000, rel_tol=1e-12):
        raise ValueError(f"expected whole milliseconds, got {shown(duration)}")
    return millis


def signal_of(name: str, section: SignalSection) -> Signal:
    """The signal that a section declares."""
    kind, dimension = parse_type(section.type, _TYPES, "a signal type")
    source = section.from_
    return Signal(
        name,
        SignalKind(kind),
        dimension,
        section.default,
        _seconds(section.ttl),
        element=Element(section.element or "f32"),
        half_life_s=_seconds(section.half_life),
        window_s=_seconds(section.window),
        bucket_s=None if section.window is None else bucket_ms(section.window, section.bucket) / 1000,
        ratio_of=None if section.of is None else (section.of[0], section.of[1]),
        prior=None if section.prior is None else Prior(section.prior.mean, section.prior.weight),
        source=None if source is None else EventSource(**{**source.model_dump(), "events": tuple(source.events)}),
    )


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else parse_duration(duration)
