"""Servers as processes of their own: start, wait until serving, CPU and memory by role, stop, kill.

Whatever is started here ends with the block that started it, and with the benchmark itself if that dies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_CPUCLOCK_SCHED = 2
_ENDS_WITH_PARENT = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
_HERE = Path(__file__).resolve().parent


def cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, user and system, in nanosecond resolution.

    The clock is the one clock_getcpuclockid(3) names: /proc/PID/stat counts in 10 ms ticks.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def pss_bytes(pid: int) -> int:
    """Proportional set size: a page that n processes map counts as 1/n of it in each."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid}: no Pss in smaps_rollup")


@dataclass(slots=True)
class Running:
    """A serving process, and those it has started.

    Roles are told by what each listens on: workers by `port`, the keeper by `health_port` alone.
    """

    process: subprocess.Popen[bytes]
    port: int
    health_port: int | None = None
    ready_s: float = 0.0
    """From spawning the process to the first SERVING (for servers without health: to the first connection)."""
    worker_pids: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self.process.pid

    @property
    def target(self) -> str:
        """Its address for a channel."""
        return f"127.0.0.1:{self.port}"

    @property
    def health_target(self) -> str:
        """Where health is asked."""
        return f"127.0.0.1:{self.health_port or self.port}"

    def pids(self) -> list[int]:
        """Of all processes: this one and those it has started."""
        return [self.pid, *[child.pid for child in psutil.Process(self.pid).children(recursive=True)]]

    def find_workers(self) -> list[int]:
        """The processes that listen on `port` now; kept in `worker_pids`."""
        self.worker_pids = [pid for pid in self.pids() if self.port in _listening(pid)]
        return self.worker_pids

    def cpu_s(self) -> float:
        """Of the workers: what answers calls."""
        return sum(cpu_s(pid) for pid in self.worker_pids)

    def all_cpu_s(self) -> float:
        """Of all processes."""
        return sum(cpu_s(pid) for pid in self.pids())

    def rss_bytes(self) -> int:
        """Resident memory of all processes now; shared pages count once in each."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self.pids())

    def stop(self) -> float:
        """SIGTERM, then SIGKILL for one that does not end. Seconds that it took."""
        started = time.perf_counter()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.perf_counter() - started

    def kill(self) -> None:
        """SIGKILL to all processes at once: what was not written down is lost."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for pid in reversed(self.pids()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _listening(pid: int) -> set[int]:
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def cores() -> tuple[int | None, int | None]:
    """(the servers' core, the callers'), of those this process may use; (None, None) with only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def pin(pid: int, core: int | None) -> None:
    """Keeps a process on one core, all its threads to come included; None: as it is."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """The calling thread, and what it starts, on one core while the block runs; None: as it is."""
    usable = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def start(
    command: Sequence[str],
    port: int,
    health_port: int | None,
    core: int | None,
    *,
    said: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Running:
    """Spawns it and waits until it serves. What it says goes to `said`."""
    started = time.perf_counter()
    with on_core(core):
        process = subprocess.Popen(
            [*_ENDS_WITH_PARENT, *command], stdin=subprocess.DEVNULL, stdout=said or subprocess.DEVNULL,
            stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    server = Running(process, port, health_port)
    try:
        _wait_for_port(process, health_port or port)
        if health_port is not None:
            _wait_for_serving(process, f"127.0.0.1:{health_port}")
        server.ready_s = time.perf_counter() - started
        server.find_workers()
    except BaseException:
        if process.poll() is None:
            server.kill()
        raise
    return server


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    health_port: int | None,
    core: int | None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """The process while the block runs. If anything fails, the end of what it said goes to standard error."""
    with tempfile.TemporaryFile() as said:
        server = None
        try:
            server = start(command, port, health_port, core, said=said, environment=environment)
            yield server
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            if server is not None:
                server.stop()


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


def _wait_for_serving(process: subprocess.Popen[bytes], target: str) -> None:
    """Watches; again if the watch ends, because what answers health may itself be started anew."""
    deadline = time.perf_counter() + START_TIMEOUT_S
    while (left_s := deadline - time.perf_counter()) > 0:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it served")
        with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            request = health_pb2.HealthCheckRequest()
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=left_s, wait_for_ready=True)
            with contextlib.suppress(grpc.RpcError):
                for status in watch:
                    if status.status == health_pb2.HealthCheckResponse.SERVING:
                        watch.cancel()
                        return
        time.sleep(0.01)
    raise TimeoutError(f"{target} never said SERVING")


def rankd_command(workspace: Path, port: int, health_port: int, workers: int = 1) -> list[str]:
    """`rankd serve` of a workspace."""
    command = [sys.executable, "-m", "rankd", "serve", str(workspace), "--listen", f"127.0.0.1:{port}"]
    return [*command, "--health-listen", f"127.0.0.1:{health_port}", "--workers", str(workers)]


@contextlib.contextmanager
def rankd(workspace: Path, core: int | None = None, workers: int = 1) -> Iterator[Running]:
    """`rankd serve` of a workspace on free ports."""
    port, health_port = free_ports(2)
    with running(rankd_command(workspace, port, health_port, workers), port, health_port, core) as server:
        yield server


@contextlib.contextmanager
def echo(responses: Path, core: int | None = None, work_s: float = 0.0) -> Iterator[Running]:
    """The bare server of echo_server.py: method NAME answers the bytes of responses/NAME, after `work_s` of CPU."""
    (port,) = free_ports(1)
    script = str(_HERE / "echo_server.py")
    with running([sys.executable, script, str(port), str(responses), str(work_s)], port, None, core) as server:
        yield server
