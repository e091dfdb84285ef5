"""The embedded store with a data directory: what outlives the process."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from signals.conformance import (
    CLEAR,
    FULL,
    NOW_S,
    SCHEMA,
    Clock,
    get_rows,
    read_plain,
    rows_batch,
    schema_of,
)

from rankd.errors import StoreError, StoreFullError
from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.types.schema import Schema, Signal, SignalKind

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


async def reopen(path: Path, schema: Schema = SCHEMA, **options: Any) -> EmbeddedStore:
    return await open_embedded(
        schema, path, options.pop("max_rows", 100_000), clock=options.pop("clock", Clock()), **options
    )


def without_tables(path: Path) -> None:
    """So that they are made anew from the journal."""
    shutil.rmtree(path / TABLES_NAME)


@pytest.mark.parametrize("anew", [True, False])
async def test_everything_comes_back(tmp_path: Path, anew: bool) -> None:
    clock = Clock()
    store = await open_embedded(SCHEMA, tmp_path, 1000, clock=clock)
    ids = ["a", "\0é", "x" * 65_536]
    await store.write(rows_batch("item", [(id_, FULL) for id_ in [*ids, "gone"]]))
    clock.now_s += 40
    await store.write(rows_batch("item", [("a", {"price": CLEAR, "tags": {"new"}, "title": ""}), ("gone", {})]))
    await store.delete("item", ["gone"])
    await store.write(rows_batch("user", [("u", {"segment": "s"})]))
    before = await get_rows(store, "item", [*ids, "gone"])
    await store.close()

    if anew:
        without_tables(tmp_path)
    progress: list[tuple[int, int]] = []
    store = await reopen(tmp_path, clock=clock, on_progress=lambda done, total: progress.append((done, total)))
    assert progress == sorted(progress)
    assert progress[-1:] == ([(7, 7)] if anew else [])  # rows written, not rows left
    assert await get_rows(store, "item", [*ids, "gone"]) == before
    assert dict(store.row_counts()) == {"item": 3, "user": 1}
    # Write times come back by value: `views` is older than the row.
    assert await read_plain(store, ["a"], "views", now_s=NOW_S + 59.999) == [[0.0]]
    assert await read_plain(store, ["a"], "views", now_s=NOW_S + 60) == [[7.0]]
    assert (await store.get("item", ["a", ids[1]], [], NOW_S)).written_ms.tolist() == [
        int(NOW_S * 1000) + 40_000,
        int(NOW_S * 1000),
    ]
    # Keys of deleted rows, and rows, go on from where they were.
    await store.write(rows_batch("item", [("gone", {"price": 1.0}), ("a", {"price": 2.0})]))
    await store.close()
    store = await reopen(tmp_path)
    assert (await get_rows(store, "item", ["gone", "a"])) == {
        "gone": {"price": 1.0},
        "a": {**before["a"], "price": 2.0},
    }
    await store.close()


async def test_concurrent_writes_are_applied_in_order(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    writes = [
        store.write(rows_batch("item", [("hot", {"stock": i}), (f"own{i % 7}", {"stock": i}), (f"new{i}", {})]))
        for i in range(100)
    ]
    deletes = [store.delete("item", ["own3"]), store.delete("item", ["hot", "nobody"])]
    last = store.write(rows_batch("item", [("own3", {"price": 1.0})]))
    results = await asyncio.gather(*writes, *deletes, last)
    assert [r.written_count for r in results[:100]] == [3] * 100  # type: ignore[union-attr]
    assert results[100:102] == [1, 1]
    expected = {f"own{i % 7}": {"stock": i} for i in range(93, 100)} | {"own3": {"price": 1.0}}
    ids = [f"own{i}" for i in range(7)]
    assert await get_rows(store, "item", [*ids, "hot"]) == expected
    assert store.row_counts()["item"] == 107
    await store.close()
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", [*ids, "hot"]) == expected
    assert store.row_counts()["item"] == 107
    await store.close()


async def test_full_counts_rows_on_their_way(tmp_path: Path) -> None:
    store = await reopen(tmp_path, max_rows=5)
    writes = [store.write(rows_batch("item", [(f"{i}", {}), (f"{i + 1}", {})])) for i in range(10)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(outcome, StoreFullError) for outcome in outcomes] == [False] * 4 + [True] * 6
    await asyncio.gather(store.write(rows_batch("user", [("u", {})])), store.delete("item", ["0"]))
    await asyncio.gather(
        store.write(rows_batch("user", [("v", {})])), store.write(rows_batch("item", [("9", {}), ("4", {})]))
    )
    assert dict(store.row_counts()) == {"item": 5, "user": 2}
    await store.close()


async def test_a_cancelled_write_still_happens_whole(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    write = asyncio.create_task(store.write(rows_batch("item", [("a", {"price": 1.0})])))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    await store.write(rows_batch("item", [("a", {"stock": 2})]))
    assert await get_rows(store, "item", ["a"]) == {"a": {"price": 1.0, "stock": 2}}
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.write(rows_batch("item", [("a", {})]))


# Schema changes


def item_schema(*signals: Signal) -> Schema:
    return schema_of(item=list(signals))


PRICE, BRAND = Signal("price", SignalKind.F32), Signal("brand", SignalKind.CATEGORY)


async def test_signals_may_be_added_and_taken_away(tmp_path: Path) -> None:
    store = await reopen(tmp_path, item_schema(PRICE, BRAND))
    values = {"price": 1.0, "brand": "x"}
    await store.write(rows_batch("item", [("a", values)], store.schema))
    await store.close()
    store = await reopen(tmp_path, item_schema(Signal("size", SignalKind.I64), PRICE))
    assert await get_rows(store, "item", ["a"]) == {"a": {"price": 1.0}}
    await store.write(rows_batch("item", [("a", {"price": 2.0, "size": 7})], store.schema))
    await store.close()
    store = await reopen(tmp_path, schema_of(user=[PRICE]))
    assert dict(store.row_counts()) == {"user": 0}
    await store.close()
    store = await reopen(tmp_path, item_schema(BRAND, PRICE))
    assert await get_rows(store, "item", ["a"]) == {"a": {"price": 2.0, "brand": "x"}}
    await store.close()


async def test_another_type_is_refused(tmp_path: Path) -> None:
    store = await reopen(tmp_path, item_schema(PRICE, Signal("vector", SignalKind.EMBEDDING, dimension=2)))
    await store.write(rows_batch("item", [("a", {"price": 1.0, "vector": [1.0, 2.0]})], store.schema))
    await store.close()
    with pytest.raises(StoreError, match=r"item\.price is declared category, but .* are f32; .*migrate"):
        await reopen(tmp_path, item_schema(Signal("price", SignalKind.CATEGORY)))
    with pytest.raises(StoreError, match=r"item\.vector is declared embedding\[3\], but .* embedding\[2\]"):
        await reopen(tmp_path, item_schema(Signal("vector", SignalKind.EMBEDDING, dimension=3)))
    store = await reopen(tmp_path, item_schema(PRICE))  # a refusal lets go of the directory and changes nothing
    assert await get_rows(store, "item", ["a"]) == {"a": {"price": 1.0}}
    await store.close()


# What can be wrong with a directory


def output_of(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


async def test_a_directory_is_held_by_one_process(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    with pytest.raises(StoreError, match=rf"data directory .* is in use by another rankd \(pid {os.getpid()}\)"):
        await reopen(tmp_path)
    program = f"""
