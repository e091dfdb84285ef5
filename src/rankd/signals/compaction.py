"""Keeps the log short: snapshots are written in a thread of their own while writes go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rankd.errors import StoreError
from rankd.signals.journal import Journal
from rankd.signals.manifest import snapshot_path
from rankd.signals.snapshot import StoppedError

_RETRY_BYTES: Final = 16 << 20
"""Of log more, before a snapshot that failed is tried again."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogBounds:
    """A snapshot is written when the logs behind the last one are `compact_bytes` and `compact_ratio` of it; at
    `max_bytes` writes wait for it."""

    compact_bytes: int = 256 << 20
    compact_ratio: float = 0.5
    max_bytes: int = 16 << 30


class Compaction:
    """`lock` is held by whoever uses the journal; `write(path, number, check)` writes a snapshot."""

    def __init__(
        self,
        journal: Journal,
        lock: AbstractContextManager[bool],
        write: Callable[[Path, int, Callable[[], None]], object],
        bounds: LogBounds,
    ) -> None:
        self._journal, self._lock, self._write, self._bounds = journal, lock, write, bounds
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_wanted = False
        self._is_over = False
        self._failure = ""
        self._retry_bytes = 0

    def check(self) -> None:
        """Begins a snapshot if the log has become long. Called with the lock."""
        journal, bounds = self._journal, self._bounds
        if journal.log_bytes >= max(
            bounds.compact_bytes, bounds.compact_ratio * journal.snapshot_bytes, self._retry_bytes
        ):
            self.start()

    def start(self) -> None:
        """Begins a snapshot; if one is being written, another follows it."""
        with self._changed:
            if self._is_over:
                return
            self._is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rankd-snapshot", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Returns when no snapshot is being written."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)

    def wait_for_room(self) -> None:
        """Returns when the log may grow. StoreError if no snapshot can be written. Called without the lock."""
        if self._journal.log_bytes < self._bounds.max_bytes:
            return
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None or self._journal.log_bytes < self._bounds.max_bytes)
        if self._journal.log_bytes >= self._bounds.max_bytes:
            raise StoreError(
                f"the log of signals has reached max_log_mb and no snapshot can be written ({self._failure}); "
                "nothing was written"
            )

    def stop(self) -> None:
        """Ends a snapshot that is being written; there will be no other."""
        with self._changed:
            self._is_over = True
        self.wait()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._is_wanted or self._is_over:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._is_wanted = False
            try:
                self._compact()
                self._failure, self._retry_bytes = "", 0
            except StoppedError:
                pass
            except (StoreError, OSError) as error:
                self._fail(str(error))
            except BaseException as error:
                _LOG.error("writing a snapshot of signals failed", exc_info=error)
                self._fail(type(error).__name__)
            with self._changed:
                self._changed.notify_all()

    def _compact(self) -> None:
        with self._lock:
            number = self._journal.rotate()
        path = snapshot_path(self._journal.directory, number)
        self._write(path, number, self._check_over)
        with self._lock:
            self._journal.accept(number)
        _LOG.info("%s was written, %d bytes", path, self._journal.snapshot_bytes)

    def _check_over(self) -> None:
        if self._is_over:
            raise StoppedError("the store is being closed")

    def _fail(self, why: str) -> None:
        self._failure, self._retry_bytes = why, self._journal.log_bytes + _RETRY_BYTES
        _LOG.error("no snapshot of signals can be written, and the log grows: %s", why)
