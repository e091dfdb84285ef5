"""What an embedded store stands on: mapped tables, the journal they follow where there is a data directory, and the
directory that holds both. Synchronous; used by one thread at a time.

Opening with a data directory takes up the tables that are there, if they are sure to hold what the journal holds; else
they are made anew from it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from rankd.errors import RankdError, StoreError
from rankd.kernels.table_writer import TableWriter
from rankd.limits import MAX_CATEGORIES
from rankd.signals.categories import CategoryTable, intern_in
from rankd.signals.changes import DeleteChange, Room, WriteChange
from rankd.signals.commits import Change, run_group
from rankd.signals.directory import DataDirectory
from rankd.signals.encode import absent, encode
from rankd.signals.journal import Journal, LoadedRows
from rankd.signals.layout import EntityLayout
from rankd.signals.runtime import RuntimeDirectory
from rankd.signals.tableset import (
    TableSet,
    UnfitError,
    attach_tables,
    close_cleanly,
    create_tables,
    disk_errors,
    new_set_id,
    remove_other_sets,
)
from rankd.types.schema import Schema

TABLES_NAME: Final = "tables"
"""In the data directory: the sets of tables."""

_Holder = DataDirectory | RuntimeDirectory
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an entity may come to."""

    max_rows: int
    max_bytes: int


@dataclass(slots=True)
class Opening:
    """How an opening is watched and stopped. `on_progress(rows_done, rows_total)` is called in the opening thread."""

    on_progress: Callable[[int, int], None]
    stop: threading.Event = field(default_factory=threading.Event)

    def report(self, done: int, total: int) -> None:
        if self.stop.is_set():
            raise StoreError("stopped while signals were loaded")
        self.on_progress(done, total)


class Backing:
    """Tables to be written and, with a journal, to be followed."""

    def __init__(
        self, schema: Schema, tables: TableSet[TableWriter], bounds: Bounds, journal: Journal | None, holder: _Holder
    ) -> None:
        self.tables = tables
        self.layouts = layouts_of(schema)
        intern = intern_in(tables.dictionary, MAX_CATEGORIES, tables.directory)
        self.categories = CategoryTable(tables.dictionary, intern)
        self.rooms = {
            name: Room(
                layout,
                tables.tables[name],
                self.categories,
                directory=tables.directory,
                max_rows=bounds.max_rows,
                max_bytes=bounds.max_bytes,
                has_keys=journal is not None,
            )
            for name, layout in self.layouts.items()
        }
        self._journal = journal
        self._holder = holder
        self._number = 0

    def run(self, changes: Sequence[Change]) -> list[RankdError | None]:
        """Commits and publishes a group; what refused each change, or None. StoreError: it failed as a whole."""
        for room in self.rooms.values():
            room.start_group()
        refusals = run_group(changes, self._commit)
        if self._journal is not None and not all(refusals):
            self.tables.dictionary.set_applied(self._number)
        return refusals

    def _commit(self, planned: Sequence[Change]) -> None:
        if self._journal is not None:
            self._number = self._journal.commit(
                [
                    change.journalled
                    for change in planned
                    if isinstance(change, WriteChange | DeleteChange) and change.journalled is not None
                ]
            )

    def restore(self, rows: LoadedRows) -> None:
        """Publishes rows as the journal has them: what they lack there becomes missing."""
        if not rows.ids:
            return
        room = self.rooms[rows.entity]
        columns = [replace(column, times_ms=rows.value_times_ms[column.signal]) for column in rows.columns]
        cells = encode(room.layout, absent(columns, len(rows.ids)), self.categories)
        room.stage(rows.ids, cells, rows.written_ms, rows.keys).publish()

    def close(self) -> None:
        """Puts everything on the disk, where there is a data directory, and lets go of it."""
        try:
            if self._journal is None:
                self.tables.close()
                return
            try:
                self._journal.close()
            finally:
                try:
                    close_cleanly(self.tables)
                except OSError as error:
                    _LOG.warning("the signal tables could not be put on the disk; they will be made anew: %s", error)
        finally:
            self._holder.close()


