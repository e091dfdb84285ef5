"""Copies of the state, verified and put back; damaged directories made good again. At every offset of every file."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from signals.conformance import CLEAR, FULL, SCHEMA, Clock, get_rows, rows_batch, schema_of

from rankd.errors import StoreError
from rankd.signals import upkeep
from rankd.signals.backing import TABLES_NAME
from rankd.signals.compaction import LogBounds
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.manifest import NAME
from rankd.signals.recordfile import read_records
from rankd.types.schema import Schema, Signal, SignalKind

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
IDS = [f"{i}" for i in range(8)]

Rows = dict[str, dict[str, Any]]


async def reopen(path: Path, schema: Schema = SCHEMA, **options: Any) -> EmbeddedStore:
    return await open_embedded(schema, path, 100_000, clock=options.pop("clock", Clock()), **options)


async def rows_of(path: Path, schema: Schema = SCHEMA) -> Rows:
    store = await reopen(path, schema)
    try:
        return await get_rows(store, "item", IDS)
    finally:
        await store.close()


async def filled(path: Path) -> Rows:
    """A store with a snapshot of three groups and a log of four; what it holds."""
    store = await reopen(path)
    for n in range(6):
        await store.write(rows_batch("item", [(f"{n}", FULL | {"stock": n}), ("0", {"price": float(n)})]))
        if n == 2:
            store._backing.compact()
            store._backing.wait_for_compaction()
    await store.delete("item", ["1"])
    await store.write(rows_batch("item", [("2", {"mood": CLEAR})]))
    rows = await get_rows(store, "item", IDS)
    await store.close()
    return rows


async def test_a_copy_gives_the_same_rows(tmp_path: Path) -> None:
    rows = await filled(tmp_path / "data")
    survey = upkeep.create(tmp_path / "data", tmp_path / "copy")
    assert survey.rows == {"item": 3 + 6 + 1}  # of the snapshot, of its log
    assert not (tmp_path / "copy.new").exists()
    checked = upkeep.verify(tmp_path / "copy")
    assert (checked.damage, checked.rows) == ([], survey.rows)
    outcome = upkeep.restore(tmp_path / "other", tmp_path / "copy")
    assert outcome.backup is None
    assert await rows_of(tmp_path / "other") == rows
    # What a store goes on from: later values are refused, and new ones written, as in the first.
    store = await reopen(tmp_path / "other", clock=Clock(Clock().now_s - 5))
    result = await store.write(rows_batch("item", [("0", {"stock": 99}), ("1", {"stock": 1}), ("n", {"stock": 1})]))
    assert result.late_count == 2  # older than what is there, and than a deletion
    await store.close()


async def test_ids_of_writes_are_copied(tmp_path: Path) -> None:
    store = await reopen(tmp_path / "data")
    batch = replace(rows_batch("item", [("a", {"stock": 1})]), write_id="w")
    await store.write(batch)
    await store.close()
    upkeep.create(tmp_path / "data", tmp_path / "copy")
    upkeep.restore(tmp_path / "other", tmp_path / "copy")
    store = await reopen(tmp_path / "other")
    assert (await store.write(batch)).repeated_count == 1
    await store.close()


async def test_copies_of_a_store_that_is_written_and_compacted(tmp_path: Path) -> None:
    """Each copy has what was acknowledged before it began, and whole batches of what came later."""
    store = await reopen(tmp_path / "data", log=LogBounds(4_000, 0.01))
    done = 0
    is_over = False

    async def write() -> None:
        nonlocal done
        while not is_over:
            await store.write(rows_batch("item", [(id_, {"stock": done + 1, "title": "x" * 50}) for id_ in IDS]))
            done += 1

    writer = asyncio.create_task(write())
    for n in range(8 * SCALE):
        await asyncio.sleep(0.02)
        before = done
        await asyncio.to_thread(upkeep.create, tmp_path / "data", tmp_path / f"copy{n}")
        after = done + 1
        upkeep.restore(tmp_path / f"other{n}", tmp_path / f"copy{n}")
        rows = await rows_of(tmp_path / f"other{n}")
        if before or rows:
            stocks = {row["stock"] for row in rows.values()}
            assert len(stocks) == 1
            assert before <= stocks.pop() <= after
            assert len(rows) == len(IDS)
        assert upkeep.verify(tmp_path / "data").damage == []
    is_over = True
    await writer
    assert done > 8
    await store.close()


async def test_a_directory_with_signals_is_not_overwritten(tmp_path: Path) -> None:
    rows = await filled(tmp_path / "data")
    upkeep.create(tmp_path / "data", tmp_path / "copy")
    store = await reopen(tmp_path / "data")
    with pytest.raises(StoreError, match="in use by another rankd"):
        upkeep.restore(tmp_path / "data", tmp_path / "copy", replace_old=True)
    await store.write(rows_batch("item", [("7", {"stock": 7})]))
    changed = await get_rows(store, "item", IDS)
    await store.close()
    with pytest.raises(StoreError, match=r"has a state already \(MANIFEST, log-.*--replace"):
        upkeep.restore(tmp_path / "data", tmp_path / "copy")
    assert await rows_of(tmp_path / "data") == changed
    outcome = upkeep.restore(tmp_path / "data", tmp_path / "copy", replace_old=True)
    assert await rows_of(tmp_path / "data") == rows
    assert outcome.backup is not None
    # The way back: what was there is a data directory.
    assert upkeep.verify(outcome.backup).damage == []
    upkeep.restore(tmp_path / "data", outcome.backup, replace_old=True)
    assert await rows_of(tmp_path / "data") == changed


async def test_a_damaged_copy_is_told_and_refused_at_every_byte(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    upkeep.create(tmp_path / "data", tmp_path / "copy")
    content = (tmp_path / "copy").read_bytes()
    starts = [record.start for record in read_records(tmp_path / "copy")]
    for at in range(0, len(content), 7):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        (tmp_path / "bad").write_bytes(changed)
        start = max(start for start in starts if start <= at)
        if start == 0:  # nothing says what the rest is
            with pytest.raises(StoreError, match=r"bad: at byte 0 "):
                upkeep.verify(tmp_path / "bad")
        else:
            damage = upkeep.verify(tmp_path / "bad").damage
            assert (damage[0].offset, damage[0].path) == (start, tmp_path / "bad")
        with pytest.raises(StoreError, match=f"bad: at byte {start} "):
            upkeep.restore(tmp_path / "other", tmp_path / "bad")
    for cut in range(0, len(content), 7):
        (tmp_path / "bad").write_bytes(content[:cut])
        with pytest.raises(StoreError, match="bad"):
            upkeep.restore(tmp_path / "other", tmp_path / "bad")
    assert upkeep.state_files(tmp_path / "other") == []


def put(path: Path, files: dict[str, bytes]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)


async def test_a_damaged_directory_is_made_good_wherever_it_is_damaged(tmp_path: Path) -> None:
    """What is kept is what was written and nothing else; what is lost is named with its file."""
    rows = await filled(tmp_path / "data")
    files = {f.name: f.read_bytes() for f in (tmp_path / "data").iterdir() if f.is_file() and f.name != "rankd.lock"}
    rng = random.Random(3)
    bad = tmp_path / "bad"
    for name, content in files.items():
        places = [*range(0, len(content), 301), len(content) - 1]
        for at in places if SCALE == 1 else range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1 << rng.randrange(8)
            put(bad, files | {name: bytes(changed)})
            outcome = upkeep.repair(bad)
            assert outcome.survey.damage, (name, at)
            assert {d.path.name for d in outcome.survey.damage} == {name}
            assert outcome.backup is not None
            assert (outcome.backup / name).read_bytes() == bytes(changed)
            assert upkeep.verify(bad).damage == []
            kept = await rows_of(bad)
            if name == NAME:
                assert kept == rows
            else:
                assert len(kept) >= 3, (name, at)
                for id_, row in kept.items():
                    assert row.get("stock", int(id_)) == int(id_)


@pytest.mark.parametrize("missing", [NAME, "log-0000000000000003", "snapshot-0000000000000003"])
async def test_a_directory_without_a_file_is_made_good(tmp_path: Path, missing: str) -> None:
    rows = await filled(tmp_path)
    (tmp_path / missing).unlink()
    outcome = upkeep.repair(tmp_path)
    assert any(d.path.name == missing and "missing" in d.reason for d in outcome.survey.damage)
    kept = await rows_of(tmp_path)
    if missing == NAME:
        assert kept == rows
    elif missing.startswith("log"):
        assert kept["0"]["price"] == 2.0
        assert sorted(kept) == ["0", "1", "2"]
    else:
        assert sorted(kept) == ["0", "2", "3", "4", "5"]
        assert kept["2"] == {}  # of its writes there is only the last
        assert kept["5"]["stock"] == 5


async def test_every_file_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither logs nor a snapshot"):
        upkeep.repair(tmp_path)
    with pytest.raises(StoreError, match=f"is no data directory of rankd: it has no {NAME}"):
        upkeep.verify(tmp_path)
    (tmp_path / "signals.sqlite3").write_bytes(b"SQLite")
    with pytest.raises(StoreError, match="of an earlier rankd"):
        upkeep.create(tmp_path, tmp_path / "copy")


async def test_a_lost_manifest_after_a_change_of_schema(tmp_path: Path) -> None:
    """The head of the log alone says what its values are of."""
    price, size = Signal("price", SignalKind.F32), Signal("size", SignalKind.I64)
    for names in ([price], [price, size]):
        store = await reopen(tmp_path, schema_of(item=list(names)))
        await store.write(rows_batch("item", [("0", {s.name: 1 for s in names})], store.schema))
        await store.close()
    (tmp_path / NAME).unlink()
    upkeep.repair(tmp_path)
    assert await rows_of(tmp_path, schema_of(item=[price, size])) == {"0": {"price": 1.0, "size": 1}}


async def test_tables_ahead_of_the_log_are_given_up(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = tmp_path / "log-0000000000000003"
    *_, before_last, _ = [record.end for record in read_records(log)]
    log.write_bytes(log.read_bytes()[:before_last])
    with pytest.raises(StoreError, match=rf"restore {tmp_path} --accept-loss"):
        await reopen(tmp_path)
    upkeep.repair(tmp_path)
    assert (await rows_of(tmp_path))["2"]["mood"] == ""  # as it was before it was cleared


@pytest.fixture
def small_files() -> Iterator[Any]:
    """A function that bounds the size of files: what a full disk looks like to one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path, small_files: Any) -> None:
    rows = await filled(tmp_path / "data")
    upkeep.create(tmp_path / "data", tmp_path / "copy")
    before = sorted(p.name for p in (tmp_path / "data").iterdir())
    small_files(1_500)
    for call in (
        lambda: upkeep.create(tmp_path / "data", tmp_path / "second"),
        lambda: upkeep.restore(tmp_path / "data", tmp_path / "copy", replace_old=True),
        lambda: upkeep.repair(tmp_path / "data"),
    ):
        with pytest.raises(StoreError, match=f"{os.strerror(errno.EFBIG)}; nothing was written; make room"):
            call()
    small_files(resource.RLIM_INFINITY)
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == before
    assert not (tmp_path / "second").exists()
    assert not (tmp_path / "second.new").exists()
    assert await rows_of(tmp_path / "data") == rows


async def test_a_restore_that_is_killed_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = await filled(tmp_path / "data")
    upkeep.create(tmp_path / "data", tmp_path / "copy")

    class KilledError(BaseException): ...

    def killed(*_: object) -> None:
        raise KilledError

    # As if killed: nothing is cleaned up after it.
    monkeypatch.setattr(upkeep.Manifest, "write", killed)
    monkeypatch.setattr(upkeep, "_remove", lambda _: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KilledError):
        upkeep.repair(tmp_path / "data")
    monkeypatch.undo()
    assert len(upkeep.state_files(tmp_path / "data")) == 5
    shutil.rmtree(tmp_path / "data" / TABLES_NAME)
    assert await rows_of(tmp_path / "data") == rows
    assert len(upkeep.state_files(tmp_path / "data")) == 3
