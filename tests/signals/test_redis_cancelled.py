"""Callers that are cancelled anywhere: nobody ever gets a value of another entity, and who is not cancelled gets an
answer. RANKD_FUZZ_SCALE lengthens it: 1000 makes a million cancellations of each kind."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from signals.conformance import Clock, plain_column, schema_of
from signals.conftest import Place

from rankd.signals.redis.private import CacheOptions
from rankd.signals.redis.replicated import ReplicatedStore, open_replicated
from rankd.signals.redis.store import RedisStore, open_redis_store
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.signals.values import to_list
from rankd.types.schema import Entity, Schema, Signal, SignalKind, Storage

SCALE = float(os.environ.get("RANKD_FUZZ_SCALE", "1"))
CANCELLATIONS = min(1_000_000, round(1_000 * SCALE))
MINE = 4
"""Ids of one call."""

_SIGNALS = [Signal("number", SignalKind.F32), Signal("name", SignalKind.STRING), Signal("brand", SignalKind.CATEGORY)]
_PLAIN = schema_of(item=_SIGNALS)
SCHEMA = Schema({"item": Entity("item", {s.name: s for s in _SIGNALS}, (), Storage.FETCHED)})
NAMES = [s.name for s in _SIGNALS]
IDS = [f"i{i}" for i in range(400)]
ALL = [*IDS, *(f"nobody {i}" for i in range(40))]

Call = Callable[[list[str]], Coroutine[Any, Any, int]]


def batch(ids: list[str], round_: int) -> WriteBatch:
    """Rows that say whose they are, and when they were written."""
    every, none = np.arange(len(ids)), np.empty(0, np.int64)
    numbers = np.array([round_] * len(ids), np.float32)
    names = [f"{id_} {round_}" for id_ in ids]
    brands = [f"brand {id_}" for id_ in ids]
    columns = [ColumnValues(name, every, of, none) for name, of in zip(NAMES, (numbers, names, brands), strict=True)]
    return WriteBatch("item", ids, columns)


def check(ids: list[str], values: list[list[Any]]) -> int:
    """Values by signal and id; how many rows there were."""
    for id_, number, name, brand in zip(ids, *values, strict=True):
        if id_.startswith("nobody"):
            assert (number, name, brand) == (None, None, None), f"{id_}: values of another entity"
        else:
            assert (name, brand) == (f"{id_} {number:g}", f"brand {id_}"), f"{id_}: values of another entity"
    return len(ids)


def get_with(store: RedisStore) -> Call:
    async def get(mine: list[str]) -> int:
        stored = await store.get("item", mine, NAMES, 0.0)
        there = [mine[i] for i in stored.found.tolist()]
        assert there == [id_ for id_ in mine if id_ in known]
        assert all(column.rows.tolist() == list(range(len(there))) for column in stored.columns)
        return check(there, [to_list(column.values) for column in stored.columns])

    known = set(IDS)
    return get


def fetch_with(store: ReplicatedStore) -> Call:
    async def fetch(mine: list[str]) -> int:
        fetched = await store.fetch({"item": mine}, 60.0)
        rows = store.tables.read("item", mine, NAMES, 0.0)
        assert fetched.is_complete
        assert not fetched.is_stale
        number, name, brand = (plain_column(store, rows.columns[name]) for name in NAMES)
        assert rows.found.tolist() == [id_ in known for id_ in mine], "values of another entity"
        return check(mine, [number, [None if text is None else text.decode() for text in name], brand])

    known = set(IDS)
    return fetch


async def hurry(call: Call, write: Callable[[int], Coroutine[Any, Any, object]]) -> None:
    """Calls beside a writer until so many were cancelled on their way: begun, and not at their end."""
    rng = random.Random(11)
    counts: Counter[str] = Counter()
    while counts["cancelled"] < CANCELLATIONS:
        tasks = [asyncio.create_task(call(rng.sample(ALL, MINE))) for _ in range(rng.choice((8, 30, 100)))]
        writing = asyncio.create_task(write(counts["rounds"] % 10_000))
        await asyncio.sleep(0)
        victims = rng.sample(tasks, len(tasks) * 3 // 4)
        for task in victims:
            if rng.random() < 0.1:
                await asyncio.sleep(rng.choice((0, 0, 0, 0.0002)))
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        for task, of in zip(tasks, done, strict=True):
            if isinstance(of, asyncio.CancelledError):
                assert task in victims
                counts["cancelled"] += 1
            elif isinstance(of, BaseException):
                raise of
            else:
                counts["rows right"] += of
                counts["answered"] += 1
        await writing
        counts["rounds"] += 1
    assert counts["answered"] > CANCELLATIONS // 4
    print(dict(counts))


@pytest.mark.timeout(10_800 if SCALE > 1 else 120)
async def test_get(place: Place) -> None:
    """Beside that, no connection is lost to the pool."""
    store = await open_redis_store(_PLAIN, place.options(max_connections=4), clock=Clock())
    await store.write(batch(IDS, 0))
    rng = random.Random(12)
    await hurry(get_with(store), lambda n: store.write(batch(rng.sample(IDS, 3), n)))
    for node in store.connection.nodes:
        assert node._room._value == 4
        assert len(node._idle) <= 4
    assert await get_with(store)(IDS) == len(IDS)
    await store.close()


@pytest.mark.timeout(10_800 if SCALE > 1 else 120)
async def test_fetch(place: Place) -> None:
    """With a cache that is too small for what is asked for, so that rows go and come."""
    cache = CacheOptions(ttl_s=0.01, most_rows=50)
    store = await open_replicated(SCHEMA, place.options(), None, 1_000, cache=cache, clock=Clock())
    await store.write(batch(IDS, 0))
    rng = random.Random(12)
    await hurry(fetch_with(store), lambda n: store.write(batch(rng.sample(IDS, 3), n)))
    assert await fetch_with(store)(ALL) == len(ALL)
    await store.close()
