"""`rankd serve` as a process: start, refusal to start, drain, two servers and rolling restarts."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.serving import ServerProcess

from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp
from rankd.v1.ranking_pb2_grpc import RankingServiceStub
from rankd.v1.signals_pb2_grpc import SignalServiceStub

WORKSPACE = """
version: 1
schema:
  item: {price: f32, title: string}
profiles:
  search:
    columns: [bm25]
    features: {bm25: column.bm25, price: item.price}
    base: bm25
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 0.3
"""

REQUEST = pb.RankRequest(
    profile="search", candidates=pb.Candidates(ids=["a", "b"], columns=[pb.Column(name="bm25", values=[1, 2])])
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    return tmp_path


def rank(address: str) -> pb.RankResponse:
    with grpc.insecure_channel(address) as channel:
        answer: pb.RankResponse = RankingServiceStub(channel).Rank(REQUEST, timeout=10)
        return answer


def health(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_ends_in_order(workspace: Path, number: int) -> None:
    with ServerProcess(workspace).wait_ready() as server:
        assert list(rank(server.address).ids) == ["b", "a"]
        for service in ("", "rankd.v1.RankingService", "rankd.v1.SignalService"):
            assert health(server.health_address, service) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health(server.health_address, "no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        server.process.send_signal(number)
        # Draining: not healthy, still serving.
        while health(server.health_address) == health_pb2.HealthCheckResponse.SERVING:
            time.sleep(0.01)
        assert list(rank(server.address).ids) == ["b", "a"]
        assert server.wait() == 0
    log = "".join(server.log)
    assert "profiles: search@" in log
    assert "draining" in log
    assert "stopped" in log
    assert "Traceback" not in log


def test_a_second_signal_hurries(workspace: Path) -> None:
    with ServerProcess(workspace, RANKD_SERVER__DRAIN_SECONDS="300").wait_ready() as server:
        server.process.send_signal(signal.SIGTERM)
        while not any("draining" in line for line in server.log):
            time.sleep(0.01)
        assert server.stop(signal.SIGTERM) == 0


def test_a_port_in_use_is_said_and_nothing_is_shared(workspace: Path) -> None:
    with ServerProcess(workspace).wait_ready() as first:
        for name in ("LISTEN", "HEALTH_LISTEN"):
            with ServerProcess(workspace, **{f"RANKD_SERVER__{name}": first.address}) as second:
                assert second.wait() not in (0, None)
            said = "".join(second.log)
            assert f"address {first.address} is in use" in said
            assert f"server.{name.lower()}" in said
            assert "Traceback" not in said
        assert rank(first.address).total_count == 2


def test_beyond_loopback_only_if_told_so(workspace: Path) -> None:
    with ServerProcess(workspace, RANKD_SERVER__LISTEN="0.0.0.0:0") as refused:
        assert refused.wait() != 0
    assert "allow_insecure" in "".join(refused.log)
    with ServerProcess(
        workspace, RANKD_SERVER__LISTEN="0.0.0.0:0", RANKD_SERVER__ALLOW_INSECURE="true"
    ).wait_ready() as server:
        assert rank(server.address.replace("0.0.0.0", "127.0.0.1")).total_count == 2


def test_a_data_directory_that_cannot_be_used_is_said(workspace: Path) -> None:
    data = workspace / "data"
    data.write_text("a file, not a directory")
    with ServerProcess(workspace, RANKD_SERVER__DATA_DIR="data") as server:
        assert server.wait() not in (0, None)
    said = "".join(server.log)
    assert "Traceback" not in said
    assert "data" in said


def test_a_data_directory_without_permission_is_said(workspace: Path) -> None:
    data = workspace / "data"
    data.mkdir()
    data.chmod(0o500)
    with ServerProcess(workspace, heed_permissions=True, RANKD_SERVER__DATA_DIR="data") as server:
        assert server.wait() not in (0, None)
    said = "".join(server.log)
    assert "Traceback" not in said
    assert str(data) in said


def test_acknowledged_writes_outlive_kill_9(workspace: Path) -> None:
    ids = [f"sku-{i}" for i in range(100)]
    for round_ in range(2):
        with ServerProcess(workspace, RANKD_SERVER__DATA_DIR="data").wait_ready() as server:
            with grpc.insecure_channel(server.address) as channel:
                stub = SignalServiceStub(channel)
                got = stub.GetSignals(sp.GetSignalsRequest(entity="item", ids=ids), timeout=10)
                assert list(got.ids) == (ids if round_ else [])
                prices = sp.SignalColumn(signal="price", floats=sp.FloatValues(values=range(100)))
                if round_:
                    assert list(got.columns[0].floats.values) == list(range(100))
                else:
                    stub.WriteSignals(sp.WriteSignalsRequest(entity="item", ids=ids, columns=[prices]), timeout=10)
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_unix_socket(workspace: Path) -> None:
    path = workspace / "rankd.sock"
    with ServerProcess(workspace, RANKD_SERVER__LISTEN=f"unix:{path}").wait_ready() as server:
        assert server.address == f"unix:{path}"
        assert rank(server.address).total_count == 2


@pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])
def test_both_event_loops_and_json_lines(workspace: Path, event_loop: str) -> None:
    with ServerProcess(
        workspace,
        RANKD_SERVER__EVENT_LOOP=event_loop,
        RANKD_SERVER__LOG__FORMAT="json",
        RANKD_SERVER__REFLECTION="true",
    ).wait_ready() as server:
        assert rank(server.address).total_count == 2
        with socket.create_connection((server.address.split(":")[0], int(server.address.split(":")[1]))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    assert {"time", "level", "logger", "message"} <= set(lines[0])


CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {
                "name": [{"service": "rankd.v1.RankingService"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.02s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)


async def load(target: str, stop: asyncio.Event) -> tuple[int, list[str]]:
    """Calls without pause from 8 tasks; how many succeeded, and what the others failed with."""
    done, failures = 0, []

    async def worker(stub: RankingServiceStub) -> None:
        nonlocal done
        while not stop.is_set():
            try:
                await stub.Rank(REQUEST, timeout=10)  # type: ignore[misc]
                done += 1
            except grpc.RpcError as error:
                failures.append(f"{error.code()} {error.details()}")  # type: ignore[attr-defined]

    # Found again soon: gRPC's own backoff grows from one second on.
    backoff = [
        (f"grpc.{bound}_reconnect_backoff_ms", ms) for bound, ms in (("initial", 100), ("min", 100), ("max", 500))
    ]
    async with grpc.aio.insecure_channel(target, options=[("grpc.service_config", CONFIG), *backoff]) as channel:
        stub = RankingServiceStub(channel)
        await asyncio.gather(*(worker(stub) for _ in range(8)))
    return done, failures


@pytest.mark.slow
async def test_sigterm_under_load_fails_no_call(workspace: Path) -> None:
    """Two servers, each restarted in turn while clients call: none of the calls fails (F = 0)."""
    environment = {"RANKD_SERVER__DRAIN_SECONDS": "1"}
    servers = [ServerProcess(workspace, **environment).wait_ready() for _ in range(2)]
    target = "ipv4:" + ",".join(server.address for server in servers)
    stop = asyncio.Event()
    loading = asyncio.ensure_future(load(target, stop))
    try:
        await asyncio.sleep(0.5)
        for i in range(2):
            address, health_address = servers[i].address, servers[i].health_address
            assert await asyncio.to_thread(servers[i].stop) == 0
            await asyncio.sleep(0.2)
            again = ServerProcess(
                workspace,
                **environment,
                RANKD_SERVER__LISTEN=address,
                RANKD_SERVER__HEALTH_LISTEN=health_address,
            )
            servers[i] = await asyncio.to_thread(again.wait_ready)
            # Until the clients have found it again.
            await asyncio.sleep(2.5)
    finally:
        stop.set()
        done, failures = await loading
        for server in servers:
            server.__exit__()
    assert failures == []
    assert done > 200
