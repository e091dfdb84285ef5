"""SharedStore: the store of a process beside the keeper. It reads the tables itself and writes through the keeper.

When a write returns, every process of the machine sees it. While the keeper is away reads go on; writes wait for it
a little, then fail at once until it is back. If it comes back with other tables (they were made anew), reads go on from
the old ones and writes fail: the process is to be restarted, since codes and plans belong to the old tables.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankd.errors import StoreError, UnavailableError
from rankd.kernels.table import TableReader
from rankd.signals.backing import layouts_of
from rankd.signals.batches import keep_rows
from rankd.signals.categories import CategoryTable, Codes
from rankd.signals.check import is_id, value_faults
from rankd.signals.declared import entities_of, with_kept
from rankd.signals.frames import Codes as Interned
from rankd.signals.frames import (
    Counts,
    Delete,
    Done,
    Forget,
    Intern,
    Welcome,
    Written,
    pack_batch,
    unpack_result,
)
from rankd.signals.link import BlockingLink, Link
from rankd.signals.mapped import MappedTables
from rankd.signals.offloop import OffLoop
from rankd.signals.scanning import scan, statistics
from rankd.signals.store import (
    EntityStatistics,
    Fetched,
    Rejection,
    ScanPage,
    SignalRows,
    StoredRows,
    WriteBatch,
    WriteResult,
)
from rankd.signals.tableset import TableSet, UnfitError, map_tables
from rankd.types.schema import Schema


async def open_shared(
    schema: Schema,
    socket_path: Path,
    *,
    connect_timeout_s: float = 10.0,
    patience_s: float = 3.0,
    on_replaced: Callable[[], None] | None = None,
) -> SharedStore:
    """Connects to the keeper that listens on `socket_path` and maps its tables.

    `patience_s`: how long after the loss of the keeper writes wait for another one; about what its restart
    takes. `on_replaced`: called once, on the loop, when the keeper has other tables. UnavailableError if there is no
    keeper within `connect_timeout_s`; StoreError if it has another schema.
    """
    store = SharedStore(schema, socket_path, patience_s, on_replaced)
    try:
        await store.connect(connect_timeout_s)
    except BaseException:
        await store.close()
        raise
    return store


class SharedStore:
    """Implements signals.store.SignalStore. Use `open_shared`."""

    def __init__(
        self, schema: Schema, socket_path: Path, patience_s: float, on_replaced: Callable[[], None] | None
    ) -> None:
        self._schema = schema
        self._on_replaced = on_replaced
        self._tables: TableSet[TableReader] | None = None
        self._mapped: MappedTables | None = None
        self._categories: CategoryTable | None = None
        self._is_replaced = False
        self._is_closed = False
        self._offloop = OffLoop()
        self._link = Link(socket_path, schema.version, patience_s, self._welcome)
        self._blocking = BlockingLink(socket_path, schema.version, patience_s, self._check_same)

    async def connect(self, timeout_s: float) -> None:
        """For `open_shared`."""
        await self._link.start(timeout_s)

    @property
    def schema(self) -> Schema:
        return self._schema

    @property
    def categories(self) -> CategoryTable:
        """`intern` of a string that has no code blocks until the keeper answers: up to `patience_s` and more."""
        assert self._categories is not None
        return self._categories

    @property
    def tables(self) -> MappedTables:
        assert self._mapped is not None
        return self._mapped

    @property
    def is_connected(self) -> bool:
        """Whether writes have somewhere to go."""
        return self._link.is_connected

    @property
    def is_replaced(self) -> bool:
        """Whether the keeper has other tables than this process."""
        return self._is_replaced

    @property
    def table_set(self) -> TableSet[TableReader]:
        """The keeper's tables."""
        assert self._tables is not None
        return self._tables

    async def intern(self, texts: Sequence[str]) -> None:
        """Has codes given to texts; `categories` knows them when this returns. UnavailableError, StoreError."""
        await self._link.ask(lambda number: Intern(number, list(texts)), Interned)

    async def read(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> SignalRows:
        return self.tables.read(entity, ids, signals, now_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        return self.tables.get(entity, ids, signals, now_s)

    async def write(self, batch: WriteBatch) -> WriteResult:
        self._check_open()
        rejected = value_faults(self._schema.entities[batch.entity], batch, round(time.time() * 1000))
        sent, kept = _without(batch, rejected)
        if not sent.ids:
            return WriteResult(0, rejected)
        result = unpack_result(await self._link.ask(lambda number: pack_batch(number, sent), Written))
        return _as_sent(result, rejected, kept)

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        self._check_open()
        distinct = list(dict.fromkeys(id_ for id_ in ids if is_id(id_)))
        return (await self._link.ask(lambda number: Delete(number, entity, distinct), Done)).count

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        return scan(self.tables, entity, signals, cursor, most, now_s)

    async def forget(self, user_id: str) -> Mapping[str, int]:
        self._check_open()
        return (await self._link.ask(lambda number: Forget(number, user_id), Counts)).rows

    @property
    def fetched(self) -> frozenset[str]:
        return frozenset()

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        return Fetched()

    def row_counts(self) -> Mapping[str, int]:
        return self.tables.row_counts()

    async def statistics(self, now_s: float) -> Mapping[str, EntityStatistics]:
        return await self._offloop.run(statistics, self.tables, self._schema, now_s)

    async def close(self) -> None:
        """Unmaps the tables. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._link.close()
        self._blocking.close()
        await self._offloop.close()
        if self._tables is not None:
            self._tables.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the signal store is closed")

    def _welcome(self, welcome: Welcome) -> None:
        """A keeper was found. The first says which tables; a later one must have the same."""
        if self._tables is not None:
            try:
                self._check_same(welcome)
            except UnavailableError:
                if not self._is_replaced:
                    self._is_replaced = True
                    if self._on_replaced is not None:
                        self._on_replaced()
                raise
            return
        try:
            whole = layouts_of(with_kept(self._schema, entities_of(welcome.kept)))
            layouts = {name: whole[name] for name in self._schema.entities}
            tables = map_tables(Path(welcome.directory), welcome.set_id, layouts)
        except UnfitError as error:
            raise StoreError(f"the tables of the signal keeper cannot be read: {error}") from error
        self._tables = tables
        self._categories = CategoryTable(tables.dictionary, self._intern)
        self._mapped = MappedTables.of(layouts, tables, self._categories)

    def _check_same(self, welcome: Welcome) -> None:
        if self._tables is None or welcome.set_id != self._tables.set_id:
            raise UnavailableError("the signal tables were made anew; this process is about to be restarted")

    def _intern(self, texts: Sequence[str]) -> Codes:
        return np.array(self._blocking.intern(list(texts)), np.int32)


def _without(batch: WriteBatch, rejected: Sequence[Rejection]) -> tuple[WriteBatch, Sequence[int]]:
    """The batch without its faulty rows, and which rows of it those that are left were."""
    if not rejected:
        return batch, range(len(batch.ids))
    is_kept = np.ones(len(batch.ids), np.bool_)
    is_kept[[rejection.row for rejection in rejected]] = False
    return keep_rows(batch, is_kept), np.flatnonzero(is_kept).tolist()


def _as_sent(result: WriteResult, rejected: Sequence[Rejection], kept: Sequence[int]) -> WriteResult:
    """The keeper's answer to what `_without` left, with the positions of the whole batch."""
    if not rejected and not result.rejected:
        return result
    late = [replace(rejection, row=kept[rejection.row]) for rejection in result.rejected]
    return WriteResult(
        result.written_count,
        sorted([*rejected, *late], key=lambda rejection: rejection.row),
        result.late_count,
        [kept[row] for row in result.repeated],
    )
