"""A schema with every type, random values for it, and random well-typed expressions over it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rankd.features import Input, ValueType
from rankd.types.columns import (
    CategoryColumn,
    Column,
    EmbeddingColumn,
    MapColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
)
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import normalise

DIMENSION = 11


def _entity(name: str, **signals: SignalKind) -> Entity:
    dimension = {SignalKind.EMBEDDING: DIMENSION}
    return Entity(name, {n: Signal(n, kind, dimension.get(kind, 0)) for n, kind in signals.items()})


def _context(**kinds: ContextKind) -> dict[str, ContextFeature]:
    return {n: ContextFeature(n, k, DIMENSION if k is ContextKind.EMBEDDING else 0) for n, k in kinds.items()}


SCHEMA = Schema(
    {
        e.name: e
        for e in (
            _entity(
                "item",
                price=SignalKind.F32,
                stock=SignalKind.I64,
                new=SignalKind.BOOL,
                released=SignalKind.TIMESTAMP,
                brand=SignalKind.CATEGORY,
                colour=SignalKind.CATEGORY,
                title=SignalKind.STRING,
                tags=SignalKind.SET,
                weights=SignalKind.MAP,
                vector=SignalKind.EMBEDDING,
            ),
            _entity(
                "user",
                age=SignalKind.F32,
                seen=SignalKind.TIMESTAMP,
                affinity=SignalKind.MAP,
                brands=SignalKind.SET,
                brand=SignalKind.CATEGORY,
                vector=SignalKind.EMBEDDING,
            ),
            _entity("query", ctr=SignalKind.F32, intent=SignalKind.CATEGORY),
            _entity("brand", rating=SignalKind.F32),
        )
    }
)

CONTEXT = _context(
    hour=ContextKind.NUMBER,
    flag=ContextKind.BOOL,
    since=ContextKind.TIMESTAMP,
    device=ContextKind.CATEGORY,
    note=ContextKind.TEXT,
    likes=ContextKind.SET,
    mood=ContextKind.EMBEDDING,
)

NAMES: Mapping[ValueType, tuple[str, ...]] = {
    ValueType.NUMBER: (
        *("item.price", "item.stock", "item.new", "user.age", "query.ctr", "column.bm25", "context.hour"),
        *("context.flag", "candidate.base_score", "candidate.position"),
    ),
    ValueType.TIMESTAMP: ("item.released", "user.seen", "context.since", "request.now"),
    ValueType.CATEGORY: (
        *("item.brand", "item.colour", "user.brand", "query.intent", "context.device"),
        *("request.language", "request.surface"),
    ),
    ValueType.TEXT: ("item.title", "context.note", "request.query"),
    ValueType.SET: ("item.tags", "user.brands", "context.likes", "request.segments"),
    ValueType.MAP: ("item.weights", "user.affinity"),
    ValueType.EMBEDDING: ("item.vector", "user.vector", "context.mood"),
}


def profile_of(features: Mapping[str, str], base: str | None = None) -> Profile:
    return Profile(
        "shop",
        columns=("bm25",),
        context=CONTEXT,
        features=tuple(Feature(name, expression) for name, expression in features.items()),
        base=base,
    )


CATEGORIES = ("acme", "zeta", "été", "", "日本", "a b")

numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, math.nan, math.inf, -math.inf, 5e-324, 1e-310, 1e308, 0.1, 86400.0]),
    st.integers(-5, 5).map(float),
    st.floats(),
    st.floats(width=32),
)
_words = st.text("abcé日𝒳 ß-ǅ7", max_size=12)
texts = st.one_of(
    _words.map(lambda s: normalise(s).decode()),
    st.lists(st.sampled_from(["red", "redder", "shoe", "rouge é", "日本語", "x"]), max_size=6).map(" ".join),
    st.text(max_size=20).map(lambda s: normalise(s).decode()),
)
_vectors = st.lists(st.floats(width=32, allow_nan=False), min_size=DIMENSION, max_size=DIMENSION)


def _or_missing(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, strategy, st.none())


VALUES: Mapping[ValueType, st.SearchStrategy[Any]] = {
    ValueType.NUMBER: numbers,
    ValueType.TIMESTAMP: st.one_of(numbers, st.floats(1.6e9, 1.7e9)),
    ValueType.CATEGORY: _or_missing(st.sampled_from(CATEGORIES)),
    ValueType.TEXT: _or_missing(texts),
    ValueType.SET: _or_missing(st.frozensets(st.sampled_from(CATEGORIES))),
    ValueType.MAP: _or_missing(st.dictionaries(st.sampled_from(CATEGORIES), st.floats(width=32))),
    ValueType.EMBEDDING: _or_missing(_vectors.map(np.float32)),
}


@dataclass(frozen=True)
class World:
    """Values by dotted name, one per candidate; those of the request are the same in each place."""

    length: int
    values: Mapping[str, Sequence[Any]]
    codes: dict[str, int]

    def intern(self, text: str) -> int:
        return self.codes.setdefault(text, len(self.codes))

    def column(self, source: Input) -> Column:
        rows = list(self.values[str(source)])
        if not source.per_candidate:
            rows = [self.values["request of " + str(source)][0]]
        return encode(source.type, rows, self.intern)


@st.composite
def worlds(draw: st.DrawFn, read_by: Sequence[str], lengths: Sequence[int] = (4, 7, 2, 1, 0)) -> World:
    """Values for every name that some expressions read."""
    length = draw(st.sampled_from(lengths))
    text = " ".join([*read_by, "request.now"])
    values: dict[str, list[Any]] = {}
    for type_, names in NAMES.items():
        for name in names:
            if name not in text:
                continue
            if name.split(".")[0] in ("item", "column", "candidate"):
                values[name] = draw(st.lists(VALUES[type_], min_size=length, max_size=length))
            else:
                one = draw(VALUES[type_])
                values[name] = [one] * length
                values["request of " + name] = [one]
    order = draw(st.permutations(CATEGORIES))
    return World(length, values, {text: 3 * code for code, text in enumerate(order)})


def encode(type_: ValueType, rows: Sequence[Any], intern: Any) -> Column:
    """Decoded values as a column; rows are stored back to front and missing ones point nowhere."""
    if type_ in (ValueType.NUMBER, ValueType.TIMESTAMP):
        return NumericColumn(np.array(rows, np.float64))
    if type_ is ValueType.CATEGORY:
        return CategoryColumn(np.array([-1 if r is None else intern(r) for r in rows], np.int32))
    if type_ is ValueType.EMBEDDING:
        filled = [np.full(DIMENSION, np.nan, np.float32) if r is None else r for r in rows]
        return EmbeddingColumn(np.array(filled, np.float32).reshape(len(rows), DIMENSION))
    data: list[Any] = []
    offsets = np.full(len(rows), -(2**60), np.int64)
    lengths = np.full(len(rows), -1, np.int32)
    for i in reversed(range(len(rows))):
        if rows[i] is not None:
            offsets[i] = len(data)
            if type_ is ValueType.TEXT:
                data += rows[i].encode()
            elif type_ is ValueType.SET:
                data += sorted(intern(t) for t in rows[i])
            else:
                data += sorted((intern(t), v) for t, v in rows[i].items())
            lengths[i] = len(data) - offsets[i]
    if type_ is ValueType.TEXT:
        return TextColumn(np.array(data, np.uint8), offsets, lengths)
    if type_ is ValueType.SET:
        return SetColumn(np.array(data, np.int32), offsets, lengths)
    keys = np.array([k for k, _ in data], np.int32)
    return MapColumn(keys, np.array([v for _, v in data], np.float32), offsets, lengths)


_literals = st.one_of(
    st.sampled_from(["0", "1", "2", "0.5", "True", "1e-3", "7", "100", "(0/0)", "1e308"]),
    st.floats(0, allow_infinity=False, allow_nan=False).map(repr),
)
_strings = st.sampled_from(CATEGORIES).map(repr)
half_lives = st.sampled_from(['"90s"', '"1.5h"', '"7d"', "3600", "(60 * 60)"])


def _leaf(type_: ValueType) -> st.SearchStrategy[str]:
    names = st.sampled_from(NAMES[type_])
    if type_ is ValueType.NUMBER:
        return names | names | _literals
    return names | _strings if type_ in (ValueType.CATEGORY, ValueType.TEXT) else names


NUMBER, TIMESTAMP, CATEGORY = ValueType.NUMBER, ValueType.TIMESTAMP, ValueType.CATEGORY
TEXT, SET, MAP, EMBEDDING = ValueType.TEXT, ValueType.SET, ValueType.MAP, ValueType.EMBEDDING

SHAPES: Mapping[ValueType, tuple[tuple[str, tuple[ValueType, ...]], ...]] = {
    NUMBER: (
        *((f"({{}} {op} {{}})", (NUMBER, NUMBER)) for op in ("+", "-", "*", "/", "//", "%", "**", "and", "or")),
        *((f"({{}} {op} {{}})", (NUMBER, NUMBER)) for op in ("<", "<=", ">", ">=", "==", "!=")),
        *((f"({{}} {op} {{}})", (TIMESTAMP, TIMESTAMP)) for op in ("-", "<", ">=", "==")),
        *((f"({{}} {op} {{}})", (CATEGORY, CATEGORY)) for op in ("==", "!=")),
        ("({} < {} <= {} != {})", (NUMBER,) * 4),
        ("({} and {} and {})", (NUMBER,) * 3),
        ("(-{})", (NUMBER,)),
        ("(+{})", (NUMBER,)),
        ("(not {})", (NUMBER,)),
        ("({} if {} else {})", (NUMBER,) * 3),
        ("where({}, {}, {})", (NUMBER,) * 3),
        *((f"{f}({{}})", (NUMBER,)) for f in ("abs", "floor", "sqrt", "exp", "log", "log1p")),
        *((f"{f}({{}})", (NUMBER,)) for f in ("list_min", "list_max", "list_mean", "list_rank", "list_zscore")),
        ("list_rank({})", (TIMESTAMP,)),
        ("pow({}, {})", (NUMBER, NUMBER)),
        ("clip({}, {}, {})", (NUMBER,) * 3),
        *((f"{f}({{}}, {{}}, {{}})", (NUMBER,) * 3) for f in ("min", "max", "coalesce")),
        *(("is_missing({})", (t,)) for t in ValueType),
        ("age({})", (TIMESTAMP,)),
        ("age_days(ts={})", (TIMESTAMP,)),
        ("haversine({}, {}, {}, {})", (NUMBER,) * 4),
        ("dot({}, {})", (EMBEDDING, EMBEDDING)),
        ("cosine({}, {})", (EMBEDDING, EMBEDDING)),
        ("lookup({}, {})", (MAP, CATEGORY)),
        ("lookup({}, {}, {})", (MAP, CATEGORY, NUMBER)),
        ("contains({}, {})", (SET, CATEGORY)),
        ("overlap({}, {})", (SET, SET)),
        ("jaccard({}, {})", (SET, SET)),
        ("token_count({})", (TEXT,)),
        *((f"{f}({{}}, {{}})", (TEXT, TEXT)) for f in ("token_overlap", "prefix_match")),
        *((f"{f}({{}}, {{}})", (TEXT, TEXT)) for f in ("trigram_similarity", "edit_similarity")),
    ),
    TIMESTAMP: (
        ("({} + {})", (TIMESTAMP, NUMBER)),
        ("({} + {})", (NUMBER, TIMESTAMP)),
        ("({} - {})", (TIMESTAMP, NUMBER)),
        ("({} if {} else {})", (TIMESTAMP, NUMBER, TIMESTAMP)),
        ("coalesce({}, {})", (TIMESTAMP, TIMESTAMP)),
        ("max({}, {})", (TIMESTAMP, TIMESTAMP)),
        ("list_min({})", (TIMESTAMP,)),
    ),
    CATEGORY: (
        ("where({}, {}, {})", (NUMBER, CATEGORY, CATEGORY)),
        ("coalesce({}, {})", (CATEGORY, CATEGORY)),
    ),
}


@st.composite
def expressions(draw: st.DrawFn, type_: ValueType = NUMBER, depth: int = 4) -> str:
    """Text of a random expression of a type."""
    if depth == 0 or type_ not in SHAPES or draw(st.integers(0, 9)) == 5:
        return draw(_leaf(type_))
    if type_ is NUMBER and draw(st.integers(0, 20)) == 9:
        return f"decay({draw(expressions(TIMESTAMP, depth - 1))}, half_life={draw(half_lives)})"
    shape, types = draw(st.sampled_from(SHAPES[type_]))
    return shape.format(*(draw(expressions(t, depth - 1)) for t in types))
