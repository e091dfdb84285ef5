"""What an embedded store stands on: mapped tables, the journal they follow where there is a data directory, and the
directory that holds both. Synchronous; used by one thread at a time.

Opening with a data directory takes up the tables that are there, if they are sure to hold what the journal holds; else
they are made anew from it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from rankd.errors import RankdError, StoreError
from rankd.kernels.table_writer import TableWriter
from rankd.limits import MAX_CATEGORIES
from rankd.signals.categories import CategoryTable, intern_in
from rankd.signals.changes import DELETED, SEEN, DeleteChange, Memories, Room, WriteChange
from rankd.signals.commits import Change, run_group
from rankd.signals.compaction import Compaction, LogBounds
from rankd.signals.declared import kept_of
from rankd.signals.directory import DataDirectory
from rankd.signals.encode import encode
from rankd.signals.journal import Journal
from rankd.signals.layout import EntityLayout
from rankd.signals.packed import unpack_array
from rankd.signals.recall import DIGEST_CHARS, Recall, Remembering, digest
from rankd.signals.records import Delete, Group, Told, Upsert, unpack_upsert
from rankd.signals.runtime import RuntimeDirectory
from rankd.signals.snapshot import changes_of, write_snapshot
from rankd.signals.statefiles import GO_ON
from rankd.signals.tableset import (
    TableSet,
    UnfitError,
    attach_tables,
    close_cleanly,
    create_tables,
    disk_errors,
    mark_in_use,
    new_set_id,
    remove_other_sets,
    set_directory,
)
from rankd.types.schema import Schema

TABLES_NAME: Final = "tables"
"""In the data directory: the sets of tables."""

SEEN_DEFAULT: Final = Remembering(86_400_000, 10_000_000)
LOG_DEFAULT: Final = LogBounds()
DELETED_DEFAULT: Final = Remembering(3_600_000, 1_000_000)

_Holder = DataDirectory | RuntimeDirectory
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an entity may come to, what is remembered, and when the log is compacted."""

    max_rows: int
    max_bytes: int
    seen: Remembering = SEEN_DEFAULT
    deleted: Remembering = DELETED_DEFAULT
    log: LogBounds = LOG_DEFAULT


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
    """Tables to be written and, with a journal, to be followed. `schema`: what is stored, see signals.declared.union;
    `tables` of the entities of `declared`."""

    def __init__(
        self,
        declared: Schema,
        schema: Schema,
        tables: TableSet[TableWriter],
        memories: Memories,
        bounds: Bounds,
        journal: Journal | None,
        holder: _Holder,
        clock: Callable[[], float],
    ) -> None:
        layouts = layouts_of(schema)
        self.schema = schema
        self.kept = kept_of(schema, declared)
        self.layouts = {name: layouts[name] for name in declared.entities}
        self.tables = replace(tables, tables={name: tables.tables[name] for name in declared.entities})
        self._all_tables = tables
        self._memories = memories
        intern = intern_in(tables.dictionary, MAX_CATEGORIES, tables.directory)
        self.categories = CategoryTable(tables.dictionary, intern)
        self.rooms = {
            name: Room(
                layout,
                tables.tables[name],
                self.categories,
                memories,
                directory=tables.directory,
                max_rows=bounds.max_rows,
                max_bytes=bounds.max_bytes,
            )
            for name, layout in layouts.items()
        }
        self._journal = journal
        self._holder = holder
        self._clock = clock
        self._lock = threading.Lock()
        self._compaction = None
        if journal is not None:
            self._compaction = Compaction(journal, self._lock, self._write_snapshot, bounds.log)

    def run(self, changes: Sequence[Change]) -> list[RankdError | None]:
        """Commits and publishes a group; what refused each change, or None. StoreError: it failed as a whole."""
        if self._compaction is not None:
            self._compaction.wait_for_room()
        with self._lock:
            self._start_memories()
            for room in self.rooms.values():
                room.start_group()
            refusals = run_group(changes, self._commit)
            if self._journal is not None:
                self.tables.dictionary.set_applied(self._journal.number)
            if self._compaction is not None:
                self._compaction.check()
            return refusals

    def _start_memories(self) -> None:
        now_ms = round(self._clock() * 1000)
        with disk_errors(self.tables.directory):
            self._memories.seen.start_group(now_ms)
            self._memories.deleted.start_group(now_ms)

    def _commit(self, planned: Sequence[Change]) -> None:
        if self._journal is None:
            return
        records = [
            record
            for change in planned
            if isinstance(change, WriteChange | DeleteChange)
            for record in change.journalled
        ]
        if records:
            self._journal.commit(records)

    def apply(self, group: Group) -> int:
        """Publishes a group of the journal, once more or for the first time. Rows upserted."""
        count = 0
        self._start_memories()
        for change in group.changes:
            match change:
                case Upsert():
                    columns, times_ms = unpack_upsert(self.schema.entities, change)
                    room = self.rooms[change.entity]
                    room.restage(change.ids, encode(room.layout, columns, self.categories), times_ms).publish()
                    count += len(change.ids)
                case Delete():
                    room = self.rooms[change.entity]
                    digests = [digest(change.entity, id_) for id_ in change.ids]
                    room.remember(self._memories.deleted, digests, change.at_ms).publish()
                    room.table.delete(change.ids)
                case Told():
                    self._recall(change)
        return count

    def _recall(self, told: Told) -> None:
        size = DIGEST_CHARS
        digests = [told.digests[i : i + size] for i in range(0, len(told.digests), size)]
        times_ms = unpack_array(told.times, "<i8", np.int64)
        memory = self._memories.named(told.memory)
        with disk_errors(self.tables.directory):
            memory.stage(digests, times_ms if len(times_ms) > 1 else int(times_ms[0])).publish()

    def compact(self) -> None:
        """Begins a snapshot, after which nothing that was deleted before is in the data directory's log or snapshot."""
        if self._compaction is not None:
            self._compaction.start()

    def wait_for_compaction(self) -> None:
        """Returns when no snapshot is being written."""
        if self._compaction is not None:
            self._compaction.wait()

    def _write_snapshot(self, path: Path, number: int, check: Callable[[], None]) -> None:
        assert self._journal is not None
        write_snapshot(path, self._journal.document, number, changes_of(self.rooms, self._memories), check)

    @property
    def every_table(self) -> list[TableWriter]:
        """Those of entities, the dictionary and the memories."""
        return [*self._all_tables.all_tables, *self._memories.seen.tables, *self._memories.deleted.tables]

    def close(self) -> None:
        """Puts everything on the disk, where there is a data directory, and lets go of it."""
        try:
            if self._journal is None or self._compaction is None:
                self.drop()
                return
            self._compaction.stop()
            try:
                self._journal.close()
            finally:
                self._compaction = None  # see drop
                try:
                    close_cleanly(self.every_table)
                except OSError as error:
                    _LOG.warning("the signal tables could not be put on the disk; they will be made anew: %s", error)
        finally:
            self._holder.close()

    def drop(self) -> None:
        """Closes the tables as they are."""
        self._compaction = None  # which refers to this: mappings are gone now, not when the collector comes by
        for table in self.every_table:
            table.close()


