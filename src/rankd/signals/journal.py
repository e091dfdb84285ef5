"""The durable side of the embedded store: a log that is only appended to, and a snapshot that it begins after.

    commit    one record, one write, one fdatasync; then it survives kill -9, and loss of power if the disk keeps its
              word
    rotate    a new log; a snapshot of the tables is written meanwhile
    accept    the snapshot is in force; older logs and the older snapshot go

Tables follow the journal: a group is committed, then published there. Used by one thread at a time.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rankd.errors import StoreError
from rankd.signals.declared import Document, document_of, entities_of, same, union
from rankd.signals.manifest import NAME, Manifest, log_path, snapshot_path
from rankd.signals.recordfile import DamageError, OnDamage, RecordWriter, sync_directory
from rankd.signals.records import FORMAT, LOG, Change, Group, Head, encode
from rankd.signals.statefiles import (
    Stored,
    end_of_log,
    head_of,
    read_log,
    read_state,
    refuse_old,
    with_advice,
)
from rankd.types.schema import Schema

_LOG: Final = logging.getLogger(__name__)


class Journal:
    """All methods raise StoreError with the file's name.

    `schema`: the declared one and what is stored beside it. `number`: of the last group.
    """

    def __init__(self, directory: Path, schema: Schema) -> None:
        """Opens what is there, or begins."""
        self.directory = directory
        refuse_old(directory)
        manifest = Manifest.read(directory)
        stored = {} if manifest is None else entities_of(manifest.schema)
        self.schema = union(stored, schema)
        self._document = document_of(self.schema.entities)
        if manifest is None:
            manifest = self._begin()
        self.manifest = manifest
        self._remove_strays()
        self._open_log()
        self.snapshot_bytes = self._size_of_snapshot()

    def _begin(self) -> Manifest:
        others = [
            path.name
            for path in self.directory.iterdir()
            if path.name.startswith(("log-", "snapshot-")) and not self._is_of_killed_begin(path)
        ]
        if others:
            raise StoreError(
                f"{self.directory} has {', '.join(sorted(others))[:200]} but no {NAME}; "
                f"`rankd snapshot restore {self.directory} --accept-loss` makes it anew from them"
            )
        with _Failures(self.directory):
            self._new_log(0).close()
            manifest = Manifest(self._document, None, (0,))
            manifest.write(self.directory)
        return manifest

    def _is_of_killed_begin(self, path: Path) -> bool:
        """Whether it may lie there without a manifest: nothing can have been acknowledged."""
        if path.name.endswith(".new"):
            return True
        return path == log_path(self.directory, 0) and not any(True for _ in read_log(path, 0, True))

    def _remove_strays(self) -> None:
        """What a writer that was killed left between two steps. StoreError for files that nothing explains."""
        logs = {log_path(self.directory, after).name for after in self.manifest.logs}
        snapshot = self.manifest.snapshot
        for path in self.directory.iterdir():
            name = path.name
            if name.endswith(".new") or (
                name.startswith("snapshot-")
                and (snapshot is None or name != snapshot_path(self.directory, snapshot).name)
            ):
                path.unlink()
            elif name.startswith("log-") and name not in logs:
                if name > max(logs) and any(True for _ in read_log(path, head_of(path).number, True)):
                    raise StoreError(
                        f"{path} holds writes, but {NAME} does not name it: is it older than the other files? "
                        f"`rankd snapshot restore {self.directory} --accept-loss` makes {NAME} anew"
                    )
                path.unlink()

    def _open_log(self) -> None:
        after = self.manifest.logs[-1]
        path = log_path(self.directory, after)
        try:
            end = end_of_log(path, after)
        except DamageError as error:
            raise with_advice(error) from error
        if end.cut is not None:
            _LOG.warning("%s: it was never acknowledged, and is dropped", end.cut)
        self.number = end.number
        older = sum(_size(log_path(self.directory, after)) for after in self.manifest.logs[:-1])
        self._older_bytes = older
        with _Failures(path):
            self._writer = RecordWriter(path, end.size)

    def _size_of_snapshot(self) -> int:
        return 0 if self.manifest.snapshot is None else _size(snapshot_path(self.directory, self.manifest.snapshot))

    @property
    def log_bytes(self) -> int:
        """Of the logs behind the snapshot."""
        return self._older_bytes + self._writer.size

    @property
    def is_same_schema(self) -> bool:
        """Whether nothing was declared anew since values were stored."""
        return same(self._document, self.manifest.schema)

    def read(self, on_damage: OnDamage | None = None) -> Iterator[Stored]:
        """Everything, from the beginning."""
        return read_state(self.directory, self.manifest, on_damage)

    def last_group(self) -> Group | None:
        """The group with the last number; None: it is in the snapshot, or there is none."""
        after = self.manifest.logs[-1]
        if self.number == after:
            return None
        group = None
        for stored in read_log(log_path(self.directory, after), after, True):
            group = stored.group
        return group

    def commit(self, changes: list[Change]) -> int:
        """When it returns, the group is on the disk; if it fails, nothing of it is. The group's number."""
        size = self._writer.size
        with _Failures(self._writer.path, "; nothing was written"):
            self._writer.append(self.number + 1, encode(Group(changes)))
            try:
                self._writer.sync()
            except OSError:
                self._writer.take_back(size)
                raise
        self.number += 1
        return self.number

    def rotate(self) -> int:
        """Goes on in a new log. The number of the last group before it."""
        with _Failures(self.directory):
            if self.number != self.manifest.logs[-1]:
                writer = self._new_log(self.number)
                try:
                    self._install(
                        Manifest(
                            self._document,
                            self.manifest.snapshot,
                            (*self.manifest.logs, self.number),
                            self.manifest.set_id,
                        )
                    )
                except BaseException:
                    writer.close()
                    writer.path.unlink(missing_ok=True)
                    raise
                self._older_bytes += self._writer.size
                self._writer.close()
                self._writer = writer
        return self.number

    def _new_log(self, after: int) -> RecordWriter:
        return begin_log(self.directory, self._document, after)

    def accept(self, number: int) -> None:
        """The snapshot up to `number` is in force; what is older goes."""
        old = self.manifest
        with _Failures(self.directory):
            logs = tuple(after for after in old.logs if after >= number)
            self._install(Manifest(self._document, number, logs, old.set_id))
            if old.snapshot is not None and old.snapshot != number:
                snapshot_path(self.directory, old.snapshot).unlink(missing_ok=True)
            for after in old.logs:
                if after not in logs:
                    log_path(self.directory, after).unlink(missing_ok=True)
        self._older_bytes = sum(_size(log_path(self.directory, after)) for after in logs[:-1])
        self.snapshot_bytes = self._size_of_snapshot()

    def set_tables(self, set_id: int) -> None:
        """These tables follow from now on, and values are of the schema as it is now."""
        if not self.is_same_schema:
            self._renew_log()
        with _Failures(self.directory):
            self._install(Manifest(self._document, self.manifest.snapshot, self.manifest.logs, set_id))

    def _renew_log(self) -> None:
        """So that the head of a log says what all values in it are of, should the manifest be lost."""
        if self.number != self.manifest.logs[-1]:
            self.rotate()
            return
        with _Failures(self.directory):
            writer = self._new_log(self.number)
        self._writer.close()
        self._writer = writer

    def _install(self, manifest: Manifest) -> None:
        manifest.write(self.directory)
        self.manifest = manifest

    @property
    def document(self) -> dict[str, object]:
        """The schema that values are of, for the head of a snapshot."""
        return self._document

    def close(self) -> None:
        self._writer.close()


def begin_log(directory: Path, document: Document, after: int) -> RecordWriter:
    """A log without groups; one of the same name that is there is replaced. OSError; then it is not."""
    path = log_path(directory, after)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a writer that was killed
    writer = RecordWriter(new)
    try:
        writer.append(after, encode(Head(LOG, FORMAT, document, after)))
        writer.sync()
        new.rename(path)
        writer.path = path
        sync_directory(directory)
    except BaseException:
        writer.close()
        new.unlink(missing_ok=True)
        raise
    return writer


class _Failures:
    """Turns what the system says into StoreError."""

    def __init__(self, path: Path, consequence: str = "") -> None:
        self._path, self._consequence = path, consequence

    def __enter__(self) -> None:
        pass

    def __exit__(self, type_: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            advice = "; make room there" if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) else ""
            raise StoreError(f"{self._path}: {error.strerror or error}{self._consequence}{advice}") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
