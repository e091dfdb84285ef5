"""`stream` and `scan` of AsyncClient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc

from rankd.client.connections import Connection, Connections
from rankd.client.errors import RankdRpcError, ServerUnavailableError, from_rpc_error
from rankd.client.signals import Acknowledged, ScannedPage
from rankd.client.streaming import Patience, Unanswered
from rankd.v1.signals_pb2 import ScanSignalsRequest, StreamSignalsRequest

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it

_WRITTEN_TO_LATE: Final = "Internal error from Core"
"""What grpc.aio makes of a write to a call that has just ended, in place of the status it ended with."""

Leave = Callable[[Connection[Any], bool | None], None]
"""Gives a connection back."""


class _Source:
    """The caller's batches: the next is being asked for while answers come."""

    def __init__(self, requests: AsyncIterator[StreamSignalsRequest]) -> None:
        self._requests = requests
        self._asked: asyncio.Future[StreamSignalsRequest | None] | None = None
        self.is_all = False

    def ask(self) -> asyncio.Future[StreamSignalsRequest | None]:
        """The next batch or None, when it is there; the same until it has been taken."""
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._next())
        return self._asked

    async def _next(self) -> StreamSignalsRequest | None:
        return await anext(self._requests, None)

    def take(self) -> StreamSignalsRequest | None:
        """What `ask` has given. What the caller's iterator raised."""
        assert self._asked is not None
        asked, self._asked = self._asked, None
        request = asked.result()
        self.is_all = request is None
        return request

    def close(self) -> None:
        if self._asked is not None:
            self._asked.cancel()


async def stream(
    connections: Connections[Any],
    leave: Leave,
    requests: AsyncIterator[StreamSignalsRequest],
    patience_s: float,
    metadata: Any,
) -> AsyncIterator[Acknowledged]:
    """See Client.stream."""
    source, unanswered, patience = _Source(requests), Unanswered(), Patience(patience_s)
    connection: Connection[Any] | None = None
    try:
        while True:
            connection = connections.take(connection)
            is_reached: bool | None = None
            call = connection.methods["StreamSignals"](metadata=metadata)
            try:
                async for acknowledged in _session(call, source, unanswered, patience):
                    is_reached = True
                    yield acknowledged
                return
            except grpc.RpcError as error:
                found = _why(error)
                is_reached = found.code is not grpc.StatusCode.UNAVAILABLE or found.reason is not None
                pause_s = patience.pause_s(found)
            finally:
                call.cancel()
                leave(connection, is_reached)
            await asyncio.sleep(pause_s)
    finally:
        source.close()


async def _session(
    call: Any, source: _Source, unanswered: Unanswered, patience: Patience
) -> AsyncIterator[Acknowledged]:
    """Until all is answered. grpc.RpcError when the connection is lost."""
    sending = asyncio.ensure_future(_send(call, unanswered.all(), source.is_all))
    reading: asyncio.Future[Any] = asyncio.ensure_future(call.read())
    try:
        while not source.is_all or len(unanswered):
            waiting: set[asyncio.Future[Any]] = {reading}
            is_sent = sending.done()
            if not is_sent:
                waiting.add(sending)
            elif not source.is_all and unanswered.has_room:
                waiting.add(source.ask())
            # Nobody waits for the server while there is nothing to answer.
            left_s = patience.left_s if len(unanswered) else None
            done, _ = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise patience.too_late()
            if reading in done:
                answer = reading.result()
                if answer is _EOF:
                    text = f"the server ended with {len(unanswered)} batches unanswered"
                    raise RankdRpcError(grpc.StatusCode.INTERNAL, text)
                reading = asyncio.ensure_future(call.read())
                patience.progressed()
                yield unanswered.answered(answer)
            elif sending in done:
                sending.result()
            elif source.ask() in done:
                request = source.take()
                if not len(unanswered):
                    patience.progressed()
                new = [] if request is None else [unanswered.add(request)]
                sending = asyncio.ensure_future(_send(call, new, source.is_all))
    finally:
        for task in (sending, reading):
            task.cancel()
        # So that what they raised is taken notice of.
        await asyncio.gather(sending, reading, return_exceptions=True)


def _why(error: Any) -> RankdRpcError:
    """Why a call ended."""
    found = from_rpc_error(error)
    if found.code is grpc.StatusCode.INTERNAL and found.reason is None and found.message == _WRITTEN_TO_LATE:
        return ServerUnavailableError(grpc.StatusCode.UNAVAILABLE, "the connection was lost")
    return found


async def _send(call: Any, requests: Sequence[StreamSignalsRequest], is_all: bool) -> None:
    try:
        for request in requests:
            await call.write(request)
        if is_all:
            await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the call has ended; reading says why


async def scan(
    connections: Connections[Any], leave: Leave, request: ScanSignalsRequest, patience_s: float, metadata: Any
) -> AsyncIterator[ScannedPage]:
    """See Client.scan."""
    patience = Patience(patience_s)
    connection: Connection[Any] | None = None
    while True:
        connection = connections.take(connection)
        is_reached: bool | None = None
        # A time for the call, not for a page: a connection that went silent is noticed, and a scan is cheap to take up.
        call = connection.methods["ScanSignals"](request, timeout=patience_s, metadata=metadata)
        has_come = False
        try:
            async for page in call:
                has_come = is_reached = True
                yield ScannedPage(page)
                patience.progressed()
                request.cursor = page.cursor
                if not page.cursor:
                    return
            raise RankdRpcError(grpc.StatusCode.INTERNAL, "the server ended a scan before its end")
        except grpc.RpcError as error:
            found = _why(error)
            is_reached = found.code is not grpc.StatusCode.UNAVAILABLE or found.reason is not None
            pause_s = 0.0 if found.code is grpc.StatusCode.DEADLINE_EXCEEDED and has_come else patience.pause_s(found)
        finally:
            call.cancel()
            leave(connection, is_reached)
        await asyncio.sleep(pause_s)
