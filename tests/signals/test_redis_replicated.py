"""The whole store over Redis: the same conformance suite as the embedded one, on one Redis and on a Cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from signals.conformance import SCHEMA, Clock, StoreConformance
from support.redis_servers import RedisCluster, RedisServer, redis_server

from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.replicated import ReplicatedStore, open_replicated


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    cluster = RedisCluster()
    yield cluster
    cluster.close()


class _Opened:
    """Opens stores, and closes what a test left open."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._stores: list[ReplicatedStore] = []

    async def __call__(
        self, schema: Any = SCHEMA, max_rows: int = 1000, clock: Any = None, **more: Any
    ) -> ReplicatedStore:
        store = await open_replicated(schema, self._options, None, max_rows, clock=clock or Clock(), **more)
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class TestReplicatedStore(StoreConformance):
    @pytest_asyncio.fixture
    async def open_store(self, server: RedisServer) -> AsyncIterator[_Opened]:
        with server.client() as client:
            client.flushall()
        opened = _Opened(RedisOptions(server.url, shards=4))
        yield opened
        await opened.close()


class TestReplicatedClusterStore(StoreConformance):
    @pytest_asyncio.fixture
    async def open_store(self, cluster: RedisCluster) -> AsyncIterator[_Opened]:
        cluster.flush()
        opened = _Opened(RedisOptions(cluster.url, cluster=True, shards=4))
        yield opened
        await opened.close()
