"""Random histories of a store against a dict. A backend subclasses StoreMachine, gives `open_store`
and says whether it is durable; see test_store_machine.py."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from signals.conformance import CLEAR, NOW_S, SCHEMA, Clock, get_rows, plain_column, rows_batch

from rankd.signals.store import SignalStore
from rankd.types.schema import SignalKind
from rankd.types.text import normalise

SIGNALS = SCHEMA.entities["item"].signals

words = st.sampled_from(["", "a", "b", "c", "\0", "ö"]) | st.text(max_size=8)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES: dict[SignalKind, st.SearchStrategy[Any]] = {
    SignalKind.F32: floats,
    SignalKind.I64: st.integers(-(2**63) + 1, 2**63 - 1),
    SignalKind.TIMESTAMP: st.integers(-(2**63) + 1, 2**63 - 1),
    SignalKind.BOOL: st.booleans(),
    SignalKind.CATEGORY: words,
    SignalKind.STRING: st.text(max_size=20),
    SignalKind.SET: st.sets(words, max_size=4),
    SignalKind.MAP: st.dictionaries(words, floats, max_size=4),
    SignalKind.EMBEDDING: st.lists(floats, min_size=3, max_size=3),
}
"""Of what may be written; conformance.py has the rest."""

ids = st.sampled_from([f"id{i}" for i in range(6)]) | st.text(min_size=1, max_size=3)
updates = st.fixed_dictionaries({}, optional={s.name: VALUES[s.kind] | st.just(CLEAR) for s in SIGNALS.values()})
batches = st.lists(st.tuples(ids, updates), max_size=6)

Row = dict[str, tuple[Any, float]]


def expected_read(name: str, value: Any) -> Any:
    """What a written value reads as."""
    match SIGNALS[name].kind:
        case SignalKind.I64 | SignalKind.BOOL:
            return float(value)
        case SignalKind.TIMESTAMP:
            return value / 1000
        case SignalKind.STRING:
            return normalise(value)
    return value


class StoreMachine(RuleBasedStateMachine):
    """The oracle: {id: {signal: (value, when written)}}."""

    durable = False

    async def open_store(self, clock: Clock) -> SignalStore:
        """Opens the store under test: an empty one the first time, then the same if durable."""
        raise AssertionError("a subclass opens the store")

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.rows: dict[str, Row] = {}
        self.run(self._open())

    async def _open(self) -> None:
        self.store = await self.open_store(self.clock)

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def live(self, row: Row) -> dict[str, Any]:
        """The values of a row that have not outlived their TTL."""
        ages = {name: self.clock.now_s - written_s for name, (_, written_s) in row.items()}
        ttls = {name: SIGNALS[name].ttl_s for name in row}
        return {n: v for n, (v, _) in row.items() if ttls[n] is None or ages[n] < (ttls[n] or math.inf)}

    @rule(batch=batches)
    def write(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        result = self.run(self.store.write(rows_batch("item", batch)))
        assert (result.written_count, list(result.rejected)) == (len(batch), [])
        for id_, values in batch:
            row = self.rows.setdefault(id_, {})
            for name, value in values.items():
                row.pop(name, None)
                if value is not CLEAR:
                    row[name] = (value, self.clock.now_s)

    @rule(batch=batches)
    def write_something_faulty(self, batch: list[tuple[str, dict[str, Any]]]) -> None:
        faulty = [(id_, {**values, "price": math.inf}) for id_, values in batch]
        result = self.run(self.store.write(rows_batch("item", faulty)))
        assert (result.written_count, [r.row for r in result.rejected]) == (0, list(range(len(batch))))

    @rule(doomed=st.lists(ids, max_size=4))
    def delete(self, doomed: list[str]) -> None:
        count = len(set(doomed) & set(self.rows))
        assert self.run(self.store.delete("item", doomed)) == count
        for id_ in doomed:
            self.rows.pop(id_, None)

    @rule(seconds=st.sampled_from([0.25, 1.5, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule()
    def reopen(self) -> None:
        if self.durable:
            self.run(self.store.close())
            self.run(self._open())

    @rule(wanted=st.lists(ids, max_size=8), names=st.lists(st.sampled_from(sorted(SIGNALS)), unique=True))
    def read(self, wanted: list[str], names: list[str]) -> None:
        result = self.run(self.store.read("item", wanted, names, self.clock.now_s))
        assert result.found.tolist() == [id_ in self.rows for id_ in wanted]
        for name in names:
            live = [self.live(self.rows.get(id_, {})) for id_ in wanted]
            default = SIGNALS[name].default
            expected = [expected_read(name, row[name]) if name in row else default for row in live]
            assert plain_column(self.store, result.columns[name]) == expected, name

    @rule(wanted=st.lists(ids, max_size=8, unique=True))
    def get(self, wanted: list[str]) -> None:
        stored = self.run(get_rows(self.store, "item", wanted, self.clock.now_s))
        assert stored == {id_: self.live(self.rows[id_]) for id_ in wanted if id_ in self.rows}

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "store"):
            assert self.store.row_counts()["item"] == len(self.rows)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            everything = self.run(get_rows(self.store, "item", list(self.rows), NOW_S - 1e9))
            assert everything == {i: {n: v for n, (v, _) in row.items()} for i, row in self.rows.items()}
            self.run(self.store.close())
        if hasattr(self, "runner"):
            self.runner.close()
