"""What the Redis parts have in common: a Redis, workspaces that share signals through it, and rows for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import redis
from bench import shop
from bench.processes import Running

from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.store import open_redis_store
from rankd.signals.store import ColumnValues, Values, WriteBatch
from rankd.signals.values import NO_ROWS
from rankd.types.schema import Schema
from rankd.workspace import load_workspace

ITEM_SIGNALS = 20
USER_TYPES = {
    **{f"rate{i}": "f32" for i in range(10)},
    **{f"count{i}": "i64" for i in range(4)},
    **{f"at{i}": "timestamp" for i in range(2)},
    **{f"kind{i}": "category" for i in range(2)},
    "is_member": "bool",
    "spent": "f32",
}
"""20 signals, as a shop has them of its users."""
NOW_MS = 1_790_000_000_000
BATCH_ROWS = 2_000
PROFILE = "shop"


def write_workspace(
    folder: Path, server: Running, *, user_storage: str = "fetched", cache_ttl_ms: int = 0, prefix: str = "rk"
) -> None:
    """Items are in each machine's tables; users are where `user_storage` says."""
    features = {name: f"item.{name}" for name in shop.signal_names(ITEM_SIGNALS)}
    features |= {f"user_{name}": f"user.{name}" for name, kind in USER_TYPES.items() if kind in ("f32", "i64", "bool")}
    document: dict[str, Any] = {
        "version": 1,
        "schema": {"item": dict.fromkeys(shop.signal_names(ITEM_SIGNALS), "f32"), "user": USER_TYPES},
        "entities": {"user": {"storage": user_storage}},
        "signals": {
            "backend": "redis",
            "redis": {"url": f"redis://127.0.0.1:{server.port}", "cache_ttl_ms": cache_ttl_ms, "prefix": prefix},
        },
        "profiles": {PROFILE: {"features": features, "base": "s000 + user_rate0"}},
    }
    shop.write_document(folder, document)


def schema_of(folder: Path) -> Schema:
    """Of a workspace."""
    return load_workspace(folder, {}).schema


def item_batches(count: int) -> list[WriteBatch]:
    """Items with all their signals."""
    found = []
    for start in range(0, count, BATCH_ROWS):
        size = min(BATCH_ROWS, count - start)
        rows = np.arange(size)
        values = np.random.default_rng(start).random((ITEM_SIGNALS, size), np.float32)
        columns = [ColumnValues(n, rows, values[i], NO_ROWS) for i, n in enumerate(shop.signal_names(ITEM_SIGNALS))]
        found.append(WriteBatch("item", [shop.item_id(start + i) for i in range(size)], columns))
    return found


def user_id(number: int) -> str:
    """Ids as a shop has them: 12 bytes."""
    return f"user{number:08}"


def user_batches(count: int) -> list[WriteBatch]:
    """Users with all their signals."""
    found = []
    for start in range(0, count, BATCH_ROWS):
        size = min(BATCH_ROWS, count - start)
        random, rows = np.random.default_rng(start), np.arange(size)
        columns = [ColumnValues(name, rows, _values(kind, size, random), NO_ROWS) for name, kind in USER_TYPES.items()]
        found.append(WriteBatch("user", [user_id(start + i) for i in range(size)], columns))
    return found


def _values(kind: str, size: int, random: np.random.Generator) -> Values:
    match kind:
        case "f32":
            return random.random(size, np.float32)
        case "i64":
            return random.integers(0, 10_000, size)
        case "timestamp":
            return NOW_MS - random.integers(0, 90 * 86_400_000, size)
        case "bool":
            return random.random(size) < 0.5
        case _:
            return [f"kind-{i}" for i in random.integers(0, 50, size).tolist()]


def fill(
    schema: Schema, server: Running, batches: Sequence[WriteBatch], say: Callable[[str], None], in_flight: int = 4
) -> float:
    """Writes batches straight to Redis, as a keeper does; rows a second."""

    async def run() -> float:
        store = await open_redis_store(
            schema, RedisOptions(f"redis://127.0.0.1:{server.port}", socket_timeout_s=5.0, write_timeout_s=60.0)
        )
        waiting = iter(batches)

        async def writer() -> None:
            for batch in waiting:
                if (await store.write(batch)).rejected:
                    raise RuntimeError("rows were rejected")

        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(writer() for _ in range(in_flight)))
        elapsed_s = asyncio.get_running_loop().time() - started
        await store.close()
        return sum(len(batch.ids) for batch in batches) / elapsed_s

    rate = asyncio.run(run())
    say(f"  written to Redis: {sum(len(batch.ids) for batch in batches):,} rows, {rate:,.0f} rows/s")
    return rate


def used_bytes(server: Running) -> int:
    """What Redis says that it uses."""
    with redis.Redis(port=server.port) as client:
        return int(client.info("memory")["used_memory"])
