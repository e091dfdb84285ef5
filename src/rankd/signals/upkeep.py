"""Copies of a data directory's state: made, verified, put back; and a damaged state made good again.

A copy is one file, a snapshot as it lies in a data directory: checksummed record by record, and under its name only
when it is whole. Wherever a state is put into a directory, it lies beside the old one until the manifest, replaced as
a whole, names it; the old files stay in a directory of their own, which is a data directory, too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rankd.errors import StoreError
from rankd.signals.declared import Document, entities_of
from rankd.signals.directory import DataDirectory
from rankd.signals.heldfiles import HeldFiles
from rankd.signals.journal import begin_log
from rankd.signals.manifest import NAME, Manifest, log_path, snapshot_path
from rankd.signals.recordfile import DamageError, OnDamage, sync_directory
from rankd.signals.records import SNAPSHOT, Change, Delete, Told, Upsert, unpack_upsert
from rankd.signals.snapshot import write_snapshot
from rankd.signals.statefiles import OLD_NAME, Stored, check_head, head_of, read_log, read_snapshot
from rankd.signals.tableset import disk_errors
from rankd.types.schema import Entity

_LOG_PREFIX: Final = "log-"
_SNAPSHOT_PREFIX: Final = "snapshot-"


@dataclass(slots=True)
class FileReport:
    """Of one file: the groups in it that can be read, and how many rows they write."""

    path: Path
    size: int
    groups: int = 0
    rows: int = 0


@dataclass(slots=True)
class Survey:
    """What was read. `rows`: written, by entity; a row that is written again counts again. `damage`: in the order of
    the files. `cut`: the end of the last log that is no whole record: of a commit that was never answered, or is
    being written."""

    files: dict[Path, FileReport] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    damage: list[DamageError] = field(default_factory=list)
    cut: DamageError | None = None

    def watch(self, groups: Iterable[Stored]) -> Iterator[Stored]:
        """The same groups, counted."""
        for stored in groups:
            report = self.files.get(stored.path)
            if report is None:
                report = self.files[stored.path] = FileReport(stored.path, _size(stored.path))
            report.groups += 1
            for change in stored.group.changes:
                if isinstance(change, Upsert):
                    report.rows += len(change.ids)
                    self.rows[change.entity] = self.rows.get(change.entity, 0) + len(change.ids)
            yield stored


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


class Source:
    """A state to be read: a data directory (its process may be running), or a snapshot's file. A context manager.

    `document`: the schema that its values are of, see signals.declared; `number`: of its last group, as far as it can
    be told; `cut`: see Survey.
    """

    def __init__(self, path: Path) -> None:
        """StoreError if it is neither."""
        self.path = path
        self._held: HeldFiles | None = None
        self.cut: DamageError | None = None
        if path.is_dir():
            self._held = HeldFiles(path)
            self.document = self._held.manifest.schema
            end = self._held.end()
            self.number, self.cut = end.number, end.cut
        else:
            head = head_of(path)
            check_head(path, head, SNAPSHOT)
            self.document, self.number = head.schema, head.number
        self.entities = entities_of(self.document)

    def read(self, on_damage: OnDamage | None = None) -> Iterator[Stored]:
        """All groups. StoreError for what is damaged, without `on_damage`."""
        return read_snapshot(self.path, on_damage) if self._held is None else self._held.read(on_damage)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.close()


def create(source: Path, output: Path) -> Survey:
    """Copies the state of a data directory into one file, which replaces one that is there. StoreError if anything of
    the state is damaged, or the disk is full; then there is no new file."""
    survey = Survey()
    with Source(source) as state, disk_errors(output.parent):
        groups = survey.watch(state.read())
        changes = (change for stored in groups for change in stored.group.changes)
        write_snapshot(output, state.document, state.number, changes)
    return survey


def verify(path: Path) -> Survey:
    """Reads every record of a data directory or of a snapshot's file, and what is in it. StoreError if it is neither,
    or its manifest or the beginning of the file is damaged."""
    survey = Survey()
    with Source(path) as state:
        for stored in survey.watch(state.read(survey.damage.append)):
            for change in stored.group.changes:
                if isinstance(change, Upsert):
                    try:
                        unpack_upsert(state.entities, change)
                    except StoreError as error:
                        survey.damage.append(stored.damage(str(error)))
        survey.cut = state.cut
    return survey


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was put into a directory. `backup`: where the files lie that were there before; None: there were none."""

    survey: Survey
    backup: Path | None


