"""What the names of an expression stand for: `item.price`, `context.hour`, `request.now`."""

from __future__ import annotations

from collections.abc import Mapping

from rankd.features.entities import UnknownNameError, id_parts
from rankd.features.parse import did_you_mean
from rankd.features.program import Input, Source, ValueType
from rankd.types.profile import ContextKind, Profile
from rankd.types.schema import Schema, SignalKind

SIGNAL_TYPES: Mapping[SignalKind, ValueType] = {
    SignalKind.F32: ValueType.NUMBER,
    SignalKind.I64: ValueType.NUMBER,
    SignalKind.TIMESTAMP: ValueType.TIMESTAMP,
    SignalKind.BOOL: ValueType.NUMBER,
    SignalKind.CATEGORY: ValueType.CATEGORY,
    SignalKind.STRING: ValueType.TEXT,
    SignalKind.EMBEDDING: ValueType.EMBEDDING,
    SignalKind.SET: ValueType.SET,
    SignalKind.MAP: ValueType.MAP,
    SignalKind.COUNTER: ValueType.NUMBER,
    SignalKind.WINDOW: ValueType.NUMBER,
    SignalKind.RATIO: ValueType.NUMBER,
    SignalKind.LIST: ValueType.SET,
}

CONTEXT_TYPES: Mapping[ContextKind, ValueType] = {
    ContextKind.NUMBER: ValueType.NUMBER,
    ContextKind.BOOL: ValueType.NUMBER,
    ContextKind.TIMESTAMP: ValueType.TIMESTAMP,
    ContextKind.CATEGORY: ValueType.CATEGORY,
    ContextKind.TEXT: ValueType.TEXT,
    ContextKind.SET: ValueType.SET,
    ContextKind.EMBEDDING: ValueType.EMBEDDING,
}

REQUEST_TYPES: Mapping[str, ValueType] = {
    "query": ValueType.TEXT,
    "language": ValueType.CATEGORY,
    "surface": ValueType.CATEGORY,
    "segments": ValueType.SET,
    "now": ValueType.TIMESTAMP,
}

CANDIDATE_NAMES = ("base_score", "position")

NOW = Input(Source.REQUEST, "request", "now", ValueType.TIMESTAMP, False)


def resolve(profile: Profile, schema: Schema, namespace: str, name: str) -> Input:
    """The input that `namespace.name` reads; UnknownNameError if there is none."""
    if namespace == "column":
        _require(name, profile.columns, "the profile declares no column")
        return Input(Source.COLUMN, namespace, name, ValueType.NUMBER, True)
    if namespace == "context":
        _require(name, profile.context, "the profile declares no context feature")
        feature = profile.context[name]
        return Input(Source.CONTEXT, namespace, name, CONTEXT_TYPES[feature.kind], False, feature.dimension)
    if namespace == "request":
        _require(name, REQUEST_TYPES, "a request has no")
        return Input(Source.REQUEST, namespace, name, REQUEST_TYPES[name], False)
    if namespace == "candidate":
        _require(name, CANDIDATE_NAMES, "a candidate has no")
        return Input(Source.CANDIDATE, namespace, name, ValueType.NUMBER, True)
    return _signal(profile, schema, namespace, name)


def feature_input(name: str) -> Input:
    """A feature of the profile as the base expression reads it."""
    return Input(Source.FEATURE, "feature", name, ValueType.NUMBER, True)


def _signal(profile: Profile, schema: Schema, namespace: str, name: str) -> Input:
    per_candidate = any(part.source.is_per_candidate for part in id_parts(profile.entity, schema, namespace))
    signals = schema.entities[namespace].signals
    _require(name, signals, f"the entity `{namespace}` has no signal")
    signal = signals[name]
    dimension = signal.dimension if signal.kind is SignalKind.EMBEDDING else 0
    return Input(Source.SIGNAL, namespace, name, SIGNAL_TYPES[signal.kind], per_candidate, dimension)


def _require(name: str, known: Mapping[str, object] | tuple[str, ...], message: str) -> None:
    if name not in known:
        raise UnknownNameError(f"{message} `{name}`" + did_you_mean(name, known))
