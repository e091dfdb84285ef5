"""FeedbackService over a store of the test's choice, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from rankd.limits import RequestLimits
from rankd.server.feedback_service import FeedbackService
from rankd.server.gate import Priority
from rankd.server.health import FEEDBACK, Health
from rankd.server.rpc import Dispatcher, ServiceHandlers
from rankd.v1 import feedback_pb2


class CollectServer:
    """`run` runs a coroutine function of the store on the server's loop."""

    def __init__(self, open_store: Callable[[], Awaitable[Any]]) -> None:
        self._open_store = open_store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.store, self._server, self.port = self.run(self._start)

    def run(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        async def call() -> Any:
            return await function(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    async def _start(self) -> tuple[Any, grpc.aio.Server, int]:
        store = await self._open_store()
        service, health = FeedbackService(store, RequestLimits()), Health()
        collect = Dispatcher().handler(f"{FEEDBACK}/Collect", feedback_pb2.CollectRequest, service.collect)
        server = grpc.aio.server()
        methods = ServiceHandlers(FEEDBACK, {"Collect": {Priority.LIVE: collect}})
        server.add_generic_rpc_handlers((methods, health.handlers(watch_only=True)))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        health.set_serving(True)
        self._health = health
        return store, server, port

    async def _stop(self) -> None:
        self._health.close()
        await self._server.stop(None)
        await self.store.close()

    def close(self) -> None:
        self.run(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)


@contextmanager
def collecting_into(open_store: Callable[[], Awaitable[Any]]) -> Iterator[CollectServer]:
    server = CollectServer(open_store)
    try:
        yield server
    finally:
        server.close()
