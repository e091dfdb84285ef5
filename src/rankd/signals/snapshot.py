"""Snapshots: the whole state in one file of records, written beside the running store or put together from other files.

A snapshot of tables that are written meanwhile is not of one moment: it holds all that was published before it began,
and some of what came later. The log from its beginning on gives the rest, and does no harm where it comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError
from rankd.kernels.table import CellRead
from rankd.signals.accumulate import NEVER_MS
from rankd.signals.changes import DELETED, SEEN, Memories, Room, pack_told
from rankd.signals.recordfile import RecordWriter, sync_directory
from rankd.signals.records import FORMAT, SNAPSHOT, Change, Foot, Group, Head, Upsert, encode, pack_upsert
from rankd.signals.scanning import all_ids
from rankd.signals.store import ColumnValues
from rankd.signals.values import NO_ROWS

_BEFORE_ALL_S: Final = -9e12
"""A now at which nothing has outlived its TTL: what has is kept, for requests as of an earlier time."""


def write_snapshot(
    path: Path,
    document: Mapping[str, Any],
    number: int,
    changes: Iterable[Change],
    check: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Writes a file, under its name only when it is whole and on the disk. Rows upserted, by entity.

    `check` is called now and then, and raises what is to end it. OSError, StoreError; then there is no such file.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    writer = RecordWriter(new)
    rows: dict[str, int] = {}
    try:
        writer.append(0, encode(Head(SNAPSHOT, FORMAT, dict(document), number)))
        count = 1
        for change in changes:
            check()
            writer.append(count, encode(Group([change])))
            count += 1
            if isinstance(change, Upsert):
                rows[change.entity] = rows.get(change.entity, 0) + len(change.ids)
        writer.append(count, encode(Foot(rows)))
        writer.sync()
        new.rename(path)
        sync_directory(path.parent)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        writer.close()
    return rows


def changes_of(rooms: Mapping[str, Room], memories: Memories) -> Iterator[Change]:
    """Everything that tables hold. Safe beside their writer."""
    for room in rooms.values():
        for ids in all_ids(room.table):
            yield _rows_of(room, ids)
    for name, memory in ((SEEN, memories.seen), (DELETED, memories.deleted)):
        for digests, times_ms in memory.pages():
            if digests:
                yield pack_told(name, digests, times_ms)


def _rows_of(room: Room, ids: list[str]) -> Upsert:
    """Whole rows with all their times."""
    signals = [name for name, cells in room.layout.signals.items() if cells.signal.is_stored]
    # Times first: a value that is written in between comes with an earlier time, and again from the log.
    changed = room.table.reading([CellRead(room.layout.signals[name].read, "changed") for name in signals])
    times = changed.read(ids, 0)
    stored = room.rows.get(ids, signals, _BEFORE_ALL_S)
    columns = []
    for column, of_cell in zip(stored.columns, times.columns, strict=True):
        assert isinstance(of_cell, np.ndarray)
        columns.append(_with_times(column, of_cell[stored.found], stored.written_ms))
    return pack_upsert(room.entity, [ids[i] for i in stored.found.tolist()], columns, stored.written_ms)


def _with_times(column: ColumnValues, changed: NDArray[np.int64], row_ms: NDArray[np.int64]) -> ColumnValues:
    """The column with clears only where something was cleared; times only where they are not the row's."""
    clears = column.clear_rows[changed[column.clear_rows] != NEVER_MS]
    times, cleared = changed[column.rows], changed[clears]
    # A row that was made between the two readings: it comes again from the log.
    times = np.where(times == NEVER_MS, row_ms[column.rows], times)
    return replace(
        column,
        clear_rows=clears if len(clears) else NO_ROWS,
        times_ms=None if np.array_equal(times, row_ms[column.rows]) else times,
        clear_times_ms=None if np.array_equal(cleared, row_ms[clears]) else cleared,
    )


class StoppedError(StoreError):
    """The snapshot was to be written no further."""
