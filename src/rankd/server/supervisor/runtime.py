"""A running service's own files: sockets, and the note by which `rankd status` finds them.

    TMP/rankd-UID/           0700, the user's own
      WORKSPACE.json         the note: pid and sockets of the service that serves the workspace
      s-XXXXXXXX/            of one service: its locks and sockets

The supervisor holds one lock of its folder, its children share another: so a later service can tell what was left
behind, and whether children of a supervisor that was killed are still at work.
Sockets are here and not beside the workspace because their paths must fit into 107 bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from rankd.errors import ConfigError

NOTE_NAME: Final = "supervisor.json"
"""The note's name in a data directory."""

_MAX_TEMP_BYTES: Final = 60
_LOCK_NAME: Final = "lock"
_CHILDREN_LOCK_NAME: Final = "children.lock"
_LOOK_S: Final = 0.05


def runtime_root() -> Path:
    """The user's folder for all services; made if there is none. ConfigError if it is not safe to use."""
    temp = tempfile.gettempdir()
    if len(os.fsencode(temp)) > _MAX_TEMP_BYTES:
        temp = "/tmp"  # noqa: S108 - a name that fits a socket's path; checked below
    root = Path(temp) / f"rankd-{os.geteuid()}"
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(f"expected a folder that only user {os.geteuid()} may enter, got something else: {root}")
    return root


def note_of(workspace: Path) -> Path:
    """Where the service of a workspace (its file, absolute) leaves its note."""
    return runtime_root() / (hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16] + ".json")


class RuntimeDirectory:
    """A service's folder, from now until `close`. OSError or ConfigError if it cannot be made."""

    def __init__(self) -> None:
        root = runtime_root()
        _sweep(root)
        self.path = Path(tempfile.mkdtemp(prefix="s-", dir=root))
        self._lock = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._notes: list[Path] = []

    @property
    def status_socket(self) -> Path:
        """Where `rankd status` asks."""
        return self.path / "status.sock"

    @property
    def keeper_socket(self) -> Path:
        """Where workers send what is written."""
        return self.path / "keeper.sock"

    def leave_note(self, file: Path) -> None:
        """Writes pid and socket to `file`, atomically. OSError if it cannot be."""
        note = {"pid": os.getpid(), "socket": str(self.status_socket)}
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(note, stream)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._notes.append(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the folder, and the notes that are still ours."""
        for file in self._notes:
            if read_note(file) == self.status_socket:
                file.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def read_note(file: Path) -> Path | None:
    """The status socket that a note names; None if there is no note, or nothing sensible in it."""
    try:
        note = json.loads(file.read_bytes()[:4096])
        socket = note["socket"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(socket) if isinstance(socket, str) and "\0" not in socket else None


def join_service(folder: Path) -> int:
    """Holds the lock that the children of a service share, until the process ends. The file descriptor."""
    lock = os.open(folder / _CHILDREN_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def wait_for_orphans(note: Path, patience_s: float, on_wait: Callable[[], None]) -> None:
    """Waits while children of the service that left `note` are at work although its supervisor is gone: they drain,
    and hold its ports and data. `on_wait` is called once, if there is something to wait for."""
    socket = read_note(note)
    if socket is None or _has_supervisor(socket.parent):
        return
    give_up_s = time.monotonic() + patience_s
    if _has_children(socket.parent):
        on_wait()
    while _has_children(socket.parent) and time.monotonic() < give_up_s:
        time.sleep(_LOOK_S)


def _sweep(root: Path) -> None:
    """Removes the folders of services that were killed, and whose children have ended."""
    for folder in root.glob("s-*"):
        # One without a lock is being made, or is no such folder.
        if (folder / _LOCK_NAME).exists() and not _has_supervisor(folder) and not _has_children(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _has_supervisor(folder: Path) -> bool:
    # Shared: those who look at the same time must not take one another for the holder.
    return not _can_lock(folder / _LOCK_NAME, fcntl.LOCK_SH)


def _has_children(folder: Path) -> bool:
    """Also true, for a moment, while somebody else looks."""
    return not _can_lock(folder / _CHILDREN_LOCK_NAME, fcntl.LOCK_EX)


def _can_lock(file: Path, how: int) -> bool:
    """Whether a lock could be had now; one that is not there, always."""
    try:
        lock = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
