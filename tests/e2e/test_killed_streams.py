"""A server that is killed while a stream is on its way: nothing lost, nothing twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.serving import ServerProcess

from rankd.client import AsyncClient, Client
from rankd.v1 import signals_pb2 as sp

WORKSPACE = """
version: 1
schema:
  item:
    price: f32
    clicks: {type: decayed_counter, half_life: 3650d}
profiles:
  search: {columns: [bm25], features: {bm25: column.bm25}, base: bm25}
server:
  health_listen: 127.0.0.1:0
  data_dir: data
  drain_seconds: 0
"""
BATCHES = 300
ROWS = 50


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "rankd.yaml").write_text(WORKSPACE.replace("server:", f"server:\n  listen: 127.0.0.1:{port}"))
    return tmp_path


class Restarting:
    """Kills the whole service and starts it again, `times` times, while something runs."""

    def __init__(self, workspace: Path, times: int) -> None:
        self._workspace = workspace
        self._times = times
        self.server = ServerProcess(workspace).wait_ready()
        self.killed = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while self.killed < self._times and not self._over.wait(0.4):
            self.server.process.kill()
            self.server.process.wait()
            # Its children notice, drain and end; the next service waits for them.
            self.server = ServerProcess(self._workspace).wait_ready(90)
            self.killed += 1

    def __enter__(self) -> Restarting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.server.__exit__()


def paced(workspace: Restarting, make: object) -> Iterator[sp.StreamSignalsRequest]:
    """Batches, so slowly that the kills fall among them."""
    for number in range(BATCHES):
        if workspace.killed < 1 and number > BATCHES // 2:
            time.sleep(0.02)
        time.sleep(0.004)
        yield make(number)  # type: ignore[operator]


def prices(number: int) -> sp.StreamSignalsRequest:
    column = sp.SignalColumn(signal="price", floats=sp.FloatValues(values=[number] * ROWS))
    # Half of the ids are new, half are those of the batch before: order matters.
    ids = [f"i{number * ROWS // 2 + n}" for n in range(ROWS)]
    return sp.StreamSignalsRequest(
        batch=sp.WriteSignalsRequest(entity="item", ids=ids, columns=[column]), cursor=f"{number}"
    )


def prices_expected() -> dict[str, float]:
    found: dict[str, float] = {}
    for number in range(BATCHES):
        found.update({f"i{number * ROWS // 2 + n}": float(number) for n in range(ROWS)})
    return found


def test_nothing_is_lost_by_a_kill(workspace: Path) -> None:
    with Restarting(workspace, times=2) as service, Client(service.server.address) as client:
        answers = [a.cursor for a in client.stream(paced(service, prices), patience_s=90)]
        assert answers == [str(n) for n in range(BATCHES)]
        service._over.set()
        service._thread.join()
        assert service.killed >= 1
        stored = {i: v["price"] for page in client.scan("item") for i, v in page.rows()}
        assert stored == prices_expected()


async def test_nothing_is_lost_by_a_kill_seen_from_asyncio(workspace: Path) -> None:
    with Restarting(workspace, times=1) as service:
        async with AsyncClient(service.server.address) as client:
            answers = [a.cursor async for a in client.stream(paced(service, prices), patience_s=90)]
            assert answers == [str(n) for n in range(BATCHES)]
            service._over.set()
            service._thread.join()
            assert service.killed == 1
            stored = {i: v["price"] async for page in client.scan("item") for i, v in page.rows()}
            assert stored == prices_expected()


def clicks(number: int) -> sp.StreamSignalsRequest:
    column = sp.SignalColumn(signal="clicks", operation=sp.OPERATION_ADD, doubles=sp.DoubleValues(values=[1.0] * ROWS))
    batch = sp.WriteSignalsRequest(
        entity="item",
        ids=[f"i{n}" for n in range(ROWS)],
        columns=[column],
        unix_millis=[1_700_000_000_000],
        event_ids=[f"e{number}"] * ROWS,
    )
    return sp.StreamSignalsRequest(batch=batch, cursor=f"{number}")


def test_increments_are_counted_once(workspace: Path) -> None:
    with Restarting(workspace, times=2) as service, Client(service.server.address) as client:
        answers = [a.cursor for a in client.stream(paced(service, clicks), patience_s=90)]
        assert answers == [str(n) for n in range(BATCHES)]
        # All of it once more, as a client would whose own note of the cursor was lost.
        again = list(client.stream([clicks(n) for n in range(BATCHES)], patience_s=90))
        assert sum(a.result.repeated_count for a in again) == BATCHES * ROWS
        service._over.set()
        service._thread.join()
        assert service.killed >= 1
        stored = client.get_signals("item", [f"i{n}" for n in range(ROWS)], ["clicks"])
        assert list(stored.message.columns[0].doubles.values) == [BATCHES] * ROWS
