"""SignalKeeper: lets other processes of the machine write through this process's store.

    worker ─ Unix socket ─ frames ─ check ─ EmbeddedStore.write ─ published ─ answer

They read the tables themselves. What is answered is published: whoever reads after that, in whatever process, sees it.
A client may have so much on its way and no more is read from it until that is done; one that sends what is no request
is disconnected; what a client sent before it died goes through.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Final, Protocol

from rankd.errors import RankdError, RequestError, StoreError, StoreFullError, UnavailableError
from rankd.limits import MAX_STRING_BYTES
from rankd.signals.categories import CategoryTable
from rankd.signals.check import check_batch
from rankd.signals.declared import Document
from rankd.signals.frames import (
    HELLO,
    PROTOCOL,
    REQUEST,
    Answer,
    Codes,
    Count,
    Counts,
    Delete,
    Done,
    Failed,
    Forget,
    FrameError,
    Hello,
    Intern,
    Request,
    Welcome,
    Write,
    Written,
    decode,
    frame_of,
    pack_result,
    read_frame,
    unpack_batch,
)
from rankd.signals.store import SignalStore
from rankd.signals.write_counts import WriteCounts

MAX_CLIENTS: Final = 1_024
MAX_CLIENT_REQUESTS: Final = 256
MAX_CLIENT_BYTES: Final = 64 * 1024**2
"""Of the frames of one client that are on their way; a larger one goes alone."""

_HELLO_BYTES: Final = 1_024
_HELLO_S: Final = 10.0
_BACKLOG: Final = 128
_BUFFER_BYTES: Final = 1 << 20

_LOG = logging.getLogger(__name__)


class _Client:
    """A connection, and what is on its way for it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._requests = 0
        self._bytes = 0
        self._less = asyncio.Event()
        self.answering: set[asyncio.Task[None]] = set()

    async def admit(self, byte_count: int) -> None:
        """Waits until so many bytes more may be on their way."""
        while self._requests and (self._requests >= MAX_CLIENT_REQUESTS or self._bytes + byte_count > MAX_CLIENT_BYTES):
            self._less.clear()
            await self._less.wait()
        self._requests += 1
        self._bytes += byte_count

    def dismiss(self, byte_count: int) -> None:
        self._requests -= 1
        self._bytes -= byte_count
        self._less.set()

    async def send(self, answer: Answer | Welcome) -> None:
        """Waits until the client has taken most of what was sent; says nothing if it is gone."""
        try:
            self._writer.write(frame_of(answer))
            await self._writer.drain()
        except ConnectionError:
            pass


class KeptStore(SignalStore, Protocol):
    """A store that writes this machine's tables."""

    @property
    def categories(self) -> CategoryTable: ...

    @property
    def kept(self) -> Document:
        """What the tables hold beside what is declared, see signals.declared.with_kept."""


