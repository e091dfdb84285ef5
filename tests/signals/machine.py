"""Random histories of a store beside a dict oracle: whatever is written, added, deleted, forgotten or sent again, by
whatever times, and however the store ends and is opened again, it has what the oracle has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from signals.conformance import Clock, Traits, plain_column
from signals.every_kind import IDS, IDS_OF, SCHEMA, SIGNALS, USERS, at, batches
from signals.store_oracle import Oracle, nearly, ordered, plain_rows

from rankd.signals.store import SignalStore, WriteBatch

STORED = {name: [s.name for s in e.signals.values() if s.is_stored] for name, e in SCHEMA.entities.items()}
Reopen = Callable[[Any, Clock, bool], Awaitable[Any]]


class StoreMachine(RuleBasedStateMachine):
    """`reopen(store, clock, is_killed)`: closes a store, or lets it end as a process that is killed does, and opens it
    again; of None: opens an empty one."""

    def __init__(self, reopen: Reopen, traits: Traits) -> None:
        super().__init__()
        self._reopen = reopen
        self._traits = traits
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.written_ms = 0
        self.oracle = Oracle(SCHEMA, traits.keeps_deletions)
        self.sent: list[WriteBatch] = []
        self.store: SignalStore | None = None

    @initialize()
    def start(self) -> None:
        self.run(self._open(False))

    async def _open(self, is_killed: bool) -> None:
        store, self.store = self.store, None
        self.store = await self._reopen(store, self.clock, is_killed)
        self.written_ms = 0

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @property
    def now_ms(self) -> int:
        return round(self.clock.now_s * 1000)

    def tick_ms(self) -> int:
        """When the store writes: as long as it is open, never before it wrote last."""
        self.written_ms = max(self.written_ms, self.now_ms)
        return self.written_ms

    @rule(batch=batches(), has_id=st.booleans())
    def write(self, batch: WriteBatch, has_id: bool) -> None:
        batch = at(batch, self.now_ms)
        if has_id:
            batch = replace(batch, write_id=f"w{len(self.sent)}")
            self.sent.append(batch)
        self.send(batch)

    def send(self, batch: WriteBatch, rejected: tuple[int, ...] = ()) -> None:
        result = self.run(self.store.write(batch))  # type: ignore[union-attr]
        assert [rejection.row for rejection in result.rejected] == list(rejected)
        assert result.written_count == len(batch.ids) - len(rejected)
        expected = self.oracle.write(batch, self.tick_ms(), rejected)
        got = (result.late_count, list(result.repeated))
        assert got == expected, (got, expected)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 100))
    def send_again(self, which: int) -> None:
        self.send(self.sent[which % len(self.sent)])

    @rule(batch=batches(), which=st.integers(0, 4), by=st.sampled_from(["id", "time"]))
    def write_something_faulty(self, batch: WriteBatch, which: int, by: str) -> None:
        if len(batch.ids) == 1:
            return
        batch, row = at(batch, self.now_ms), which % len(batch.ids)
        if by == "id" or batch.event_ms is None:
            batch = replace(batch, ids=[*batch.ids[:row], "", *batch.ids[row + 1 :]])
        else:
            batch.event_ms[row] = max(self.written_ms, self.now_ms) + 3_600_001
        self.send(batch, (row,))

    @rule(entity=st.sampled_from(["item", *IDS_OF]), which=st.lists(st.integers(0, 3), min_size=1, max_size=3))
    def delete(self, entity: str, which: list[int]) -> None:
        ids = [IDS_OF[entity][i % len(IDS_OF[entity])] for i in which]
        count = self.run(self.store.delete(entity, ids))  # type: ignore[union-attr]
        assert count == self.oracle.delete(entity, ids, self.tick_ms())

    @rule(user_id=st.sampled_from(USERS))
    def forget(self, user_id: str) -> None:
        counts = dict(self.run(self.store.forget(user_id)))  # type: ignore[union-attr]
        assert counts == self.oracle.forget(user_id, self.tick_ms())

    @rule(seconds=st.sampled_from([0.25, 1.5, 10.0, 30.0, 60.0, -5.0, -30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule(is_killed=st.booleans())
    def reopen(self, is_killed: bool) -> None:
        self.run(self._open(is_killed))
        if not self._traits.is_durable:
            self.oracle = Oracle(SCHEMA, self._traits.keeps_deletions)

    @rule(names=st.lists(st.sampled_from([s.name for s in SIGNALS]), unique=True), ago_s=st.sampled_from([0.0, 7.0]))
    def read(self, names: list[str], ago_s: float) -> None:
        ids = [*IDS, "nobody", IDS[0]]
        now_s = self.clock.now_s - ago_s
        result = self.run(self.store.read("item", ids, names, now_s))  # type: ignore[union-attr]
        assert result.found.tolist() == [("item", id_) in self.oracle.rows for id_ in ids]
        for name in names:
            expected = [self.oracle.read("item", id_, name, round(now_s * 1000)) for id_ in ids]
            got = plain_column(self.store, result.columns[name])  # type: ignore[arg-type]
            assert nearly([_sorted(v) for v in got], [_sorted(v) for v in expected]), (name, got, expected)

    @rule(most=st.integers(1, 4), entity=st.sampled_from(list(IDS_OF)))
    def scan(self, most: int, entity: str) -> None:
        assert self.run(self._scan(most, entity)) == {id_ for of, id_ in self.oracle.rows if of == entity}

    async def _scan(self, most: int, entity: str) -> set[str]:
        assert self.store is not None
        seen: set[str] = set()
        cursor, is_end = "", False
        while not is_end:
            page = await self.store.scan(entity, [], cursor, most, self.clock.now_s)
            seen |= set(page.ids)
            cursor, is_end = page.cursor, not page.cursor
        return seen

    @invariant()
    def has_what_the_oracle_has(self) -> None:
        if self.store is None:
            return
        for entity, ids in IDS_OF.items():
            stored = self.run(self.store.get(entity, ids, STORED[entity], self.clock.now_s))
            got = ordered(plain_rows(ids, stored))
            expected = ordered(self.oracle.found(entity, self.now_ms))
            assert nearly(got, expected), (got, expected)

    def teardown(self) -> None:
        if self.store is not None:
            statistics = self.run(self.store.statistics(self.clock.now_s))
            for name, of in statistics.items():
                rows = self.oracle.found(name, self.now_ms)
                filled = {s: sum(s in values for _, values in rows.values()) for s in STORED[name]}
                assert of.row_count == self.store.row_counts()[name] == len(rows)
                assert {s: of.signals[s].filled_count for s in STORED[name]} == filled
            self.run(self.store.close())
        self.runner.close()


def _sorted(value: Any) -> Any:
    """Maps in one order; sets as lists."""
    if isinstance(value, dict):
        return dict(sorted(value.items()))
    return sorted(value) if isinstance(value, set) else value
