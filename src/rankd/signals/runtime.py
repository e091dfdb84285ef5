"""A directory for tables that outlive nothing: in memory if the system has a file system for that."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from rankd.errors import StoreError

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_LEAST_FREE_BYTES: Final = 1 << 30
"""Containers often have a /dev/shm of 64 MB: that is no place for tables."""
_PREFIX: Final = "rankd-signals-"
_LOCK_NAME: Final = "lock"


class RuntimeDirectory:
    """Removed at `close`. One that a killed process left is removed by the next process that makes one."""

    def __init__(self) -> None:
        """StoreError if it cannot be made."""
        parent = _parent()
        _sweep(parent)
        try:
            # It gets its name once it is locked: or another process could sweep it away in between.
            made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
            self._lock = os.open(made / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path = made.rename(parent / made.name.removeprefix("."))
        except OSError as error:
            raise StoreError(f"no directory for signals can be made in {parent}: {error.strerror}") from error

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _parent() -> Path:
    """Shared memory if it has room, else the directory for temporary files."""
    try:
        state = os.statvfs(_SHARED_MEMORY)
        if state.f_bavail * state.f_frsize >= _LEAST_FREE_BYTES and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
            return _SHARED_MEMORY
    except OSError:
        pass
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    """Removes directories of this user that no process holds any more."""
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            if path.stat().st_uid != os.geteuid():
                continue
            lock = os.open(path / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
