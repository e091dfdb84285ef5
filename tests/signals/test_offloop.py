"""Work in threads over tables that are to be closed."""

from __future__ import annotations

import asyncio
import threading

import pytest
from signals.conformance import NOW_S, SCHEMA, Clock, rows_batch

from rankd.errors import StoreError
from rankd.signals import embedded
from rankd.signals.embedded import open_embedded
from rankd.signals.offloop import OffLoop


async def test_what_has_begun_ends_before_it_is_closed() -> None:
    offloop, begun, may_end = OffLoop(), threading.Event(), threading.Event()

    def work(value: int) -> int:
        begun.set()
        assert may_end.wait(20)
        return value

    waiting = asyncio.create_task(offloop.run(work, 1))
    cancelled = asyncio.create_task(offloop.run(work, value=2))
    await asyncio.to_thread(begun.wait, 20)
    cancelled.cancel()
    closing = asyncio.create_task(offloop.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(StoreError, match="closed"):
        await offloop.run(work, 3)
    may_end.set()
    await closing
    assert await waiting == 1
    assert cancelled.cancelled()
    await offloop.close()


async def test_a_store_is_closed_after_statistics_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_embedded(SCHEMA, None, 1000, clock=Clock())
    await store.write(rows_batch("item", [("a", {"price": 1.0})]))
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()
    statistics = embedded.statistics

    def slow(*args: object) -> object:
        begun.set()
        assert may_end.wait(20)
        found = statistics(*args)  # type: ignore[arg-type]
        ended.set()
        return found

    monkeypatch.setattr(embedded, "statistics", slow)
    asking = asyncio.create_task(store.statistics(NOW_S))
    await asyncio.to_thread(begun.wait, 20)
    asking.cancel()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0.01)
    may_end.set()
    await closing
    assert ended.is_set()
    with pytest.raises(StoreError, match="closed"):
        await store.statistics(NOW_S)
