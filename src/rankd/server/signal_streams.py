"""StreamSignals and ScanSignals: many batches in, many pages out, neither held in memory as a whole.

    StreamSignals   read ─ decode ─┬─ few batches, few bytes ─┬─ write ─ answer
                                   └─ while one is written, the next are read

Batches are written one after the other: on every backend the later one is applied after the earlier. The server reads
on only while there is room, so that gRPC's flow control holds the client back. When the server ends, what was read is
still written and answered; then UNAVAILABLE says that the client is to go on elsewhere, or here in a moment.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc

from rankd.errors import Reason, RequestError, UnavailableError, Violation
from rankd.server import signal_codec as codec
from rankd.server.rpc import Call, parse
from rankd.server.signal_service import Checked, SignalService
from rankd.telemetry import names
from rankd.v1 import signals_pb2 as pb

MAX_AHEAD_BATCHES: Final = 4
"""Read of one stream and not answered yet."""
MAX_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""Of these batches; a larger one goes alone."""
MAX_CURSOR_BYTES: Final = 1_024

DEFAULT_PAGE_ROWS: Final = 1_000
FIRST_PAGE_ROWS: Final = 64
"""Until it is known what a row takes."""
PAGE_BYTES: Final = 1024 * 1024
"""About as much as a page takes, at most: gRPC's clients take 4 MiB by default."""

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
_DRAINING: Final = "the server is about to end: go on after the last answer, with another server or in a moment"


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch that is ready to be written."""

    checked: Checked
    cursor: str
    byte_count: int


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing more comes: why, or None for the client's own end."""

    error: BaseException | None


class _Ahead:
    """Reads batches of one stream ahead of their being written, within bounds."""

    def __init__(self, context: Any, service: SignalService, draining: asyncio.Event) -> None:
        self._context = context
        self._service = service
        self._draining = draining
        self._count = 0
        self._bytes = 0
        self._less = asyncio.Event()
        self._ready: asyncio.Queue[_Batch | _End] = asyncio.Queue()

    async def next(self) -> _Batch | _End:
        """In the order sent."""
        return await self._ready.get()

    def answered(self, batch: _Batch) -> None:
        """There is room for another."""
        self._count -= 1
        self._bytes -= batch.byte_count
        self._less.set()

    async def read(self) -> None:
        """Reads until the client ends, a batch is faulty, or the server is to end."""
        error: BaseException | None = None
        try:
            while (data := await self._message()) is not None:
                batch = self._decode(data)
                self._count += 1
                self._bytes += batch.byte_count
                self._ready.put_nowait(batch)
        except BaseException as caught:
            error = caught
        self._ready.put_nowait(_End(error))

    async def _message(self) -> bytes | None:
        """The next message; None: the client has sent all."""
        while self._count and (self._count >= MAX_AHEAD_BATCHES or self._bytes >= MAX_AHEAD_BYTES):
            self._less.clear()
            await self._unless_draining(self._less.wait())
        data = await self._unless_draining(self._context.read())
        return None if data is _EOF else data

    async def _unless_draining(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({task, draining}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise UnavailableError(_DRAINING)
        finally:
            draining.cancel()
            task.cancel()

    def _decode(self, data: bytes) -> _Batch:
        request = parse(pb.StreamSignalsRequest, data)
        size = len(request.cursor.encode())
        if size > MAX_CURSOR_BYTES:
            raise RequestError.one(Reason.LIMIT_EXCEEDED, "cursor", f"at most {MAX_CURSOR_BYTES} bytes", f"{size}")
        try:
            checked = self._service.check(request.batch)
        except RequestError as error:
            inside = [Violation(f"batch.{v.field}", v.expected, v.got) for v in error.violations]
            raise RequestError(error.reason, inside) from None
        return _Batch(checked, request.cursor, len(data))


class SignalStreams:
    """The streaming methods of rankd.v1.SignalService. `draining`: see Dispatcher."""

    def __init__(self, service: SignalService, draining: asyncio.Event) -> None:
        self._service = service
        self._draining = draining

    async def stream_signals(self, _: Any, context: Any, call: Call) -> None:
        """StreamSignals. A failure's ErrorInfo has the cursor of the last batch answered and how many were."""
        ahead = _Ahead(context, self._service, self._draining)
        reader = asyncio.ensure_future(ahead.read())
        progress = {"cursor": "", "answered_batches": "0"}
        rows = 0
        try:
            while isinstance(item := await ahead.next(), _Batch):
                answer = await self._service.write(item.checked)
                await context.write(pb.StreamSignalsResponse(cursor=item.cursor, response=answer).SerializeToString())
                ahead.answered(item)
                rows += answer.written_count
                progress = {"cursor": item.cursor, "answered_batches": str(int(progress["answered_batches"]) + 1)}
        finally:
            call.error_metadata.update(progress)
            if call.span is not None:
                call.attributes |= {names.BATCHES: int(progress["answered_batches"]), names.ROWS: rows}
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        if isinstance(item.error, asyncio.CancelledError):
            # gRPC says so to whoever reads from a call that is gone; it cancels this task, too, in its own time.
            await asyncio.Event().wait()
        if item.error is not None:
            raise item.error

    async def scan_signals(self, data: bytes, context: Any, call: Call) -> None:
        """ScanSignals. Nothing is held between two pages but where to go on."""
        service = self._service
        request = parse(pb.ScanSignalsRequest, data)
        entity = codec.find_entity(service.store.schema, request.entity)
        wanted = codec.check_signal_names(request.signals, entity)
        most = self._page_rows(request.page_rows)
        rows, cursor, pages, sent = min(most, FIRST_PAGE_ROWS), request.cursor, 0, 0
        try:
            while True:
                page = await service.store.scan(entity.name, wanted, cursor, rows, time.time())
                cursor = page.cursor
                if page.ids or not cursor:
                    found = codec.encode_rows(page.ids, page.rows, entity)
                    message = pb.ScanSignalsResponse(rows=found, cursor=cursor).SerializeToString()
                    await context.write(message)
                    pages, sent = pages + 1, sent + len(page.ids)
                    call.error_metadata["cursor"] = cursor
                    by_size = int(PAGE_BYTES * max(1, len(page.ids)) / len(message))
                    # At most four times as many as before: rows may differ.
                    rows = max(1, min(most, by_size, 4 * rows))
                if not cursor:
                    return
                if self._draining.is_set():
                    raise UnavailableError(_DRAINING)
                # A client that is quick must not keep the loop to itself.
                await asyncio.sleep(0)
        finally:
            if call.span is not None:
                call.attributes |= {names.ENTITY: entity.name, names.BATCHES: pages, names.ROWS: sent}

    def _page_rows(self, wanted: int) -> int:
        most = self._service.limits.max_write_rows
        if wanted > most:
            raise RequestError.one(Reason.LIMIT_EXCEEDED, "page_rows", f"at most {most}", f"{wanted}")
        return wanted or min(DEFAULT_PAGE_ROWS, most)
