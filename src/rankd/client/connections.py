"""The connections of one client, used in turn; those that fail rest, and then are opened anew.

A machine's workers share one port, and the kernel spreads connections over them, not calls: several
connections reach several workers. One whose worker drains says NOT_SERVING and stays where it is; only a new
one can reach another worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

FIRST_REST_S: Final = 0.05
MAX_REST_S: Final = 1.0

ChannelT = TypeVar("ChannelT")


@dataclass(slots=True)
class Connection(Generic[ChannelT]):
    """An open channel and its multi-callables by the methods' short names. `slot`: its place among the others."""

    channel: ChannelT
    methods: dict[str, Callable[..., Any]]
    slot: int
    in_flight: int = 0


@dataclass(slots=True)
class _Slot(Generic[ChannelT]):
    """`failures`: in a row, over connections. `rested_s`: when the rest after the last ends. `is_broken`: the
    connection has failed and not been answered since."""

    connection: Connection[ChannelT] | None = None
    failures: int = 0
    rested_s: float = 0.0
    is_broken: bool = False


class Connections(Generic[ChannelT]):
    """See the module's docstring. For many threads."""

    def __init__(
        self,
        count: int,
        open_channel: Callable[[], tuple[ChannelT, dict[str, Callable[..., Any]]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_channel` gives a channel with connections of its own, and its methods; called when it is needed."""
        self._open = open_channel
        self._clock = clock
        self._slots: list[_Slot[ChannelT]] = [_Slot() for _ in range(count)]
        self._retired: list[Connection[ChannelT]] = []
        self._next = 0
        self._is_closed = False
        self._lock = threading.Lock()

    def take(self, after: Connection[ChannelT] | None = None) -> Connection[ChannelT]:
        """The next connection that does not rest, or the one that has rested longest; give it back to `done`.

        `after`: the one that the call has just failed on; another is taken if there is one. ValueError once closed.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the client is closed")
            now_s = self._clock()
            number = self._choose(now_s, -1 if after is None else after.slot)
            slot = self._slots[number]
            if slot.connection is not None and slot.is_broken and slot.rested_s <= now_s:
                self._retired.append(slot.connection)
                slot.connection = None
            if slot.connection is None:
                slot.connection = Connection(*self._open(), number)
                slot.is_broken = False
            slot.connection.in_flight += 1
            return slot.connection

    def _choose(self, now_s: float, avoided: int) -> int:
        count = len(self._slots)
        start, self._next = self._next, (self._next + 1) % count
        order = [(start + i) % count for i in range(count)]
        ready = [number for number in order if self._slots[number].rested_s <= now_s]
        if not ready:
            return min(order, key=lambda number: self._slots[number].rested_s)
        return next((number for number in ready if number != avoided), ready[0])

    def done(self, connection: Connection[ChannelT], is_reached: bool | None) -> list[ChannelT]:
        """Gives a connection back. `is_reached`: whether a server was reached by it; None: it is not known.

        Gives channels that are to be closed now.
        """
        with self._lock:
            connection.in_flight -= 1
            slot = self._slots[connection.slot]
            if slot.connection is connection and is_reached is not None:
                now_s = self._clock()
                if is_reached:
                    slot.failures, slot.rested_s, slot.is_broken = 0, 0.0, False
                elif slot.rested_s <= now_s:  # calls that fail together are one failure
                    slot.rested_s = now_s + min(MAX_REST_S, FIRST_REST_S * 2 ** min(slot.failures, 16))
                    slot.failures += 1
                    slot.is_broken = True
            return self._idle()

    def _idle(self) -> list[ChannelT]:
        idle = [connection.channel for connection in self._retired if not connection.in_flight]
        if idle:
            self._retired = [connection for connection in self._retired if connection.in_flight]
        return idle

    def close(self) -> list[ChannelT]:
        """Channels to close; nothing is taken any more."""
        with self._lock:
            self._is_closed = True
            open_now = [*self._retired, *(slot.connection for slot in self._slots if slot.connection is not None)]
            self._retired.clear()
            return [connection.channel for connection in open_now]