import asyncio, pathlib
from rankd.signals.embedded import open_embedded
from rankd.types.schema import Schema
from rankd.errors import StoreError
try:
    asyncio.run(open_embedded(Schema(), pathlib.Path({str(tmp_path)!r}), 10))
except StoreError as error:
    print(error)
"""
    assert f"(pid {os.getpid()})" in output_of(program)
    await store.close()
    assert output_of(program) == ""


def as_nobody(program: str) -> str:
    """What Python prints without privileges. Modules are imported before they are dropped."""
    drop = "import os\nif os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    imports = (
        "import asyncio, pathlib, encodings.idna\nfrom rankd.signals.embedded import open_embedded\n"
        "from rankd.types.schema import Schema\nfrom rankd.errors import StoreError\n"
    )
    return output_of(imports + drop + program)


@pytest.mark.parametrize("exists", [True, False])
def test_a_directory_without_permission(tmp_path_factory: pytest.TempPathFactory, exists: bool) -> None:
    parent = tmp_path_factory.mktemp("locked")
    data = parent / "data" if not exists else parent
    parent.chmod(0o555)
    for above in list(parent.parents)[:-2]:  # so that it is this directory that refuses, not one above it
        above.chmod(above.stat().st_mode | 0o011)
    try:
        printed = as_nobody(
            f"""
try:
    asyncio.run(open_embedded(Schema(), pathlib.Path({str(data)!r}), 10))
except StoreError as error:
    print(error)