def layouts_of(schema: Schema) -> dict[str, EntityLayout]:
    """The layout of each entity's table."""
    return {name: EntityLayout.of(entity) for name, entity in schema.entities.items()}


def _memories_in(directory: Path, set_id: int, bounds: Bounds, make: Callable[..., Recall]) -> Memories:
    own = set_directory(directory, set_id)
    seen = make(own, SEEN, set_id, bounds.seen)
    try:
        return Memories(seen, make(own, DELETED, set_id, bounds.deleted))
    except BaseException:
        seen.close()
        raise


def _create(directory: Path, schema: Schema, bounds: Bounds) -> tuple[TableSet[TableWriter], Memories]:
    tables = create_tables(directory, new_set_id(), layouts_of(schema), bounds.max_bytes)
    try:
        with disk_errors(directory):
            return tables, _memories_in(directory, tables.set_id, bounds, Recall.create)
    except BaseException:
        tables.close()
        raise


def open_transient(schema: Schema, bounds: Bounds, clock: Callable[[], float] = time.time) -> Backing:
    """Empty tables that outlive nothing."""
    holder = RuntimeDirectory()
    try:
        tables, memories = _create(holder.path / TABLES_NAME, schema, bounds)
        return Backing(schema, schema, tables, memories, bounds, None, holder, clock)
    except BaseException:
        holder.close()
        raise


