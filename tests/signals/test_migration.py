"""The stored schema beside the declared one: what is said, what is converted, what is dropped, and all or nothing."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signals.conformance import CLEAR, NOW_S, Clock, get_rows, rows_batch, schema_of

from rankd.errors import StoreError
from rankd.signals import migration, upkeep
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.migration import Fate
from rankd.signals.store import ColumnValues, Operation, WriteBatch
from rankd.types.schema import Element, Schema, Signal, SignalKind

K = SignalKind
OLD = schema_of(
    item=[
        Signal("price", K.F32),
        Signal("size", K.I64),
        Signal("brand", K.CATEGORY),
        Signal("gone", K.F32),
        Signal("vector", K.EMBEDDING, dimension=2),
        Signal("heat", K.COUNTER, half_life_s=60.0),
    ],
    session=[Signal("last", K.TIMESTAMP)],
)
NEW = schema_of(
    item=[
        Signal("price", K.I64),
        Signal("size", K.STRING),
        Signal("brand", K.CATEGORY),
        Signal("vector", K.EMBEDDING, dimension=2, element=Element.F16),
        Signal("heat", K.COUNTER, half_life_s=3_600.0),
        Signal("fresh", K.BOOL),
    ]
)


async def reopen(path: Path, schema: Schema, clock: Clock | None = None) -> EmbeddedStore:
    return await open_embedded(schema, path, 100_000, clock=clock or Clock())


async def filled(path: Path, *, inexact: bool = False) -> None:
    """Three items, one of them deleted; in a snapshot and in a log, some values replaced and cleared."""
    clock = Clock()
    store = await reopen(path, OLD, clock)
    rows = [(f"{i}", {"price": 0.5, "size": i, "brand": "b", "gone": 1.0, "vector": [i, 0.5]}) for i in range(3)]
    await store.write(rows_batch("item", rows, OLD))
    store._backing.compact()
    store._backing.wait_for_compaction()
    clock.now_s += 10
    changed = [(f"{i}", {"price": 2.0 + i + 0.5 * (inexact and i == 1)}) for i in range(3)]
    await store.write(rows_batch("item", changed, OLD))
    await store.write(rows_batch("item", [("0", {"size": CLEAR})], OLD))
    await store.write(rows_batch("session", [("s", {"last": 5})], OLD))
    heat = ColumnValues("heat", np.array([0]), np.array([4.0]), np.empty(0, np.int64), Operation.ADD)
    await store.write(WriteBatch("item", ["1"], [heat]))
    await store.delete("item", ["2"])
    await store.close()


async def rows_of(path: Path, schema: Schema) -> dict[str, dict[str, Any]]:
    store = await reopen(path, schema)
    try:
        return await get_rows(store, "item", ["0", "1", "2"])
    finally:
        await store.close()


WANTED = {
    "0": {"price": 2, "brand": "b", "vector": [0.0, 0.5]},
    "1": {"price": 3, "size": "1", "brand": "b", "vector": [1.0, 0.5], "heat": 4.0},
}


def said(plan: migration.Plan) -> dict[str, tuple[Fate, int | None, int]]:
    return {step.name: (step.fate, step.stored, step.inexact) for step in plan.steps}


async def test_everything_that_can_be_is_converted(tmp_path: Path) -> None:
    await filled(tmp_path)
    wanted = {
        "item.fresh": (Fate.ADDED, 0, 0),
        "item.gone": (Fate.KEPT, 2, 0),
        "item.heat": (Fate.CONVERTED, 1, 0),
        "item.price": (Fate.CONVERTED, 2, 0),
        "item.size": (Fate.CONVERTED, 1, 0),
        "item.vector": (Fate.CONVERTED, 2, 0),
        "session": (Fate.KEPT, 1, 0),
    }
    assert said(migration.plan(tmp_path, NEW)) == wanted
    with pytest.raises(StoreError, match=r"item\.heat .* `rankd schema migrate`"):
        await reopen(tmp_path, NEW)
    plan = migration.migrate(tmp_path, NEW)
    assert said(plan) == wanted
    assert await rows_of(tmp_path, NEW) == WANTED
    # Times are the old ones: a value in between comes too late.
    store = await reopen(tmp_path, NEW, Clock(NOW_S + 5))
    late = [("0", {"price": 9}), ("1", {"price": 9, "brand": "c"}), ("2", {"price": 9})]
    result = await store.write(rows_batch("item", late, NEW))
    assert result.late_count == 3
    assert (await get_rows(store, "item", ["1"]))["1"]["brand"] == "c"
    await store.close()
    assert {step.fate for step in migration.plan(tmp_path, NEW).steps} == {Fate.KEPT}
    # What was kept aside is there when it is declared again.
    again = schema_of(item=[*NEW.entities["item"].signals.values(), Signal("gone", K.F32)], session=[
        Signal("last", K.TIMESTAMP)])  # fmt: skip
    assert (await rows_of(tmp_path, again))["1"]["gone"] == 1.0


async def test_the_way_back(tmp_path: Path) -> None:
    await filled(tmp_path)
    before = await rows_of(tmp_path, OLD)
    plan = migration.migrate(tmp_path, NEW, ["item.gone", "session"])
    assert plan.backup is not None
    assert plan.backup.parent == tmp_path
    assert "gone" not in str(upkeep.Source(tmp_path).document)
    upkeep.restore(tmp_path, plan.backup, replace_old=True)
    assert await rows_of(tmp_path, OLD) == before


async def test_what_is_dropped_is_gone(tmp_path: Path) -> None:
    await filled(tmp_path, inexact=True)
    plan = migration.migrate(tmp_path, NEW, ["item.gone", "session", "item.price", "item.heat"])
    dropped = ["item.gone", "item.heat", "item.price", "session"]
    assert [step.name for step in plan.steps if step.fate is Fate.DROPPED] == dropped
    rows = await rows_of(tmp_path, NEW)
    assert rows == {id_: {n: v for n, v in row.items() if n not in ("price", "heat")} for id_, row in WANTED.items()}
    shutil.rmtree(plan.backup or tmp_path)
    store = await reopen(tmp_path, OLD.__class__({**NEW.entities, "session": OLD.entities["session"]}))
    assert dict(store.row_counts()) == {"item": 2, "session": 0}
    await store.close()


async def test_values_that_would_change_are_refused_or_given_up(tmp_path: Path) -> None:
    await filled(tmp_path, inexact=True)
    before = await rows_of(tmp_path, OLD)
    plan = migration.plan(tmp_path, NEW)
    assert [(step.name, step.stored, step.inexact) for step in plan.refused] == [("item.price", 2, 1)]
    with pytest.raises(StoreError, match=r"item\.price: 1 of 2 values cannot be converted exactly; `--accept-loss`"):
        migration.migrate(tmp_path, NEW)
    assert await rows_of(tmp_path, OLD) == before
    migration.migrate(tmp_path, NEW, accept_loss=True)
    rows = await rows_of(tmp_path, NEW)
    assert rows == WANTED | {"1": {n: v for n, v in WANTED["1"].items() if n != "price"}}
    # The value that is missing now is missing since its time: an older one does not come back.
    store = await reopen(tmp_path, NEW, Clock(NOW_S + 5))
    assert (await store.write(rows_batch("item", [("1", {"price": 9})], NEW))).late_count == 1
    await store.close()


async def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = schema_of(item=[Signal("price", K.SET), Signal("brand", K.EMBEDDING, dimension=2)])
    with pytest.raises(StoreError) as raised:
        migration.migrate(tmp_path, other, ["item.price"])
    assert str(raised.value) == "item.brand: cannot be converted; `--drop item.brand` drops what is stored"
    for name in ("item.nothing", "item.size"):  # size: declared as it is stored
        with pytest.raises(StoreError, match=rf"--drop {name}: nothing of that name"):
            migration.migrate(tmp_path, OLD, [name])


async def test_a_plan_while_the_store_is_written(tmp_path: Path) -> None:
    await filled(tmp_path)
    store = await reopen(tmp_path, OLD)
    await store.write(rows_batch("item", [("n", {"price": 1.0})], OLD))
    assert said(migration.plan(tmp_path, NEW))["item.price"] == (Fate.CONVERTED, 3, 0)
    with pytest.raises(StoreError, match="in use by another rankd"):
        migration.migrate(tmp_path, NEW)
    await store.close()


@pytest.fixture
def small_files() -> Iterator[Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_the_old_values(
    tmp_path: Path, small_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path)
    before = await rows_of(tmp_path, OLD)
    monkeypatch.setattr(migration, "_counts", lambda *_: dict.fromkeys(
        ["item.gone", "item.heat", "item.price", "item.size", "item.vector", "session"], (1, 0)))  # fmt: skip
    files = upkeep.state_files(tmp_path)
    small_files(1_000)
    with pytest.raises(StoreError, match="nothing was written; make room"):
        migration.migrate(tmp_path, NEW)
    small_files(resource.RLIM_INFINITY)
    assert await rows_of(tmp_path, OLD) == before
    assert upkeep.state_files(tmp_path) == files
