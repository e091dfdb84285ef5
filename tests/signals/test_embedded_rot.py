"""Bytes that change on disk: refused when the store is opened, or without effect; never other values, never fewer."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from signals.conformance import FULL, SCHEMA, Clock, get_rows, rows_batch

from rankd.errors import StoreError
from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.journal import FILE_NAME

ROUNDS = 120 * int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
IDS = [f"item {i}" for i in range(150)]


async def reopen(path: Path) -> EmbeddedStore:
    return await open_embedded(SCHEMA, path, 100_000, clock=Clock())


def rot(content: bytes, rng: random.Random) -> bytes:
    """A bit flipped, some bytes overwritten, a hole, or a lost end; half of it in the head of some page."""
    out = bytearray(content)
    at = rng.randrange(len(out))
    if rng.random() < 0.5:
        at = at // 4096 * 4096 + rng.randrange(128)
    match rng.randrange(8):
        case 0:
            out[at : at + 16] = rng.randbytes(len(out[at : at + 16]))
        case 1:
            out[at : at + 512] = bytes(len(out[at : at + 512]))
        case 2 if at:
            del out[at:]
        case _:
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


async def test_bytes_that_rot_are_never_served(tmp_path: Path) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [(id_, FULL | {"price": float(i)}) for i, id_ in enumerate(IDS)]))
    before = await get_rows(store, "item", IDS)
    await store.close()
    content = (tmp_path / FILE_NAME).read_bytes()
    rng = random.Random(7)
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"{FILE_NAME}{end}").unlink(missing_ok=True)
        (tmp_path / FILE_NAME).write_bytes(rot(content, rng))
        shutil.rmtree(tmp_path / TABLES_NAME, ignore_errors=True)
        try:
            store = await reopen(tmp_path)
        except StoreError as error:
            assert FILE_NAME in str(error)
            seen["refused"] += 1
            continue
        assert store.row_counts()["item"] == len(IDS)
        assert await get_rows(store, "item", IDS) == before
        await store.close()
        seen["same"] += 1
    assert seen["refused"] > ROUNDS / 4, seen


@pytest.mark.parametrize(
    "change", ["id = CAST('other' AS BLOB)", "written_ms = written_ms + 1", "data = CAST(data || x'00' AS BLOB)"]
)
async def test_a_row_that_was_changed_behind_its_checksum(tmp_path: Path, change: str) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", FULL)]))
    await store.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(f"UPDATE rows_1 SET {change}")
    db.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    with pytest.raises(StoreError, match="a stored row of item is damaged"):
        await reopen(tmp_path)
