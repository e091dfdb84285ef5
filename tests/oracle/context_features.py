"""Typed context features to columns of length 1, checked against the profile's declarations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from oracle import bind
from oracle.timestamps import timestamp_seconds
from rankd.errors import Reason, RequestError
from rankd.limits import MAX_QUERY_BYTES, MAX_SET_MEMBERS
from rankd.ranking.plan import Plan
from rankd.ranking.wording import check_bytes, quoted, unknown_name
from rankd.signals.store import Categories
from rankd.types.columns import Column, EmbeddingColumn
from rankd.types.profile import ContextFeature, ContextKind
from rankd.v1 import ranking_pb2 as pb

_FIELDS: Final = {
    "number": ContextKind.NUMBER,
    "category": ContextKind.CATEGORY,
    "text": ContextKind.TEXT,
    "vector": ContextKind.EMBEDDING,
    "set": ContextKind.SET,
    "timestamp": ContextKind.TIMESTAMP,
    "flag": ContextKind.BOOL,
}
"""The declared type that each field of ContextValue is for."""


def decode_context(
    features: Mapping[str, pb.ContextValue], plan: Plan, categories: Categories, field: str
) -> dict[str, Column]:
    """Columns by name. Names and types must be as the profile declares; absent ones stay out."""
    declared = plan.profile.context
    columns: dict[str, Column] = {}
    for name, value in features.items():
        path = f"{field}[{quoted(name)}]"
        feature = declared.get(name)
        if feature is None:
            raise unknown_name(Reason.UNKNOWN_NAME, path, list(declared), name)
        sent = value.WhichOneof("value")
        if sent is None or _FIELDS[sent] is not feature.kind:
            raise RequestError.one(Reason.WRONG_TYPE, path, feature.type_name, sent or "no value")
        columns[name] = _column(value, feature, categories, f"{path}.{sent}")
    return columns


def _column(value: pb.ContextValue, feature: ContextFeature, categories: Categories, path: str) -> Column:
    match feature.kind:
        case ContextKind.NUMBER:
            if math.isinf(value.number):
                raise RequestError.one(Reason.INVALID_FIELD, path, "a number, or NaN for missing", f"{value.number}")
            return bind.number(value.number)
        case ContextKind.BOOL:
            return bind.number(float(value.flag))
        case ContextKind.TIMESTAMP:
            return bind.number(timestamp_seconds(value.timestamp, path))
        case ContextKind.CATEGORY:
            return bind.category(value.category, categories)
        case ContextKind.TEXT:
            check_bytes(value.text, path, MAX_QUERY_BYTES)
            return bind.text(value.text)
        case ContextKind.SET:
            return bind.category_set(_members(value.set, f"{path}.values"), categories)
        case ContextKind.EMBEDDING:
            return EmbeddingColumn(_vector(value.vector, feature, f"{path}.values"))


def _members(sent: pb.StringSet, path: str) -> list[str]:
    if len(sent.values) > MAX_SET_MEMBERS:
        raise RequestError.one(Reason.LIMIT_EXCEEDED, path, f"at most {MAX_SET_MEMBERS} strings", f"{len(sent.values)}")
    members = list(sent.values)
    seen: set[str] = set()
    for at, member in enumerate(members):
        if member in seen:
            raise RequestError.one(Reason.INVALID_FIELD, f"{path}[{at}]", "distinct strings", f"{quoted(member)} again")
        seen.add(member)
    return members


def _vector(sent: pb.Vector, feature: ContextFeature, path: str) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    if len(sent.values) != feature.dimension:
        raise RequestError.one(Reason.LENGTH_MISMATCH, path, f"{feature.dimension} numbers", f"{len(sent.values)}")
    vector = np.array(sent.values, np.float32)
    finite = np.isfinite(vector)
    if not finite.all():
        at = int(finite.argmin())
        raise RequestError.one(Reason.INVALID_FIELD, f"{path}[{at}]", "a finite number", f"{float(vector[at])}")
    return vector.reshape(1, feature.dimension)
