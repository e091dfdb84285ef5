"""What every SignalStore does with times, increments and what it has heard before; scans, and a user that is forgotten.
See signals.conformance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from signals.conformance import CLEAR, FULL, NOW_S, Clock, OpenStore, counts, get_rows, read_plain, rows_batch

from rankd.errors import RequestError
from rankd.signals.store import ColumnValues, MapValues, Operation, SignalStore, WriteBatch
from rankd.types.schema import Element, Entity, Prior, Schema, Signal, SignalKind
from rankd.types.text import composite_id

NOW_MS = round(NOW_S * 1000)
HALF_LIFE_S = 1024.0
BUCKET_S = 16.0
"""Of NOW_S a whole number of times, so that a bucket begins there."""

_KINDS = [
    Signal("heat", SignalKind.COUNTER, half_life_s=HALF_LIFE_S),
    Signal("likes", SignalKind.MAP, half_life_s=HALF_LIFE_S),
    Signal("weights", SignalKind.MAP),
    Signal("clicks", SignalKind.WINDOW, window_s=4 * BUCKET_S, bucket_s=BUCKET_S),
    Signal("views", SignalKind.WINDOW, window_s=4 * BUCKET_S, bucket_s=BUCKET_S),
    Signal("ctr", SignalKind.RATIO, ratio_of=("clicks", "views"), prior=Prior(0.5, 2.0)),
    Signal("plain_ctr", SignalKind.RATIO, ratio_of=("clicks", "views")),
    Signal("recent", SignalKind.LIST, 3),
    Signal("half", SignalKind.EMBEDDING, 2, element=Element.F16),
    Signal("byte", SignalKind.EMBEDDING, 2, element=Element.I8),
    Signal("price", SignalKind.F32),
    Signal("title", SignalKind.STRING),
    Signal("brief", SignalKind.CATEGORY, ttl_s=60.0),
]

KINDS = Schema(
    {
        name: Entity(name, {s.name: s for s in signals}, key)
        for name, signals, key in (
            ("item", _KINDS, ()),
            ("user", [Signal("age", SignalKind.F32)], ()),
            ("user_item", [Signal("n", SignalKind.F32)], ("user", "item")),
            ("query_item", [Signal("n", SignalKind.F32)], ("query", "item")),
        )
    }
)


def timed(batch: WriteBatch, *seconds: float, **more: Any) -> WriteBatch:
    """The batch with the rows' times, in seconds from NOW_S on: one for all, or one each."""
    offsets = seconds if len(seconds) == len(batch.ids) else seconds * len(batch.ids)
    return replace(batch, event_ms=np.array([NOW_MS + round(s * 1000) for s in offsets], np.int64), **more)


def adding(entity: str, rows: Sequence[tuple[str, Mapping[str, Any]]], *seconds: float, **more: Any) -> WriteBatch:
    """What is added: {signal: amount, mapping of amounts, or member}."""
    columns = []
    names = dict.fromkeys(name for _, values in rows for name in values)
    for name in names:
        at = [i for i, (_, values) in enumerate(rows) if name in values]
        given = [rows[i][1][name] for i in at]
        kind = KINDS.entities[entity].signals[name].kind
        amounts: Any = np.array(given, np.float64) if kind in (SignalKind.COUNTER, SignalKind.WINDOW) else given
        if kind is SignalKind.MAP:
            keys = [key for row in given for key in row]
            numbers = np.array([number for row in given for number in row.values()], np.float32)
            amounts = MapValues(keys, numbers, np.array([len(row) for row in given], np.int64))
        columns.append(ColumnValues(name, np.array(at, np.int64), amounts, np.empty(0, np.int64), Operation.ADD))
    return timed(WriteBatch(entity, [id_ for id_, _ in rows], columns), *seconds, **more)


async def prices(store: SignalStore, *ids: str, now_s: float = NOW_S) -> list[Any]:
    [values] = await read_plain(store, list(ids), "price", now_s=now_s)
    return values


