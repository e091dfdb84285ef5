"""What a write and a delete do to a table: checked for room, given journal keys, published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError, StoreFullError
from rankd.kernels.table import CellWrite, TableFullError
from rankd.kernels.table_writer import StagedRows, TableWriter
from rankd.signals.batches import CleanBatch
from rankd.signals.categories import CategoryTable
from rankd.signals.encode import encode
from rankd.signals.journal import RowDeletes, RowWrites
from rankd.signals.layout import EntityLayout
from rankd.signals.tableset import disk_error

Keys = NDArray[np.int64]


class Room:
    """The rows of one entity: how many there may be, the journal keys of those to come, and where they go."""

    def __init__(
        self,
        layout: EntityLayout,
        table: TableWriter,
        categories: CategoryTable,
        *,
        directory: Path,
        max_rows: int,
        max_bytes: int,
        has_keys: bool,
    ) -> None:
        self.layout = layout
        self.table = table
        self.categories = categories
        self.has_keys = has_keys
        self._directory = directory
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self.next_key = 0
        self._coming: dict[str, int] = {}  # new ids of the group being planned

    @property
    def entity(self) -> str:
        return self.layout.entity.name

    def start_group(self) -> None:
        """What was planned is published, or failed."""
        self._coming.clear()

    def check(self, new_count: int) -> None:
        """StoreFullError if there is no room for so many new rows beside those coming."""
        count = len(self.table) + len(self._coming)
        if count + new_count > self._max_rows:
            raise StoreFullError(
                f"expected at most {self._max_rows} rows of {self.entity}, got {new_count} new ones "
                f"with {count} stored; delete some or raise max_rows_per_entity"
            )

    def plan(self, ids: Sequence[str]) -> tuple[Keys, NDArray[np.bool_]]:
        """Journal keys of distinct ids (of no meaning without a journal), and which of them will not have a row
        yet when this is committed. StoreFullError if they do not fit; then nothing is planned."""
        if self.has_keys:
            keys = self.table.keys(ids)
            unknown = np.flatnonzero(keys < 0).tolist()
        else:
            keys = np.full(len(ids), -1, np.int64)
            unknown = np.flatnonzero(~self.table.find(ids)).tolist()
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

    def forget(self, ids: Sequence[str], is_new: NDArray[np.bool_]) -> None:
        """Takes back what `plan` said of new ids."""
        for i in np.flatnonzero(is_new).tolist():
            del self._coming[ids[i]]

    def stage(
        self, ids: Sequence[str], cells: Sequence[CellWrite], written_ms: Keys | int, keys: Keys | None
    ) -> StagedRows:
        """Holds room in the table. StoreFullError at its bound of bytes; StoreError for want of disk or memory."""
        try:
            return self.table.stage(ids, cells, written_ms, keys, is_absolute=True)
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


class WriteChange:
    """A clean batch on its way."""

    goes_alone = False

    def __init__(self, room: Room, batch: CleanBatch, written_ms: int) -> None:
        self._room = room
        self._batch = batch
        self._written_ms = written_ms
        self._staged: StagedRows | None = None
        self.journalled: RowWrites | None = None

    @property
    def row_count(self) -> int:
        return len(self._batch.ids)

    def plan(self) -> None:
        room, batch = self._room, self._batch
        cells = encode(room.layout, batch.columns, room.categories)
        keys, is_new = room.plan(batch.ids)
        try:
            self._staged = room.stage(batch.ids, cells, self._written_ms, keys if room.has_keys else None)
        except BaseException:
            room.forget(batch.ids, is_new)
            raise
        self.journalled = RowWrites(batch.entity, batch.ids, batch.columns, self._written_ms, keys, is_new)

    def drop(self) -> None:
        if self._staged is not None:
            self._staged.drop()

    def publish(self) -> None:
        assert self._staged is not None
        self._staged.publish()


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

    def plan(self) -> None:
        if self._room.has_keys:
            keys = self._room.table.keys(self._ids)
            there = np.flatnonzero(keys >= 0)
            self.journalled = RowDeletes(self._room.entity, [self._ids[i] for i in there.tolist()], keys[there])

    def drop(self) -> None:
        pass

    def publish(self) -> None:
        self.deleted_count = self._room.table.delete(self._ids)