def restore(directory: Path, source: Path, *, replace_old: bool = False, accept_loss: bool = False) -> Outcome:
    """Puts a state into a data directory that no process uses.

    StoreError, and nothing has changed: the directory has a state and `replace_old` is False; or the source is damaged
    and `accept_loss` is False: with it the good part is taken, and the outcome says what is lost.
    """
    with Source(source) as state, contextlib.closing(DataDirectory(directory)):
        if not replace_old and (others := state_files(directory)):
            raise StoreError(
                f"{directory} has a state already ({', '.join(p.name for p in others)[:200]}); to replace it, add "
                "--replace: its files are kept in a directory beside"
            )
        survey = Survey()
        groups = survey.watch(state.read(survey.damage.append if accept_loss else None))
        backup = install(directory, state.document, _fitting(groups, state.entities, survey.damage.append), "restore")
    return Outcome(survey, backup)


def repair(directory: Path) -> Outcome:
    """Makes a damaged data directory good again from what can be read of it; what is lost is in the outcome."""
    with contextlib.closing(DataDirectory(directory)):
        survey = Survey()
        document, groups = _salvage(directory, survey.damage.append)
        groups = survey.watch(groups)
        backup = install(directory, document, _fitting(groups, entities_of(document), survey.damage.append), "repair")
    return Outcome(survey, backup)


def _fitting(groups: Iterable[Stored], entities: Mapping[str, Entity], on_damage: OnDamage) -> Iterator[Change]:
    """Changes, without what nothing says the type of."""
    for stored in groups:
        for change in stored.group.changes:
            match change:
                case Told():
                    yield change
                case Delete() if change.entity in entities:
                    yield change
                case Upsert() if change.entity in entities:
                    yield _fitting_columns(stored, change, entities, on_damage)
                case _:
                    on_damage(stored.damage(f"has rows of {change.entity}, which is in no schema beside them"))


def _fitting_columns(stored: Stored, upsert: Upsert, entities: Mapping[str, Entity], on_damage: OnDamage) -> Upsert:
    good = []
    for column in upsert.columns:
        try:
            unpack_upsert(entities, Upsert(upsert.entity, upsert.ids, [column], upsert.times))
            good.append(column)
        except StoreError as error:
            on_damage(stored.damage(str(error)))
    return Upsert(upsert.entity, upsert.ids, good, upsert.times)


def state_files(directory: Path) -> list[Path]:
    """Files of a state, of this rankd or an earlier one."""
    if not directory.is_dir():
        return []
    return sorted(
        path
        for path in directory.iterdir()
        if path.name.startswith((_LOG_PREFIX, _SNAPSHOT_PREFIX)) or path.name in (NAME, OLD_NAME)
    )


def _numbered(directory: Path, prefix: str) -> list[int]:
    """The numbers in the names of logs or snapshots, ascending."""
    found = (path.name.removeprefix(prefix) for path in directory.glob(f"{prefix}*"))
    return sorted(int(number) for number in found if number.isdecimal())


