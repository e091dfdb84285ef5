"""The client and a service of several workers, of which one after the other ends: no call fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.serving import ServerProcess

from rankd.client import AsyncClient, RankdRpcError

WORKSPACE = """
version: 1
schema:
  item: {price: f32}
profiles:
  search:
    features: {price: item.price}
    base: coalesce(price, 0)
server:
  listen: 127.0.0.1:0
  health_listen: 127.0.0.1:0
  data_dir: null
  drain_seconds: 1
  workers: 2
"""
CALLS_AT_A_TIME = 8


def workers(server: ServerProcess) -> dict[str, dict[str, Any]]:
    """What `rankd status` says of the workers, by name."""
    command = [sys.executable, "-m", "rankd", "status", str(server.directory), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return {row["name"]: row for row in json.loads(said.stdout)["processes"] if row["role"] == "worker"}


async def until_replaced(server: ServerProcess, name: str, pid: int) -> None:
    """Until another process serves in its place."""
    for _ in range(300):
        row = (await asyncio.to_thread(workers, server))[name]
        if row["pid"] not in (pid, None) and row["state"] == "serving":
            return
        await asyncio.sleep(0.1)
    pytest.fail("".join(server.log))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_workers_that_end_fail_no_call(tmp_path: Path, number: int) -> None:
    (tmp_path / "rankd.yaml").write_text(WORKSPACE)
    done, failures, stop = 0, [], asyncio.Event()
    with ServerProcess(tmp_path, RANKD_SERVER__WORKERS="2") as server:
        await asyncio.to_thread(server.wait_ready)
        async with AsyncClient(server.address, timeout_s=10) as client:

            async def calls() -> None:
                nonlocal done
                while not stop.is_set():
                    try:
                        await client.rank("search", ["a", "b"])
                        done += 1
                    except RankdRpcError as error:
                        failures.append(str(error))

            running = [asyncio.ensure_future(calls()) for _ in range(CALLS_AT_A_TIME)]
            for name in ("worker 1", "worker 2"):
                pid = (await asyncio.to_thread(workers, server))[name]["pid"]
                os.kill(pid, number)
                await until_replaced(server, name, pid)
            stop.set()
            await asyncio.gather(*running)
    assert failures == []
    assert done > 100
