"""`rankd serve` as a child process: what the demo and the runs on real data talk to.

A process of its own, so that what is measured and shown is the service and not a shortcut into it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from rankd.errors import UnavailableError

_GREETING = re.compile(r"serving on (\S+), health on (\S+);")
_KEPT_LOG_LINES = 200


class ServerProcess:
    """Starts on entering the context (any free ports), drains on leaving it.

    `environment`: variables such as RANKD_TRACING__OTLP_ENDPOINT. UnavailableError with the
    server's own words if it does not come up within `timeout_s`.
    """

    def __init__(self, workspace: Path, environment: dict[str, str] | None = None, timeout_s: float = 60.0) -> None:
        self.workspace = workspace
        self.address = ""
        self._environment = {**os.environ, "RANKD_SERVER__DRAIN_SECONDS": "0", **(environment or {})}
        # The terminal is the parent's, and so are its width and colours: the log is read, not shown.
        self._environment["RANKD_SERVER__LOG__FORMAT"] = "text"
        self._timeout_s = timeout_s
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._ready = threading.Event()

    @property
    def log(self) -> str:
        """The last lines the server wrote."""
        return "".join(self._log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        # One worker: there is one client, and it starts sooner.
        command = [sys.executable, "-m", "rankd", "serve", str(self.workspace), "--workers", "1"]
        self._process = subprocess.Popen(  # our own interpreter and our own module
            [*command, "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(self._timeout_s) or not self.address:
            self.stop()
            raise UnavailableError(f"rankd serve did not come up:\n{self.log.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """Ends it in order, or by force after a while; its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        status = self._process.wait()
        self._reader.join(5)
        return status

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._log.append(line)
                if not self.address and (match := _GREETING.search(line)):
                    self.address = match[1]
                    self._ready.set()
        self._ready.set()
