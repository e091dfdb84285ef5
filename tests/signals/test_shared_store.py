"""The store of a process beside the keeper: what happens when one of them goes away."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from signals.conformance import FULL, SCHEMA, get_rows, rows_batch, schema_of
from signals.keeper_host import KeeperHost, connect, eventually

from rankd.errors import StoreError, UnavailableError
from rankd.signals.embedded import open_embedded
from rankd.signals.keeper import SignalKeeper
from rankd.signals.shared import open_shared
from rankd.types.schema import Signal, SignalKind


@pytest.fixture
def host(keeper_host: KeeperHost) -> KeeperHost:
    return keeper_host


async def test_what_one_process_wrote_the_others_see(host: KeeperHost) -> None:
    path = host.open_keeper()
    one, other = await connect(path), await connect(path)
    for n in range(50):
        await one.write(rows_batch("item", [("a", FULL | {"stock": n, "brand": f"brand {n}"})]))
        assert await get_rows(other, "item", ["a"]) == {"a": FULL | {"stock": n, "brand": f"brand {n}"}}
        assert other.categories.code(f"brand {n}") == one.categories.code(f"brand {n}") >= 0
    assert await other.delete("item", ["a", "b"]) == 1
    assert await get_rows(one, "item", ["a"]) == {}
    assert one.row_counts() == other.row_counts() == {"item": 0, "user": 0}
    codes = await asyncio.gather(*(asyncio.to_thread(store.categories.intern, "new one") for store in (one, other)))
    assert codes[0] == codes[1] == one.categories.code("new one") == other.categories.intern("new one")
    for store in (one, other):
        await store.close()
    host.close_keeper(path)


async def test_many_writers_at_once(host: KeeperHost) -> None:
    path = host.open_keeper(max_rows=100_000)
    stores = [await connect(path) for _ in range(3)]
    writes = [
        stores[n % 3].write(rows_batch("item", [(f"{n}", FULL | {"stock": n}), ("hot", {"stock": n})]))
        for n in range(600)
    ]
    assert all(result.written_count == 2 for result in await asyncio.gather(*writes))
    stored = await get_rows(stores[0], "item", [f"{n}" for n in range(600)])
    assert stored == {f"{n}": FULL | {"stock": n} for n in range(600)}
    for store in stores:
        await store.close()
    host.close_keeper(path)


async def test_another_schema_is_refused(host: KeeperHost) -> None:
    path = host.open_keeper()
    other = schema_of(item=[Signal("price", SignalKind.F32)])
    with pytest.raises(StoreError, match=f"has schema {SCHEMA.version}, not {other.version}"):
        await open_shared(other, path)
    host.close_keeper(path)


async def test_no_keeper(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="keeper is away"):
        await connect(tmp_path / "none", connect_timeout_s=0.05)


async def test_a_keeper_that_comes_back_with_the_same_tables(host: KeeperHost, tmp_path: Path) -> None:
    path = host.open_keeper(data_dir=tmp_path)
    store = await connect(path, patience_s=30.0)
    await store.write(rows_batch("item", [("a", FULL)]))
    host.close_keeper(path)
    await eventually(lambda: not store.is_connected)
    assert await get_rows(store, "item", ["a"]) == {"a": FULL}
    waiting = [
        asyncio.create_task(store.write(rows_batch("item", [("b", {"price": 1.0})]))),
        asyncio.create_task(asyncio.to_thread(store.categories.intern, "while away")),
    ]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    opened = host.open_keeper(data_dir=tmp_path)
    path.symlink_to(opened)  # the socket of the next keeper, where the store looks for it
    await asyncio.gather(*waiting)
    assert await get_rows(store, "item", ["a", "b"]) == {"a": FULL, "b": {"price": 1.0}}
    assert store.categories.code("while away") >= 0
    assert not store.is_replaced
    await store.close()
    path.unlink()
    host.close_keeper(opened)


async def test_a_keeper_that_stays_away(host: KeeperHost) -> None:
    path = host.open_keeper()
    store = await connect(path, patience_s=0.05)
    await store.write(rows_batch("item", [("a", FULL)]))
    host.close_keeper(path)
    await eventually(lambda: not store.is_connected)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="away"):
            await store.write(rows_batch("item", [("a", {"price": 2.0})]))
    with pytest.raises(UnavailableError, match="away"):
        await store.delete("item", ["a"])
    with pytest.raises(UnavailableError, match="away"):
        await asyncio.to_thread(store.categories.intern, "unheard of")
    assert await get_rows(store, "item", ["a"]) == {"a": FULL}  # its files are unlinked, and mapped still
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.write(rows_batch("item", [("a", {})]))


async def test_a_keeper_that_comes_back_with_other_tables(tmp_path: Path) -> None:
    path = Path(tempfile.mkdtemp(prefix="rankd-keeper-")) / "s"
    replaced: list[bool] = []
    first = await open_embedded(SCHEMA, None, 1000)
    keeper = SignalKeeper(first, path)
    await keeper.start()
    store = await connect(path, patience_s=0.05, on_replaced=lambda: replaced.append(True))
    await store.write(rows_batch("item", [("a", FULL)]))
    await keeper.close()
    await first.close()
    second = await open_embedded(SCHEMA, None, 1000)
    keeper = SignalKeeper(second, path)
    await keeper.start()
    await eventually(lambda: store.is_replaced)
    assert await get_rows(store, "item", ["a"]) == {"a": FULL}
    for _ in range(2):
        with pytest.raises(UnavailableError, match="made anew"):
            await store.write(rows_batch("item", [("b", {})]))
    with pytest.raises(UnavailableError, match="made anew"):
        await asyncio.to_thread(store.categories.intern, "text")
    assert second.row_counts()["item"] == 0
    await asyncio.sleep(0.1)
    assert replaced == [True]
    await store.close()
    await keeper.close()
    await second.close()
    shutil.rmtree(path.parent)


async def test_a_cancelled_write_leaves_the_others_alone(host: KeeperHost) -> None:
    path = host.open_keeper()
    store = await connect(path)
    writes = [asyncio.create_task(store.write(rows_batch("item", [(f"{n}", FULL)]))) for n in range(40)]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert (await store.write(rows_batch("item", [("last", FULL)]))).written_count == 1
    stored = await get_rows(store, "item", [f"{n}" for n in range(1, 40, 2)])
    assert len(stored) == 20
    await store.close()
    host.close_keeper(path)
