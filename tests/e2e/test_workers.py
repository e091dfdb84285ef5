"""`rankd serve` as processes: supervisor, keeper and workers, and what becomes of them when they are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
  item: {price: f32, brand: category}
profiles:
  search:
    features: {price: item.price}
    base: coalesce(price, 0)
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  workers: 2
  data_dir: data
  drain_seconds: 0.2
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    return tmp_path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service for all tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "rankd.yaml").write_text(WORKSPACE)
    with ServerProcess(folder, RANKD_SERVER__WORKERS="2") as server:
        yield server.wait_ready()
        assert server.stop() == 0, "".join(server.log)


def command(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """`rankd status …`: exit status, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "rankd", "status", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr


def status(server: ServerProcess) -> dict[str, Any]:
    _, out, err = command(str(server.directory), "--json")
    assert out, err
    document: dict[str, Any] = json.loads(out)
    return document


def process(server: ServerProcess, name: str) -> dict[str, Any]:
    return next(row for row in status(server)["processes"] if row["name"] == name)


@contextlib.contextmanager
def channels(server: ServerProcess, count: int) -> Iterator[list[grpc.Channel]]:
    """Connections of their own, which the kernel spreads over the workers."""
    with contextlib.ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [stack.enter_context(grpc.insecure_channel(server.address, options)) for _ in range(count)]


def write(channel: grpc.Channel, price: float, timeout_s: float = 10.0) -> None:
    """Writes item a; tries again while the keeper is away."""
    column = sp.SignalColumn(signal="price", floats=sp.FloatValues(values=[price]))
    request = sp.WriteSignalsRequest(entity="item", ids=["a"], columns=[column])
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            SignalServiceStub(channel).WriteSignals(request, timeout=10, wait_for_ready=True)
            return
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # type: ignore[attr-defined]
            assert time.monotonic() < give_up, error
        time.sleep(0.05)


def price(channel: grpc.Channel) -> float:
    answer = SignalServiceStub(channel).GetSignals(sp.GetSignalsRequest(entity="item", ids=["a"]), timeout=10)
    return float(answer.columns[0].floats.values[0])


