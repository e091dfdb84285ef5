"""Layout, encode and the table's reads: every kind comes back as it was written, and reads as it is defined."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankd.kernels.table_writer import TableWriter
from rankd.signals.accumulate import NEVER_MS, accumulate
from rankd.signals.categories import CategoryTable, intern_in
from rankd.signals.encode import encode
from rankd.signals.layout import EntityLayout
from rankd.signals.store import ColumnValues
from rankd.signals.table import EntityTable
from rankd.signals.values import from_list, to_list
from rankd.types.schema import Element, Entity, Prior, Signal, SignalKind

NOW_MS = 1_760_000_000_000
NOW_S = NOW_MS / 1000
HOUR = 3_600_000
BUCKET = NOW_MS // HOUR
SIGNALS = (
    Signal("price", SignalKind.F32),
    Signal("stock", SignalKind.I64, ttl_s=3600.0),
    Signal("new", SignalKind.BOOL),
    Signal("brand", SignalKind.CATEGORY),
    Signal("title", SignalKind.STRING),
    Signal("half", SignalKind.EMBEDDING, 2, element=Element.F16),
    Signal("small", SignalKind.EMBEDDING, 2, element=Element.I8),
    Signal("tags", SignalKind.SET),
    Signal("affinity", SignalKind.MAP, half_life_s=3600.0),
    Signal("heat", SignalKind.COUNTER, half_life_s=3600.0, default=0.0),
    Signal("clicks", SignalKind.WINDOW, window_s=24 * 3600.0, bucket_s=3600.0),
    Signal("shown", SignalKind.WINDOW, window_s=24 * 3600.0, bucket_s=3600.0),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "shown"), prior=Prior(0.25, 4.0)),
    Signal("raw", SignalKind.RATIO, ratio_of=("clicks", "shown")),
    Signal("recent", SignalKind.LIST, 3),
)
ENTITY = Entity("item", {signal.name: signal for signal in SIGNALS})
STORED = [signal for signal in SIGNALS if signal.is_stored]
NAMES = [signal.name for signal in SIGNALS]

eighths = st.integers(-800, 800).map(lambda n: n / 8)
words = st.sampled_from(["a", "B", "Wi-Fi", "ü", ""])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "price": eighths,
    "stock": st.integers(-(2**63) + 1, 2**63 - 1),
    "new": st.booleans(),
    "brand": words,
    "title": words,
    "half": st.lists(eighths, min_size=2, max_size=2),
    "small": st.sampled_from([[127.0, -64.0], [0.0, 0.0], [-127.0, 1.0]]),
    "tags": st.lists(words, unique=True, max_size=3).map(sorted),
    "affinity": st.dictionaries(words, eighths, max_size=3).map(lambda d: dict(sorted(d.items()))),
    "heat": st.floats(-1e300, 1e300),
    "clicks": st.dictionaries(st.integers(BUCKET - 30, BUCKET), eighths, max_size=4),
    "shown": st.dictionaries(st.integers(BUCKET - 30, BUCKET), eighths, max_size=4),
    "recent": st.lists(words, unique=True, max_size=3).map(lambda ms: [(m, NOW_MS - i) for i, m in enumerate(ms)]),
}


class World:
    """A table in a directory, and what is written to it."""

    def __init__(self, directory: Path) -> None:
        self.layout = EntityLayout.of(ENTITY)
        path = str(directory / "t")
        self.writer = TableWriter.create(path, self.layout.cells, max_rows=1000, max_bytes=1 << 30)
        self.dictionary = TableWriter.create(str(directory / "d"), (), max_rows=1000, max_bytes=1 << 30)
        self.categories = CategoryTable(self.dictionary, intern_in(self.dictionary, 1000, directory))
        self.table = EntityTable(self.layout, self.writer, self.categories)

    def write(self, ids: list[str], columns: list[ColumnValues], time_ms: int, *, is_absolute: bool = False) -> int:
        cells = encode(self.layout, columns, self.categories)
        return self.writer.stage(ids, cells, time_ms, is_absolute=is_absolute).publish()

    def say(self, id_: str, said: dict[str, Any], time_ms: int) -> int:
        """Sets or (None) clears signals of one id, each at the time."""
        columns = []
        for name, value in said.items():
            rows = np.arange(int(value is not None))
            values = from_list(ENTITY.signals[name], [] if value is None else [value])
            columns.append(ColumnValues(name, rows, values, np.arange(1 - len(rows))))
        return self.write([id_], columns, time_ms)

    def get(self, id_: str, now_ms: int = NOW_MS) -> dict[str, Any]:
        stored = self.table.get([id_], NAMES, now_ms / 1000)
        return {c.signal: plain(c) for c in stored.columns if len(c.rows)}

    def number(self, id_: str, name: str, now_ms: int = NOW_MS) -> float:
        return float(self.table.read([id_], [name], now_ms / 1000).columns[name].values[0])  # type: ignore[union-attr]

    def close(self) -> None:
        self.writer.close()
        self.dictionary.close()


def plain(column: ColumnValues) -> Any:
    (value,) = to_list(column.values)
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_latest_of_each_signal_comes_back(world: World, data: st.DataObject) -> None:
    id_ = f"r{len(world.writer)}"
    expected: dict[str, Any] = {}
    times: dict[str, int] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        names = data.draw(st.lists(st.sampled_from([s.name for s in STORED]), unique=True, min_size=1))
        said = {name: data.draw(st.none() | VALUES[name], label=name) for name in names}
        time = NOW_MS - data.draw(st.integers(0, 3))
        world.say(id_, said, time)
        for name, value in said.items():
            if time >= times.get(name, 0):
                times[name], expected[name] = time, value
    held = {name: value for name, value in expected.items() if value is not None}
    found = world.get(id_)
    assert {name: value for name, value in found.items() if name not in ("ctr", "raw")} == held
    exact = world.table.exact(["nobody", id_])
    assert exact.found.tolist() == [1]
    for column in exact.columns:
        name = column.signal
        assert ([plain(column)] if len(column.rows) else []) == ([held[name]] if name in held else [])
        of = column.times_ms if name in held else column.clear_times_ms
        assert of is not None and of.tolist() == ([times[name]] if name in times else [])
    # The same rows made again of what is exactly known.
    again = f"{id_}-again"
    world.write([again], list(exact.columns), int(exact.written_ms[0]), is_absolute=True)
    assert world.get(again) == found
    states = world.table.states([again], [s.name for s in STORED], NOW_MS)
    assert {name: int(s.times_ms[0]) for name, s in states.items() if s.times_ms[0] != NEVER_MS} == times


def test_counters_decay_and_ratios_have_a_prior(world: World) -> None:
    world.say("a", {"heat": 8.0, "affinity": {"x": 4.0}}, NOW_MS - 2 * HOUR)
    world.say("a", {"clicks": {BUCKET - 24: 9.0, BUCKET - 23: 1.0, BUCKET: 2.0}}, NOW_MS)
    world.say("a", {"shown": {BUCKET: 4.0}}, NOW_MS)
    assert (world.number("a", "heat"), world.number("nobody", "heat")) == (2.0, 0.0)
    affinity = world.table.read(["a"], ["affinity"], NOW_S).columns["affinity"]
    assert affinity.values.tolist() == [1.0]  # type: ignore[union-attr]
    assert (world.number("a", "clicks"), world.number("a", "clicks", NOW_MS + HOUR)) == (3.0, 2.0)
    assert (world.number("a", "ctr"), world.number("a", "raw")) == ((3 + 1) / (4 + 4), 0.75)
    assert world.number("nobody", "ctr") == 0.25
    assert math.isnan(world.number("nobody", "raw"))
    assert (world.get("a")["raw"], world.get("a")["ctr"]) == (0.75, 0.5)
    world.say("b", {"price": 1.0}, NOW_MS)
    assert world.get("b") == {"price": 1.0}


def test_what_has_expired_is_no_value_to_add_to_but_has_its_time(world: World) -> None:
    world.say("a", {"stock": 5}, NOW_MS - HOUR)
    states = world.table.states(["a"], ["stock"], NOW_MS)["stock"]
    assert (states.present.tolist(), states.times_ms.tolist()) == ([False], [NOW_MS - HOUR])
    assert [c.rows.tolist() for c in world.table.exact(["a"]).columns if c.signal == "stock"] == [[0]]


def test_amounts_are_added_to_what_the_table_has(world: World) -> None:
    world.say("a", {"heat": 8.0}, NOW_MS - HOUR)
    states = world.table.states(["a", "b"], ["heat"], NOW_MS)["heat"]
    rows, amounts = np.array([0, 1]), np.array([1.0, 2.0])
    after = accumulate(ENTITY.signals["heat"], states, rows, amounts, np.full(2, NOW_MS))
    world.write(["a", "b"], [after.column("heat")], NOW_MS)
    assert (world.number("a", "heat"), world.number("b", "heat")) == (5.0, 2.0)


def test_what_is_late_is_left_out(world: World) -> None:
    assert world.say("a", {"price": 1.0, "brand": "x"}, NOW_MS) == 0
    assert world.say("a", {"price": 2.0, "new": True}, NOW_MS - 1) == 1
    assert world.get("a") == {"price": 1.0, "brand": "x", "new": True}


def test_layouts_differ_where_what_is_stored_does() -> None:
    def fingerprint(*signals: Signal) -> bytes:
        return EntityLayout.of(Entity("e", {s.name: s for s in signals})).fingerprint

    heat = Signal("heat", SignalKind.COUNTER, half_life_s=60.0)
    a, b = (Signal(name, SignalKind.WINDOW, window_s=60.0, bucket_s=10.0) for name in "ab")
    ratio = Signal("r", SignalKind.RATIO, ratio_of=("a", "b"))
    assert fingerprint(heat) != fingerprint(Signal("heat", SignalKind.COUNTER, half_life_s=61.0))
    assert fingerprint(a, b) == fingerprint(b, a, ratio)
    assert fingerprint(Signal("v", SignalKind.EMBEDDING, 2)) != fingerprint(
        Signal("v", SignalKind.EMBEDDING, 2, element=Element.F16)
    )
