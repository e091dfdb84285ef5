"""All of the real catalogue, and all of its queries, on each backend: the same order, and the same scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from real import data, icecat
from support.redis_servers import RedisServer

from rankd.client import Client
from rankd.learn.collect import rank_list
from rankd.learn.judgments import JudgedList
from rankd.learn.process import ServerProcess

Answer = tuple[NDArray[np.uint32], NDArray[np.float64], NDArray[np.float32]]
"""Of a query: candidates in their order, their scores, and their features."""

REDIS = "signals: {{backend: redis, redis: {{url: '{url}', socket_timeout_ms: 5000}}}}\n"


@contextlib.contextmanager
def settings_of(backend: str) -> Iterator[str]:
    """What is added to rankd.yaml."""
    if backend == "embedded":
        yield ""
        return
    server = RedisServer()
    try:
        yield REDIS.format(url=server.url)
    finally:
        server.close()


def answers(directory: Path, backend: str, products: list[dict[str, object]], lists: list[JudgedList]) -> list[Answer]:
    directory.mkdir()
    icecat.write_workspace(directory, {})
    with settings_of(backend) as settings:
        file = directory / "rankd.yaml"
        file.write_text(file.read_text(encoding="utf-8") + settings, encoding="utf-8")
        with ServerProcess(directory) as server, Client(server.address, timeout_s=60) as client:
            assert icecat.load(client, products) == len(products)
            assert client.describe_schema().row_counts["item"] == len(products)
            found = []
            for one in lists:
                answer = rank_list(client, "search", one, "features")
                assert not answer.degradation
                features = np.column_stack([answer.features[name] for name in answer.features])
                found.append((answer.indexes, answer.scores, features))
            return found


def test_all_queries_come_in_the_same_order_from_redis(tmp_path: Path) -> None:
    folder = data.folder(data.ICECAT)
    if folder is None:
        pytest.skip(f"real data {data.ICECAT} is absent (RANKD_DATA, default ../shared/data)")
    catalogue = data.icecat(folder)
    lists = list(icecat.retrieve(catalogue.products, catalogue.judgments))
    assert (len(catalogue.products), len(lists)) == (19_406, 93)
    first, second = (answers(tmp_path / name, name, catalogue.products, lists) for name in ("embedded", "redis"))
    for one, embedded, shared in zip(lists, first, second, strict=True):
        assert len(embedded[0]) == len(one.ids)
        for mine, theirs in zip(embedded, shared, strict=True):
            assert np.array_equal(mine, theirs, equal_nan=True), one.query
    # Not an order that says nothing.
    assert sum(not np.array_equal(order, np.arange(len(order))) for order, _, _ in first) > 80
