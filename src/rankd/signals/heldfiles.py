"""The files of a data directory as they are at one moment, whether or not a process writes there meanwhile.

Files are only ever appended to or removed, and MANIFEST is replaced as a whole: if it is the same before and after all
that it names were opened, what was opened is a state that was in force.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rankd.errors import StoreError
from rankd.signals.manifest import NAME, Manifest, log_path, snapshot_path
from rankd.signals.recordfile import DamageError, OnDamage
from rankd.signals.statefiles import LogEnd, Stored, end_of_log, read_state, refuse_old

_TRIES: Final = 100


class HeldFiles:
    """Open files; what is removed stays readable until `close`. A context manager."""

    def __init__(self, directory: Path, manifest: Manifest | None = None) -> None:
        """`manifest`: to be taken for the directory's. StoreError if there is no state that can be read."""
        refuse_old(directory)
        self.directory = directory
        self._given = manifest
        for _ in range(_TRIES):
            self.manifest = self._read_manifest()
            self.files = self._open()
            if self._read_manifest() == self.manifest:
                return
            self.close()
        raise StoreError(f"{directory} changes faster than its files can be opened")

    def _read_manifest(self) -> Manifest:
        manifest = self._given or Manifest.read(self.directory)
        if manifest is None:
            raise StoreError(f"{self.directory} is no data directory of rankd: it has no {NAME}")
        return manifest

    def _open(self) -> dict[Path, int]:
        """Those that are there."""
        paths = [log_path(self.directory, after) for after in self.manifest.logs]
        if self.manifest.snapshot is not None:
            paths.insert(0, snapshot_path(self.directory, self.manifest.snapshot))
        files: dict[Path, int] = {}
        try:
            for path in paths:
                try:
                    files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
        except OSError as error:
            for descriptor in files.values():
                os.close(descriptor)
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        return files

    def read(self, on_damage: OnDamage | None = None) -> Iterator[Stored]:
        """All groups. As `read_state`."""
        return read_state(self.directory, self.manifest, on_damage, self.files)

    def end(self) -> LogEnd:
        """Of the last log, as far as it can be told without reading the others."""
        after = self.manifest.logs[-1]
        path = log_path(self.directory, after)
        if path in self.files:
            with contextlib.suppress(DamageError):  # which read tells
                return end_of_log(path, after, self.files[path])
        return LogEnd(after, 0, None)

    def close(self) -> None:
        """Lets go of the files."""
        for descriptor in self.files.values():
            os.close(descriptor)
        self.files = {}

    def __enter__(self) -> HeldFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
