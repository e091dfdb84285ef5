"""One connection to one Redis node that many requests share: commands go out as they come, replies come back in order.

It stands beside redis.asyncio because a fetch lies in the way of every request: a reply calls its caller back
from where it is read, without a task, a lock or a timer of its own. Where nobody waits yet, the sender looks for the
reply in place, for some microseconds: a Redis next door has answered before the event loop would have come round.
Nothing is ever read twice: a connection whose reply is late is closed, and everyone who waits on it is told.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import hiredis

from rankd.kernels.exchange import exchange

_LOG = logging.getLogger(__name__)


class Trouble(enum.Enum):
    """Why there are no replies."""

    LOST = enum.auto()  # the connection ended
    LATE = enum.auto()  # they did not come in time; the connection was closed


_SPIN_NS: Final = 100_000
"""How long a sender looks for the reply in place: a turn of the event loop costs about as much."""

_FIRST_REST_S: Final = 0.01
_LONGEST_REST_S: Final = 1.0
"""How long no sender does so after one has looked in vain; doubled each time."""

OnReplies = Callable[[list[Any] | Trouble], None]
"""Gets the replies, in order (errors as hiredis.ReplyError)."""

_LOOKS: Final = 8
"""How often, within the timeout, a connection looks whether a reply is late."""

_SAY_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node is, and how to come in. `path`: of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = ""
    database: int = 0

    @property
    def name(self) -> str:
        return self.path or f"{self.host}:{self.port}"

    def greeting(self) -> list[bytes]:
        """What is said first."""
        auth = ("AUTH", self.username or "default", self.password) if self.password else ()
        commands = [_command("HELLO", "3", *auth)]
        if self.database:
            commands.append(_command("SELECT", str(self.database)))
        return commands


class _Line(asyncio.Protocol):
    """A connection. `on_lost` is called once, when it is gone; by then everyone who waited has been told."""

    def __init__(self, timeout_s: float, on_lost: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_Line)
        self._waiting: deque[tuple[int, float, OnReplies]] = deque()
        self._replies: list[Any] = []
        self._transport: asyncio.Transport | None = None
        self._socket = -1  # on which replies may be looked for in place
        self._in_place_s = 0.0  # from when on
        self._rest_s = _FIRST_REST_S
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if transport.get_extra_info("sslcontext") is None:
            self._socket = transport.get_extra_info("socket").fileno()

    def ask(self, data: bytes, count: int, on_replies: OnReplies) -> None:
        """Sends commands that have `count` replies. `on_replies` may be called before this returns."""
        assert self._transport is not None
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s / _LOOKS, self._look)
        now_s = self._loop.time()
        is_first = not self._waiting
        self._waiting.append((count, now_s + self._timeout_s, on_replies))
        if is_first and now_s >= self._in_place_s and self._is_free():
            self._ask_in_place(data, now_s)
        else:
            self._transport.write(data)

    def _is_free(self) -> bool:
        """Whether the socket may be used behind the transport's back."""
        transport = self._transport
        return (
            self._socket >= 0
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def _ask_in_place(self, data: bytes, now_s: float) -> None:
        assert self._transport is not None
        sent, received = exchange(self._socket, data, _SPIN_NS)
        if sent < len(data):
            self._transport.write(data[sent:])
        if received:
            self.data_received(received)
        if self._waiting:
            self._in_place_s = now_s + self._rest_s
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
        else:
            self._rest_s = _FIRST_REST_S

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _Line:
                if isinstance(reply, hiredis.PushNotification):
                    continue
                self._replies.append(reply)
                if not waiting:
                    raise hiredis.ProtocolError("a reply to nothing")
                if len(self._replies) == waiting[0][0]:
                    replies, self._replies = self._replies, []
                    waiting.popleft()[2](replies)
        except hiredis.ProtocolError:
            self.drop()

    def _look(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        if self._waiting[0][1] <= self._loop.time():
            self.drop(Trouble.LATE)
        else:
            self._watch = self._loop.call_later(self._timeout_s / _LOOKS, self._look)

    def drop(self, why: Trouble = Trouble.LOST) -> None:
        """Closes now."""
        self._socket = -1
        if self._transport is not None:
            self._transport.abort()
        self._fail(why)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(Trouble.LOST)

    def _fail(self, why: Trouble) -> None:
        self._socket = -1
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport = None
        on_lost, self._on_lost = self._on_lost, _nothing
        on_lost()  # first: who is told asks whether there is a connection
        while self._waiting:
            self._waiting.popleft()[2](why)


def _nothing() -> None:
    pass


class Link:
    """A node's connection, made again whenever it is lost.

    `is_up`: commands can be sent now. `is_away`: the last attempt to connect failed: nobody should wait for it.
    """

    def __init__(self, address: Address, connect_timeout_s: float, timeout_s: float) -> None:
        self.address = address
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._lost = asyncio.Event()
        self._changed: asyncio.Event = asyncio.Event()
        self.is_away = False
        self._loop = asyncio.get_running_loop()
        self._away_since_s = 0.0
        self._said_s = -_SAY_S
        self._runner = asyncio.create_task(self._run())

    @property
    def is_up(self) -> bool:
        return self._line is not None

    def ask(self, data: bytes, count: int, on_replies: OnReplies) -> bool:
        """Sends; `on_replies` is called once, on the loop, maybe before this returns. False: there is no connection,
        nothing was done."""
        if self._line is None:
            return False
        self._line.ask(data, count, on_replies)
        return True

    async def changed(self) -> None:
        """Returns when `is_up` or `is_away` has changed."""
        await self._changed.wait()

    async def close(self) -> None:
        self._runner.cancel()
        await asyncio.wait([self._runner])
        if self._line is not None:
            self._line.drop()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._lost.clear()
            try:
                async with asyncio.timeout(self._connect_timeout_s + self._timeout_s):
                    line = await self._connect()
            except (OSError, TimeoutError, hiredis.HiredisError) as error:
                self._tell(None, is_away=True)
                self._say_away(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            pause_s = _FIRST_PAUSE_S
            if not self._lost.is_set():
                self._tell(line, is_away=False)
                if self._away_since_s:
                    took_s = self._loop.time() - self._away_since_s
                    _LOG.info("Redis at %s is reached again, after %.1f s", self.address.name, took_s)
                    self._away_since_s = 0.0
                await self._lost.wait()

    def _say_away(self, error: Exception) -> None:
        """Once, until it is reached again; and not often if it comes and goes."""
        now_s = self._loop.time()
        if self._away_since_s or now_s - self._said_s < _SAY_S:
            return
        self._away_since_s = self._said_s = now_s
        why = str(error) or "it does not answer"
        _LOG.warning("Redis at %s cannot be reached, rows are not fetched from it: %s", self.address.name, why)

    async def _connect(self) -> _Line:
        loop, address = asyncio.get_running_loop(), self.address
        made: asyncio.Future[list[Any] | Trouble] = loop.create_future()

        def greeted(replies: list[Any] | Trouble) -> None:
            if not made.done():
                made.set_result(replies)

        def make() -> _Line:
            return _Line(self._timeout_s, self._on_lost)

        async with asyncio.timeout(self._connect_timeout_s):
            if address.path:
                _, line = await loop.create_unix_connection(make, address.path)
            else:
                _, line = await loop.create_connection(make, address.host, address.port, ssl=address.tls)
        try:
            greeting = address.greeting()
            line.ask(b"".join(greeting), len(greeting), greeted)
            replies = await made
        except BaseException:
            line.drop()
            raise
        if isinstance(replies, Trouble) or any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            line.drop()
            why = replies.name.lower() if isinstance(replies, Trouble) else "; ".join(map(str, replies))
            raise ConnectionError(f"it refuses this server: {why}")
        return line

    def _on_lost(self) -> None:
        self._lost.set()
        if self._line is not None:
            self._tell(None, is_away=False)

    def _tell(self, line: _Line | None, *, is_away: bool) -> None:
        self._line, self.is_away = line, is_away
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in (v.encode() for v in words))


def get_commands(keys: Sequence[bytes]) -> bytes:
    """GET of each key, as they go over the wire."""
    return b"".join([b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys])
