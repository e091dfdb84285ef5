"""Which node to ask: one Redis, or the masters of a Cluster by slot.

The map of slots comes from CLUSTER SLOTS and is asked for again when a node says MOVED, or is away: after a failover
its replica has its slots. Redis Cluster specification: "Redirection and resharding", "Clients first connection".
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import hiredis
from redis.crc import key_slot

from rankd.signals.redis.wire import Address, Link, Trouble

_LOOK_PAUSE_S: Final = 0.2
"""How often a map of slots is asked for at most."""

_SLOTS_COMMAND: Final = b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n"


class Nodes:
    """Connections to every node there is. Belongs to one event loop."""

    def __init__(self, address: Address, *, is_cluster: bool, connect_timeout_s: float, timeout_s: float) -> None:
        self._seed = address
        self._is_cluster = is_cluster
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._links: dict[str, Link] = {}
        self._by_slot: dict[int, Link] = {}
        self._looking: asyncio.Task[None] | None = None
        self._heads: dict[bytes, int] = {}
        self._known = asyncio.Event()
        self._first = self._link(address)
        if is_cluster:
            self.look()

    @property
    def is_available(self) -> bool:
        """Whether all nodes are connected."""
        return all(link.is_up for link in self._links.values()) and (not self._is_cluster or bool(self._by_slot))

    def link_of(self, key: bytes) -> Link | None:
        """Whom to ask for a row; None: it is not known, or nobody has the slot."""
        if not self._is_cluster:
            return self._first
        head = key.partition(b"}")[0]
        slot = self._heads.get(head)
        if slot is None:
            slot = self._heads[head] = key_slot(key)
        return self._by_slot.get(slot)

    def named(self, name: str) -> Link:
        """The node at "host:port", as a redirection names it."""
        host, _, port = name.rpartition(":")
        return self._link(replace(self._seed, host=host or self._seed.host, port=int(port), path=""))

    async def ready(self, timeout_s: float) -> None:
        """Returns when every node is connected or known to be away, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._looking is not None and not self._first.is_away:
                    await self._known.wait()
                for link in list(self._links.values()):
                    while not link.is_up and not link.is_away:
                        await link.changed()
        except TimeoutError:
            pass

    def look(self) -> None:
        """Has the map of slots asked for again."""
        if self._is_cluster and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def _link(self, address: Address) -> Link:
        link = self._links.get(address.name)
        if link is None:
            link = self._links[address.name] = Link(address, self._connect_timeout_s, self._timeout_s)
        return link

    async def _look(self) -> None:
        """Until a node has told it. Whoever is away then is forgotten as soon as its slots are another's."""
        while True:
            for link in list(self._links.values()):
                if not link.is_up and not link.is_away:
                    try:
                        async with asyncio.timeout(self._connect_timeout_s):
                            await link.changed()
                    except TimeoutError:
                        continue
                reply = await _ask(link, _SLOTS_COMMAND)
                if isinstance(reply, list) and reply:
                    self._take(reply)
                    await asyncio.sleep(_LOOK_PAUSE_S)  # not more often
                    return
            await asyncio.sleep(_LOOK_PAUSE_S)

    def _take(self, ranges: Sequence[Any]) -> None:
        by_slot: dict[int, Link] = {}
        names = {self._first.address.name}
        for first, last, master, *_ in ranges:
            link = self.named(f"{_text(master[0])}:{master[1]}")
            names.add(link.address.name)
            by_slot.update(dict.fromkeys(range(first, last + 1), link))
        self._by_slot = by_slot
        self._known.set()
        for name in set(self._links) - names:
            link = self._links.pop(name)
            asyncio.create_task(link.close())  # noqa: RUF006 - it ends by itself


async def _ask(link: Link, data: bytes) -> Any:
    """One reply, or None."""
    told: asyncio.Future[list[Any] | Trouble] = asyncio.get_running_loop().create_future()

    def tell(replies: list[Any] | Trouble) -> None:
        if not told.done():
            told.set_result(replies)

    if not link.ask(data, 1, tell):
        return None
    replies = await told
    return None if isinstance(replies, Trouble) or isinstance(replies[0], hiredis.ReplyError) else replies[0]


def _text(host: Any) -> str:
    """Empty or null: the one that answered."""
    return host.decode() if isinstance(host, bytes) else ""
