"""A dictionary of categories that is full: the whole batch is refused, and what is known already is written on."""

from __future__ import annotations

from pathlib import Path

import pytest
from signals.conformance import SCHEMA, Clock, get_rows, rows_batch

from rankd.errors import StoreFullError
from rankd.signals import backing, tableset
from rankd.signals.embedded import open_embedded


@pytest.mark.parametrize("is_durable", [False, True])
async def test_no_room_for_a_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_durable: bool) -> None:
    for module in (backing, tableset):
        monkeypatch.setattr(module, "MAX_CATEGORIES", 4)
    store = await open_embedded(SCHEMA, tmp_path if is_durable else None, 100, clock=Clock())
    await store.write(rows_batch("item", [("a", {"brand": "x", "tags": {"y", "z"}})]))
    with pytest.raises(StoreFullError, match="at most 4 distinct category strings"):
        await store.write(rows_batch("item", [("a", {"brand": "y"}), ("b", {"tags": {"new", "newer"}})]))
    assert await get_rows(store, "item", ["a", "b"]) == {"a": {"brand": "x", "tags": {"y", "z"}}}
    await store.write(rows_batch("item", [("b", {"brand": "z", "affinity": {"x": 1.0, "last": 2.0}})]))
    with pytest.raises(StoreFullError):
        await store.write(rows_batch("item", [("c", {"brand": "one too many"})]))
    assert await get_rows(store, "item", ["b", "c"]) == {"b": {"brand": "z", "affinity": {"x": 1.0, "last": 2.0}}}
    await store.close()
    if is_durable:
        store = await open_embedded(SCHEMA, tmp_path, 100, clock=Clock())
        assert list(await get_rows(store, "item", ["a", "b", "c"])) == ["a", "b"]
        await store.close()
