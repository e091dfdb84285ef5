"""Metrics of signals, scraped from real servers."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.serving import SCHEMA, ServerProcess, running, search_plans, settings

from rankd.errors import ConfigError
from rankd.server.metrics import SignalMetrics
from rankd.server.server import Server
from rankd.server.signal_service import Replica
from rankd.signals.embedded import open_embedded
from rankd.v1 import signals_pb2 as sp
from rankd.v1.signals_pb2_grpc import SignalServiceStub

WORKSPACE = """
version: 1
schema:
  item: {price: f32, title: string}
profiles:
  search: {columns: [bm25], features: {bm25: column.bm25}, base: bm25}
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  metrics_interval_seconds: 0.1
  drain_seconds: 0
"""

Found = dict[tuple[str, ...], float]


def scraped(address: str) -> Found:
    """Values by name and label values."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name.removeprefix("rankd_signal_"), *s.labels.values()): s.value for f in families for s in f.samples}


def prices(*values: float) -> sp.WriteSignalsRequest:
    column = sp.SignalColumn(signal="price", floats=sp.FloatValues(values=values))
    return sp.WriteSignalsRequest(entity="item", ids=[f"i{n}" for n in range(len(values))], columns=[column])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_keeper_of_a_service_is_scraped(tmp_path: Path, workers: str) -> None:
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    address = f"127.0.0.1:{free_port()}"
    environment = {"RANKD_SERVER__METRICS_LISTEN": address, "RANKD_SERVER__WORKERS": workers}
    with ServerProcess(tmp_path, **environment).wait_ready() as server:
        with grpc.insecure_channel(server.address) as channel:
            stub = SignalServiceStub(channel)
            stub.WriteSignals(prices(1, 2, float("inf"), 4), timeout=10)
            ids_only = sp.WriteSignalsRequest(entity="item", ids=["bare"])
            stub.WriteSignals(ids_only, timeout=10)
            stub.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=["i0"]), timeout=10)
        found = scraped(address)
        for _ in range(100):
            if found[("rows_rejected_total", "item")] and found[("rows", "item")] == 3:
                break
            time.sleep(0.05)
            found = scraped(address)
        assert found[("rows", "item")] == 3
        assert found[("fill_ratio", "item", "price")] == pytest.approx(2 / 3)
        assert found[("missing_ratio", "item", "price")] == pytest.approx(1 / 3)
        assert found[("fill_ratio", "item", "title")] == 0
        assert 0 <= found[("age_median_seconds", "item", "price")] <= found[("age_max_seconds", "item", "price")] < 60
        assert ("age_median_seconds", "item", "title") not in found
        assert found[("table_bytes", "item")] > 0
        counted = ("rows_written_total", "rows_rejected_total", "rows_deleted_total", "values_late_total")
        assert [found[name, "item"] for name in counted] == [4, 1, 1, 0]
        assert found[("file_bytes", "tables")] > 0
        assert ("replica_in_step",) not in found
        assert server.stop() == 0


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with ServerProcess(tmp_path, RANKD_SERVER__METRICS_LISTEN=address) as server:
            assert server.wait() != 0
    said = "".join(server.log)
    assert address in said and "server.metrics_listen" in said and "Traceback" not in said


@pytest.mark.parametrize("address", ["0.0.0.0:9000", "unix:/tmp/x", "127.0.0.1:7777"])
def test_addresses_that_will_not_do(tmp_path: Path, address: str) -> None:
    (tmp_path / "rankd.yaml").write_text(
        WORKSPACE.replace("health_listen: 127.0.0.1:0", "health_listen: 127.0.0.1:7777")
    )
    with ServerProcess(tmp_path, RANKD_SERVER__METRICS_LISTEN=address) as server:
        assert server.wait() == 1
    assert "server.metrics_listen" in "".join(server.log)


async def test_a_server_of_one_process_has_them_too_and_says_how_it_follows() -> None:
    store = await open_embedded(SCHEMA, None, 1_000)
    server = Server(
        settings(metrics_listen="127.0.0.1:0", metrics_interval_seconds=0.1),
        replica=lambda: Replica(in_step=True, lag_s=0.25),
        with_metrics=True,
    )
    await server.start_health()
    await server.start(search_plans(store), store)
    try:
        found = await asyncio.to_thread(scraped, f"127.0.0.1:{server.metrics_port}")
        assert (found[("replica_in_step",)], found[("replica_lag_seconds",)]) == (1, 0.25)
        async with grpc.aio.insecure_channel(server.address) as channel:
            described = await SignalServiceStub(channel).DescribeSchema(sp.DescribeSchemaRequest())  # type: ignore[misc]
        assert (described.replica.in_step, described.replica.lag_seconds) == (True, 0.25)
    finally:
        server.hurry()
        await server.stop()


async def test_none_are_served_unless_asked_for() -> None:
    async with running() as (server, _):
        assert server.metrics_port == 0


async def test_a_sample_that_fails_leaves_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        schema = SCHEMA

        async def statistics(self, now_s: float) -> None:
            raise ConfigError("no")

    metrics = SignalMetrics(Failing(), dict)  # type: ignore[arg-type]
    sampling = asyncio.ensure_future(metrics.keep_sampling(0.01))
    await asyncio.sleep(0.05)
    assert not sampling.done()
    sampling.cancel()
    assert len(list(metrics.collect())) > 5
