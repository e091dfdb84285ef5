"""What a write and a delete do to a table: checked for room, given journal keys, applied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreFullError
from rankd.signals.batches import CleanBatch
from rankd.signals.commits import Change
from rankd.signals.journal import RowDeletes, RowWrites
from rankd.signals.table import EntityTable


class Room:
    """The rows of one entity: how many there may be, and the journal keys of those to come."""

    def __init__(self, entity: str, table: EntityTable, max_rows: int) -> None:
        self.entity = entity
        self.table = table
        self._max_rows = max_rows
        self.next_key = 0
        self._coming: dict[str, int] = {}  # new ids of the group being planned
        self._group: list[Change] | None = None

    def check(self, new_count: int) -> None:
        """StoreFullError if there is no room for so many new rows beside those coming."""
        count = len(self.table) + len(self._coming)
        if count + new_count > self._max_rows:
            raise StoreFullError(
                f"expected at most {self._max_rows} rows of {self.entity}, got {new_count} new ones "
                f"with {count} stored; delete some or raise max_rows_per_entity"
            )

    def keys(self, ids: Sequence[str], group: list[Change]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Journal keys of distinct ids, and which of them will not have a row yet when this is committed.
        StoreFullError if they do not fit; then nothing is planned. `group`: the list of changes that
        will be committed together; a new one means that the last was applied, or failed."""
        if group is not self._group:
            self._group = group
            self._coming = {}
        keys = self.table.journal_keys(ids)
        unknown = np.flatnonzero(keys < 0).tolist()
        new = [i for i in unknown if ids[i] not in self._coming]
        self.check(len(new))
        for i in new:
            self._coming[ids[i]] = self.next_key
            self.next_key += 1
        for i in unknown:
            keys[i] = self._coming[ids[i]]
        is_new = np.zeros(len(ids), np.bool_)
        is_new[new] = True
        return keys, is_new


class WriteChange:
    """A clean batch on its way. Its category strings have codes."""

    goes_alone = False

    def __init__(self, room: Room, batch: CleanBatch, written_ms: int) -> None:
        self._room = room
        self._batch = batch
        self._written_ms = written_ms
        self.journalled: RowWrites | None = None

    @property
    def row_count(self) -> int:
        return len(self._batch.ids)

    def plan(self, group: list[Change]) -> None:
        batch = self._batch
        keys, is_new = self._room.keys(batch.ids, group)
        self.journalled = RowWrites(batch.entity, batch.ids, batch.columns, self._written_ms, keys, is_new)

    def apply(self) -> None:
        keys = None if self.journalled is None else self.journalled.keys
        self._room.table.apply(self._batch.ids, self._batch.columns, self._written_ms, keys)


class DeleteChange:
    """Ids to be deleted. It goes alone: a write before it in a group could bring ids that it must find."""

    goes_alone = True

    def __init__(self, room: Room, ids: Sequence[str]) -> None:
        self._room = room
        self._ids = ids
        self.deleted_count = 0
        self.journalled: RowDeletes | None = None

    @property
    def row_count(self) -> int:
        return len(self._ids)

    def plan(self, group: list[Change]) -> None:
        keys = self._room.table.journal_keys(self._ids)
        self.journalled = RowDeletes(self._room.entity, keys[keys >= 0])

    def apply(self) -> None:
        self.deleted_count = self._room.table.delete(self._ids)
