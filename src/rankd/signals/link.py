"""A process's connections to the keeper of its machine's signals: one for what its event loop asks, one that blocks."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from rankd.errors import RankdError, StoreError, StoreFullError, UnavailableError
from rankd.signals.frames import (
    ANSWER,
    GREETING,
    PROTOCOL,
    Answer,
    Codes,
    Failed,
    FrameError,
    Hello,
    Intern,
    Request,
    Welcome,
    decode,
    frame_of,
    read_frame,
    receive_frame,
)

MAX_IN_FLIGHT: Final = 128
"""Requests of one process that are on their way; more wait."""

_FIRST_PAUSE_S: Final = 0.01
_LONGEST_PAUSE_S: Final = 0.25
_GREETING_S: Final = 10.0
_INTERN_S: Final = 30.0
_BUFFER_BYTES: Final = 1 << 20

_LOST = "the signal keeper went away; a write on its way may or may not be applied"
_AWAY = "the signal keeper is away"

_LOG = logging.getLogger(__name__)
_Kind = TypeVar("_Kind")


def failure(failed: Failed) -> RankdError:
    """The error that a Failed stands for."""
    kinds = {"full": StoreFullError, "unavailable": UnavailableError}
    return kinds.get(failed.kind, StoreError)(failed.message)


def greeted(data: bytes) -> Welcome:
    """FrameError; StoreError if the keeper refuses this process."""
    greeting = decode(GREETING, data)
    if isinstance(greeting, Failed):
        raise failure(greeting)
    return greeting


class Link:
    """Asks and gets answers, on one event loop; connects again by itself.

    `on_welcome` is called with every greeting; what it raises (RankdError) ends the connection and is why requests
    fail until the next.
    """

    def __init__(self, path: Path, schema: str, patience_s: float, on_welcome: Callable[[Welcome], None]) -> None:
        self._path = path
        self._hello = frame_of(Hello(PROTOCOL, schema))
        self._patience_s = patience_s
        self._on_welcome = on_welcome
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self._lost_s = time.monotonic()
        self._fault: RankdError | None = None
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._runner: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        return self._writer is not None

    async def start(self, timeout_s: float) -> None:
        """Returns once connected. UnavailableError if there is no keeper for so long; the error of `on_welcome`."""
        self._lost_s = time.monotonic()
        self._runner = asyncio.create_task(self._run())
        try:
            await self._connected(self._lost_s + timeout_s)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None

    async def ask(self, request: Callable[[int], Request], kind: type[_Kind]) -> _Kind:
        """What the keeper answers. StoreError; UnavailableError if it is away, or goes away meanwhile."""
        async with self._slots:
            writer = await self._connected(self._lost_s + self._patience_s)
            self._number += 1
            number = self._number
            try:
                frame = frame_of(request(number))
            except FrameError as error:
                raise StoreError(f"the batch is too large for the signal keeper: {error}") from error
            answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answered
            try:
                writer.write(frame)
                await writer.drain()
                answer = await answered
            except ConnectionError as error:
                raise UnavailableError(_LOST) from error
            finally:
                if self._waiting.pop(number, None) is not None and answered.done() and not answered.cancelled():
                    answered.exception()  # seen, if `drain` was what failed
            if isinstance(answer, Failed):
                raise failure(answer)
            if not isinstance(answer, kind):
                raise StoreError(f"the signal keeper answered {type(answer).__name__} to {kind.__name__}")
            return answer

    async def _connected(self, deadline_s: float) -> asyncio.StreamWriter:
        while self._writer is None:
            if self._runner is None or self._runner.done():
                raise UnavailableError("the signal store is closed")
            if self._fault is not None:
                raise self._fault
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise UnavailableError(_AWAY)
            self._changed.clear()
            try:
                async with asyncio.timeout(remaining_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self._writer

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_BUFFER_BYTES)
            except OSError:
                pass
            else:
                try:
                    await self._greet(reader, writer)
                    pause_s = _FIRST_PAUSE_S
                    await self._read(reader)
                except RankdError as error:
                    self._set_fault(error)
                except FrameError as error:
                    _LOG.error("the signal keeper sent what is no answer: %s", error)
                except (asyncio.IncompleteReadError, OSError, TimeoutError):
                    pass
                finally:
                    self._lose(writer)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._hello)
        async with asyncio.timeout(_GREETING_S):
            welcome = greeted(await read_frame(reader))
        self._on_welcome(welcome)
        self._fault = None
        self._writer = writer
        self._changed.set()

    def _set_fault(self, error: RankdError) -> None:
        self._fault = error
        self._changed.set()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            answer = decode(ANSWER, await read_frame(reader))
            waiting = self._waiting.pop(answer.number, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    def _lose(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if self._writer is not None:
            self._writer = None
            self._lost_s = time.monotonic()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(UnavailableError(_LOST))


class BlockingLink:
    """Interns strings. Safe for threads; whoever calls it waits."""

    def __init__(self, path: Path, schema: str, patience_s: float, check: Callable[[Welcome], None]) -> None:
        self._path = path
        self._hello = frame_of(Hello(PROTOCOL, schema))
        self._patience_s = patience_s
        self._check = check
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._number = 0

    def intern(self, texts: list[str]) -> list[int]:
        """Codes. StoreFullError, StoreError; UnavailableError if the keeper is away for `patience_s`."""
        with self._lock:
            deadline_s = time.monotonic() + self._patience_s
            while True:
                try:
                    return self._ask(texts)
                except (OSError, FrameError) as error:
                    self._drop()
                    if time.monotonic() >= deadline_s:
                        raise UnavailableError(_AWAY) from error
                    time.sleep(_FIRST_PAUSE_S)
                except BaseException:
                    self._drop()
                    raise

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ask(self, texts: list[str]) -> list[int]:
        connection = self._connected()
        self._number += 1
        connection.sendall(frame_of(Intern(self._number, texts)))
        answer = decode(ANSWER, receive_frame(connection))
        if isinstance(answer, Failed):
            raise failure(answer)
        if not isinstance(answer, Codes) or answer.number != self._number or len(answer.codes) != len(texts):
            raise FrameError("the signal keeper answered something else")
        return answer.codes

    def _connected(self) -> socket.socket:
        if self._connection is None:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.settimeout(_INTERN_S)
            self._connection.connect(str(self._path))
            self._connection.sendall(self._hello)
            self._check(greeted(receive_frame(self._connection)))
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
