"""`stream` and `scan` of Client: with threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import grpc

from rankd.client.connections import Connection, Connections
from rankd.client.errors import RankdRpcError, from_rpc_error
from rankd.client.signals import Acknowledged, ScannedPage
from rankd.client.streaming import Patience, Unanswered
from rankd.v1.signals_pb2 import ScanSignalsRequest, ScanSignalsResponse, StreamSignalsRequest, StreamSignalsResponse

_END = object()


class _Session:
    """One StreamSignals call. A thread of its own takes the answers, so that they can be waited for, for a time."""

    def __init__(self, method: Callable[..., Any], metadata: Any) -> None:
        self._requests: queue.SimpleQueue[StreamSignalsRequest | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = method(iter(self._requests.get, None), metadata=metadata)
        threading.Thread(target=self._receive, name="rankd-stream", daemon=True).start()

    def _receive(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except BaseException as error:
            self._answers.put(error)
        else:
            self._answers.put(_END)

    def send(self, request: StreamSignalsRequest | None) -> None:
        """None: that was all."""
        self._requests.put(request)

    def answer(self, timeout_s: float) -> StreamSignalsResponse | None:
        """The next answer, or None: the server has answered all. queue.Empty if none came in time; RpcError."""
        found = self._answers.get(timeout=timeout_s) if timeout_s else self._answers.get_nowait()
        if isinstance(found, BaseException):
            raise found
        return None if found is _END else found

    def close(self) -> None:
        self._call.cancel()
        # What gRPC's thread waits for.
        self._requests.put(None)


class Opened:
    """A call on a connection, given back once."""

    def __init__(self, connections: Connections[Any], after: Connection[Any] | None) -> None:
        self._connections = connections
        self.connection = connections.take(after)

    def leave(self, is_reached: bool | None) -> None:
        for channel in self._connections.done(self.connection, is_reached):
            channel.close()


def stream(
    connections: Connections[Any], requests: Iterable[StreamSignalsRequest], patience_s: float, metadata: Any
) -> Iterator[Acknowledged]:
    """See Client.stream."""
    source, unanswered, patience = iter(requests), Unanswered(), Patience(patience_s)
    is_all = False
    opened: Opened | None = None
    while True:
        opened = Opened(connections, opened.connection if opened is not None else None)
        session = _Session(opened.connection.methods["StreamSignals"], metadata)
        is_reached: bool | None = None
        try:
            for request in unanswered.all():
                session.send(request)
            if is_all:
                session.send(None)
            while not is_all or len(unanswered):
                if not is_all and unanswered.has_room:
                    # The time that the caller takes to make a batch is not the server's.
                    new = next(source, None)
                    patience.progressed()
                    is_all = new is None
                    session.send(new if new is None else unanswered.add(new))
                must_wait = len(unanswered) and (is_all or not unanswered.has_room)
                with suppress(queue.Empty):
                    while len(unanswered):
                        answer = session.answer(patience.left_s if must_wait else 0)
                        acknowledged = _take(unanswered, answer)
                        patience.progressed()
                        is_reached, must_wait = True, False
                        yield acknowledged
                if must_wait:
                    raise patience.too_late()
            return
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            is_reached = found.code is not grpc.StatusCode.UNAVAILABLE or found.reason is not None
            pause_s = patience.pause_s(found)
        finally:
            session.close()
            opened.leave(is_reached)
        time.sleep(pause_s)


def _take(unanswered: Unanswered, answer: StreamSignalsResponse | None) -> Acknowledged:
    if answer is None:
        raise RankdRpcError(grpc.StatusCode.INTERNAL, f"the server ended with {len(unanswered)} batches unanswered")
    return unanswered.answered(answer)


def scan(
    connections: Connections[Any], request: ScanSignalsRequest, patience_s: float, metadata: Any
) -> Iterator[ScannedPage]:
    """See Client.scan."""
    patience = Patience(patience_s)
    opened: Opened | None = None
    while True:
        opened = Opened(connections, opened.connection if opened is not None else None)
        is_reached: bool | None = None
        # A time for the call, not for a page: a connection that went silent is noticed, and a scan is cheap to take up.
        call = opened.connection.methods["ScanSignals"](request, timeout=patience_s, metadata=metadata)
        has_come = False
        try:
            page: ScanSignalsResponse
            for page in call:
                has_come = is_reached = True
                yield ScannedPage(page)
                patience.progressed()
                request.cursor = page.cursor
                if not page.cursor:
                    return
            raise RankdRpcError(grpc.StatusCode.INTERNAL, "the server ended a scan before its end")
        except grpc.RpcError as error:
            found = from_rpc_error(error)
            is_reached = found.code is not grpc.StatusCode.UNAVAILABLE or found.reason is not None
            pause_s = 0.0 if found.code is grpc.StatusCode.DEADLINE_EXCEEDED and has_come else patience.pause_s(found)
        finally:
            call.cancel()
            opened.leave(is_reached)
        time.sleep(pause_s)
