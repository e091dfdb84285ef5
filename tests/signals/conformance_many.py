"""What every SignalStore does with several at once, callers that are cancelled, and when it is opened again.
See signals.conformance."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest
from signals.conformance import CLEAR, FULL, NOW_S, Clock, OpenStore, counts, get_rows, read_plain, rows_batch
from signals.conformance_time import KINDS, adding, timed

from rankd.errors import RankdError
from rankd.signals.store import SignalStore


async def all_ids(store: SignalStore, entity: str, most: int = 10) -> list[str]:
    """Of a scan from beginning to end."""
    found: list[str] = []
    cursor, is_end = "", False
    while not is_end:
        page = await store.scan(entity, [], cursor, most, NOW_S)
        found += page.ids
        cursor, is_end = page.cursor, not page.cursor
    return found


class ManyConformance:
    """Several at once, cancelled, scanned, closed and opened again."""

    async def test_increments_of_many_writers_are_exact(self, open_store: OpenStore) -> None:
        one = await open_store(schema=KINDS)
        other = await open_store.beside(one)
        batch = adding("item", [(id_, {"heat": 1.0, "clicks": 2.0, "weights": {"x": 1.0}}) for id_ in "ab"], 0)
        results = await asyncio.gather(*((one, other)[n % 2].write(batch) for n in range(24)))
        assert {(r.written_count, r.late_count, r.repeated_count) for r in results} == {(2, 0, 0)}
        assert await read_plain(one, ["a", "b"], "heat", "clicks", "weights") == [
            [24.0] * 2,
            [48.0] * 2,
            [{"x": 24.0}] * 2,
        ]
        await one.close()

    async def test_what_was_acknowledged_is_read_at_once(self, open_store: OpenStore) -> None:
        one = await open_store()
        other = await open_store.beside(one)
        for n in range(12):
            writer, reader = ((one, other), (other, one))[n % 2]
            await writer.write(rows_batch("item", [("a", {"price": float(n), "brand": f"brand {n}"})]))
            for store in (writer, reader):
                assert await read_plain(store, ["a"], "price", "brand") == [[float(n)], [f"brand {n}"]]
        await other.delete("item", ["a"])
        for store in (one, other):
            assert await get_rows(store, "item", ["a"]) == {}
        await one.close()

    async def test_a_row_is_never_half_of_one_write(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(rows_batch("item", [("a", {"price": -1.0, "stock": -1, "title": "-1"})]))
        writes = [
            asyncio.create_task(
                store.write(rows_batch("item", [("a", {"price": float(n), "stock": n, "title": str(n)})]))
            )
            for n in range(20)
        ]
        while not all(write.done() for write in writes):
            row = (await get_rows(store, "item", ["a"]))["a"]
            assert row["price"] == row["stock"] == int(row["title"])
            await asyncio.sleep(0)
        await asyncio.gather(*writes)
        await store.close()

    async def test_callers_that_are_cancelled(self, open_store: OpenStore) -> None:
        """Their writes are whole or not there; sent again with their ids they are made once; others are not
        harmed."""
        store = await open_store(schema=KINDS)
        rng = random.Random(7)
        batches = [
            replace(adding("item", [("a", {"heat": 1.0}), (f"i{n}", {"heat": 1.0})], 0), write_id=f"w{n}")
            for n in range(30)
        ]
        tasks = [asyncio.create_task(store.write(batch)) for batch in batches]
        for task in rng.sample(tasks, 15):
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(of).__name__ for of in done} <= {"WriteResult", "CancelledError"}
        again = await asyncio.gather(*(store.write(batch) for batch in batches))
        for before, after in zip(done, again, strict=True):
            assert isinstance(before, asyncio.CancelledError) or after.repeated_count == 2
        assert await read_plain(store, ["a", "i0", "i29"], "heat") == [[30.0, 1.0, 1.0]]
        await store.close()

    async def test_a_scan_beside_writes(self, open_store: OpenStore) -> None:
        store = await open_store(max_rows=10_000)
        stays = {f"stays {n}" for n in range(40)}
        await store.write(rows_batch("item", [(id_, {"price": 1.0}) for id_ in sorted(stays)]))
        seen: set[str] = set()
        cursor, turn = "", 0
        while cursor or not turn:
            page = await store.scan("item", ["price"], cursor, 10, NOW_S)
            seen |= set(page.ids)
            cursor = page.cursor
            if turn < 8:
                await store.write(rows_batch("item", [(f"new {turn} {n}", {}) for n in range(15)]))
                await store.delete("item", [f"new {turn - 1} {n}" for n in range(15)])
            turn += 1
        assert stays <= seen
        await store.close()

    async def test_opened_again(self, open_store: OpenStore) -> None:
        """What was written, when, what was cleared, deleted, and said once."""
        clock = Clock()
        store = await open_store(clock=clock)
        await store.write(timed(rows_batch("item", [("a", FULL), ("gone", {}), ("c", {})]), -10))
        await store.write(timed(rows_batch("item", [("c", {"price": CLEAR})]), -5))
        once = replace(rows_batch("item", [("b", {"price": 1.0})]), write_id="once")
        events = replace(rows_batch("item", [("b", {"stock": 1}), ("b", {"stock": 2})]), event_ids=["e1", ""])
        await store.write(once)
        await store.write(events)
        await store.delete("item", ["gone"])
        await store.close()

        clock.now_s += 1
        store = await open_store(clock=clock)
        if not open_store.traits.is_durable:
            assert await counts(store) == {"item": 0, "user": 0}
            await store.close()
            return
        assert await counts(store) == {"item": 3, "user": 0}
        assert await get_rows(store, "item", ["a", "b", "gone"], NOW_S - 9) == {
            "a": FULL,
            "b": {"price": 1.0, "stock": 2},
        }
        assert (await store.write(once)).repeated_count == 1
        assert (await store.write(events)).repeated == [0]
        late = [("a", {"price": 2.0}), ("gone", {"price": 2.0}), ("c", {"price": 2.0})]
        assert (await store.write(timed(rows_batch("item", late), -11, -1, -6))).late_count == 3  # type: ignore[arg-type]
        assert await read_plain(store, ["a", "gone", "c"], "price") == [[FULL["price"], None, None]]
        await store.close()

    async def test_increments_opened_again(self, open_store: OpenStore) -> None:
        store = await open_store(schema=KINDS)
        batch = adding("item", [("a", {"heat": 2.0, "likes": {"x": 1.0}, "clicks": 1.0, "recent": "m"})], 0)
        batch = replace(batch, event_ids=["e"])
        await store.write(batch)
        await store.close()
        store = await open_store(schema=KINDS)
        assert (await store.write(batch)).repeated_count == open_store.traits.is_durable
        names = ("heat", "likes", "clicks", "recent")
        assert await read_plain(store, ["a"], *names) == [[2.0], [{"x": 1.0}], [1.0], [{"m"}]]
        await store.close()

    async def test_statistics(self, open_store: OpenStore) -> None:
        clock = Clock()
        store = await open_store(clock=clock)
        await store.write(rows_batch("item", [(f"{n}", {"mood": "m"}) for n in range(3)]))
        clock.now_s += 100
        await store.write(rows_batch("item", [(f"{n}", {"mood": "n", "price": 1.0}) for n in range(2, 7)]))
        item = (await store.statistics(NOW_S + 101))["item"]
        assert (item.row_count, item.signals["mood"].filled_count, item.signals["price"].filled_count) == (7, 5, 5)
        assert item.used_bytes > 0
        assert item.signals["mood"].median_age_s == item.signals["price"].greatest_age_s == 1.0
        assert item.signals["tags"].filled_count == 0
        assert np.isnan(item.signals["tags"].median_age_s)
        assert set(item.signals) == set(FULL)
        await store.close()

    async def test_ages_of_what_is_read(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.write(timed(rows_batch("item", [("a", {"price": 1.0})]), -100))
        await store.write(timed(rows_batch("item", [("a", {"stock": 1})]), -7))
        if open_store.traits.has_tables:
            fetched = await store.fetch({"item": ["a"]} if "item" in store.fetched else {}, 5.0)
            assert fetched.is_complete
            table = store.tables.tables["item"]
            reading = table.reading(store.tables.times("item", ["price", "stock"]))
            times = [column.tolist() for column in reading.read(["a"], round(NOW_S * 1000)).columns]
        else:
            stored = await store.get("item", ["a"], ["price", "stock"], NOW_S)
            times = [column.times_ms.tolist() for column in stored.columns]
        assert times == [[round(NOW_S * 1000) - 100_000], [round(NOW_S * 1000) - 7_000]]
        await store.close()

    async def test_closed_is_closed(self, open_store: OpenStore) -> None:
        store = await open_store()
        asking = [asyncio.create_task(store.statistics(NOW_S)) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await store.close()
        await store.close()
        for told in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(told, dict | asyncio.CancelledError | RankdError)
        with pytest.raises(RankdError, match="closed"):
            await store.write(rows_batch("item", [("a", {})]))
        with pytest.raises(RankdError, match="closed"):
            await store.delete("item", ["a"])