def open_durable(
    schema: Schema, path: Path, bounds: Bounds, opening: Opening, clock: Callable[[], float] = time.time
) -> Backing:
    """What a data directory holds. StoreError if it cannot be used; it says why."""
    directory = DataDirectory(path)
    try:
        journal = Journal(path, schema)
        try:
            try:
                backing = _take_up(schema, directory, bounds, journal, clock)
            except UnfitError as error:
                if journal.number:
                    _LOG.warning("the signal tables are made anew from the journal: %s", error)
                backing = _make_anew(schema, directory, bounds, journal, opening, clock)
            remove_other_sets(path / TABLES_NAME, backing.tables.set_id)
            return backing
        except BaseException:
            journal.close()
            raise
    except BaseException:
        directory.close()
        raise


def _take_up(
    schema: Schema, directory: DataDirectory, bounds: Bounds, journal: Journal, clock: Callable[[], float]
) -> Backing:
    """The tables as they are, after the group that may be missing. UnfitError."""
    set_id = journal.manifest.set_id
    if not set_id:
        raise UnfitError("there are none yet")
    path = directory.path / TABLES_NAME
    tables = attach_tables(path, set_id, layouts_of(journal.schema), bounds.max_bytes)
    try:
        memories = _memories_in(path, set_id, bounds, Recall.attach)
    except BaseException:
        tables.close()
        raise
    backing = Backing(schema, journal.schema, tables, memories, bounds, journal, directory, clock)
    try:
        mark_in_use(backing.every_table)
        applied, number = tables.dictionary.applied, journal.number
        if applied > number:
            raise StoreError(
                f"{directory.path}: the tables hold writes up to {applied}, the log ends with {number}: what is "
                f"missing was acknowledged. {GO_ON.format(directory.path)}"
            )
        if applied == number - 1:
            group = journal.last_group()
            if group is not None:
                backing.apply(group)
            tables.dictionary.set_applied(number)
        elif applied != number:
            raise UnfitError(f"they hold the writes up to {applied} of {number}")
        for room in backing.rooms.values():
            room.check(0)
        if not journal.is_same_schema:
            journal.set_tables(set_id)
        return backing
    except BaseException:
        backing.drop()
        raise


def _make_anew(
    schema: Schema,
    directory: DataDirectory,
    bounds: Bounds,
    journal: Journal,
    opening: Opening,
    clock: Callable[[], float],
) -> Backing:
    """New tables, filled from the journal, which follow it from then on."""
    path = directory.path / TABLES_NAME
    remove_other_sets(path, 0)
    tables, memories = _create(path, journal.schema, bounds)
    backing = Backing(schema, journal.schema, tables, memories, bounds, journal, directory, clock)
    try:
        done, size, read_bytes = 0, journal.snapshot_bytes + journal.log_bytes, 0
        for stored in journal.read():
            done += backing.apply(stored.group)
            read_bytes += stored.size
            opening.report(done, max(done, round(done * size / read_bytes)))
        for room in backing.rooms.values():
            room.check(0)
        tables.dictionary.set_applied(journal.number)
        with disk_errors(path):
            directory.sync()
        journal.set_tables(tables.set_id)
        return backing
    except BaseException:
        backing.drop()
        remove_other_sets(path, 0)
        raise
