"""The tables of a machine's replica: whole rows as Redis has them, each with its version.

A row's version stands in its journal key. A state replaces another only if its version is higher: whichever way it came
(an own write, the log, a resync), and in whatever order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError, StoreFullError
from rankd.kernels.table import TableFullError
from rankd.kernels.table_writer import TableWriter
from rankd.limits import MAX_CATEGORIES
from rankd.signals.categories import CategoryTable, intern_in
from rankd.signals.layout import EntityLayout
from rankd.signals.redis.codec import RowStates, Status
from rankd.signals.redis.staging import stage
from rankd.signals.tableset import TableSet, disk_error, set_directory

Positions = dict[tuple[str, int], bytes]
"""By entity and bucket: the last entry of its log that is in the tables."""

_POSITIONS_NAME: Final = "positions.json"
_MOST_DELETED: Final = 200_000


class ReplicaTables:
    """Writes a set of tables. Called by one thread at a time."""

    def __init__(
        self, layouts: Mapping[str, EntityLayout], tables: TableSet[TableWriter], max_rows: int, max_bytes: int
    ) -> None:
        self.tables = tables
        self.layouts = layouts
        self.categories = CategoryTable(
            tables.dictionary, intern_in(tables.dictionary, MAX_CATEGORIES, tables.directory)
        )
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._deleted: dict[str, dict[str, int]] = {name: {} for name in layouts}

    def apply(self, entity: str, rows: RowStates) -> int:
        """Rows in the order in which they were committed. Those that are older than what the table has, or missing, or
        unreadable, change nothing. How many were used. StoreFullError, StoreError: some were not."""
        known = np.flatnonzero((rows.status == Status.LIVE) | (rows.status == Status.TOMBSTONE))
        if not len(known):
            return 0
        last = {rows.ids[i]: i for i in known.tolist()}  # the last of each id: versions rise
        places = np.fromiter(last.values(), np.int64, len(last))
        ids, versions = list(last), rows.versions[places]
        newer = versions > self._versions(entity, ids)
        places = places[newer]
        return self._put(entity, rows.take(places)) if len(places) else 0

    def force(
        self, entity: str, rows: RowStates, if_versions: NDArray[np.int64], is_kept: NDArray[np.bool_] | None = None
    ) -> int:
        """Rows as Redis has them, even if the tables have later states: unless these have changed since `if_versions`,
        by row. A row that Redis has not is deleted, unless it `is_kept`. How many were changed."""
        same = self.tables.tables[entity].keys(rows.ids) == if_versions
        if is_kept is not None:
            same &= ~is_kept | (rows.status != Status.MISSING)
        wrong = np.where(rows.status == Status.LIVE, rows.versions != if_versions, rows.status <= Status.TOMBSTONE)
        places = np.flatnonzero(same & wrong)
        if not len(places):
            return 0
        for place in places.tolist():
            self._deleted[entity].pop(rows.ids[place], None)
        return self._put(entity, rows.take(places))

    def _versions(self, entity: str, ids: Sequence[str]) -> NDArray[np.int64]:
        """What the table has, or had when it was deleted; -1: nothing."""
        versions = self.tables.tables[entity].keys(ids)
        if deleted := self._deleted[entity]:
            versions = np.maximum(versions, np.fromiter((deleted.get(id_, -1) for id_ in ids), np.int64, len(ids)))
        return versions

    def _put(self, entity: str, rows: RowStates) -> int:
        live, table = rows.where(Status.LIVE), self.tables.tables[entity]
        if len(live):
            some = rows.take(live) if len(live) < len(rows) else rows
            deleted = self._deleted[entity]
            self._stage(entity, table, some)
            if deleted:
                for id_ in some.ids:
                    deleted.pop(id_, None)
        gone = np.flatnonzero(rows.status != Status.LIVE)
        if len(gone):
            ids = [rows.ids[i] for i in gone.tolist()]
            table.delete(ids)
            buried = gone[rows.status[gone] == Status.TOMBSTONE]
            self._remember(entity, [rows.ids[i] for i in buried.tolist()], rows.versions[buried])
        return len(rows)

    def check_room(self, entity: str, ids: Sequence[str]) -> None:
        """StoreFullError if so many rows more would be too many."""
        table = self.tables.tables[entity]
        if len(table) + len(ids) <= self._max_rows:
            return
        new = len(set(ids)) - int(np.count_nonzero(table.find(list(dict.fromkeys(ids)))))
        if len(table) + new > self._max_rows:
            raise StoreFullError(
                f"expected at most {self._max_rows} rows of {entity}, got {new} new ones with {len(table)} in this "
                f"machine's tables; delete some or raise max_rows_per_entity"
            )

    def _stage(self, entity: str, table: TableWriter, rows: RowStates) -> None:
        self.check_room(entity, rows.ids)
        try:
            stage(table, self.layouts[entity], rows, self.categories, rows.versions).publish()
        except TableFullError as error:
            raise StoreFullError(
                f"expected at most {self._max_bytes} bytes of {entity} in this machine's tables, got {len(rows)} rows "
                f"more with {table.used_bytes} bytes in use; delete some or raise max_bytes_per_entity"
            ) from error
        except OSError as error:
            raise disk_error(self.tables.directory, error) from error
        except MemoryError as error:
            raise StoreError("out of memory; nothing was written") from error

    def _remember(self, entity: str, ids: Sequence[str], versions: NDArray[np.int64]) -> None:
        """The log may still bring older states of what was deleted."""
        deleted = self._deleted[entity]
        for id_, version in zip(ids, versions.tolist(), strict=True):
            deleted.pop(id_, None)
            deleted[id_] = version
        while len(deleted) > _MOST_DELETED:
            del deleted[next(iter(deleted))]


def save_positions(tables: TableSet[TableWriter], source: str, positions: Positions) -> None:
    """Beside the tables, which have at least what is before these. OSError."""
    path = set_directory(tables.directory, tables.set_id) / _POSITIONS_NAME
    told = [[entity, bucket, position.decode()] for (entity, bucket), position in positions.items()]
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"source": source, "positions": told}))
    new.replace(path)


def load_positions(directory: Path, set_id: int, source: str) -> Positions:
    """Those that were saved, if the tables were filled from the same source; else none."""
    try:
        told = json.loads((set_directory(directory, set_id) / _POSITIONS_NAME).read_text())
        if told["source"] != source:
            return {}
        return {(str(entity), int(bucket)): str(position).encode() for entity, bucket, position in told["positions"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
