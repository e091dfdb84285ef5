"""The log is kept short: bounded disk and memory, nothing forgotten on the way, failures said and survived."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signals.conformance import NOW_S, SCHEMA, Clock, get_rows, rows_batch

from rankd.errors import StoreError
from rankd.signals.backing import TABLES_NAME
from rankd.signals.compaction import LogBounds
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.recall import Remembering
from rankd.signals.store import WriteBatch
from rankd.signals.upkeep import state_files

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


async def reopen(path: Path, **options: Any) -> EmbeddedStore:
    return await open_embedded(SCHEMA, path, 100_000, clock=options.pop("clock", Clock()), **options)


def compact(store: EmbeddedStore) -> None:
    store._backing.compact()
    store._backing.wait_for_compaction()


def disk_bytes(path: Path) -> int:
    """Of logs and snapshots, those being written, too."""
    total = 0
    for file in path.iterdir():
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # compaction was faster
            continue
    return total


async def test_disk_and_tables_stay_bounded(tmp_path: Path) -> None:
    """The same rows again and again, with texts of any length, new ones and deletions between."""
    bounds = LogBounds(500_000, 0.5, 2_000_000)
    store = await reopen(tmp_path, log=bounds)
    rng = random.Random(1)
    most = written = 0
    ids = [f"{i}" for i in range(100)]
    rounds = 120 * SCALE
    for n in range(rounds):
        rows = [(id_, {"stock": n, "title": "x" * rng.randrange(6_000), "tags": {f"{n % 50}"}}) for id_ in ids]
        await store.write(rows_batch("item", [*rows, (f"other {n}", {"title": "y" * 100})]))
        await store.delete("item", [f"other {n - 5}"])
        written += sum(len(row["title"]) for _, row in rows)
        most = max(most, disk_bytes(tmp_path))
    state = 100 * 6_000
    assert written > 8 * (bounds.max_bytes + 2 * state)
    assert most < bounds.max_bytes + 3 * state  # log, two snapshots, a group
    assert store.memory_bytes < written / 3
    store._backing.wait_for_compaction()
    before = await get_rows(store, "item", ids)
    await store.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", ids) == before
    assert store.row_counts()["item"] == 105
    await store.close()


@pytest.mark.parametrize("how", ["taken up", "from the log", "from a snapshot", "from a snapshot and a log"])
async def test_what_was_heard_is_remembered(tmp_path: Path, how: str) -> None:
    clock = Clock()
    store = await reopen(tmp_path, clock=clock)
    first = replace(rows_batch("item", [("a", {"stock": 1})]), write_id="w")
    events = replace(rows_batch("item", [("b", {"stock": 1}), ("c", {"stock": 1})]), event_ids=["e", ""])
    early = np.full(1, int(NOW_S * 1000) - 5_000)
    await store.write(first)
    if how == "from a snapshot and a log":
        compact(store)
    await store.write(events)
    await store.write(rows_batch("item", [("gone", {"stock": 1})]))
    await store.delete("item", ["gone"])
    if how == "from a snapshot":
        compact(store)
    await store.close()
    if how != "taken up":
        shutil.rmtree(tmp_path / TABLES_NAME)
    store = await reopen(tmp_path, clock=clock)
    assert (await store.write(first)).repeated == [0]
    assert (await store.write(events)).repeated == [0]
    assert store._backing._memories.deleted.latest_ms == int(NOW_S * 1000)
    again = WriteBatch("item", ["gone"], rows_batch("item", [("gone", {"stock": 2})]).columns, early)
    assert (await store.write(again)).late_count == 1
    assert "gone" not in await get_rows(store, "item", ["gone"])
    clock.now_s += 25 * 3600  # longer than it is remembered
    assert not (await store.write(first)).repeated
    await store.close()


async def test_more_deletions_and_ids_than_are_remembered(tmp_path: Path) -> None:
    """Memory of them is bounded, also while the log is read again."""
    few = Remembering(3_600_000, 4_000)
    clock = Clock()
    store = await reopen(tmp_path, clock=clock, seen=few, deleted=few)
    last = ""
    for n in range(0, 120_000, 6_000):  # tables of one memory have room for 80,000 or so
        await store.delete("item", [f"{i}" for i in range(n, n + 6_000)])
        last = f"w{n}"
        batch = rows_batch("item", [(f"row {i}", {}) for i in range(200)])
        await store.write(replace(batch, event_ids=[f"{n} {i}" for i in range(200)], write_id=last))
    sizes = [table.used_bytes for table in store._backing.every_table]
    await store.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    store = await reopen(tmp_path, clock=clock, seen=few, deleted=few)
    assert sum(table.used_bytes for table in store._backing.every_table) < 1.5 * sum(sizes)
    again = replace(rows_batch("item", [("row 0", {})]), write_id=last)
    assert (await store.write(again)).repeated == [0]
    await store.close()


async def test_what_is_forgotten_leaves_the_files(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    secret = "what nobody should know"
    await store.write(rows_batch("user", [("u1", {"segment": secret}), ("u2", {"segment": "x"})]))
    compact(store)
    await store.write(rows_batch("user", [("u1", {"segment": secret})]))
    assert dict(await store.forget("u1")) == {"user": 1}
    store._backing.wait_for_compaction()
    files = state_files(tmp_path)
    assert len(files) == 3
    assert not [file.name for file in files if b"u1" in file.read_bytes()]
    await store.close()


async def test_writes_go_on_while_a_snapshot_is_written(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [(f"{i}", {"title": "x" * 500}) for i in range(2_000)]))
    for n in range(5 * SCALE):
        store._backing.compact()
        await asyncio.gather(
            *(store.write(rows_batch("item", [(f"{i}", {"stock": n}) for i in range(k, 2_000, 20)])) for k in range(20))
        )
    store._backing.wait_for_compaction()
    ids = [f"{i}" for i in range(2_000)]
    before = await get_rows(store, "item", ids)
    assert {row["stock"] for row in before.values()} == {5 * SCALE - 1}
    await store.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", ids) == before
    await store.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
async def test_a_snapshot_that_cannot_be_written(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await reopen(tmp_path, log=LogBounds(10_000, 0.5, 60_000))
    batch = rows_batch("item", [(f"{i}", {"title": "x" * 50}) for i in range(50)])

    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("rankd.signals.snapshot.RecordWriter", failing)
        caplog.set_level(logging.ERROR)
        with pytest.raises(StoreError, match=rf"max_log_mb and no snapshot can be written \(.*{os.strerror(number)}"):
            for _ in range(1_000):
                await store.write(batch)
        assert "no snapshot of signals can be written, and the log grows" in caplog.text
        assert disk_bytes(tmp_path) < 80_000
    await store.write(batch)
    store._backing.wait_for_compaction()
    assert disk_bytes(tmp_path) < 40_000
    await store.close()


async def test_a_commit_that_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC at the append, EIO at fdatasync: nothing of the batch is there, then or after a restart."""
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", {"stock": 1})]))
    for name, number in (("writev", errno.ENOSPC), ("fdatasync", errno.EIO)):

        def failing(*_: object, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patched:
            patched.setattr(os, name, failing)
            with pytest.raises(StoreError, match=rf"log-\d+: {os.strerror(number)}; nothing was written"):
                await store.write(rows_batch("item", [("a", {"stock": 2}), ("b", {})]))
        assert await get_rows(store, "item", ["a", "b"]) == {"a": {"stock": 1}}
    await store.write(rows_batch("item", [("c", {"stock": 3})]))
    before = await get_rows(store, "item", ["a", "b", "c"])
    await store.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", ["a", "b", "c"]) == before == {"a": {"stock": 1}, "c": {"stock": 3}}
    await store.close()
