"""Callers that send one call at a time and read the server's CPU before and after a block of them."""

from __future__ import annotations

import http.client
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
from bench.processes import Running

from path.effort import BLOCK_CALLS


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a call, in seconds. `cpu_s`: of the processes that answer; `all_cpu_s`: of whatever they have started, too;
    `wall_s`: the caller's wait."""

    cpu_s: float
    all_cpu_s: float
    wall_s: float


class Caller(Protocol):
    """One connection to one server."""

    server: Running

    def call(self, request: bytes) -> bytes: ...
    def close(self) -> None: ...


class GrpcCaller:
    """Bytes to a method and back."""

    def __init__(self, server: Running, method: str) -> None:
        self.server = server
        options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(server.target, options)
        self._method = self._channel.unary_unary(method)

    def call(self, request: bytes) -> bytes:
        """Raises grpc.RpcError."""
        return self._method(request, timeout=30.0)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


class HttpCaller:
    """JSON posted over one connection that is kept open."""

    def __init__(self, server: Running, path: str) -> None:
        self.server = server
        self._path = path
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)

    def call(self, request: bytes) -> bytes:
        """RuntimeError if the answer is not 200."""
        self._connection.request("POST", self._path, request, {"content-type": "application/json"})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {body[:500]!r}")
        return body

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class Block:
    """Calls of some requests in turn, as many as fill `block_s`."""

    def __init__(self, caller: Caller, requests: Sequence[bytes], block_s: float) -> None:
        self._caller = caller
        self._requests = itertools.cycle(requests)
        self.calls = BLOCK_CALLS
        self.measure()  # warms up
        self.calls = max(BLOCK_CALLS, int(block_s / self.measure().wall_s))

    def measure(self) -> Cost:
        """What a call of one block costs."""
        server, calls = self._caller.server, self.calls
        requests = list(itertools.islice(self._requests, calls))
        cpu, everything, wall = server.cpu_s(), server.all_cpu_s(), time.perf_counter()
        for request in requests:
            self._caller.call(request)
        wall = time.perf_counter() - wall
        return Cost((server.cpu_s() - cpu) / calls, (server.all_cpu_s() - everything) / calls, wall / calls)


def thread_cpu_s(work: Callable[[int], object], block_s: float) -> float:
    """CPU of this thread for one piece of work, over as many as fill block_s; `work` gets the number of the piece."""
    started, count = time.thread_time(), 0
    while time.thread_time() - started < block_s or count < BLOCK_CALLS:
        work(count)
        count += 1
    return (time.thread_time() - started) / count
