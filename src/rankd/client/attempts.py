"""The attempts of one call: each on a connection, with what is left of the call's time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic

import grpc

from rankd.client.connections import ChannelT, Connection, Connections
from rankd.client.errors import from_rpc_error
from rankd.client.retries import Retries
from rankd.client.views import Call

_NEVER_REPEATED = frozenset({"Watch"})
"""A question about the state of things now."""


class Attempts(Generic[ChannelT]):
    """Each attempt is `begin`, then `succeeded`, `failed` or (the caller gave up) neither, and always `leave`."""

    def __init__(self, connections: Connections[ChannelT], retries: Retries, call: Call[Any]) -> None:
        self._connections = connections
        self._retries = retries
        self._call = call
        self._deadline_s = retries.clock() + call.timeout_s
        self._count = 0
        self._connection: Connection[ChannelT] | None = None
        self._is_reached: bool | None = None

    def begin(self) -> Callable[[], Any]:
        """Makes the attempt when called: gives the response or its awaitable. ValueError if the client is closed."""
        call, used = self._call, self._connection
        self._connection = self._connections.take(used)
        self._is_reached = None
        timeout_s = max(0.0, self._deadline_s - self._retries.clock()) if self._count else call.timeout_s
        self._count += 1
        method = self._connection.methods[call.method]
        return functools.partial(method, call.request, timeout=timeout_s, metadata=call.metadata or None)

    def succeeded(self) -> None:
        """The attempt was answered."""
        self._is_reached = True
        self._retries.succeeded()

    def failed(self, error: Any) -> float:
        """The attempt ended in this grpc.RpcError: seconds to wait before the next. Raises the call's RankdRpcError
        if there is to be none."""
        found = from_rpc_error(error, getattr(self._call.request, "request_id", ""))
        # One with a reason is a server's answer.
        self._is_reached = found.code is not grpc.StatusCode.UNAVAILABLE or found.reason is not None
        if self._call.method not in _NEVER_REPEATED:
            pause_s = self._retries.pause_s(found, self._count, self._deadline_s)
            if pause_s is not None:
                return pause_s
        raise found

    def leave(self) -> list[ChannelT]:
        """Gives the connection back. Gives channels that are to be closed now."""
        assert self._connection is not None
        return self._connections.done(self._connection, self._is_reached)
