"""Packed rows: what goes in comes out; what does not belong is refused; other layouts are read by name."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.kernels.packed import MOST_VERSION, PackedCell, PackedColumn, PackedLayout
from rankd.signals.redis.codec import CLEARED, NONE, VALUE, RowCodec, RowStates, StateColumn, Status, put
from rankd.signals.redis.parts import Parts, cell_of, no_parts, parts_of, values_of
from rankd.signals.store import ListValues, MapValues, SetValues, Values, WindowValues
from rankd.types.schema import Element, Entity, Prior, Signal, SignalKind

SIGNALS = [
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64),
    Signal("released", SignalKind.TIMESTAMP),
    Signal("new", SignalKind.BOOL),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("vector", SignalKind.EMBEDDING, 3),
    Signal("half", SignalKind.EMBEDDING, 3, element=Element.F16),
    Signal("byte", SignalKind.EMBEDDING, 3, element=Element.I8),
    Signal("tags", SignalKind.SET),
    Signal("affinity", SignalKind.MAP),
    Signal("heat", SignalKind.COUNTER, half_life_s=60.0),
    Signal("clicks", SignalKind.WINDOW, window_s=60.0, bucket_s=10.0),
    Signal("seen", SignalKind.WINDOW, window_s=60.0, bucket_s=10.0),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "seen"), prior=Prior(0.1, 1.0)),
    Signal("recent", SignalKind.LIST, 3),
]
ENTITY = Entity("item", {signal.name: signal for signal in SIGNALS})
CODEC = RowCodec.of(ENTITY)
NOW_MS = 1_763_700_000_000

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
_ints = st.integers(-(2**63), 2**63 - 1)
_VALUES: dict[SignalKind, st.SearchStrategy[Any]] = {
    SignalKind.F32: _floats,
    SignalKind.I64: _ints,
    SignalKind.TIMESTAMP: _ints,
    SignalKind.BOOL: st.booleans(),
    SignalKind.CATEGORY: _texts,
    SignalKind.STRING: _texts,
    SignalKind.EMBEDDING: st.lists(st.integers(-127, 127).map(float), min_size=3, max_size=3),
    SignalKind.SET: st.lists(_texts, unique=True, max_size=3).map(sorted),
    SignalKind.MAP: st.lists(st.tuples(_texts, _floats), max_size=3),
    SignalKind.COUNTER: st.floats(allow_nan=False),
    SignalKind.WINDOW: st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), _floats), max_size=3),
    SignalKind.LIST: st.lists(st.tuples(_texts, _ints), max_size=3),
}


def as_values(signal: Signal, rows: list[Any]) -> Values:
    """Values from plain ones."""
    kind = signal.kind
    lengths = np.array([len(row) for row in rows] if rows and isinstance(rows[0], list) else [], np.int64)
    flat = [one for row in rows for one in row] if len(lengths) else []
    match kind:
        case SignalKind.CATEGORY | SignalKind.STRING:
            return rows
        case SignalKind.EMBEDDING:
            return np.array(rows, np.float32).reshape(len(rows), 3)
        case SignalKind.SET:
            return SetValues(flat, lengths)
        case SignalKind.MAP:
            return MapValues([k for k, _ in flat], np.array([v for _, v in flat], np.float32), lengths)
        case SignalKind.WINDOW:
            numbers = np.array([v for _, v in flat], np.float32)
            return WindowValues(np.array([k for k, _ in flat], np.int32), numbers, lengths)
        case SignalKind.LIST:
            return ListValues([k for k, _ in flat], np.array([t for _, t in flat], np.int64), lengths)
    types = {SignalKind.F32: np.float32, SignalKind.BOOL: np.bool_, SignalKind.COUNTER: np.float64}
    return np.array(rows, types.get(kind, np.int64))


def plain(values: Values) -> Any:
    """Something that can be compared."""
    if isinstance(values, np.ndarray):
        return values.dtype.name, values.tolist()
    if isinstance(values, SetValues):
        return list(values.members), values.lengths.tolist()
    if isinstance(values, MapValues):
        return list(values.keys), values.values.tolist(), values.lengths.tolist()
    if isinstance(values, WindowValues):
        return values.buckets.tolist(), values.counts.tolist(), values.lengths.tolist()
    if isinstance(values, ListValues):
        return list(values.members), values.times_ms.tolist(), values.lengths.tolist()
    return list(values)


def plain_rows(rows: RowStates) -> Any:
    """The same of rows."""
    columns = {
        name: (
            column.state.tolist(),
            [int(t) for t, s in zip(column.times_ms, column.state, strict=True) if s],
            plain(column.values),
        )
        for name, column in rows.columns.items()
    }
    return list(rows.ids), rows.status.tolist(), rows.versions.tolist(), rows.latest_ms.tolist(), columns


@st.composite
def row_states(draw: st.DrawFn, codec: RowCodec = CODEC) -> RowStates:
    n = draw(st.integers(0, 5))
    ids = draw(st.lists(_texts, min_size=n, max_size=n))
    status = np.array(
        draw(st.lists(st.sampled_from([Status.LIVE, Status.LIVE, Status.TOMBSTONE]), min_size=n, max_size=n))
    )
    latest = np.array(draw(st.lists(st.integers(-(10**15), 10**15), min_size=n, max_size=n)), np.int64)
    versions = np.array(draw(st.lists(st.integers(0, MOST_VERSION), min_size=n, max_size=n)), np.int64)
    columns = {}
    for signal in codec.signals:
        state = np.array([draw(st.integers(0, 2)) if s == Status.LIVE else NONE for s in status], np.uint8)
        back = np.array([draw(st.sampled_from([0, 0, 1, 10**9])) for _ in status], np.int64)
        values = [draw(_VALUES[signal.kind]) for s in state if s == VALUE]
        columns[signal.name] = StateColumn(signal, state, latest - back, parts_of(signal, as_values(signal, values)))
    return RowStates(ids, status.astype(np.uint8), versions, latest, columns)


@given(row_states())
def test_what_goes_in_comes_out(rows: RowStates) -> None:
    packed = CODEC.pack(rows)
    expected = plain_rows(rows)
    assert plain_rows(CODEC.unpack(packed)) == expected
    assert plain_rows(CODEC.unpack(packed, rows.ids)) == expected


@given(row_states(), st.randoms(use_true_random=False))
def test_taking_rows_and_putting_them_back(rows: RowStates, rng: random.Random) -> None:
    order = np.array(rng.sample(range(len(rows)), rng.randint(0, len(rows))), np.int64)
    taken = rows.take(order)
    packed = CODEC.pack(rows)
    assert plain_rows(taken) == plain_rows(CODEC.unpack([packed[i] for i in order.tolist()]))
    for name, column in rows.columns.items():
        blank = CODEC.blank(rows.ids).columns[name]
        whole = put(put(blank, order, taken.columns[name]), np.arange(len(rows)), column)
        assert plain(whole.values) == plain(column.values)
        assert whole.state.tolist() == column.state.tolist()


def one_row(**values: Any) -> RowStates:
    """One live row "a" with some values, the rest never written."""
    rows = CODEC.blank(["a"])
    columns = dict(rows.columns)
    for name, value in values.items():
        signal = ENTITY.signals[name]
        parts = parts_of(signal, as_values(signal, [value]))
        columns[name] = StateColumn(signal, np.array([VALUE], np.uint8), np.array([NOW_MS]), parts)
    return RowStates(["a"], np.array([Status.LIVE], np.uint8), np.array([7]), np.array([NOW_MS]), columns)


def test_a_reply_of_another_row_is_never_used() -> None:
    packed = CODEC.pack(one_row(price=1.0))[0]
    rows = CODEC.unpack([packed, packed, None], ["b", "a", "a"])
    assert rows.status.tolist() == [Status.WRONG_ID, Status.LIVE, Status.MISSING]
    assert rows.columns["price"].state.tolist() == [NONE, VALUE, NONE]
    assert plain(rows.columns["price"].values) == ("float32", [1.0])
    other = RowCodec.of(Entity("user", ENTITY.signals)).unpack([packed], ["a"])
    assert other.status.tolist() == [Status.OTHER_LAYOUT]


def test_bytes_of_any_kind_are_refused_or_read() -> None:
    rng = random.Random(3)
    packed = CODEC.pack(one_row(title="x", tags=["a", "b"], clicks=[(1, 2.0)], recent=[("m", 5)]))[0]
    for _ in range(2_000):
        bad = bytearray(packed)
        for _ in range(rng.randint(1, 3)):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        if bytes(bad) != packed:
            assert CODEC.unpack([bytes(bad)]).status.tolist() == [Status.DAMAGED]
        made_up = rng.randbytes(rng.randrange(60))
        assert CODEC.unpack([made_up]).status.tolist() == [Status.DAMAGED]


def test_rows_of_another_layout_are_read_by_name() -> None:
    old = RowCodec.declared(CODEC.declaration)
    assert (old.fingerprint, [s.storing for s in old.signals]) == (
        CODEC.fingerprint,
        [s.storing for s in CODEC.signals],
    )
    signals = dict(ENTITY.signals)
    del signals["price"]
    signals["heat"] = Signal("heat", SignalKind.COUNTER, half_life_s=61.0)
    signals["added"] = Signal("added", SignalKind.F32)
    codec = RowCodec.of(Entity("item", signals))
    packed = [CODEC.pack(one_row(price=1.0, heat=2.0, title="t"))[0], codec.pack(codec.blank(["n"]))[0], b"?"]
    assert codec.unknown(packed, {}) == {CODEC.fingerprint}
    assert codec.unpack(packed).status.tolist() == [Status.OTHER_LAYOUT, Status.LIVE, Status.DAMAGED]
    rows = codec.unpack(packed, ["a", "n", "b"], {CODEC.fingerprint: old})
    assert rows.status.tolist() == [Status.LIVE, Status.LIVE, Status.DAMAGED]
    assert rows.columns["title"].values == ["t"]
    assert rows.columns["heat"].state.tolist() == rows.columns["added"].state.tolist() == [NONE, NONE, NONE]


def test_narrow_embeddings_lose_what_they_must() -> None:
    values = np.array([[1.0, -0.5, 0.1], [0.0, 0.0, 0.0], [3e38, -3e38, 0.0]], np.float32)
    by = {name: values_of(ENTITY.signals[name], parts_of(ENTITY.signals[name], values)) for name in ("vector", "byte")}
    assert np.array_equal(by["vector"], values)
    scale = np.abs(values).max(axis=1, keepdims=True)
    assert np.all(np.abs(by["byte"] - values) <= scale / 127 * 0.51)
    small = np.array([[1.0, -0.5, 0.1]], np.float32)
    half = values_of(ENTITY.signals["half"], parts_of(ENTITY.signals["half"], small))
    assert np.array_equal(half, small.astype(np.float16).astype(np.float32))


def test_no_values_have_their_types() -> None:
    for signal in CODEC.signals:
        assert plain(values_of(signal, no_parts(signal))) == plain(values_of(signal, Parts(0)))
        assert no_parts(signal).take(np.zeros(0, np.int64)).count == 0


def test_members_of_a_set_are_distinct() -> None:
    rows = one_row(tags=["b", "a", "b", ""])
    assert plain(CODEC.unpack(CODEC.pack(rows)).columns["tags"].values) == (["", "a", "b"], [3])


def test_to_columns_gives_whole_rows() -> None:
    rows = one_row(price=1.5)
    price, stock = rows.to_columns(["price", "stock"])
    assert (price.rows.tolist(), price.clear_rows.tolist()) == ([0], [])
    assert price.times_ms is not None and price.times_ms.tolist() == [NOW_MS]
    assert (stock.rows.tolist(), stock.clear_rows.tolist(), len(stock.values)) == ([], [0], 0)  # type: ignore[arg-type]


def test_declarations_that_are_none() -> None:
    for bad in ("", "[]", '["a", [["x"]]]', '["a", [["x", "f33", "f32", null, null]]]', "[1, 2]"):
        with pytest.raises(ValueError):
            RowCodec.declared(bad)


def test_cells_have_the_width_of_their_values() -> None:
    assert cell_of(ENTITY.signals["half"]).width == 6
    assert cell_of(ENTITY.signals["byte"]).width == 7
    with pytest.raises(ValueError, match="expected a text"):
        PackedLayout([PackedCell()], 1)
    with pytest.raises(ValueError, match="at most"):
        PackedLayout([PackedCell(width=1)] * 70_000, 1)


def _pack(layout: PackedLayout, **changes: Any) -> list[bytes]:
    state, times = np.array([1], np.uint8), np.array([5], np.int64)
    row: dict[str, Any] = {
        "status": np.array([1], np.uint8),
        "ids": ["a"],
        "versions": np.array([1], np.int64),
        "latest_ms": np.array([5], np.int64),
    }
    column: dict[str, Any] = {
        "lengths": np.array([1]),
        "texts": ["x"],
        "ints": np.array([3]),
        "fixed": np.zeros((1, 2), np.uint8),
    }
    columns = [PackedColumn(**({"state": state, "times_ms": times} | column | changes.pop("column", {})))]
    return layout.pack(**(row | {"columns": columns} | changes))


def test_what_the_customs_desk_turns_away() -> None:
    layout = PackedLayout([PackedCell(is_ragged=True, has_text=True, has_int=True, width=2)], 1)
    assert layout.unpack(_pack(layout)).status.tolist() == [Status.LIVE]
    bad: list[dict[str, Any]] = [
        {"versions": np.array([MOST_VERSION + 1])},
        {"versions": np.array([-1])},
        {"status": np.array([1, 1], np.uint8)},
        {"columns": []},
        {"latest_ms": np.array([4])},
        {"status": np.array([Status.TOMBSTONE], np.uint8)},
        {"column": {"state": np.array([3], np.uint8)}},
        {"column": {"lengths": np.array([2])}},
        {"column": {"lengths": np.array([-1])}},
        {"column": {"lengths": np.array([2**62])}},
        {"column": {"texts": []}},
        {"column": {"ints": np.array([1, 2])}},
        {"column": {"fixed": np.zeros((1, 3), np.uint8)}},
        {"column": {"fixed": np.zeros(2, np.uint8)}},
    ]
    for change in bad:
        with pytest.raises(ValueError):
            _pack(layout, **change)
    with pytest.raises(UnicodeEncodeError):
        _pack(layout, column={"texts": ["\ud800"]})
    with pytest.raises(TypeError):
        layout.unpack(["text"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="expected 1"):
        layout.unpack([None], ["a", "b"])


def test_a_cleared_value_keeps_its_time() -> None:
    rows = one_row()
    cleared = StateColumn(ENTITY.signals["price"], np.array([CLEARED], np.uint8), np.array([5]), no_parts(SIGNALS[0]))
    again = CODEC.unpack(
        CODEC.pack(RowStates(rows.ids, rows.status, rows.versions, rows.latest_ms, {**rows.columns, "price": cleared}))
    )
    assert (again.columns["price"].state.tolist(), again.columns["price"].times_ms.tolist()) == ([CLEARED], [5])
