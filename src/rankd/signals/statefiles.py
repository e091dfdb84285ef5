"""The state that lies in a data directory: a snapshot and the logs behind it, read in order.

    MANIFEST, snapshot-N (or none), log-N, log-M, ...

Whoever reads gets every group with its number. A record that was cut off at the end of the last log is a commit that
was never answered, and is left out; anything else that is not as it was written is an error, or told to `on_damage`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rankd.errors import StoreError
from rankd.signals.manifest import Manifest, log_path, snapshot_path
from rankd.signals.recordfile import DamageError, OnDamage, Record, read_records
from rankd.signals.records import FORMAT, LOG, SNAPSHOT, Foot, Group, Head, Upsert, decode

OLD_NAME: Final = "signals.sqlite3"
"""What earlier rankds kept signals in."""

GO_ON: Final = "`rankd snapshot restore {} --accept-loss` goes on without what is lost"


@dataclass(frozen=True, slots=True)
class Stored:
    """A group as it lies in `path`, from byte `start` on, `size` bytes of it. `number` 0: of a snapshot."""

    number: int
    group: Group
    path: Path
    start: int
    size: int

    def damage(self, reason: str) -> DamageError:
        """What is wrong with it."""
        return DamageError(self.path, self.start, reason, False, None, self.start + self.size)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a log ends well. `number`: of its last group; `size`: what is good of the file; `cut`: what was found
    behind."""

    number: int
    size: int
    cut: DamageError | None


def refuse_old(directory: Path) -> None:
    """StoreError if the directory is an earlier rankd's."""
    path = directory / OLD_NAME
    if path.exists():
        raise StoreError(
            f"{path} is of an earlier rankd, and this one does not read it: start with an empty directory and write "
            "the signals again (`rankd load`); what is nowhere else, read with the earlier rankd first (`rankd get "
            f"--json`); then remove {OLD_NAME}"
        )


def read_state(
    directory: Path, manifest: Manifest, on_damage: OnDamage | None = None, held: Mapping[Path, int] | None = None
) -> Iterator[Stored]:
    """All groups. StoreError, with what is lost and how to go on, for what is damaged or missing. `held`: the files,
    open; None: by their names."""

    def is_there(path: Path) -> bool:
        return path.exists() if held is None else path in held

    files = held or {}
    if manifest.snapshot is not None:
        path = snapshot_path(directory, manifest.snapshot)
        if is_there(path):
            yield from read_snapshot(path, on_damage, files.get(path))
        else:
            _tell(_missing(path), on_damage)
    number = manifest.snapshot or 0
    for after in manifest.logs:
        path = log_path(directory, after)
        if not is_there(path):
            _tell(_missing(path), on_damage)
            continue
        if after != number:
            _tell(_gap(path, number, after), on_damage)
        number = after
        for stored in read_log(path, after, after == manifest.logs[-1], on_damage, files.get(path)):
            yield stored
            number = stored.number


def read_snapshot(path: Path, on_damage: OnDamage | None = None, descriptor: int | None = None) -> Iterator[Stored]:
    """The groups of a snapshot. As `read_state`."""
    foot: Foot | None = None
    expected, end = 0, 0
    rows: dict[str, int] = {}
    for record in _told(read_records(path, on_damage, descriptor), path):
        end = record.end
        if record.number != expected:
            _tell(_gap(path, expected - 1, record.number - 1, record.start), on_damage)
        expected = record.number + 1
        content = decode_in(path, record)
        if isinstance(content, Head):
            check_head(path, content, SNAPSHOT)
        elif isinstance(content, Group):
            for change in content.changes:
                if isinstance(change, Upsert):
                    rows[change.entity] = rows.get(change.entity, 0) + len(change.ids)
            yield Stored(0, content, path, record.start, record.end - record.start)
        else:
            foot = content
    if foot is None:
        _tell(DamageError(path, end, "its end is missing", False, None, end), on_damage)
        return
    for entity, count in foot.rows.items():
        if rows.get(entity, 0) != count:
            reason = f"it has {rows.get(entity, 0)} of {count} rows of {entity}"
            _tell(DamageError(path, end, reason, False, None, end), on_damage)


def read_log(
    path: Path, after: int, is_last: bool, on_damage: OnDamage | None = None, descriptor: int | None = None
) -> Iterator[Stored]:
    """The groups of a log. As `read_state`."""

    def damaged(error: DamageError) -> None:
        if not (is_last and error.is_cut):
            _tell(error, on_damage)

    expected = after
    for record in _told(read_records(path, damaged, descriptor), path):
        if record.number != expected:
            _tell(_gap(path, expected - 1, record.number - 1, record.start), on_damage)
        expected = record.number + 1
        content = decode_in(path, record)
        if isinstance(content, Head):
            check_head(path, content, LOG)
        elif isinstance(content, Group):
            yield Stored(record.number, content, path, record.start, record.end - record.start)


def end_of_log(path: Path, after: int, descriptor: int | None = None) -> LogEnd:
    """Reads a log to its end. DamageError for what is not a cut end; StoreError. `descriptor`: the open file."""
    number, size = after - 1, 0
    try:
        for record in read_records(path, None, descriptor):
            if record.number != number + 1:
                raise _gap(path, number, record.number - 1, record.start)
            number, size = record.number, record.end
    except DamageError as error:
        if not error.is_cut or size == 0:
            raise
        return LogEnd(number, size, error)
    if not size:
        raise DamageError(path, 0, "its beginning is missing", False, None, 0)
    return LogEnd(number, size, None)


def decode_in(path: Path, record: Record) -> Head | Group | Foot:
    """What a record holds."""
    try:
        return decode(record.body)
    except StoreError as error:
        raise StoreError(f"{path}: at byte {record.start} {error}") from error


def check_head(path: Path, head: Head, kind: str) -> None:
    """StoreError if it is not of a file of that kind that this rankd reads."""
    if head.kind != kind:
        raise StoreError(f"{path} is no {kind} but a {head.kind}")
    if head.format != FORMAT:
        raise StoreError(f"{path} is of format {head.format}; this rankd reads format {FORMAT}")


def head_of(path: Path) -> Head:
    """The head of a file. StoreError if it has none."""
    for record in read_records(path):
        content = decode_in(path, record)
        if isinstance(content, Head):
            return content
        break
    raise StoreError(f"{path} is neither a log nor a snapshot of rankd")


def _told(records: Iterator[Record], path: Path) -> Iterator[Record]:
    """With what is lost, and how to go on."""
    try:
        yield from records
    except DamageError as error:
        raise with_advice(error) from error


def with_advice(error: DamageError) -> StoreError:
    """The error with how to go on."""
    return StoreError(f"{error}; what is before it is good. {GO_ON.format(error.path.parent)}")


def _tell(error: DamageError, on_damage: OnDamage | None) -> None:
    if on_damage is None:
        raise with_advice(error)
    on_damage(error)


def _missing(path: Path) -> DamageError:
    return DamageError(path, 0, "it is missing", False, None, 0)


def _gap(path: Path, last: int, before: int, offset: int = 0) -> DamageError:
    reason = f"groups {last + 1} to {before} are missing" if before > last else f"group {before + 1} comes again"
    return DamageError(path, offset, reason, False, before + 1, offset)
