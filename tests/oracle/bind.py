"""Binding: which column answers which input of a program. Missing inputs become missing columns."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from oracle.request import CandidateList, RequestContext, Retrieved
from rankd.features.program import Input, Source, ValueType
from rankd.signals.store import Categories
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
from rankd.types.text import normalise

_UNKNOWN_CODES = 1 << 30
"""Where the codes of strings without one begin, and how many there are; beyond limits.MAX_CATEGORIES."""

_NO_CODES = np.empty(0, np.int32)
_NO_VALUES = np.empty(0, np.float32)


def number(value: float) -> NumericColumn:
    """A request-level number."""
    return NumericColumn(np.array([value], np.float64))


def unknown_code(text: str) -> int:
    """The code of a string that nothing stored or declared has ever named: above all that the dictionary
    can give, so that it equals itself and nothing else."""
    return _UNKNOWN_CODES + zlib.crc32(text.encode()) % _UNKNOWN_CODES


def category_code(text: str, categories: Categories) -> int:
    """The code of a request's category. Never interns: requests must not be able to grow the dictionary."""
    code = categories.code(text)
    return code if code != MISSING_CODE else unknown_code(text)


def lasting_codes(codes: NDArray[np.int32], categories: Categories) -> list[int]:
    """Sorted codes as they would be if no string had one yet: the same before and after a write interns them."""
    return sorted(
        code if code < 0 or code >= _UNKNOWN_CODES else unknown_code(categories.text(code)) for code in codes.tolist()
    )


def category(text: str, categories: Categories) -> CategoryColumn:
    """A request-level category; "" is missing."""
    return CategoryColumn(np.array([category_code(text, categories) if text else MISSING_CODE], np.int32))


def text(value: str | None) -> TextColumn:
    """A request-level text, normalised; None is missing."""
    data = normalise(value) if value is not None else b""
    return TextColumn(
        np.frombuffer(data, np.uint8),
        np.zeros(1, np.int64),
        np.array([len(data) if value is not None else MISSING_LENGTH], np.int32),
    )


def category_set(members: Sequence[str], categories: Categories) -> SetColumn:
    """A request-level set."""
    codes = np.array(sorted({category_code(member, categories) for member in members}), np.int32)
    return SetColumn(codes, np.zeros(1, np.int64), np.array([len(codes)], np.int32))


def missing(kind: ValueType, dimension: int) -> Column:
    """A request-level column that is missing."""
    nowhere, absent = np.zeros(1, np.int64), np.array([MISSING_LENGTH], np.int32)
    match kind:
        case ValueType.NUMBER | ValueType.TIMESTAMP:
            return number(np.nan)
        case ValueType.CATEGORY:
            return CategoryColumn(np.array([MISSING_CODE], np.int32))
        case ValueType.TEXT:
            return TextColumn(np.empty(0, np.uint8), nowhere, absent)
        case ValueType.SET:
            return SetColumn(_NO_CODES, nowhere, absent)
        case ValueType.MAP:
            return MapColumn(_NO_CODES, _NO_VALUES, nowhere, absent)
        case ValueType.EMBEDDING:
            return EmbeddingColumn(np.full((1, dimension), np.nan, np.float32))


def _candidate_number(values: NDArray[np.float32] | NDArray[np.float64] | None, length: int) -> NumericColumn:
    if values is None:
        return NumericColumn(np.full(length, np.nan))
    return NumericColumn(np.ascontiguousarray(values, np.float64))


def _request_column(name: str, context: RequestContext, categories: Categories) -> Column:
    make: dict[str, Callable[[], Column]] = {
        "query": lambda: text(context.query_text or None),
        "language": lambda: category(context.language, categories),
        "surface": lambda: category(context.surface, categories),
        "segments": lambda: category_set(context.segments, categories),
        "now": lambda: number(context.as_of_s),
    }
    return make[name]()


def bind_shared(inputs: Sequence[Input], context: RequestContext, categories: Categories) -> dict[Input, Column]:
    """Columns of the inputs that all lists of a call share: context features and the request's own."""
    bound: dict[Input, Column] = {}
    for item in inputs:
        if item.source is Source.CONTEXT:
            bound[item] = context.context.get(item.name) or missing(item.type, item.dimension)
        elif item.source is Source.REQUEST:
            bound[item] = _request_column(item.name, context, categories)
    return bound


def bind(
    inputs: Sequence[Input],
    shared: dict[Input, Column],
    candidates: CandidateList,
    retrieved: Retrieved,
    features: dict[str, NDArray[np.float32]],
) -> list[Column]:
    """One column per input, in their order. `features`: rows of the feature matrix by name (base programs)."""
    length = len(candidates.ids)
    columns: list[Column] = []
    for item in inputs:
        match item.source:
            case Source.SIGNAL:
                columns.append(retrieved.rows[item.namespace].columns[item.name])
            case Source.COLUMN:
                columns.append(_candidate_number(candidates.columns.get(item.name), length))
            case Source.FEATURE:
                columns.append(_candidate_number(features[item.name], length))
            case Source.CANDIDATE if item.name == "base_score":
                columns.append(_candidate_number(candidates.base_scores, length))
            case Source.CANDIDATE:
                columns.append(NumericColumn(np.arange(1, length + 1, dtype=np.float64)))
            case Source.CONTEXT | Source.REQUEST:
                columns.append(shared[item])
    return columns