"""
        )
    finally:
        parent.chmod(0o755)
    user = os.geteuid() or 65534
    assert printed.startswith(f"data directory {data} cannot be used: Permission denied; rankd (user {user}) needs")


async def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="is not a directory"):
            await reopen(path)


async def test_a_directory_of_an_earlier_rankd(tmp_path: Path) -> None:
    (tmp_path / "signals.sqlite3").write_bytes(b"SQLite format 3")
    with pytest.raises(StoreError, match=r"signals\.sqlite3 is of an earlier rankd, .* then remove signals\.sqlite3"):
        await reopen(tmp_path)


@pytest.fixture
def small_files() -> Iterator[Any]:
    """A function that bounds the size of files: what a full disk looks like to one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_applies_nothing_and_is_survived(tmp_path: Path, small_files: Any) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", FULL)]))
    big = {"title": "x" * 60_000}
    small_files(500_000)
    with pytest.raises(StoreError, match=r"(log-\d+|tables): .*; nothing was written"):
        for start in range(0, 100, 10):
            rows = [("a", {"price": float(start)}), *((f"i{i}", big) for i in range(start, start + 10))]
            await store.write(rows_batch("item", rows))
    small_files(resource.RLIM_INFINITY)
    count = store.row_counts()["item"]
    assert 1 <= count < 101
    before = await get_rows(store, "item", ["a", *(f"i{i}" for i in range(100))])
    assert len(before) == count
    await store.write(rows_batch("item", [("b", {"price": 1.0})]))
    await store.close()
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", ["a", *(f"i{i}" for i in range(100)), "b"]) == {**before, "b": {"price": 1.0}}
    await store.close()


# kill -9

ROWS_PER_BATCH = 20

WRITER = """
import asyncio, pathlib, sys
from signals.conformance import SCHEMA, rows_batch
from signals.test_embedded_durable import batch_of
from rankd.signals.compaction import LogBounds
from rankd.signals.embedded import open_embedded

async def main():
    log = LogBounds(int(sys.argv[3]), 0.01)
    store = await open_embedded(SCHEMA, pathlib.Path(sys.argv[1]), 10**9, log=log)
    n = int(sys.argv[2])
    while True:
        # Two at a time, so that groups form.
        await asyncio.gather(*(store.write(rows_batch("item", batch_of(i))) for i in (n, n + 1)))
        n += 2
        print(n, flush=True)

asyncio.run(main())
"""


def batch_of(n: int) -> list[tuple[str, dict[str, Any]]]:
    """Batch n: new rows of its own, one more word for a row that all write, all values from n."""
    values: dict[str, Any] = {
        "stock": n,
        "title": f"batch {n} " * (n % 40),
        "tags": {f"t{n}"},
        "affinity": {f"k{n}": 1.0},
        "vector": [float(n)] * 3,
    }
    return [("hot", values), *((f"row{n}-{i}", values) for i in range(ROWS_PER_BATCH))]


def killed_writer(path: Path, first: int, delay_s: float, compact_bytes: int = 256 << 20) -> int:
    """Lets WRITER write from batch `first`, kills it `delay_s` after its first acknowledgement.
    All batches below the number returned were acknowledged."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(compact_bytes)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert writer.stdout is not None
    line = writer.stdout.readline()
    assert line, "the writer died by itself"
    time.sleep(delay_s)
    writer.send_signal(signal.SIGKILL)
    lines = [line, *writer.stdout.read().splitlines(keepends=True)]
    assert writer.wait() == -signal.SIGKILL
    return int([line for line in lines if line.endswith("\n")][-1])


@pytest.mark.parametrize("compact_bytes", [256 << 20, 5_000])  # never; about all the time
async def test_kill_9_loses_nothing_acknowledged_and_tears_no_row(tmp_path: Path, compact_bytes: int) -> None:
    generator = random.Random(7)
    start = 0
    for n in range(4 * SCALE):
        acknowledged = killed_writer(tmp_path, start, generator.uniform(0, 0.2), compact_bytes)
        if n % 2:
            without_tables(tmp_path)
        store = await reopen(tmp_path, max_rows=10**9)
        # Batches acknowledged are there; those that were on their way are there whole, or not at all.
        last = acknowledged - 1
        ids = [id_ for n in range(acknowledged + 2) for id_, _ in batch_of(n)[1:]]
        stored = await get_rows(store, "item", ids)
        for n in range(acknowledged + 2):
            rows = {id_: stored[id_] for id_, _ in batch_of(n)[1:] if id_ in stored}
            if n < acknowledged or rows:
                assert rows == dict(batch_of(n)[1:]), f"batch {n} of {acknowledged} acknowledged"
                last = n
        assert store.row_counts()["item"] == (last + 1) * ROWS_PER_BATCH + 1
        assert (await get_rows(store, "item", ["hot"]))["hot"] == batch_of(last)[0][1]
        await store.close()
        start = last + 1
    assert start >= 8 * SCALE