class SignalKeeper:
    """Serves one store, which stays its caller's, on one event loop."""

    def __init__(self, store: KeptStore, socket_path: Path) -> None:
        self._store = store
        self._path = socket_path
        self.counts = WriteCounts()
        self._server: asyncio.Server | None = None
        self._is_closing = False
        self._serving: dict[asyncio.Task[None], _Client] = {}

    @property
    def client_count(self) -> int:
        """Connections; a process that compiles profiles may have two."""
        return len(self._serving)

    async def start(self) -> None:
        """Listens. A socket that was there is replaced: the tables' one writer is this process. StoreError."""
        try:
            listening = _bind(self._path)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, backlog=_BACKLOG, limit=_BUFFER_BYTES
            )
        except OSError as error:
            raise StoreError(f"the keeper of signals cannot listen on {self._path}: {error}") from error

    async def close(self) -> None:
        """Reads no more, finishes what is on its way, and closes connections. The store stays open."""
        if self._server is None or self._is_closing:
            return
        self._is_closing = True
        self._server.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client = _Client(writer)
        try:
            if self._is_closing or len(self._serving) >= MAX_CLIENTS:
                return
            self._serving[task] = client
            if await self._greet(client, reader):
                while True:
                    await self._next(client, reader)
        except FrameError as error:
            _LOG.warning("a client of the signal keeper sent what is no request and was disconnected: %s", error)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
        finally:
            if client.answering:
                await asyncio.wait(client.answering)
            self._serving.pop(task, None)
            writer.close()

    async def _greet(self, client: _Client, reader: asyncio.StreamReader) -> bool:
        async with asyncio.timeout(_HELLO_S):
            hello: Hello = decode(HELLO, await read_frame(reader, _HELLO_BYTES))
        if hello.protocol != PROTOCOL:
            await client.send(Failed(0, "store", f"the signal keeper speaks protocol {PROTOCOL}, not {hello.protocol}"))
            return False
        if hello.schema != self._store.schema.version:
            await client.send(
                Failed(0, "store", f"the signal keeper has schema {self._store.schema.version}, not {hello.schema}")
            )
            return False
        tables = self._store.tables
        await client.send(Welcome(PROTOCOL, tables.directory, tables.set_id, self._store.kept))
        return True

    async def _next(self, client: _Client, reader: asyncio.StreamReader) -> None:
        data = await read_frame(reader)
        await client.admit(len(data))
        try:
            request = decode(REQUEST, data)
            answering = asyncio.create_task(self._answer(client, request, len(data)))
        except BaseException:
            client.dismiss(len(data))
            raise
        client.answering.add(answering)
        answering.add_done_callback(client.answering.discard)

    async def _answer(self, client: _Client, request: Request, byte_count: int) -> None:
        try:
            await client.send(await self._do(request))
        finally:
            client.dismiss(byte_count)

    async def _do(self, request: Request) -> Answer:
        number = request.number
        try:
            match request:
                case Write():
                    return await self._write(request)
                case Delete():
                    if request.entity not in self._store.schema.entities:
                        raise StoreError(f"no entity {request.entity[:64]}")
                    deleted = await self._store.delete(request.entity, request.ids)
                    self.counts.add(request.entity, deleted=deleted)
                    return Done(number, deleted)
                case Forget():
                    forgotten = dict(await self._store.forget(request.user_id))
                    for entity, count in forgotten.items():
                        self.counts.add(entity, deleted=count)
                    return Counts(number, forgotten)
                case Intern():
                    return Codes(number, self._intern(request.texts))
                case Count():
                    return Counts(number, dict(self._store.row_counts()))
        except StoreFullError as error:
            return Failed(number, "full", str(error))
        except UnavailableError as error:
            return Failed(number, "unavailable", str(error))
        except RankdError as error:
            return Failed(number, "store", str(error))
        except Exception as error:
            _LOG.error("a request to the signal keeper failed", exc_info=error)
            return Failed(number, "internal", f"the signal keeper failed: {type(error).__name__}")

    async def _write(self, write: Write) -> Written:
        """Checks again what the client checked: the tables are everybody's."""
        try:
            batch = unpack_batch(self._store.schema, write)
            check_batch(self._store.schema, batch)
        except (FrameError, RequestError) as error:
            raise StoreError(f"the signal keeper was sent a batch that is none: {error}") from error
        result = await self._store.write(batch)
        self.counts.add_result(batch.entity, result)
        return pack_result(write.number, result)

    def _intern(self, texts: list[str]) -> list[int]:
        if any(len(text.encode()) > MAX_STRING_BYTES for text in texts):
            raise StoreError(f"expected texts of at most {MAX_STRING_BYTES} bytes")
        codes: list[int] = self._store.categories.intern_all(texts).tolist()
        return codes


def _bind(path: Path) -> socket.socket:
    """A socket that is its owner's alone from the first moment: it is made in that mode, not given it. OSError."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound
