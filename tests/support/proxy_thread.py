"""The TCP fault proxy, in a thread of its own, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from load_tests.faults.proxy import FaultProxy, Faults


class ProxyThread:
    """Before a server on 127.0.0.1; listens on `port` while it is entered."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxy = FaultProxy("127.0.0.1", target_port)
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def set(self, faults: Faults) -> None:
        """From now on these."""

        async def change() -> None:
            self._proxy.faults = faults

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(10)

    def __enter__(self) -> ProxyThread:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._proxy.__aenter__(), self._loop).result(10)
        self.port = self._proxy.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._proxy.__aexit__(None, None, None), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