def layouts_of(schema: Schema) -> dict[str, EntityLayout]:
    """The layout of each entity's table."""
    return {name: EntityLayout.of(entity) for name, entity in schema.entities.items()}


def open_transient(schema: Schema, bounds: Bounds) -> Backing:
    """Empty tables that outlive nothing."""
    holder = RuntimeDirectory()
    try:
        tables = create_tables(holder.path / TABLES_NAME, new_set_id(), layouts_of(schema), bounds.max_bytes)
        return Backing(schema, tables, bounds, None, holder)
    except BaseException:
        holder.close()
        raise


def open_durable(schema: Schema, path: Path, bounds: Bounds, opening: Opening) -> Backing:
    """What a data directory holds. StoreError if it cannot be used; it says why."""
    directory = DataDirectory(path)
    try:
        journal = Journal(path, schema, directory.sync)
        try:
            try:
                backing = _take_up(schema, directory, bounds, journal)
            except UnfitError as error:
                total = sum(journal.row_count(name) for name in schema.entities)
                if total:
                    _LOG.warning("the signal tables are made anew from the journal (%d rows): %s", total, error)
                backing = _make_anew(schema, directory, bounds, journal, opening)
            remove_other_sets(path / TABLES_NAME, backing.tables.set_id)
            for name, room in backing.rooms.items():
                room.next_key = journal.next_key(name)
            return backing
        except BaseException:
            journal.close()
            raise
    except BaseException:
        directory.close()
        raise


def _take_up(schema: Schema, directory: DataDirectory, bounds: Bounds, journal: Journal) -> Backing:
    """The tables as they are, after the group that may be missing. UnfitError."""
    mark = journal.mark()
    if not mark.set_id:
        raise UnfitError("there are none yet")
    tables = attach_tables(directory.path / TABLES_NAME, mark.set_id, layouts_of(schema), bounds.max_bytes)
    try:
        backing = Backing(schema, tables, bounds, journal, directory)
        applied = tables.dictionary.applied
        if applied == mark.number - 1:
            _publish_last_group(backing, journal)
            tables.dictionary.set_applied(mark.number)
        elif applied != mark.number:
            raise UnfitError(f"they hold the writes up to {applied} of {mark.number}")
        for room in backing.rooms.values():
            room.check(0)
        return backing
    except BaseException:
        tables.close()
        raise


def _publish_last_group(backing: Backing, journal: Journal) -> None:
    """A writer was killed between commit and publishing, or in the midst of it."""
    group = journal.last_group()
    if group is None:
        raise UnfitError("their last write is of an entity that is no longer declared")
    for rows, deleted_ids in group:
        backing.rooms[rows.entity].table.delete(deleted_ids)
        backing.restore(rows)


def _make_anew(schema: Schema, directory: DataDirectory, bounds: Bounds, journal: Journal, opening: Opening) -> Backing:
    """New tables, filled from the journal, which follow it from then on."""
    journal.check()
    path = directory.path / TABLES_NAME
    set_id = new_set_id()
    remove_other_sets(path, set_id)
    tables = create_tables(path, set_id, layouts_of(schema), bounds.max_bytes)
    try:
        backing = Backing(schema, tables, bounds, journal, directory)
        _fill(backing, schema, journal, opening)
        journal.accept_types()
        tables.dictionary.set_applied(journal.mark().number)
        with disk_errors(path):
            directory.sync()
        journal.set_tables(set_id)
        return backing
    except BaseException:
        tables.close()
        remove_other_sets(path, 0)
        raise


def _fill(backing: Backing, schema: Schema, journal: Journal, opening: Opening) -> None:
    counts = {name: journal.row_count(name) for name in schema.entities}
    done, total = 0, sum(counts.values())
    for name, room in backing.rooms.items():
        room.check(counts[name])
        for rows in journal.load(schema.entities[name]):
            backing.restore(rows)
            done += len(rows.ids)
            opening.report(done, total)
        if len(room.table) != counts[name]:
            raise StoreError(f"the journal is damaged: {counts[name] - len(room.table)} ids of {name} come twice")
