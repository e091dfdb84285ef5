"""Whether files have changed, by looking at them again and again.

Looking needs no service of the kernel's, works on every file system, and sees a file that was written in
place, replaced by another (rename), or reached by a link that now leads elsewhere (a mounted ConfigMap).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """What tells one content of a path from another without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int


def file_state(path: Path) -> FileState | None:
    """The file that `path` leads to now; None: there is none, or it cannot be seen."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class FileWatch:
    """Tells when files are other than those that were read, and no longer being written.

    One thread at a time. `look` is to be called at an interval longer than a file system's clock tick (10 ms).
    """

    def __init__(self, read: Mapping[Path, FileState | None]) -> None:
        """`read`: the files as they were when they were read."""
        self._read = dict(read)
        self._seen: dict[Path, FileState | None] | None = None

    @property
    def files(self) -> Iterable[Path]:
        """The files watched."""
        return self._read.keys()

    def have_read(self, read: Mapping[Path, FileState | None]) -> None:
        """These are the files to watch from now on, in the state in which they were read."""
        self._read = dict(read)
        self._seen = None

    def look(self) -> bool:
        """Whether the files differ from those read, and are as the last look found them."""
        before, self._seen = self._seen, {path: file_state(path) for path in self._read}
        return self._seen == before and self._seen != self._read