def health(server: ServerProcess) -> int:
    with grpc.insecure_channel(server.health_address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        return int(answer.status)


def rank(server: ServerProcess) -> list[str]:
    request = pb.RankRequest(profile="search", candidates=pb.Candidates(ids=["a", "b"]))
    with grpc.insecure_channel(server.address) as channel:
        return list(RankingServiceStub(channel).Rank(request, timeout=10, wait_for_ready=True).ids)


def until(condition: Callable[[], Any], timeout_s: float = 15.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_status_shows_every_process(shared: ServerProcess) -> None:
    assert rank(shared) == ["a", "b"]
    time.sleep(0.6)  # until the next heartbeat has told of the call
    document = status(shared)
    assert (document["state"], document["address"]) == ("serving", shared.address)
    assert document["pid"] == shared.process.pid
    rows = document["processes"]
    assert rows[0]["role"] == "keeper"
    assert {row["state"] for row in rows} == {"serving"}
    assert sum(row["calls"] or 0 for row in rows) > 0
    assert all(Path(f"/proc/{row['pid']}").exists() and row["own_bytes"] > 0 for row in rows)
    assert "profiles.search" in rows[1]["versions"]
    code, out, _ = command(str(shared.directory))
    assert code == 0
    for word in ("supervisor", "keeper", "worker 1", "serving", "versions: ", "MiB"):
        assert word in out


def test_a_write_through_one_worker_is_seen_by_all_at_once(shared: ServerProcess) -> None:
    before = {row["name"]: row["calls"] for row in status(shared)["processes"]}
    with channels(shared, 16) as many:
        for number, channel in enumerate(many):
            write(channel, number)
            assert [price(other) for other in many] == [number] * len(many)
    until(lambda: all(process(shared, n)["calls"] > (before[n] or 0) for n in ("worker 1", "worker 2")))


def test_status_without_a_service(workspace: Path) -> None:
    code, out, err = command(str(workspace))
    assert (code, out) == (3, "")
    assert "no service runs for" in err


def test_status_of_a_service_that_was_killed(workspace: Path) -> None:
    with ServerProcess(workspace).wait_ready() as server:
        pids = [row["pid"] for row in json.loads(command(str(workspace), "--json")[1])["processes"]]
        server.process.kill()
        server.process.wait()
        code, _, err = command(str(workspace))
        assert code == 3
        assert "no answer" in err
        # Its children have heard that it is gone: they drain and exit.
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        server.wait()
    assert "the supervisor is gone" in "".join(server.log)


def test_the_supervisor_has_nothing_large_mapped(shared: ServerProcess) -> None:
    maps = Path(f"/proc/{shared.process.pid}/maps").read_text()
    assert not [name for name in ("cygrpc", "numpy", "_upb", "uvloop", "rankd/kernels") if name in maps]


@pytest.mark.parametrize("name", ["worker 1", "keeper"])
def test_a_killed_process_is_back(shared: ServerProcess, name: str) -> None:
    before = process(shared, name)
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: process(shared, name)["restarts"] == before["restarts"] + 1)
    until(lambda: process(shared, name)["state"] == "serving")
    until(lambda: health(shared) == health_pb2.HealthCheckResponse.SERVING)
    assert rank(shared) == ["a", "b"]
    with channels(shared, 8) as many:
        for number, channel in enumerate(many):
            write(channel, 100 + number)
            assert [price(other) for other in many] == [100 + number] * len(many)
    assert process(shared, name)["last_end"] == "was killed by SIGKILL"


def test_a_service_whose_supervisor_was_killed_can_be_started_again_at_once(workspace: Path) -> None:
    slow = ServerProcess(workspace, RANKD_SERVER__DRAIN_SECONDS="5")
    with slow.wait_ready() as first, channels(first, 1) as (channel,):
        write(channel, 7.0)
        address = first.address
        first.process.kill()
        with ServerProcess(workspace, RANKD_SERVER__LISTEN=address).wait_ready() as second:
            assert "waiting for the processes of a service that was killed" in "".join(second.log)
            with channels(second, 1) as (again,):
                assert price(again) == 7.0
            assert second.stop() == 0


def test_signals_in_memory_are_lost_with_the_keeper_and_workers_are_renewed(workspace: Path) -> None:
    environment = {"RANKD_SERVER__DATA_DIR": "null", "RANKD_SERVER__WORKERS": "2"}
    with ServerProcess(workspace, **environment).wait_ready() as server:
        pids = {row["name"]: row["pid"] for row in status(server)["processes"]}
        os.kill(pids["keeper"], signal.SIGKILL)
        for name in ("worker 1", "worker 2"):
            until(lambda name=name: process(server, name)["pid"] not in (pids[name], None))  # type: ignore[misc]
            until(lambda name=name: process(server, name)["state"] == "serving")  # type: ignore[misc]
            assert process(server, name)["recycled"] == 1
        with channels(server, 1) as (channel,):
            write(channel, 1.0)
        assert server.stop() == 0


def test_a_stopped_worker_is_replaced(shared: ServerProcess) -> None:
    before = process(shared, "worker 1")
    os.kill(before["pid"], signal.SIGSTOP)
    until(lambda: process(shared, "worker 1")["restarts"] == before["restarts"] + 1)
    until(lambda: process(shared, "worker 1")["state"] == "serving")
    assert "stopped by a signal" in process(shared, "worker 1")["last_end"]
    assert rank(shared) == ["a", "b"]


def test_a_worker_told_to_end_is_started_again(shared: ServerProcess) -> None:
    before = process(shared, "worker 1")
    os.kill(before["pid"], signal.SIGTERM)
    until(lambda: process(shared, "worker 1")["pid"] not in (before["pid"], None))
    until(lambda: process(shared, "worker 1")["state"] == "serving")
    assert process(shared, "worker 1")["restarts"] == before["restarts"]


def test_what_cannot_be_served_is_said_once(workspace: Path) -> None:
    (workspace / "rankd.yaml").write_text(WORKSPACE.replace("item.price", "item.prize"))
    with ServerProcess(workspace) as server:
        assert server.wait() == 1
    said = "".join(server.log)
    assert said.count("item.prize") == 1, said
    assert "did you mean" in said
    assert "Traceback" not in said


def test_the_end_while_it_loads_is_orderly(workspace: Path) -> None:
    with ServerProcess(workspace) as server:
        until(lambda: len(json.loads(command(str(workspace), "--json")[1] or "{}").get("processes", [])) > 1)
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.log)


def test_lines_say_which_process_wrote_them(workspace: Path) -> None:
    with ServerProcess(workspace, RANKD_SERVER__LOG__FORMAT="json").wait_ready() as server:
        assert server.stop() == 0
    lines = [json.loads(line) for line in server.log]
    assert {line.get("process") for line in lines} >= {None, "worker 1"}
