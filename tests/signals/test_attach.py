"""Tables that outlive their process: when they are taken up, when a last group is published again, when they are
made anew. The writer is killed at many points; tables are damaged in many places."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signals.conformance import CLEAR, FULL, SCHEMA, Clock, get_rows, rows_batch, schema_of
from signals.test_embedded_durable import batch_of, killed_writer

from rankd.errors import StoreError, StoreFullError
from rankd.kernels.table import TableReader
from rankd.signals import backing, tableset
from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.types.schema import Signal, SignalKind

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


class Stop(BaseException):
    """In place of SIGKILL, at a point of our choice."""


async def reopen(path: Path, **options: Any) -> EmbeddedStore:
    return await open_embedded(options.pop("schema", SCHEMA), path, 100_000, clock=Clock(), **options)


def was_made_anew(caplog: pytest.LogCaptureFixture) -> str:
    """Why, as the log has it; "" if it was not. Clears the log."""
    told = [record.getMessage() for record in caplog.records if "made anew" in record.getMessage()]
    caplog.clear()
    return told[0] if told else ""


def abandon(store: EmbeddedStore) -> None:
    """What a kill leaves: nothing is put on the disk, nothing is said."""
    store._backing.drop()
    store._backing._journal.close()  # type: ignore[union-attr]
    store._backing._holder.close()
    store._executor.shutdown()


@pytest.mark.parametrize("is_orderly", [True, False])
@pytest.mark.parametrize("is_same_boot", [True, False])
async def test_when_tables_are_taken_up(
    tmp_path: Path, is_orderly: bool, is_same_boot: bool, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", FULL), ("b", {"price": 1.0})]))
    if is_orderly:
        await store.close()
    else:
        abandon(store)
    if not is_same_boot:
        monkeypatch.setattr(tableset, "boot_id", lambda: b"another boot".ljust(32, b"\0"))
    for _ in range(2):
        store = await reopen(tmp_path)
        assert await get_rows(store, "item", ["a", "b"]) == {"a": FULL, "b": {"price": 1.0}}
        why = was_made_anew(caplog)
        assert ("the machine went down" in why) == (not is_orderly and not is_same_boot), why
        assert bool(why) == (not is_orderly and not is_same_boot), why
        abandon(store)  # in this boot now, whichever it was before
        is_same_boot = True


GROUPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "new rows": [("x", FULL), ("y", {})],
    "updates and clears": [("a", dict.fromkeys(FULL, CLEAR)), ("b", {"title": "other", "tags": {"new tag"}})],
}


@pytest.mark.parametrize("published", [0, 1])
@pytest.mark.parametrize("group", [*GROUPS, "delete"])
async def test_a_group_that_was_committed_but_not_published(
    tmp_path: Path, group: str, published: int, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", FULL), ("b", FULL), ("c", FULL)]))
    tables = store._backing.tables

    def stop(self: Any) -> None:
        if published:
            raise_after(self)
        raise Stop

    def raise_after(change: Any) -> None:
        if isinstance(change, backing.WriteChange):
            change._staged[0].publish()
        else:
            tables.tables["item"].delete(change._ids)

    for kind in (backing.WriteChange, backing.DeleteChange):
        monkeypatch.setattr(kind, "publish", stop)
    with pytest.raises(StoreError):
        await (
            store.delete("item", ["a", "c"]) if group == "delete" else store.write(rows_batch("item", GROUPS[group]))
        )
    monkeypatch.undo()
    abandon(store)
    store = await reopen(tmp_path)
    assert was_made_anew(caplog) == ""
    expected: dict[str, dict[str, Any]] = {"a": FULL, "b": FULL, "c": FULL}
    if group == "delete":
        expected = {"b": FULL}
    elif group == "new rows":
        expected |= {"x": FULL, "y": {}}
    else:
        expected |= {"a": {}, "b": FULL | {"title": "other", "tags": {"new tag"}}}
    ids = ["a", "b", "c", "x", "y"]
    assert await get_rows(store, "item", ids) == expected
    await store.write(rows_batch("item", [("z", {"price": 1.0})]))  # keys go on from where they were
    shutil.rmtree(tmp_path / TABLES_NAME)
    abandon(store)
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", [*ids, "z"]) == expected | {"z": {"price": 1.0}}
    await store.close()


async def test_tables_that_are_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await reopen(tmp_path)
    await store.write(rows_batch("item", [("a", {"price": 1.0})]))
    await store.close()
    shutil.copytree(tmp_path, tmp_path.with_name("old"))
    store = await reopen(tmp_path)
    for n in (2.0, 3.0):
        await store.write(rows_batch("item", [("a", {"price": n})]))
    await store.close()
    shutil.rmtree(tmp_path / TABLES_NAME)
    shutil.copytree(tmp_path.with_name("old") / TABLES_NAME, tmp_path / TABLES_NAME)
    store = await reopen(tmp_path)
    assert await get_rows(store, "item", ["a"]) == {"a": {"price": 3.0}}
    assert "up to 1 of 3" in was_made_anew(caplog)
    await store.close()
    assert len(list((tmp_path / TABLES_NAME).iterdir())) == 1


async def test_another_schema_makes_them_anew_and_a_default_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    price, brand = Signal("price", SignalKind.F32), Signal("brand", SignalKind.CATEGORY)
    first = schema_of(item=[price, brand])
    store = await reopen(tmp_path, schema=first)
    await store.write(rows_batch("item", [("a", {"price": 1.0, "brand": "x"})], first))
    await store.close()
    cases = [
        (schema_of(item=[brand, Signal("price", SignalKind.F32, default=2.0)]), False),
        (schema_of(item=[brand, Signal("price", SignalKind.F32, ttl_s=60.0)]), True),
        (schema_of(item=[brand]), True),  # it has no TTL any more
        (schema_of(user=[brand], item=[brand]), True),
        (schema_of(item=[brand]), False),  # what is declared no more stays where it is
        (schema_of(item=[brand, price], user=[price]), True),
    ]
    for schema, is_anew in cases:
        store = await reopen(tmp_path, schema=schema)
        assert bool(was_made_anew(caplog)) == is_anew
        assert (await get_rows(store, "item", ["a"], 0.0))["a"]["brand"] == "x"
        await store.close()


async def test_damaged_and_cut_files_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = await reopen(tmp_path)
    rows = [(f"item {i}", FULL | {"stock": i}) for i in range(300)]
    await store.write(rows_batch("item", rows))
    await store.close()
    generator = random.Random(3)
    reasons: Counter[str] = Counter()
    for round_ in range(40 * SCALE):
        files = sorted(path for path in (tmp_path / TABLES_NAME).rglob("*") if path.is_file())
        path = generator.choice([file for file in files if "entity-user" not in file.name])
        size = path.stat().st_size
        match round_ % 4:
            case 0:
                os.truncate(path, generator.randrange(size))
            case 1:
                path.unlink()
            case 2:
                os.truncate(path, 0)
            case 3:
                with path.open("r+b") as file:  # the head
                    file.seek(generator.randrange(64))
                    file.write(generator.randbytes(16))
                if path.suffix != ".rows":
                    path.unlink()
        store = await reopen(tmp_path)
        assert await get_rows(store, "item", [id_ for id_, _ in rows]) == dict(rows), path.name
        reasons[was_made_anew(caplog).rpartition(": ")[2]] += 1
        await store.close()
    # A file may lose an end that was not in use, and a head bytes that say nothing.
    assert reasons[""] <= 4 * SCALE, reasons
    assert len(reasons) >= 4, reasons


async def test_max_bytes(tmp_path: Path) -> None:
    store = await reopen(tmp_path, max_bytes_per_entity=8 << 20)
    big: dict[str, Any] = {"title": "x" * 60_000}
    with pytest.raises(StoreFullError, match=r"at most 8388608 bytes of item, .* or raise max_bytes_per_entity"):
        for n in range(200):
            await store.write(rows_batch("item", [(f"{n}", big)]))
    count = store.row_counts()["item"]
    assert 20 < count < 200
    assert len(await get_rows(store, "item", [f"{n}" for n in range(200)])) == count
    await store.write(rows_batch("user", [("u", {"age": 1.0})]))  # has its own
    await store.delete("item", ["1", "2"])
    await store.close()
    store = await reopen(tmp_path)  # with the default bound: tables are made anew
    assert store.row_counts() == {"item": count - 2, "user": 1}
    await store.write(rows_batch("item", [("more", big)]))
    await store.close()


async def test_killed_again_and_again_and_taken_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    generator = random.Random(11)
    start = 0
    for _ in range(6 * SCALE):
        acknowledged = killed_writer(tmp_path, start, generator.uniform(0, 0.15))
        store = await reopen(tmp_path)
        assert was_made_anew(caplog) == ""
        reader = TableReader(str(tmp_path / TABLES_NAME / f"{store.tables.set_id:016x}" / "entity-item"))
        ids = [id_ for n in range(acknowledged + 2) for id_, _ in batch_of(n)[1:]]
        stored = await get_rows(store, "item", ids)
        last = acknowledged - 1
        for n in range(acknowledged + 2):
            rows = {id_: stored[id_] for id_, _ in batch_of(n)[1:] if id_ in stored}
            if n < acknowledged or rows:
                assert rows == dict(batch_of(n)[1:]), f"batch {n} of {acknowledged} acknowledged"
                last = n
        assert (await get_rows(store, "item", ["hot"]))["hot"] == batch_of(last)[0][1]
        assert np.count_nonzero(reader.find(ids)) == len(stored) == store.row_counts()["item"] - 1
        reader.close()
        abandon(store)
        start = last + 1
