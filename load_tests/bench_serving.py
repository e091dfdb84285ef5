"""What the event loop and tracing cost: server CPU per Rank, all choices in one alternating run.

    python load_tests/bench_serving.py [--rounds 15] [--calls 400] [--concurrency 1] [--candidates 100]

One server process per choice, all of the same workspace; each round sends every server the same
block of calls, in an order drawn anew, so that a busy machine disturbs all alike. Printed per choice: the median
over rounds of CPU per call (user + system, as the kernel counts it) and of the call's wall time.
The last line is JSON. It measures; it does not judge.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil

from rankd.telemetry.receiver import TraceReceiver
from rankd.v1 import ranking_pb2 as pb

WORKSPACE = """
version: 1
schema:
  item: {price: f32}
profiles:
  search:
    columns: [bm25]
    features: {bm25: column.bm25, price: item.price, both: "column.bm25 * log1p(coalesce(item.price, 1))"}
    base: both
server: {listen: "127.0.0.1:0", health_listen: "127.0.0.1:0", data_dir: null, drain_seconds: 0, workers: 1}
"""


def choices(endpoint: str) -> dict[str, dict[str, str]]:
    """The environment of each server."""

    def traced(ratio: float) -> dict[str, str]:
        return {
            "RANKD_SERVER__EVENT_LOOP": "uvloop",
            "RANKD_TRACING__OTLP_ENDPOINT": endpoint,
            "RANKD_TRACING__SAMPLE_RATIO": str(ratio),
        }

    return {
        "asyncio, tracing off": {"RANKD_SERVER__EVENT_LOOP": "asyncio"},
        "uvloop, tracing off": {"RANKD_SERVER__EVENT_LOOP": "uvloop"},
        "uvloop, none sampled": traced(0.0),
        "uvloop, 1 % sampled": traced(0.01),
        "uvloop, all sampled": traced(1.0),
    }


class Server:
    """A server process and a channel to it."""

    def __init__(self, directory: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rankd", "serve", directory],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if match := re.search(r"serving on (\S+),", line):
                break
        else:
            sys.exit("".join(lines))
        self.channel = grpc.insecure_channel(match[1])
        self.rank: Any = self.channel.unary_unary("/rankd.v1.RankingService/Rank")

    def cpu_s(self) -> float:
        """CPU time of all threads and children so far. From the scheduler: /proc/PID/stat counts only whole 10 ms."""
        pids = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())]
        tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def block(self, data: bytes, calls: int, concurrency: int) -> tuple[float, float]:
        """CPU and wall microseconds per call, `concurrency` calls at a time."""
        cpu, wall = self.cpu_s(), time.perf_counter()
        for _ in range(calls // concurrency):
            for call in [self.rank.future(data) for _ in range(concurrency)]:
                call.result()
        return (self.cpu_s() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=100)
    arguments = parser.parse_args()
    ids = [f"sku-{i:06d}" for i in range(arguments.candidates)]
    column = pb.Column(name="bm25", values=np.random.default_rng(0).random(len(ids)).tolist())
    data = pb.RankRequest(profile="search", candidates=pb.Candidates(ids=ids, columns=[column])).SerializeToString()
    with tempfile.TemporaryDirectory() as directory, TraceReceiver(keep=1) as receiver:
        Path(directory, "rankd.yaml").write_text(WORKSPACE)
        servers = {name: Server(directory, env) for name, env in choices(receiver.endpoint).items()}
        cpu: dict[str, list[float]] = {name: [] for name in servers}
        wall: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(arguments.rounds + 1):
            for name in random.sample(list(servers), len(servers)):
                cpu_us, wall_us = servers[name].block(data, arguments.calls, arguments.concurrency)
                if number:  # the first round warms up
                    cpu[name].append(cpu_us)
                    wall[name].append(wall_us)
        for server in servers.values():
            server.stop()
    figures = {
        name: {"cpu_us": round(statistics.median(cpu[name]), 1), "wall_us": round(statistics.median(wall[name]), 1)}
        for name in servers
    }
    print(f"{'':24} {'CPU µs/call':>12} {'wall µs/call':>13}")
    for name, figure in figures.items():
        print(f"{name:24} {figure['cpu_us']:>12} {figure['wall_us']:>13}")
    print(json.dumps({"bench": "serving", "candidates": arguments.candidates, "figures": figures}))


if __name__ == "__main__":
    main()
