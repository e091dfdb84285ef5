"""Files of models: read within bounds, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from rankd.errors import ModelFileError


def open_file(path: Path, max_bytes: int) -> tuple[IO[bytes], int]:
    """An open regular file and its size. ModelFileError if it cannot be opened or is above `max_bytes`."""
    try:
        if not path.is_file():  # a pipe would block, a device never end
            raise ModelFileError("expected a file, there is none", str(path))
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        file.close()
        raise ModelFileError(f"expected at most {max_bytes} bytes", str(path))
    return file, size


def read_file(path: Path, max_bytes: int) -> bytes:
    """The whole file. ModelFileError if it cannot be read or is above `max_bytes`."""
    file, size = open_file(path, max_bytes)
    try:
        with file:
            data = file.read(size + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(data) > max_bytes:
        raise ModelFileError(f"expected at most {max_bytes} bytes", str(path))
    return data


def unreadable(path: Path, error: OSError | ValueError) -> ModelFileError:
    """What the system said, as the file's error."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ModelFileError(f"cannot be read: {reason}", str(path))


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Writes the parts to a new file that then takes the path's place, on disk: nobody ever sees half of it, and who
    has mapped the file before keeps that. OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
