"""A schema with a signal of every kind, and batches for it that hypothesis draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from signals.conformance import NOW_S

from rankd.signals.store import ColumnValues, MapValues, Operation, WriteBatch
from rankd.signals.values import from_list
from rankd.types.schema import Element, Entity, Prior, Schema, Signal, SignalKind
from rankd.types.text import composite_id

NOW_MS: Final = round(NOW_S * 1000)
_BUCKET_S: Final = 10.0
_BUCKET: Final = NOW_MS // 10_000

SIGNALS: Final = [
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64),
    Signal("released", SignalKind.TIMESTAMP),
    Signal("new", SignalKind.BOOL),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("tags", SignalKind.SET),
    Signal("weights", SignalKind.MAP),
    Signal("likes", SignalKind.MAP, half_life_s=60.0),
    Signal("vector", SignalKind.EMBEDDING, 2),
    Signal("half", SignalKind.EMBEDDING, 2, element=Element.F16),
    Signal("byte", SignalKind.EMBEDDING, 2, element=Element.I8),
    Signal("heat", SignalKind.COUNTER, half_life_s=60.0),
    Signal("clicks", SignalKind.WINDOW, window_s=4 * _BUCKET_S, bucket_s=_BUCKET_S),
    Signal("views", SignalKind.WINDOW, window_s=4 * _BUCKET_S, bucket_s=_BUCKET_S),
    Signal("recent", SignalKind.LIST, 2),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "views"), prior=Prior(0.5, 2.0)),
    Signal("plain_ctr", SignalKind.RATIO, ratio_of=("clicks", "views")),
    Signal("brief", SignalKind.F32, ttl_s=60.0, default=0.25),
    Signal("glow", SignalKind.COUNTER, half_life_s=60.0, ttl_s=60.0),
    Signal("mood", SignalKind.SET, ttl_s=1.5),
]
ADDED: Final = ("weights", "likes", "heat", "clicks", "views", "recent", "glow")
"""What can be added to."""

SCHEMA: Final = Schema(
    {
        name: Entity(name, {s.name: s for s in signals}, key)
        for name, signals, key in (
            ("item", SIGNALS, ()),
            ("user", SIGNALS[:1] + [s for s in SIGNALS if s.name == "heat"], ()),
            ("user_item", SIGNALS[:2], ("user", "item")),
            ("query_user", SIGNALS[:1], ("query", "user")),
        )
    }
)

IDS: Final = ["a", "b", "ä/{}*?[", "c\\\0"]
USERS: Final = ["u", "u/1:u"]
IDS_OF: Final = {
    "item": IDS,
    "user": USERS,
    "user_item": [composite_id([user, item]) for user in USERS for item in IDS[:2]],
    "query_user": [composite_id(["q", user]) for user in USERS],
}

_amounts = st.integers(1, 8).map(float)
_texts = st.sampled_from(["", "x", "y", "Ü"]) | st.text(max_size=4)
_numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
_whole = st.integers(-(2**63) + 1, 2**63 - 1)
_smaller = st.sampled_from([-127.0, 0.0, 127.0])
_counts = st.dictionaries(st.integers(_BUCKET - 3, _BUCKET), _amounts, max_size=3)
SET_VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "price": _numbers | st.just(float("nan")),
    "stock": _whole,
    "released": _whole,
    "new": st.booleans(),
    "brand": _texts,
    "title": st.text(max_size=20),
    "tags": st.lists(_texts, unique=True, max_size=3),
    "weights": st.dictionaries(_texts, _amounts, max_size=2),
    "likes": st.dictionaries(_texts, _amounts, max_size=2),
    "vector": st.lists(_numbers, min_size=2, max_size=2),
    "half": st.lists(_smaller, min_size=2, max_size=2),
    "byte": st.lists(_smaller, min_size=2, max_size=2),
    "heat": _amounts,
    "clicks": _counts,
    "views": _counts,
    "recent": st.sampled_from([[], [("m", NOW_MS)], [("n", NOW_MS + 5_000), ("o", NOW_MS - 5_000)]]),
    "brief": _numbers,
    "glow": _amounts,
    "mood": st.lists(_texts, unique=True, max_size=2),
}
ADD_VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "heat": _amounts,
    "glow": _amounts,
    "likes": st.dictionaries(_texts, _amounts, min_size=1, max_size=2),
    "weights": st.dictionaries(_texts, _amounts, min_size=1, max_size=2),
    "clicks": _amounts,
    "views": _amounts,
    "recent": st.sampled_from(["m", "n", "o", "p"]),
}


def column(
    name: str, rows: list[int], values: list[Any], clear: tuple[int, ...] = (), *, adds: bool = False, **more: Any
) -> ColumnValues:
    """Values, or amounts, of one signal of `item`, in plain Python."""
    signal = next(signal for signal in SIGNALS if signal.name == name)
    given: Any
    if not adds:
        given = from_list(signal, values)
    elif signal.kind in (SignalKind.COUNTER, SignalKind.WINDOW):
        given = np.array(values, np.float64)
    elif signal.kind is SignalKind.MAP:
        numbers = np.array([number for row in values for number in row.values()], np.float32)
        lengths = np.array([len(row) for row in values], np.int64)
        given = MapValues([key for row in values for key in row], numbers, lengths)
    else:
        given = values
    operation = Operation.ADD if adds else Operation.SET
    return ColumnValues(name, np.array(rows, np.int64), given, np.array(clear, np.int64), operation, **more)


_offsets = st.integers(-18, 6).map(lambda n: n * 5_000)
"""Whole steps, so that some are equal."""


@st.composite
def batches(draw: st.DrawFn) -> WriteBatch:
    """Of any entity, by any time: times are from 0 on, see `at`. Without a write id."""
    entity = draw(st.sampled_from(["item", "item", "item", *IDS_OF]))
    ids = draw(st.lists(st.sampled_from(IDS_OF[entity]), min_size=1, max_size=5))
    names = [s.name for s in SCHEMA.entities[entity].signals.values() if s.is_stored]
    columns = []
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=5)):
        adds = name in ADDED and draw(st.booleans())
        what = [draw(st.sampled_from("vvc" if not adds else "vv-")) for _ in ids]
        rows = [i for i, w in enumerate(what) if w == "v"]
        clear = tuple(i for i, w in enumerate(what) if w == "c")
        values = [draw((ADD_VALUES if adds else SET_VALUES)[name]) for _ in rows]
        times = np.array([draw(_offsets) for _ in rows], np.int64) if draw(st.integers(0, 3)) == 0 else None
        columns.append(column(name, rows, values, clear, adds=adds, times_ms=times))
    event_ms = np.array([draw(_offsets) for _ in ids], np.int64) if draw(st.booleans()) else None
    event_ids = [draw(st.sampled_from(["", "", "e1", "e2"])) for _ in ids] if draw(st.booleans()) else None
    return WriteBatch(entity, ids, columns, event_ms, "", event_ids)


def at(batch: WriteBatch, now_ms: int) -> WriteBatch:
    """The batch with its times from now on."""
    columns = [c if c.times_ms is None else replace(c, times_ms=c.times_ms + now_ms) for c in batch.columns]
    event_ms = None if batch.event_ms is None else batch.event_ms + now_ms
    return replace(batch, columns=columns, event_ms=event_ms)