def install(directory: Path, document: Document, changes: Iterable[Change], why: str) -> Path | None:
    """Makes `changes` the state of a directory that the caller holds; where the old files are now.

    StoreError, and the old state is in force: `changes` raised it, or the disk is full.
    """
    old = state_files(directory)
    number = max([0, *_numbered(directory, _LOG_PREFIX), *_numbered(directory, _SNAPSHOT_PREFIX)]) + 1
    snapshot, log = snapshot_path(directory, number), log_path(directory, number)
    backup: Path | None = None
    with disk_errors(directory):
        try:
            write_snapshot(snapshot, document, number, changes)
            begin_log(directory, document, number).close()
            if old:
                backup = _keep(directory, old, why)
            Manifest(document, number, (number,)).write(directory)
        except BaseException:
            for path in (snapshot, log):
                path.unlink(missing_ok=True)
            if backup is not None:
                _remove(backup)
            raise
        for path in old:
            if path.name != NAME:
                path.unlink(missing_ok=True)
        sync_directory(directory)
    return backup


def _keep(directory: Path, files: Iterable[Path], why: str) -> Path:
    """Names the files in a new directory, too."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    backup, tries = directory / f"before-{why}-{stamp}", 1
    while backup.exists():
        tries += 1
        backup = directory / f"before-{why}-{stamp}-{tries}"
    backup.mkdir(mode=0o700)
    for path in files:
        os.link(path, backup / path.name)
    sync_directory(backup)
    sync_directory(directory)
    return backup


def _remove(backup: Path) -> None:
    for path in backup.iterdir():
        path.unlink(missing_ok=True)
    backup.rmdir()


def _salvage(directory: Path, on_damage: OnDamage) -> tuple[Document, Iterator[Stored]]:
    """The schema and all groups that can be read, whatever the manifest says of them. StoreError if nothing can."""
    logs, snapshots = _numbered(directory, _LOG_PREFIX), _numbered(directory, _SNAPSHOT_PREFIX)
    if not logs and not snapshots:
        raise StoreError(f"{directory} has neither logs nor a snapshot of rankd")
    manifest: Manifest | None = None
    try:
        manifest = Manifest.read(directory)
        if manifest is None:
            on_damage(DamageError(directory / NAME, 0, "it is missing", False, None, 0))
    except StoreError:
        on_damage(DamageError(directory / NAME, 0, "it is damaged", False, None, 0))
    if manifest is not None and not any(_has_groups(directory, after) for after in logs if after > manifest.logs[-1]):
        return manifest.schema, _held(directory, manifest, on_damage)
    document = {} if manifest is None else manifest.schema
    document = document | _schema_in(directory, logs, snapshots)
    if not document:
        raise StoreError(f"{directory}: no file in it says what its values are of; nothing can be made good")
    return document, _everything(directory, document, logs, snapshots, on_damage)


def _has_groups(directory: Path, after: int) -> bool:
    return any(True for _ in read_log(log_path(directory, after), after, True, lambda _: None))


def _schema_in(directory: Path, logs: list[int], snapshots: list[int]) -> Document:
    """What the heads of files say, the latest last."""
    document: Document = {}
    paths = [(n, snapshot_path(directory, n)) for n in snapshots] + [(n, log_path(directory, n)) for n in logs]
    for _, path in sorted(paths):
        with contextlib.suppress(StoreError):
            document |= head_of(path).schema
    return document


def _everything(
    directory: Path, document: Document, logs: list[int], snapshots: list[int], on_damage: OnDamage
) -> Iterator[Stored]:
    """From the newest whole snapshot on; if there is none, whatever there is, the oldest first."""
    for number in reversed(snapshots):
        found: list[DamageError] = []
        for _ in read_snapshot(snapshot_path(directory, number), found.append):
            pass
        later = tuple(after for after in logs if after >= number)
        if not found:
            yield from _held(directory, Manifest(document, number, later), on_damage)
            return
    newest = snapshots[-1] if snapshots else None
    earlier = tuple(after for after in logs if newest is not None and after < newest)
    if earlier:
        yield from _held(directory, Manifest(document, None, earlier), on_damage)
    later = tuple(after for after in logs if after not in earlier)
    yield from _held(directory, Manifest(document, newest, later), on_damage)


def _held(directory: Path, manifest: Manifest, on_damage: OnDamage) -> Iterator[Stored]:
    with HeldFiles(directory, manifest) as held:
        yield from held.read(on_damage)
