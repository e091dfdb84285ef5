"""Reading of tables off the event loop: what has begun ends before the tables are closed, whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rankd.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")


class OffLoop:
    """Runs functions in threads. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._is_closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What it gives. A caller that is cancelled leaves the thread running. StoreError: closed."""
        if self._is_closed:
            raise StoreError("the signal store is closed")
        task = asyncio.create_task(asyncio.to_thread(function, *args, **kwargs))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits for it any more

    async def close(self) -> None:
        """Nothing begins any more; returns when nothing runs."""
        self._is_closed = True
        while self._running:
            await asyncio.wait(self._running)
