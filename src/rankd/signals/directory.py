"""A data directory, held by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from rankd.errors import StoreError

LOCK_NAME = "rankd.lock"


class DataDirectory:
    """Holds the directory until `close`; the kernel lets go of it when the process dies, however it dies."""

    def __init__(self, path: Path) -> None:
        """Creates the directory if needed. StoreError if it cannot be used, or is in use."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"data directory {path} is not a directory") from error
        except OSError as error:
            raise StoreError(
                f"data directory {path} cannot be used: {error.strerror}; "
                f"rankd (user {os.geteuid()}) needs to create, read and write files in it"
            ) from error
        try:
            # flock, not lockf: it also keeps this process from opening the directory twice.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(f"data directory {path} is in use by another rankd (pid {holder})") from error
        with contextlib.suppress(OSError):  # a full disk: it is for people only
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def sync(self) -> None:
        """Makes the directory's entries durable."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Lets go. The lock file stays: removing it could take a lock away from the next holder."""
        os.close(self._file)
