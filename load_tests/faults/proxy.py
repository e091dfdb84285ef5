"""A TCP proxy that makes faults: stands before a real server and is slow, silent, cuts replies, or refuses.

    async with FaultProxy("127.0.0.1", 6379) as proxy:
        client(port=proxy.port)
        proxy.faults = Faults(delay_s=0.05)

Faults apply from their setting on, to connections that are open, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from types import TracebackType

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Faults:
    """`delay_s`: every reply's bytes come so much later. `cut_after`: the connection is cut after so many more bytes of
    replies. `is_black_hole`: nothing passes; connections are accepted. `is_refusing`: connections are cut at once, new
    ones too. `bytes_per_s`: replies come in small pieces, no faster."""

    delay_s: float = 0.0
    cut_after: int | None = None
    is_black_hole: bool = False
    is_refusing: bool = False
    bytes_per_s: float | None = None


class FaultProxy:
    """Listens on `port` of 127.0.0.1 while it is entered. `connections`: accepted so far; `cuts`: made so far."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._faults = Faults()
        self._changed = asyncio.Event()
        self._passed = 0
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.connections = 0
        self.cuts = 0

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._passed = 0
        self._changed.set()
        self._changed = asyncio.Event()
        if faults.is_refusing:
            self.cut()

    def cut(self) -> None:
        """Cuts all open connections."""
        for task in self._open:
            task.cancel()

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._faults.is_refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            replies, upstream = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, upstream, is_reply=False))
                group.create_task(self._pass_on(replies, writer, is_reply=True))
        except* (OSError, asyncio.CancelledError, _Ended):
            pass
        finally:
            self._open.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_reply: bool) -> None:
        while data := await reader.read(_READ_BYTES):
            while self._faults.is_black_hole:
                await self._changed.wait()
            if is_reply:
                await self._reply(data, writer)
            else:
                writer.write(data)
                await writer.drain()
        raise _Ended

    async def _reply(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        faults = self._faults
        if faults.delay_s:
            with contextlib.suppress(TimeoutError):  # until the faults change
                await asyncio.wait_for(self._changed.wait(), faults.delay_s)
        if faults.cut_after is not None and self._passed + len(data) > faults.cut_after:
            writer.write(data[: max(0, faults.cut_after - self._passed)])
            self._passed += len(data)
            self.cuts += 1
            await writer.drain()
            raise _Ended
        self._passed += len(data)
        if faults.bytes_per_s is None:
            writer.write(data)
            await writer.drain()
            return
        piece = max(1, round(faults.bytes_per_s / 100))
        for at in range(0, len(data), piece):
            writer.write(data[at : at + piece])
            await asyncio.sleep(piece / faults.bytes_per_s)


class _Ended(Exception):
    """One side has closed; so does the other."""
