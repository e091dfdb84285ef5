"""Rows read for a request: one pipelined round trip for all that is not cached, of whatever entities.

    wanted ─ cached and good? ─ on its way already? ─ GETs (one trip to each node) ─ put into the cache's tables

A trip belongs to nobody: a caller that is cancelled leaves it to the others. Redis away: callers are told at once, and
what the cache has is used. A reply in another order, or of another row, is found by the id in it and never used.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import hiredis

from rankd.errors import RankdError
from rankd.signals.redis.cache import Lease, OtherLayoutError, RowCache, UnknownTextsError
from rankd.signals.redis.keys import Keys
from rankd.signals.redis.nodes import Nodes
from rankd.signals.redis.slots import Slots
from rankd.signals.redis.wire import Link, Trouble, get_commands
from rankd.signals.store import Fetched

_LOG = logging.getLogger(__name__)

_SAY_S: Final = 10.0
_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"

Intern = Callable[[Sequence[str]], Awaitable[object]]
Declare = Callable[[str, Sequence[bytes | None]], Awaitable[object]]


class _Waiter:
    """A caller: how many trips it waits for, and how they went."""

    __slots__ = ("future", "is_complete", "left")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.left = 0
        self.is_complete = True

    def told(self, is_complete: bool) -> None:
        self.is_complete &= is_complete
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class _Trip:
    """Rows asked for together of one node: by entity, ids; and who waits for them."""

    __slots__ = ("asked_s", "keys", "number", "parts", "slot_values", "tries", "waiters")

    def __init__(self, number: int, asked_s: float) -> None:
        self.number = number
        self.asked_s = asked_s
        self.parts: dict[str, list[str]] = {}
        self.keys: list[bytes] = []
        self.slot_values: dict[tuple[str, str], int] = {}
        self.waiters: list[_Waiter] = []
        self.tries = 0


class Fetcher:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(
        self,
        caches: Mapping[str, RowCache],
        keys: Keys,
        nodes: Nodes,
        slots: Slots,
        *,
        ttl_s: float,
        timeout_s: float,
        intern: Intern,
        declare: Declare,
    ) -> None:
        """`timeout_s`: of a trip. `intern`: gives texts codes. `declare`: learns the layouts of an entity's
        packed rows."""
        self._caches = caches
        self._keys = keys
        self._nodes = nodes
        self._slots = slots
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._intern = intern
        self._declare = declare
        self._loop = asyncio.get_running_loop()
        self._trip_number = 0
        self._under_way: dict[tuple[str, str], _Trip] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._said_s = -_SAY_S
        self.trip_count = 0
        """Round trips made."""
        self.incomplete_count = 0
        """Fetches that were not complete."""

    @property
    def is_available(self) -> bool:
        """Whether every node answers."""
        return self._nodes.is_available

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        """See SignalStore.fetch."""
        lease = Lease()
        now_s, is_stale = self._loop.time(), False
        new: list[tuple[str, str, int]] = []
        joined: dict[int, _Trip] = {}
        counters, slot = self._slots.counters, self._slots.slot
        for entity, ids in wanted.items():
            cache = self._caches[entity]
            for id_ in ids:
                value = counters[slot(entity, id_)]
                entry = cache.entries.get(id_)
                if entry is not None and entry.slot_value == value and now_s - entry.asked_s < self._ttl_s:
                    lease.pin(entry)
                    continue
                trip = self._under_way.get((entity, id_))
                if trip is not None and trip.slot_values[entity, id_] == value:
                    joined[trip.number] = trip
                    lease.pin(cache.entries.get(id_) or cache.entry(id_))
                    continue
                is_stale = is_stale or (entry is not None and entry.trip >= 0)
                entry = cache.entry(id_)
                lease.pin(entry)
                new.append((entity, id_, value))
        if not new and not joined:
            return Fetched(lease=lease)
        waiter = _Waiter(self._loop.create_future())
        for trip in joined.values():
            trip.waiters.append(waiter)
            waiter.left += 1
        if new:
            self._start(new, waiter)
        is_complete = await self._wait(waiter, timeout_s)
        self.incomplete_count += not is_complete
        return Fetched(is_complete, is_stale and not is_complete, lease)

    async def _wait(self, waiter: _Waiter, timeout_s: float) -> bool:
        if waiter.future.done():
            return waiter.is_complete
        if timeout_s > 2 * self._timeout_s:  # trips end sooner
            await waiter.future
            return waiter.is_complete
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.future
        except TimeoutError:
            return False
        return waiter.is_complete

    def _start(self, new: Sequence[tuple[str, str, int]], waiter: _Waiter) -> None:
        """A trip to each node that has some of the rows; `new` is in order of entities, and so are a trip's keys."""
        trips: dict[int, tuple[Link | None, _Trip]] = {}
        for entity, id_, value in new:
            key = self._keys.row(entity, id_)
            link = self._nodes.link_of(key)
            there = trips.get(id(link))
            if there is None:
                self._trip_number += 1
                there = trips[id(link)] = (link, _Trip(self._trip_number, self._loop.time()))
            trip = there[1]
            trip.parts.setdefault(entity, []).append(id_)
            trip.keys.append(key)
            trip.slot_values[entity, id_] = value
            self._under_way[entity, id_] = trip
        waiter.left += len(trips)  # before any of them may end
        for link, trip in trips.values():
            trip.waiters.append(waiter)
            self._send(link, trip)

    def _send(self, link: Link | None, trip: _Trip) -> None:
        def arrived(replies: list[Any] | Trouble) -> None:
            self._arrived(link, trip, replies)

        if link is not None and link.ask(get_commands(trip.keys), len(trip.keys), arrived):
            self.trip_count += 1
        elif link is not None and not link.is_away:
            self._spawn(self._send_later(link, trip))
        else:
            self._nodes.look()
            self._end(trip, False)

    async def _send_later(self, link: Link, trip: _Trip) -> None:
        """The connection is being made: it is waited for, unless that fails."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while not link.is_up and not link.is_away:
                    await link.changed()
        except TimeoutError:
            pass
        if link.is_up:
            self._send(link, trip)
        else:
            self._nodes.look()
            self._end(trip, False)

    def _arrived(self, link: Link | None, trip: _Trip, replies: list[Any] | Trouble) -> None:
        """Called from where the connection reads."""
        if isinstance(replies, Trouble):
            # A connection that had been closed meanwhile is made again and used; one that is slow is not asked twice.
            trip.tries += 1
            if replies is Trouble.LOST and trip.tries == 1 and link is not None:
                self._spawn(self._send_later(link, trip))
            else:
                self._nodes.look()
                self._end(trip, False)
        elif any(isinstance(reply, hiredis.ReplyError) for reply in replies):
            self._spawn(self._redirect(trip, replies))
        else:
            self._use(trip, replies)

    async def _redirect(self, trip: _Trip, replies: list[Any]) -> None:
        """Some slots are elsewhere (MOVED), or on their way (ASK): asked for there, once."""
        self._nodes.look()
        asked: dict[int, asyncio.Future[list[Any] | Trouble]] = {}
        for place, reply in enumerate(replies):
            words = str(reply).split() if isinstance(reply, hiredis.ReplyError) else []
            if len(words) == 3 and words[0] in ("MOVED", "ASK"):
                link = self._nodes.named(words[2])
                while not link.is_up and not link.is_away:
                    await link.changed()
                told: asyncio.Future[list[Any] | Trouble] = self._loop.create_future()
                # ASKING counts for the one command after it.
                data = get_commands([trip.keys[place]])
                if link.ask(_ASKING + data if words[0] == "ASK" else data, 1 + (words[0] == "ASK"), told.set_result):
                    asked[place] = told
        for place, told in asked.items():
            again = await told
            if not isinstance(again, Trouble):
                replies[place] = again[-1]
        failed = any(isinstance(reply, hiredis.ReplyError) for reply in replies)
        if failed:
            self._say_refused(next(r for r in replies if isinstance(r, hiredis.ReplyError)))
            self._end(trip, False)
        else:
            self._use(trip, replies)

    def _say_refused(self, error: hiredis.ReplyError) -> None:
        """Every fetch may be refused: it is said now and then."""
        now_s = self._loop.time()
        if now_s - self._said_s >= _SAY_S:
            self._said_s = now_s
            _LOG.warning("Redis refuses to give rows: %s", error)

    def _use(self, trip: _Trip, values: Sequence[bytes | None]) -> None:
        try:
            self._end(trip, self._publish(trip, values))
        except (UnknownTextsError, OtherLayoutError) as error:
            self._spawn(self._learn(trip, values, error))
        except BaseException:
            self._end(trip, False)
            raise

    def _publish(self, trip: _Trip, values: Sequence[bytes | None]) -> bool:
        start, is_whole = 0, True
        for entity, ids in trip.parts.items():
            is_whole &= self._caches[entity].publish(ids, values[start : start + len(ids)], trip.number)
            start += len(ids)
        return is_whole

    async def _learn(
        self, trip: _Trip, values: Sequence[bytes | None], error: UnknownTextsError | OtherLayoutError
    ) -> None:
        """What this process does not know yet: codes of texts, layouts; of each entity at most once."""
        is_whole = False
        try:
            for _ in range(2 * len(trip.parts)):
                if isinstance(error, UnknownTextsError):
                    await self._intern(list(dict.fromkeys(error.texts)))
                else:
                    await self._declare(error.entity, error.rows)
                try:
                    is_whole = self._publish(trip, values)
                    break
                except (UnknownTextsError, OtherLayoutError) as more:
                    error = more
        except RankdError as fault:
            _LOG.warning("fetched rows could not be used: %s", fault)
        finally:
            self._end(trip, is_whole)

    def _end(self, trip: _Trip, is_complete: bool) -> None:
        for (entity, id_), value in trip.slot_values.items():
            if self._under_way.get((entity, id_)) is trip:
                del self._under_way[entity, id_]
            entry = self._caches[entity].entries.get(id_)
            if entry is not None and entry.trip == trip.number:
                entry.slot_value, entry.asked_s = value, trip.asked_s
        for waiter in trip.waiters:
            waiter.told(is_complete)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends what is on its way."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._nodes.close()