class TimeConformance:
    """Newer wins, and what was said once is not heard twice."""

    async def test_newer_wins_value_by_value(self, open_store: OpenStore) -> None:
        store = await open_store()
        write = store.write
        await write(timed(rows_batch("item", [("a", {"price": 1.0, "brand": "x"})]), -100))
        late = await write(timed(rows_batch("item", [("a", {"price": 2.0, "brand": "y", "stock": 1})]), -200))
        assert (late.written_count, late.late_count) == (1, 2)
        assert await get_rows(store, "item", ["a"]) == {"a": {"price": 1.0, "brand": "x", "stock": 1}}
        same = await write(timed(rows_batch("item", [("a", {"price": 3.0})]), -100))
        assert same.late_count == 0
        assert await prices(store, "a") == [3.0]
        await store.close()

    async def test_every_late_value_counts_once(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(timed(rows_batch("item", [("a", FULL)]), -50))
        assert (await store.write(timed(rows_batch("item", [("a", FULL)]), -60))).late_count == len(FULL)
        clears = dict.fromkeys(FULL, CLEAR)
        assert (await store.write(timed(rows_batch("item", [("a", clears)]), -60))).late_count == len(FULL)
        await store.close()

    async def test_a_clear_leaves_its_time_behind(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(timed(rows_batch("item", [("a", {"price": CLEAR})]), -50))
        assert (await store.write(timed(rows_batch("item", [("a", {"price": 1.0})]), -60))).late_count == 1
        assert await prices(store, "a") == [None]
        await store.write(timed(rows_batch("item", [("a", {"price": 2.0})]), -40))
        assert (await store.write(timed(rows_batch("item", [("a", {"price": CLEAR})]), -41))).late_count == 1
        assert await prices(store, "a") == [2.0]
        await store.close()

    async def test_writes_after_the_clock_was_set_back_are_not_late(self, open_store: OpenStore) -> None:
        clock = Clock()
        store = await open_store(KINDS, clock=clock)
        await store.write(rows_batch("item", [("a", {"price": 1.0}), ("b", {"price": 1.0})], KINDS))
        clock.now_s -= 10
        result = await store.write(rows_batch("item", [("a", {"price": 2.0})], KINDS))
        assert (result.written_count, result.late_count) == (1, 0)
        assert await store.delete("item", ["b"]) == 1
        assert (await store.write(rows_batch("item", [("b", {"price": 3.0})], KINDS))).late_count == 0
        assert [row["price"] for row in (await get_rows(store, "item", ["a", "b"])).values()] == [2.0, 3.0]
        await store.close()

    async def test_of_one_batch_the_latest_wins(self, open_store: OpenStore) -> None:
        store = await open_store()
        rows: list[tuple[str, dict[str, Any]]] = [
            ("a", {"price": 1.0}),
            ("a", {"price": 2.0, "stock": 2}),
            ("a", {"stock": 3}),
            ("b", {"price": 4.0}),
        ]
        result = await store.write(timed(rows_batch("item", rows), -10, -20, -30, -40))
        assert (result.written_count, result.late_count) == (4, 2)
        assert await get_rows(store, "item", ["a", "b"]) == {"a": {"price": 1.0, "stock": 2}, "b": {"price": 4.0}}
        await store.close()

    async def test_values_have_times_of_their_own(self, open_store: OpenStore) -> None:
        store = await open_store()
        batch = timed(rows_batch("item", [("a", {"price": 1.0, "views": 5}), ("b", {"price": 2.0})]), -10)
        columns = [
            replace(column, times_ms=np.array([NOW_MS - 100_000, NOW_MS], np.int64)[: len(column.rows)])
            if column.signal == "price"
            else column
            for column in batch.columns
        ]
        await store.write(replace(batch, columns=columns))
        result = await store.write(timed(rows_batch("item", [("a", {"price": 3.0}), ("b", {"price": 4.0})]), -50))
        assert result.late_count == 1
        assert await prices(store, "a", "b") == [3.0, 2.0]
        await store.close()

    async def test_ttl_counts_from_the_values_time(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(timed(rows_batch("item", [("a", {"views": 3, "mood": "m"})]), -50))
        assert await read_plain(store, ["a"], "views", "mood", now_s=NOW_S + 9.999) == [[3.0], [None]]
        assert await read_plain(store, ["a"], "views", now_s=NOW_S + 10) == [[7.0]]
        await store.close()

    async def test_times_too_far_ahead_are_rejected(self, open_store: OpenStore) -> None:
        store = await open_store()
        rows: list[tuple[str, dict[str, Any]]] = [("a", {"price": 1.0}), ("b", {"price": 2.0})]
        result = await store.write(timed(rows_batch("item", rows), 3600, 3600.001))
        assert (result.written_count, [r.row for r in result.rejected]) == (1, [1])
        assert await prices(store, "a", "b") == [1.0, None]
        await store.close()

    async def test_a_late_write_does_not_bring_a_deleted_row_back(self, open_store: OpenStore) -> None:
        clock = Clock()
        store = await open_store(clock=clock)
        batch = rows_batch("item", [("a", {"price": 1.0})])
        await store.write(timed(batch, -100))
        assert await store.delete("item", ["a", "never there"]) == 1
        result = await store.write(timed(batch, -1))
        assert (result.written_count, result.late_count) == (1, 1)
        late = timed(rows_batch("item", [("never there", {"price": 1.0}), ("b", {"price": 2.0})]), -1)
        assert (await store.write(late)).late_count == 1
        assert (await store.read("item", ["a", "never there", "b"], [], NOW_S)).found.tolist() == [False, False, True]
        clock.now_s += 1
        await store.write(rows_batch("item", [("a", {"price": 3.0})]))
        assert (await store.write(timed(rows_batch("item", [("a", {"stock": 1})]), -1))).late_count == 1
        assert await get_rows(store, "item", ["a"]) == {"a": {"price": 3.0}}
        await store.close()

    async def test_a_write_id_is_written_once(self, open_store: OpenStore) -> None:
        store = await open_store()
        batch = replace(rows_batch("item", [("a", {"price": 1.0}), ("", {}), ("b", {})]), write_id="w")
        first, again = await store.write(batch), await store.write(batch)
        assert (first.written_count, list(first.repeated), len(first.rejected)) == (2, [], 1)
        assert (again.written_count, list(again.repeated), len(again.rejected)) == (2, [0, 2], 1)
        other = replace(rows_batch("item", [("a", {"price": 2.0})]), write_id="other")
        assert (await store.write(other)).repeated_count == 0
        assert (await store.write(replace(batch, write_id="w"))).repeated_count == 2
        assert await prices(store, "a") == [2.0]
        await store.close()

    async def test_an_event_is_written_once_to_an_id(self, open_store: OpenStore) -> None:
        store = await open_store()
        rows: list[tuple[str, dict[str, Any]]] = [(id_, {"stock": i}) for i, id_ in enumerate("aaabb")]
        batch = replace(rows_batch("item", rows), event_ids=["e1", "e1", "e2", "e1", ""])
        result = await store.write(batch)
        assert (result.written_count, list(result.repeated)) == (5, [1])
        assert await read_plain(store, ["a", "b"], "stock") == [[2.0, 4.0]]
        result = await store.write(replace(batch, event_ids=["new", "e2", "e1", "e1", ""]))
        assert (result.written_count, list(result.repeated)) == (5, [1, 2, 3])
        assert await read_plain(store, ["a", "b"], "stock") == [[0.0, 4.0]]
        user = replace(rows_batch("user", [("a", {"age": 1.0})]), event_ids=["e1"])
        assert (await store.write(user)).repeated_count == 0  # another entity
        await store.close()

    async def test_scan(self, open_store: OpenStore) -> None:
        store = await open_store()
        expected: dict[str, dict[str, Any]] = {f"i{n}": {"stock": n} for n in range(60)}
        await store.write(rows_batch("item", list(expected.items())))
        await store.write(rows_batch("user", [("u", {})]))
        seen: dict[str, dict[str, Any]] = {}
        cursor, pages = "", 0
        while True:
            page = await store.scan("item", ["price", "stock"], cursor, 10, NOW_S)
            assert page.rows.found.tolist() == list(range(len(page.ids)))
            assert [column.signal for column in page.rows.columns] == ["price", "stock"]
            stock = page.rows.columns[1]
            seen |= {page.ids[i]: {"stock": v} for i, v in zip(stock.rows.tolist(), stock.values, strict=True)}  # type: ignore[arg-type]
            pages += 1
            cursor = page.cursor
            if not cursor:
                break
        assert seen == expected
        assert pages > 2
        with pytest.raises(RequestError):
            await store.scan("item", [], "no cursor", 10, NOW_S)
        await store.close()


class KindConformance:
    """Counters, ratios, lists and small embeddings, and what `get` says of times."""

    async def test_states_come_back_as_written(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        bucket = NOW_MS // round(BUCKET_S * 1000)
        values: dict[str, Any] = {
            "heat": 3.5,
            "likes": {"x": 0.5},
            "weights": {"x": 2.0, "y": -1.0},
            "clicks": {bucket - 1: 2.0, bucket: 1.0},
            "views": {},
            "recent": [("b", NOW_MS), ("a", NOW_MS - 1000)],
            "half": [0.5, -2.0],
            "byte": [127.0, -64.0],
            "price": 1.0,
            "title": "A Title",
            "brief": "x",
        }
        await store.write(rows_batch("item", [("a", values), ("b", {})], KINDS))
        names = list(values)
        stored = await store.get("item", ["a", "b"], names, NOW_S)
        by_name = {column.signal: column for column in stored.columns}
        assert all(column.rows.tolist() == [0] for column in by_name.values())
        again = WriteBatch("item", ["c"], [replace(c, clear_rows=np.empty(0, np.int64)) for c in stored.columns])
        await store.write(again)
        ids = ["a", "c"]
        assert await read_plain(store, ids, "heat", "clicks", "views") == [[3.5] * 2, [3.0] * 2, [0.0] * 2]
        assert await read_plain(store, ids, "likes", "weights") == [[values["likes"]] * 2, [values["weights"]] * 2]
        assert await read_plain(store, ids, "recent") == [[{"a", "b"}] * 2]
        assert await read_plain(store, ids, "half", "byte") == [[values["half"]] * 2, [values["byte"]] * 2]
        await store.close()

    async def test_a_late_list_counts_once(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        for seconds, late_count in ((-50, 0), (-60, 1)):
            batch = rows_batch("item", [("a", {"recent": [("m", NOW_MS)]})], KINDS)
            assert (await store.write(timed(batch, seconds))).late_count == late_count
        await store.close()

    async def test_counters_decay(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        await store.write(adding("item", [("a", {"heat": 4.0, "likes": {"x": 2.0}})], 0))
        at = NOW_S + HALF_LIFE_S
        assert await read_plain(store, ["a"], "heat", "likes", now_s=at) == [[2.0], [{"x": 1.0}]]
        assert await read_plain(store, ["a", "b"], "heat", now_s=at + HALF_LIFE_S) == [[1.0, None]]
        await store.close()

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
    @pytest.mark.parametrize("is_one_batch", [True, False])
    async def test_increments_in_any_order(
        self, open_store: OpenStore, order: tuple[int, ...], is_one_batch: bool
    ) -> None:
        store = await open_store(schema=KINDS)
        half = HALF_LIFE_S / 2
        events: list[tuple[float, dict[str, Any]]] = [
            (-2 * half, {"heat": 8.0, "likes": {"x": 8.0}, "weights": {"x": 1.0}, "clicks": 1.0, "recent": "a"}),
            (-BUCKET_S, {"heat": 1.0, "likes": {"y": 1.0}, "weights": {"x": 2.0}, "clicks": 2.0, "recent": "b"}),
            (0.0, {"heat": 1.0, "likes": {"x": 1.0}, "weights": {"y": 4.0}, "clicks": 3.0, "recent": "a"}),
        ]
        rows = [("a", events[i][1]) for i in order]
        seconds = [events[i][0] for i in order]
        if is_one_batch:
            result = await store.write(adding("item", rows, *seconds))
            assert (result.written_count, result.late_count) == (3, 0)
        else:
            for row, second in zip(rows, seconds, strict=True):
                assert (await store.write(adding("item", [row], second))).late_count == 0
        factor = 2 ** -(BUCKET_S / HALF_LIFE_S)
        heat, likes, weights, clicks = await read_plain(store, ["a"], "heat", "likes", "weights", "clicks")
        assert heat == [pytest.approx(4.0 + factor + 1.0, rel=1e-12)]
        assert likes == [{"x": pytest.approx(5.0), "y": pytest.approx(factor, rel=1e-6)}]
        assert (weights, clicks) == ([{"x": 3.0, "y": 4.0}], [5.0])
        [recent] = (await store.get("item", ["a"], ["recent"], NOW_S)).columns
        assert list(recent.values.members) == ["a", "b"]  # type: ignore[union-attr]
        assert recent.values.times_ms.tolist() == [NOW_MS, NOW_MS - round(BUCKET_S * 1000)]  # type: ignore[union-attr]
        await store.close()

    async def test_windows_and_ratios(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        await store.write(adding("item", [("a", {"clicks": 1.0, "views": 4.0})], 0))
        await store.write(adding("item", [("a", {"views": 4.0}), ("b", {"views": 1.0})], -BUCKET_S))
        assert await read_plain(store, ["a", "b"], "clicks", "views") == [[1.0, None], [8.0, 1.0]]
        ids = ["a", "b", "unknown"]
        ctr, plain = await read_plain(store, ids, "ctr", "plain_ctr")
        assert ctr == [pytest.approx(2.0 / 10.0), pytest.approx(1.0 / 3.0), 0.5]
        assert plain == [pytest.approx(1.0 / 8.0), 0.0, None]
        later = NOW_S + 3 * BUCKET_S
        assert await read_plain(store, ["a"], "views", now_s=later) == [[4.0]]
        assert await read_plain(store, ["a"], "views", now_s=later + BUCKET_S) == [[0.0]]
        await store.close()

    async def test_lists_are_bounded_and_distinct(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        members = ["a", "b", "c", "d", "b", "e"]
        for i, member in enumerate(members):
            await store.write(adding("item", [("a", {"recent": member})], i - 10))
        [recent] = (await store.get("item", ["a"], ["recent"], NOW_S)).columns
        assert list(recent.values.members) == ["e", "b", "d"]  # type: ignore[union-attr]
        await store.close()

    async def test_what_is_set_is_added_to(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        await store.write(timed(rows_batch("item", [("a", {"heat": 4.0})], KINDS), -HALF_LIFE_S))
        await store.write(adding("item", [("a", {"heat": 1.0})], 0))
        assert await read_plain(store, ["a"], "heat") == [[3.0]]
        late = await store.write(timed(rows_batch("item", [("a", {"heat": 9.0})], KINDS), -1))
        assert late.late_count == 1
        await store.close()

    async def test_increments_are_applied_once(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        batch = adding("item", [("a", {"heat": 1.0}), ("a", {"heat": 1.0})], 0, event_ids=["e1", "e2"])
        assert (await store.write(batch)).repeated_count == 0
        assert (await store.write(batch)).repeated_count == 2
        await store.write(replace(batch, event_ids=["e2", "e3"]))
        assert await read_plain(store, ["a"], "heat") == [[3.0]]
        await store.close()

    async def test_an_increment_from_before_a_deletion_counts_no_more(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        await store.write(adding("item", [("a", {"heat": 1.0, "clicks": 1.0})], -1))
        await store.delete("item", ["a"])
        result = await store.write(adding("item", [("a", {"heat": 1.0, "clicks": 1.0})], -1))
        assert (result.written_count, result.late_count) == (1, 2)
        await store.write(adding("item", [("a", {"heat": 2.0})], 1))
        assert await read_plain(store, ["a"], "heat", "clicks", now_s=NOW_S + 1) == [[2.0], [None]]
        await store.close()

    async def test_a_user_is_forgotten_everywhere(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        for user in ("u", "v"):
            await store.write(rows_batch("user", [(user, {"age": 1.0})], KINDS))
            rows: list[tuple[str, dict[str, Any]]] = [(composite_id([user, item]), {"n": 1.0}) for item in ("u", "i")]
            await store.write(rows_batch("user_item", rows, KINDS))
            await store.write(rows_batch("query_item", [(composite_id([user, "u"]), {"n": 1.0})], KINDS))
        assert dict(await store.forget("u")) == {"user": 1, "user_item": 2}
        assert dict(await store.forget("u")) == {}
        assert await counts(store) == {"item": 0, "user": 1, "user_item": 2, "query_item": 2}
        late = timed(rows_batch("user", [("u", {"age": 1.0})], KINDS), -1)
        assert (await store.write(late)).late_count == 1
        assert dict(await store.forget("not there yet")) == {}
        late = timed(rows_batch("user", [("not there yet", {"age": 1.0})], KINDS), -1)
        assert (await store.write(late)).late_count == 1
        await store.close()

    async def test_times_come_back(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(timed(rows_batch("item", [("a", {"price": 1.0})]), -100))
        await store.write(timed(rows_batch("item", [("a", {"stock": 1, "title": "A B"})]), -200))
        stored = await store.get("item", ["a"], ["price", "stock", "title"], NOW_S)
        assert [c.times_ms.tolist() for c in stored.columns if c.times_ms is not None] == [
            [NOW_MS - 100_000],
            [NOW_MS - 200_000],
            [NOW_MS - 200_000],
        ]
        assert stored.written_ms.tolist() == [NOW_MS - 100_000]
        await store.close()
