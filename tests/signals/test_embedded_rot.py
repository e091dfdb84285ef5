"""Bytes that change on disk, and files that are cut or gone: refused when the store is opened, or without effect; never
other values, never fewer without a word. Small stores at every offset, a larger one at some."""

from __future__ import annotations

import logging
import os
import random
import shutil
from pathlib import Path

import pytest
from signals.conformance import FULL, SCHEMA, Clock, get_rows, rows_batch

from rankd.errors import StoreError
from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.journal import Journal
from rankd.signals.recordfile import read_records
from rankd.signals.records import Group

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))

Files = dict[str, bytes]


async def reopen(path: Path) -> EmbeddedStore:
    return await open_embedded(SCHEMA, path, 100_000, clock=Clock())


def files_of(path: Path) -> Files:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file() and file.name != "rankd.lock"}


def put_back(path: Path, files: Files) -> None:
    for name in files_of(path):
        (path / name).unlink()
    for name, content in files.items():
        (path / name).write_bytes(content)
    shutil.rmtree(path / TABLES_NAME, ignore_errors=True)


async def states(path: Path) -> tuple[Files, list[dict[str, object]]]:
    """A store of three groups in its snapshot and three in its log, and what it held after each number of groups."""
    store = await reopen(path)
    held: list[dict[str, object]] = []
    ids = [f"{i}" for i in range(6)]
    for n in range(6):
        await store.write(rows_batch("item", [(f"{n}", {"stock": n, "brand": f"b{n}"}), ("0", {"price": float(n)})]))
        held.append(await get_rows(store, "item", ids))
        if n == 2:
            store._backing.compact()
            store._backing.wait_for_compaction()
    await store.close()
    files = files_of(path)
    assert sorted(files) == ["MANIFEST", "log-0000000000000003", "snapshot-0000000000000003"]
    return files, held


async def opened(path: Path) -> dict[str, object] | StoreError:
    try:
        store = await reopen(path)
    except StoreError as error:
        return error
    rows = await get_rows(store, "item", [f"{i}" for i in range(6)])
    assert store.row_counts()["item"] == len(rows)
    await store.close()
    return dict(rows)


def groups_of(path: Path) -> list[Group] | StoreError:
    """What a store would make its tables of."""
    try:
        journal = Journal(path, SCHEMA)
        try:
            return [stored.group for stored in journal.read()]
        finally:
            journal.close()
    except StoreError as error:
        return error


async def test_every_file_cut_at_every_offset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files, held = await states(tmp_path)
    name = "log-0000000000000003"
    ends = {record.end: record.number for record in read_records(tmp_path / name)}
    whole = groups_of(tmp_path)
    assert isinstance(whole, list)
    for cut in range(len(files[name])):
        put_back(tmp_path, files | {name: files[name][:cut]})
        caplog.clear()
        got = groups_of(tmp_path)
        if cut < min(ends):  # even its head is not whole
            assert isinstance(got, StoreError)
            assert name in str(got)
            continue
        good = max(end for end in ends if end <= cut)
        assert got == whole[: len(whole) - 6 + ends[good]], cut
        told = [r.getMessage() for r in caplog.records if "cut short" in r.getMessage()]
        assert bool(told) == (cut != good), cut
        assert all(f"{name}: at byte {good} is a record that was cut short" in text for text in told)
        if cut % 97 == 0 or cut == good:
            put_back(tmp_path, files | {name: files[name][:cut]})
            assert await opened(tmp_path) == held[ends[good] - 1], cut
    for name in ("MANIFEST", "snapshot-0000000000000003"):
        for cut in range(len(files[name])):
            put_back(tmp_path, files | {name: files[name][:cut]})
            got = groups_of(tmp_path)
            assert isinstance(got, StoreError), (name, cut)
            assert name in str(got)


async def test_every_byte_of_every_file_changed(tmp_path: Path) -> None:
    files, _ = await states(tmp_path)
    rng = random.Random(5)
    for name, content in files.items():
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 1 << rng.randrange(8)
            put_back(tmp_path, files | {name: bytes(changed)})
            got = groups_of(tmp_path)
            assert isinstance(got, StoreError), (name, at, got)
            assert name in str(got)
            assert "--accept-loss" in str(got) or name == "MANIFEST"


@pytest.mark.parametrize("missing", ["MANIFEST", "log-0000000000000003", "snapshot-0000000000000003"])
async def test_a_file_that_is_gone(tmp_path: Path, missing: str) -> None:
    files, _ = await states(tmp_path)
    put_back(tmp_path, {name: content for name, content in files.items() if name != missing})
    got = await opened(tmp_path)
    assert isinstance(got, StoreError)
    assert missing in str(got)


async def test_zeros_that_a_file_system_left(tmp_path: Path) -> None:
    files, held = await states(tmp_path)
    name = "log-0000000000000003"
    *_, before_last, last = read_records_ends(tmp_path / name)
    put_back(tmp_path, files | {name: files[name] + bytes(5000)})
    assert await opened(tmp_path) == held[5]
    torn = files[name][:before_last] + files[name][before_last : before_last + 10] + bytes(5000)
    put_back(tmp_path, files | {name: torn})
    assert await opened(tmp_path) == held[4]
    assert last > before_last


def read_records_ends(path: Path) -> list[int]:
    return [record.end for record in read_records(path)]


async def test_a_larger_store_at_some_offsets(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    ids = [f"item {i}" for i in range(150)]
    for start in range(0, 150, 30):
        await store.write(rows_batch("item", [(id_, FULL) for id_ in ids[start : start + 30]]))
    store._backing.compact()
    store._backing.wait_for_compaction()
    await store.write(rows_batch("item", [(id_, {"price": 1.0}) for id_ in ids]))
    await store.write(rows_batch("item", [(id_, {"price": 2.0}) for id_ in ids]))
    before = await get_rows(store, "item", ids)
    await store.close()
    files = files_of(tmp_path)
    rng = random.Random(7)
    refused = 0
    for _ in range(20 * SCALE):
        name = rng.choice(list(files))
        changed = bytearray(files[name])
        at = rng.randrange(len(changed))
        length = rng.choice([1, 16, 512])
        changed[at : at + length] = rng.randbytes(len(changed[at : at + length]))
        put_back(tmp_path, files | {name: bytes(changed)})
        try:
            store = await reopen(tmp_path)
        except StoreError as error:
            assert name in str(error)
            refused += 1
            continue
        assert await get_rows(store, "item", ids) == before
        await store.close()
    assert refused > 15 * SCALE


async def test_tables_know_what_the_log_has_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    files, _ = await states(tmp_path)
    name = "log-0000000000000003"
    *_, before_last, _ = read_records_ends(tmp_path / name)
    (tmp_path / name).write_bytes(files[name][:before_last])
    with pytest.raises(StoreError, match=r"the tables hold writes up to 6, the log ends with 5"):
        await reopen(tmp_path)
