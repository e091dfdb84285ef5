"""A Redis or Valkey, one process or a Cluster: commands go to the node that has their key, all of a node in one round
trip, all nodes side by side.

redis.asyncio's own Cluster client is not used: it fails at once where its pool is used up, and there are outages after
which it does not find back (redis-py issues 3135, 3929). What is left of it is small: the slots of each node (CLUSTER
SLOTS), asked for again when a node says MOVED or is lost, and one step aside on ASK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from redis.asyncio.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from rankd.errors import StoreError, UnavailableError
from rankd.signals.redis.node import BrokenError, Command, Node
from rankd.signals.redis.options import RedisOptions

Keyed = tuple[bytes, Command]
"""A command and the key that says which node it goes to."""

_SLOTS: Final = 16_384
_MOST_REDIRECTIONS: Final = 5
"""At once; then, while there is time, after a pause each: a command of several keys waits for its slot to have
moved."""
_REFRESH_PAUSE_S: Final = 0.1
_TRY_AGAIN_S: Final = 0.02
_REPEATS_PER_CALL: Final = 0.1
_MOST_SAVED_REPEATS: Final = 10.0
_FAIR: Final = 0.2
"""Of the socket timeout."""
_ELSEWHERE = (AskError, MovedError, ReadOnlyError, TryAgainError, ClusterDownError)


class RedisConnection:
    """Use `open_connection`. Belongs to one event loop; any number of tasks may use it."""

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._settings: dict[str, Any] = dict(parse_url(options.url))
        self._settings |= {"username": options.username, "password": options.password}
        self.is_cluster = options.cluster
        first = self._first_node()
        self._nodes = {first.name: first}
        self._first = first
        self._slots: list[Node | None] = [None if options.cluster else first] * _SLOTS
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = -1e9
        self._repeats = _MOST_SAVED_REPEATS

    def _first_node(self) -> Node:
        settings = dict(self._settings)
        if "path" in settings:
            return self._node(str(settings["path"]), settings)
        host, port = str(settings.get("host", "localhost")), int(settings.get("port", 6379))
        return self._node(f"{host}:{port}", settings | {"host": host, "port": port})

    def _node(self, name: str, settings: dict[str, Any]) -> Node:
        options = self._options
        fair_s = _FAIR * options.socket_timeout_s
        return Node(name, settings, options.max_connections, options.connect_timeout_s, fair_s)

    @property
    def is_available(self) -> bool:
        """Whether every node answered last time, as far as is known."""
        return all(node.breaker.state == "closed" for node in self.nodes)

    @property
    def nodes(self) -> Sequence[Node]:
        """Those that have slots."""
        return list(dict.fromkeys(node for node in self._slots if node is not None)) or [self._first]

    async def run(self, commands: Sequence[Keyed], timeout_s: float, *, is_repeatable: bool = False) -> list[Any]:
        """The replies, in order; an error that Redis answers is one of them (ResponseError).

        UnavailableError: at least one node did not answer in time; what was sent may have been done. `is_repeatable`: a
        connection that breaks is tried again, as far as there is time and the budget of repeats goes.
        """
        deadline = time.monotonic() + timeout_s
        self._repeats = min(_MOST_SAVED_REPEATS, self._repeats + _REPEATS_PER_CALL)
        try:
            return await self._routed(commands, deadline)
        except BrokenError:
            if not is_repeatable or self._repeats < 1 or time.monotonic() >= deadline:
                raise
            self._repeats -= 1
            return await self._routed(commands, deadline)

    async def _routed(self, commands: Sequence[Keyed], deadline: float) -> list[Any]:
        if not self.is_cluster:
            return await self._first.exchange([command for _, command in commands], _left(deadline))
        replies: list[Any] = [None] * len(commands)
        todo: dict[int, tuple[Node | None, bool]] = dict.fromkeys(range(len(commands)), (None, False))
        redirections = 0
        while redirections < _MOST_REDIRECTIONS or time.monotonic() < deadline:
            if redirections >= _MOST_REDIRECTIONS:
                await asyncio.sleep(_TRY_AGAIN_S)
            if any(node is None and self._slots[key_slot(commands[i][0])] is None for i, (node, _) in todo.items()):
                await self._refresh(deadline)
            todo = await self._round(commands, todo, replies, deadline)
            if not todo:
                return replies
            redirections += 1
        raise UnavailableError("the Redis Cluster is changing: keys are sent from node to node")

    async def _round(
        self,
        commands: Sequence[Keyed],
        todo: dict[int, tuple[Node | None, bool]],
        replies: list[Any],
        deadline: float,
    ) -> dict[int, tuple[Node | None, bool]]:
        """One round trip to each node; what must be sent elsewhere: by command, where to, and whether after ASKING."""
        by_node: dict[Node, list[int]] = {}
        for i, (node, _) in todo.items():
            node = node or self._slots[key_slot(commands[i][0])]
            if node is None:
                raise UnavailableError("the Redis Cluster serves only a part of its slots")
            by_node.setdefault(node, []).append(i)
        done = await _all(
            [
                self._ask(node, [(commands[i][1], todo[i][1]) for i in these], deadline)
                for node, these in by_node.items()
            ]
        )
        again: dict[int, tuple[Node | None, bool]] = {}
        for these, answers in zip(by_node.values(), done, strict=True):
            for i, answer in zip(these, answers, strict=True):
                replies[i] = answer
                if isinstance(answer, AskError):  # of which MOVED is a kind
                    node = self._known(answer.host, answer.port)
                    again[i] = (node, not isinstance(answer, MovedError))
                    if isinstance(answer, MovedError):
                        self._slots[answer.slot_id] = node
                elif isinstance(answer, _ELSEWHERE):
                    again[i] = (None, False)
        if any(not is_asking for _, is_asking in again.values()):
            self._refresh_soon()
        if any(node is None for node, _ in again.values()):
            await asyncio.sleep(min(_TRY_AGAIN_S, _left(deadline)))
        return again

    async def _ask(self, node: Node, commands: Sequence[tuple[Command, bool]], deadline: float) -> list[Any]:
        """Replies of one node; commands that come with True are preceded by ASKING."""
        sent: list[Command] = []
        for command, is_asking in commands:
            sent += [("ASKING",), command] if is_asking else [command]
        try:
            replies = await node.exchange(sent, _left(deadline))
        except UnavailableError:
            self._refresh_soon()
            raise
        given = iter(replies)  # with what ASKING gave left out
        return [next(given) for _, is_asking in commands if not is_asking or next(given) is not None]

    def _known(self, host: str, port: int) -> Node:
        """The node at an address; "": where the first one is."""
        host = host or str(self._settings.get("host", "localhost"))
        name = f"{host}:{port}"
        if name not in self._nodes:
            self._nodes[name] = self._node(name, self._settings | {"host": host, "port": port})
        return self._nodes[name]

    def _refresh_soon(self) -> asyncio.Task[None]:
        """Asks for the slots again, once for all who want to know."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._learn_slots())
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, if only here
        return self._refreshing

    async def _refresh(self, deadline: float) -> None:
        """The same, and waits for it. UnavailableError if no node tells."""
        refreshing = self._refresh_soon()
        done, _ = await asyncio.wait([refreshing], timeout=_left(deadline))
        if not done:
            raise UnavailableError("no node of the Redis Cluster answers")
        refreshing.result()

    async def _learn_slots(self) -> None:
        pause = self._refreshed_at + _REFRESH_PAUSE_S - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._refreshed_at = time.monotonic()
        failures = []
        for node in sorted(self._nodes.values(), key=lambda node: node.breaker.state != "closed"):
            try:
                (reply,) = await node.exchange([("CLUSTER", "SLOTS")], self._options.connect_timeout_s * 2)
            except UnavailableError as error:
                failures.append(str(error))
                continue
            if isinstance(reply, ResponseError):
                raise StoreError(
                    f"signals.redis.cluster is true, but Redis at {node.name} is not a node of a Cluster: {reply}"
                )
            self._take_slots(node, reply)
            return
        raise UnavailableError("no node of the Redis Cluster answers: " + "; ".join(failures))

    def _take_slots(self, teller: Node, reply: Sequence[Sequence[Any]]) -> None:
        slots: list[Node | None] = [None] * _SLOTS
        for first, last, master, *_ in reply:
            host = master[0].decode() if master[0] else teller.name.rpartition(":")[0]
            node = self._known(host, int(master[1]))
            slots[int(first) : int(last) + 1] = [node] * (int(last) + 1 - int(first))
        self._slots = slots

    async def ready(self, timeout_s: float) -> None:
        """Knows the nodes. UnavailableError if none of them tells in time."""
        if None in self._slots:
            await self._refresh(time.monotonic() + timeout_s)

    async def on_each_node(self, command: Command, timeout_s: float) -> list[tuple[Node, Any]]:
        """One command to every node that has slots, and what each replied."""
        deadline = time.monotonic() + timeout_s
        await self.ready(timeout_s)
        nodes = self.nodes
        replies = await _all([node.exchange([command], _left(deadline)) for node in nodes])
        return [(node, reply[0]) for node, reply in zip(nodes, replies, strict=True)]

    def node_of(self, key: bytes) -> Node | None:
        """Where a key is, as far as is known."""
        return self._slots[key_slot(key)]

    async def close(self) -> None:
        """Closes all connections; calls that are on their way end on their own."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        for node in self._nodes.values():
            await node.close()


def open_connection(options: RedisOptions) -> RedisConnection:
    """Connects when it is first used: a Redis that is away is no error here. ValueError for a URL that is none."""
    return RedisConnection(options)


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


async def _all(calls: Sequence[Awaitable[list[Any]]]) -> list[list[Any]]:
    """What they give, all of them having ended; the first error, if one has one."""
    if len(calls) == 1:
        return [await calls[0]]
    done = await asyncio.gather(*calls, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return [result for result in done if not isinstance(result, BaseException)]
