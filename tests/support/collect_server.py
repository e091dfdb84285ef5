"""FeedbackService and SignalService over a store of the test's choice, on a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from support.serving import settings

from rankd.server.server import Server
from rankd.signals.store import SignalStore


@contextmanager
def served(open_store: Callable[[], Awaitable[SignalStore]]) -> Iterator[str]:
    """The address. The store is opened on the server's loop, and closed with it."""
    ready, ended = threading.Event(), threading.Event()
    found: list[str | BaseException] = []

    async def serve() -> None:
        server = Server(settings())
        await server.start_health()
        await server.start({}, await open_store())
        found.append(server.address)
        ready.set()
        while not ended.is_set():
            await asyncio.sleep(0.02)
        server.hurry()
        await server.stop()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            found.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(30)
        address = found[0]
        if isinstance(address, BaseException):
            raise address
        yield address
    finally:
        ended.set()
        thread.join(30)
