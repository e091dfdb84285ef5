"""One Redis process: a bounded pool of connections, a circuit breaker, and exchanges of commands and replies.

Connections are redis.asyncio's, without its pool and retries: a connection goes back to the pool only after every
reply of an exchange was read, and whatever else happens (an error, a timeout, a cancelled caller) closes it, so that no
reply is ever read by another caller than the one who asked (redis-py issues 2624 and 2665). Neither step waits for
anything: a second cancellation cannot come between (redis-py issues 4110, 4121). One timeout is over a whole exchange.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from rankd.errors import StoreError, UnavailableError
from rankd.signals.redis.breaker import Breaker

Argument = bytes | str | int | float
Command = tuple[Argument, ...]

_PACKED_TOGETHER: Final = 65_536
"""Bytes; larger commands are sent as they are."""

_LOG = logging.getLogger(__name__)


class BrokenError(UnavailableError):
    """The connection broke before the replies came; what was sent may have been done or not."""


class RefusedError(UnavailableError):
    """Redis does not let this user in. `reason`: for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__("Redis lets this server not in")
        self.reason = reason

    def for_operator(self) -> StoreError:
        """The same, with the settings that decide it."""
        return StoreError(f"{self.reason}: see signals.redis.username and signals.redis.password_file")


class Node:
    """`name`: "host:port" or a path, for the log; callers, who may be strangers, are not told it. `settings`: of a
    redis.asyncio connection; they say where it goes to. `fair_s`: who gave less time than that cannot say that it does
    not answer. Belongs to one event loop."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], most_connections: int, connect_timeout_s: float, fair_s: float
    ) -> None:
        self.name = name
        self.breaker = Breaker()
        given = dict(settings)
        self._class: type[AbstractConnection] = given.pop("connection_class", Connection)
        self._settings = {
            **given,
            "protocol": 3,
            "socket_timeout": None,  # `exchange` has one for all of it
            "socket_connect_timeout": connect_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        self._idle: list[AbstractConnection] = []
        self._fair_s = fair_s
        self._room = asyncio.Semaphore(most_connections)
        self._is_closed = False
        self._lost_at: float | None = None

    async def exchange(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """The replies of commands sent at once; an error that Redis answers is one of them (ResponseError).

        UnavailableError: not tried, or not answered within the time. BrokenError, which is one: the connection broke.
        """
        if self._is_closed:
            raise UnavailableError("the connection to Redis is closed")
        if not self.breaker.allows():
            raise UnavailableError("Redis does not answer; it is tried again shortly")
        try:
            async with asyncio.timeout(timeout_s), self._room:
                replies = await self._exchange(commands)
        except TimeoutError:
            said = f"did not answer within {timeout_s * 1000:.0f} ms"
            if timeout_s >= self._fair_s:
                self._failed(said)
            else:
                self.breaker.forgo()
            raise UnavailableError(f"Redis {said}") from None
        except AuthenticationError as error:
            self._failed(f"refuses this server: {error}")
            raise RefusedError(f"Redis at {self.name} refuses this server: {error}") from error
        except (RedisError, OSError) as error:
            said = f"cannot be reached: {_said(error)}"
            self._failed(said)
            raise BrokenError(f"Redis {said}") from error
        except BaseException:
            self.breaker.forgo()
            raise
        self.breaker.succeeded()
        if self._lost_at is not None:
            _LOG.info("Redis at %s answers again, after %.1f s", self.name, time.monotonic() - self._lost_at)
            self._lost_at = None
        return replies

    def _failed(self, said: str) -> None:
        self.breaker.failed()
        if self._lost_at is None and self.breaker.state == "open":
            self._lost_at = time.monotonic()
            _LOG.warning("Redis at %s %s; it is tried again until it answers", self.name, said)

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = await self._connection()
        try:
            await connection.send_packed_command(_packed(commands), check_health=False)
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._is_closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return replies

    async def _connection(self) -> AbstractConnection:
        """One that is connected and has nothing to read."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.is_connected and not await connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            await connection.disconnect(nowait=True)
        connection = self._class(**self._settings)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:  # half a handshake is worse than none
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def close(self) -> None:
        """Closes idle connections; those in use close when they are done."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)


def _packed(commands: Sequence[Command]) -> list[bytes]:
    pack: Callable[..., bytes] = hiredis.pack_command
    pieces = [pack(command) for command in commands]
    return pieces if sum(map(len, pieces)) > _PACKED_TOGETHER else [b"".join(pieces)]


async def _reply(connection: AbstractConnection) -> Any:
    try:
        reply = await connection.read_response(disable_decoding=True)
    except BusyLoadingError:
        raise
    except ResponseError as error:
        return error
    return reply


def _said(error: BaseException) -> str:
    """What went wrong, without what a library adds of itself."""
    if isinstance(error, BusyLoadingError):
        return "it is loading its data"
    if isinstance(error, InvalidResponse):
        return "what answers does not speak Redis's protocol"
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, OSError) and cause.strerror:
        # asyncio puts the address into some.
        return os.strerror(cause.errno) if cause.errno is not None and cause.errno > 0 else cause.strerror
    return "the connection was closed" if isinstance(error, OSError) or "closed" in str(error) else type(error).__name__
