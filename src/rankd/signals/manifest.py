"""MANIFEST: which files of a data directory are its state. Replaced as a whole, and the last step of every change."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rankd.errors import StoreError
from rankd.signals.recordfile import replace_file

NAME: Final = "MANIFEST"

_FIRST_LINE: Final = "rankd signals"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """`snapshot`: the number that the snapshot goes up to; None: there is none. `logs`: the numbers that logs begin
    after, ascending. `set_id`: of the tables that follow; 0: none. `schema`: see signals.declared."""

    schema: dict[str, Any] = field(default_factory=dict)
    snapshot: int | None = None
    logs: tuple[int, ...] = ()
    set_id: int = 0

    def write(self, directory: Path) -> None:
        """OSError; then the old one is in force."""
        body = json.dumps(
            {"schema": self.schema, "snapshot": self.snapshot, "logs": self.logs, "set_id": self.set_id},
            indent=1,
            sort_keys=True,
        ).encode()
        replace_file(directory / NAME, f"{_FIRST_LINE} {_FORMAT} {_checksum(body)}\n".encode() + body)

    @classmethod
    def read(cls, directory: Path) -> Manifest | None:
        """None: there is none. StoreError if it is damaged."""
        path = directory / NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        head, _, body = content.partition(b"\n")
        try:
            name, format_, checksum = head.decode().rsplit(" ", 2)
            if name != _FIRST_LINE or checksum != _checksum(body):
                raise ValueError
        except ValueError:
            raise StoreError(
                f"{path} is damaged; `rankd snapshot restore {directory} --accept-loss` makes it anew from the files "
                "beside it"
            ) from None
        if format_ != str(_FORMAT):
            raise StoreError(f"{path} is of format {format_}; this rankd reads format {_FORMAT}")
        document = json.loads(body)
        return cls(document["schema"], document["snapshot"], tuple(document["logs"]), document["set_id"])


def _checksum(body: bytes) -> str:
    """Compared as it is written: a digit of another case is damage, too."""
    return f"{zlib.crc32(body):08x}"


def log_path(directory: Path, after: int) -> Path:
    """The log of groups from number `after` + 1 on."""
    return directory / f"log-{after:016d}"


def snapshot_path(directory: Path, number: int) -> Path:
    """The snapshot up to a number."""
    return directory / f"snapshot-{number:016d}"
