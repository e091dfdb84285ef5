"""What a write and a delete do to a table: repeats left out, increments done, room held, published."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError, StoreFullError
from rankd.kernels.table import CellRead, CellWrite, TableFullError
from rankd.kernels.table_writer import StagedRows, TableWriter
from rankd.signals.accumulate import NEVER_MS, States, accumulate
from rankd.signals.batches import AddedColumn, CleanBatch, clean
from rankd.signals.categories import CategoryTable
from rankd.signals.encode import encode
from rankd.signals.layout import EntityLayout
from rankd.signals.packed import pack_array
from rankd.signals.recall import Recall, digest
from rankd.signals.records import Change, Delete, Told, pack_upsert
from rankd.signals.store import ColumnValues, Operation, WriteBatch
from rankd.signals.table import EntityTable
from rankd.signals.tableset import disk_error
from rankd.signals.values import take

SEEN = "seen"
"""The memory of write ids and event ids."""

DELETED = "deleted"
"""The memory of deleted rows."""

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Memories:
    """What a store has heard of lately."""

    seen: Recall
    deleted: Recall

    def named(self, name: str) -> Recall:
        """The one that a record names. StoreError."""
        if name not in (SEEN, DELETED):
            raise StoreError(f'a memory "{name[:64]}" that this rankd does not know')
        return self.seen if name == SEEN else self.deleted


class Room:
    """The rows of one entity: how many there may be, and where they go."""

    def __init__(
        self,
        layout: EntityLayout,
        table: TableWriter,
        categories: CategoryTable,
        memories: Memories,
        *,
        directory: Path,
        max_rows: int,
        max_bytes: int,
    ) -> None:
        self.layout = layout
        self.table = table
        self.categories = categories
        self.memories = memories
        self.rows = EntityTable(layout, table, categories)
        self._directory = directory
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._coming: list[Sequence[str]] = []  # ids of the group being planned

    @property
    def entity(self) -> str:
        return self.layout.entity.name

    def start_group(self) -> None:
        """What was planned is published, or failed."""
        self._coming.clear()

    def check(self, new_count: int, coming_count: int = 0) -> None:
        """StoreFullError if there is no room for so many new rows beside those coming."""
        count = len(self.table) + coming_count
        if count + new_count > self._max_rows:
            raise StoreFullError(
                f"expected at most {self._max_rows} rows of {self.entity}, got {new_count} new ones "
                f"with {count} stored; delete some or raise max_rows_per_entity"
            )

    def stage(self, ids: Sequence[str], cells: Sequence[CellWrite], times_ms: Times | int) -> StagedRows:
        """Holds room for distinct ids beside what is held already. StoreFullError at the bound of rows or bytes;
        StoreError for want of disk or memory."""
        most = len(self.table) + sum(map(len, self._coming)) + len(ids)
        if most > self._max_rows:  # or fewer, if some of them are not new
            coming = {id_ for some in self._coming for id_ in self._new(some)}
            self.check(sum(id_ not in coming for id_ in self._new(ids)), len(coming))
        staged = self.restage(ids, cells, times_ms)
        self._coming.append(ids)
        return staged

    def _new(self, ids: Sequence[str]) -> list[str]:
        return [ids[i] for i in np.flatnonzero(~self.table.find(ids)).tolist()]

    def restage(self, ids: Sequence[str], cells: Sequence[CellWrite], times_ms: Times | int) -> StagedRows:
        """The same without the bound of rows."""
        try:
            return self.table.stage(ids, cells, times_ms)
        except TableFullError as error:
            if error.limit == "max_rows":
                raise StoreFullError(f"{self.entity} has as many rows as a table can have; delete some") from error
            raise StoreFullError(
                f"expected at most {self._max_bytes} bytes of {self.entity}, got {len(ids)} rows more with "
                f"{self.table.used_bytes} bytes in use; delete some or raise max_bytes_per_entity"
            ) from error
        except OSError as error:
            raise disk_error(self._directory, error) from error
        except MemoryError as error:
            raise StoreError("out of memory; nothing was written") from error

    def remember(self, memory: Recall, digests: Sequence[str], times_ms: Times | int) -> StagedRows:
        """Holds room for digests. As `stage`."""
        try:
            return memory.stage(digests, times_ms)
        except (TableFullError, MemoryError) as error:
            raise StoreError("what was written before cannot be remembered; nothing was written") from error
        except OSError as error:
            raise disk_error(self._directory, error) from error

    def states(self, signal: str, ids: Sequence[str], now_ms: int) -> States:
        """What is stored of a signal for ids."""
        stored = self.rows.get(ids, [signal], now_ms / 1000)
        [column] = stored.columns
        cell = self.layout.signals[signal].read
        changed = self.table.reading([CellRead(cell, "changed")]).read(ids, now_ms).columns[0]
        assert isinstance(changed, np.ndarray)
        return States.of(replace(column, rows=stored.found[column.rows]), len(ids), changed)


class WriteChange:
    """A batch on its way; `rejected_rows` are left out. `written_count`, `late_count` and `repeated` are known when it
    is published."""

    def __init__(self, room: Room, batch: WriteBatch, rejected_rows: Collection[int], now_ms: int) -> None:
        self._room = room
        self._batch = batch
        self._rejected = rejected_rows
        self._now_ms = now_ms
        self._staged: list[StagedRows] = []
        self._is_counted: list[bool] = []  # by cell written: not the second of a signal that has two
        # What is added to is read first: nothing that is not published yet may be on its way.
        self.goes_alone = any(column.operation is Operation.ADD for column in batch.columns)
        self.journalled: list[Change] = []
        self.written_count = len(batch.ids) - len(rejected_rows)
        self.late_count = 0
        self.repeated: Sequence[int] = ()

    @property
    def row_count(self) -> int:
        return len(self._batch.ids)

    def plan(self) -> None:
        try:
            self._plan()
        except BaseException:
            self.drop()
            raise

    def _plan(self) -> None:
        room = self._room
        digests = self._heard()
        if len(self.repeated) == self.written_count:
            return
        batch = clean(self._batch, {*self._rejected, *self.repeated}, self._now_ms)
        batch, late_count = without_deleted(batch, room.memories.deleted, self._now_ms)
        self.late_count = late_count
        columns = [*batch.columns, *(self._summed(batch, added) for added in batch.added)]
        if batch.ids:
            cells = encode(room.layout, columns, room.categories)
            seconds = {of.written for of in room.layout.signals.values()}
            self._is_counted = [cell.cell not in seconds for cell in cells]
            self._staged.append(room.stage(batch.ids, cells, batch.times_ms))
            self.journalled.append(pack_upsert(batch.entity, batch.ids, columns, batch.times_ms))
        if digests:
            self._staged.append(room.remember(room.memories.seen, digests, self._now_ms))
            self.journalled.append(pack_told(SEEN, digests, np.array([self._now_ms], np.int64)))

    def _heard(self) -> list[str]:
        """Finds out what was written before; digests of what was not."""
        batch, seen, entity = self._batch, self._room.memories.seen, self._batch.entity
        if not batch.write_id and batch.event_ids is None:
            return []
        rows = [i for i in range(len(batch.ids)) if i not in self._rejected]
        digests: dict[str, None] = {}
        if batch.write_id:
            text = digest("write", entity, batch.write_id)
            if seen.times([text], self._now_ms)[0] != NEVER_MS:
                self.repeated = rows
                return []
            digests[text] = None
        if batch.event_ids is not None:
            told = [(i, digest("event", entity, batch.ids[i], batch.event_ids[i])) for i in rows if batch.event_ids[i]]
            known = seen.times([text for _, text in told], self._now_ms) != NEVER_MS
            repeated = []
            for (i, text), is_known in zip(told, known.tolist(), strict=True):
                if is_known or text in digests:
                    repeated.append(i)
                else:
                    digests[text] = None
            self.repeated = repeated
        return list(digests)

    def _summed(self, batch: CleanBatch, added: AddedColumn) -> ColumnValues:
        signal = self._room.layout.entity.signals[added.signal]
        places, rows = np.unique(added.rows, return_inverse=True)
        states = self._room.states(added.signal, [batch.ids[i] for i in places.tolist()], self._now_ms)
        return accumulate(signal, states, rows, added.amounts, added.times_ms).column(added.signal, places)

    def drop(self) -> None:
        for staged in self._staged:
            staged.drop()
        self._staged.clear()

    def publish(self) -> None:
        for staged in self._staged:
            staged.publish()
        if self._is_counted:
            self.late_count += int(self._staged[0].late_counts[self._is_counted].sum())


class DeleteChange:
    """Ids to be deleted. It goes alone: a write before it in a group could bring ids that it must find."""

    goes_alone = True

    def __init__(self, room: Room, ids: Sequence[str], now_ms: int) -> None:
        self._room = room
        self._ids = ids
        self._now_ms = now_ms
        self._staged: StagedRows | None = None
        self.deleted_count = 0
        self.journalled: list[Change] = []

    @property
    def row_count(self) -> int:
        return len(self._ids)

    def plan(self) -> None:
        room = self._room
        digests = [digest(room.entity, id_) for id_ in self._ids]
        self._staged = room.remember(room.memories.deleted, digests, self._now_ms)
        self.journalled = [Delete(room.entity, list(self._ids), self._now_ms)]

    def drop(self) -> None:
        if self._staged is not None:
            self._staged.drop()

    def publish(self) -> None:
        assert self._staged is not None
        self._staged.publish()
        self.deleted_count = self._room.table.delete(self._ids)


def pack_told(memory: str, digests: Sequence[str], times_ms: Times) -> Told:
    """`times_ms`: of each, or one for all."""
    return Told(memory, "".join(digests), pack_array(times_ms, "<i8"))


def without_deleted(batch: CleanBatch, deleted: Recall, now_ms: int) -> tuple[CleanBatch, int]:
    """The batch without values of a time before their row was deleted, and how many came late, these included."""
    times = batch.times_ms
    given = [times] if isinstance(times, int) else [int(times.min())] if len(times) else []
    for column in batch.columns:
        given += [int(t.min()) for t in (column.times_ms, column.clear_times_ms) if t is not None and len(t)]
    given += [int(added.times_ms.min()) for added in batch.added if len(added.times_ms)]
    if not given or min(given) >= deleted.latest_ms:
        return batch, batch.late_count
    since = deleted.times([digest(batch.entity, id_) for id_ in batch.ids], now_ms)
    if bool((since == NEVER_MS).all()):
        return batch, batch.late_count
    row_times = np.full(len(batch.ids), times, np.int64) if isinstance(times, int) else times
    is_kept = row_times >= since
    columns, added = [], []
    late_count = batch.late_count
    for column in batch.columns:
        own = row_times[column.rows] if column.times_ms is None else column.times_ms
        cleared = row_times[column.clear_rows] if column.clear_times_ms is None else column.clear_times_ms
        good, good_clears = own >= since[column.rows], cleared >= since[column.clear_rows]
        late_count += int(np.count_nonzero(~good) + np.count_nonzero(~good_clears))
        is_kept[column.rows[good]] = True
        is_kept[column.clear_rows[good_clears]] = True
        columns.append(
            ColumnValues(
                column.signal,
                column.rows[good],
                take(column.values, np.flatnonzero(good)),
                column.clear_rows[good_clears],
                column.operation,
                own[good],
                cleared[good_clears],
            )
        )
    for more in batch.added:
        good = more.times_ms >= since[more.rows]
        late_count += int(np.count_nonzero(~good))
        is_kept[more.rows[good]] = True
        amounts = take(more.amounts, np.flatnonzero(good))
        added.append(AddedColumn(more.signal, more.rows[good], amounts, more.times_ms[good]))
    place = np.cumsum(is_kept) - 1
    kept = np.flatnonzero(is_kept)
    return replace(
        batch,
        ids=[batch.ids[i] for i in kept.tolist()],
        times_ms=row_times[kept],
        columns=[replace(c, rows=place[c.rows], clear_rows=place[c.clear_rows]) for c in columns],
        added=[replace(a, rows=place[a.rows]) for a in added],
    ), late_count
