"""Servers as processes of their own: start, wait until serving, CPU and memory, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT_S = 120.0
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Running:
    """A serving process."""

    pid: int
    port: int
    ready_s: float
    """From spawning the process to the first SERVING (for servers without health: to the first connection)."""

    @property
    def target(self) -> str:
        """Its address for a channel."""
        return f"127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """CPU time of all its threads so far, user and system, in nanosecond resolution.

        The clock is the one clock_getcpuclockid(3) names: /proc/PID/stat counts in 10 ms ticks.
        """
        return time.clock_gettime((~self.pid << 3) | _CPUCLOCK_SCHED)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return psutil.Process(self.pid).memory_info().rss


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def pin(pid: int, core: int | None) -> None:
    """Keeps a process on one core, all its threads to come included; None: as it is."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


@contextlib.contextmanager
def running(command: Sequence[str], port: int, health_port: int | None, core: int | None) -> Iterator[Running]:
    """The process while the block runs; then SIGTERM, and SIGKILL for one that does not end."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        pin(process.pid, core)
        try:
            _wait_for_port(process, health_port or port)
            if health_port is not None:
                _wait_for_serving(f"127.0.0.1:{health_port}")
            yield Running(process.pid, port, time.perf_counter() - started)
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read()[-4000:])
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.perf_counter() + START_TIMEOUT_S
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it served")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.002)
    raise TimeoutError(f"nobody listens on port {port} after {START_TIMEOUT_S:g} s")


def _wait_for_serving(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=START_TIMEOUT_S)
        for status in watch:
            if status.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
    raise TimeoutError(f"{target} never said SERVING")


@contextlib.contextmanager
def rankd(workspace: Path, core: int | None = None) -> Iterator[Running]:
    """`rankd serve` of a workspace on free ports."""
    port, health_port = free_ports(2)
    command = [sys.executable, "-m", "rankd", "serve", str(workspace)]
    command += ["--listen", f"127.0.0.1:{port}", "--health-listen", f"127.0.0.1:{health_port}"]
    with running(command, port, health_port, core) as server:
        yield server


@contextlib.contextmanager
def echo(responses: Path, core: int | None = None) -> Iterator[Running]:
    """The bare server of echo_server.py; it answers method NAME with the bytes of responses/NAME."""
    (port,) = free_ports(1)
    script = Path(__file__).with_name("echo_server.py")
    with running([sys.executable, str(script), str(port), str(responses)], port, None, core) as server:
        yield server
