"""RedisStore: signals in Redis or Valkey, over the network: the half of a SignalStore that is the truth of all
machines.

    write ─ check values ─ read ─ merge (signals.accumulate) ─ pack ─ compare and set, with the records of change

What reads them for compiled code (tables, categories, columns) is beside it: signals.redis.replica.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.errors import StoreError, UnavailableError
from rankd.signals.check import is_id, value_faults
from rankd.signals.redis.changes import Change, ChangeLog, Place
from rankd.signals.redis.codec import VALUE, RowCodec, RowStates, Status
from rankd.signals.redis.connection import RedisConnection, open_connection
from rankd.signals.redis.keys import Keys
from rankd.signals.redis.merge import is_expired, window_sums
from rankd.signals.redis.node import Argument, RefusedError
from rankd.signals.redis.options import RedisOptions
from rankd.signals.redis.rows import RedisRows, good
from rankd.signals.redis.writing import Commit, Outcome, Writing
from rankd.signals.store import (
    ColumnValues,
    EntityStatistics,
    ScanPage,
    SignalStatistics,
    StoredRows,
    WriteBatch,
    WriteResult,
)
from rankd.signals.values import take
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import composite_id, composite_parts

OnCommit = Callable[[Commit], Awaitable[None]]

_USER = "user"
_SAMPLE_ROWS = 20_000
_SAMPLE_PAGE = 2_000
_ROW_OVERHEAD_BYTES = 100
"""Of a key in Redis beside the bytes of its name and value: entry, pointers, what allocation rounds up."""


async def open_redis_store(
    schema: Schema,
    options: RedisOptions,
    *,
    clock: Callable[[], float] = time.time,
    on_commit: OnCommit | None = None,
) -> RedisStore:
    """Opens signals in Redis. It is opened whether Redis answers or not: what needs it fails until it does. ValueError
    for options that are none. StoreError: Redis answers, and has values of a signal that is declared otherwise, or is
    no Cluster where there should be one. `on_commit`: awaited with what a write or deletion did, before that
    returns."""
    rows = RedisRows(schema, options, open_connection(options))
    try:
        with contextlib.suppress(UnavailableError):  # before the first write it is tried again
            try:
                await rows.register()
            except RefusedError as error:
                raise error.for_operator() from None
    except StoreError:
        await rows.connection.close()
        raise
    return RedisStore(rows, clock, on_commit)


class RedisStore:
    """Use `open_redis_store`. What a SignalStore does over the network; belongs to one event loop."""

    def __init__(self, rows: RedisRows, clock: Callable[[], float], on_commit: OnCommit | None) -> None:
        self.rows = rows
        self.on_commit = on_commit
        self.check_room: Callable[[str, list[str]], None] | None = None
        """Called with the ids that are about to be written; may raise."""
        self.writer = os.urandom(8)
        self.log = ChangeLog(rows, self.writer)
        self._clock = clock
        self._latest_ms = 0
        self._counts: dict[str, dict[int, int]] = {name: {} for name in rows.schema.entities}
        self._write_number = 0
        self._last_write: dict[tuple[str, int], int] = {}  # by entity and bucket
        self._is_closed = False

    @property
    def schema(self) -> Schema:
        return self.rows.schema

    @property
    def keys(self) -> Keys:
        """Names of keys."""
        return self.rows.keys

    @property
    def codecs(self) -> Mapping[str, RowCodec]:
        """By entity."""
        return self.rows.codecs

    @property
    def connection(self) -> RedisConnection:
        """To Redis."""
        return self.rows.connection

    @property
    def is_available(self) -> bool:
        """Whether Redis answered last time."""
        return self.connection.is_available

    # ---- writing

    async def write(self, batch: WriteBatch) -> WriteResult:
        """See SignalStore.write. UnavailableError: Redis does not answer; some of the rows may be written."""
        self._check_open()
        now_ms = self._now_ms()
        rejected = value_faults(self.schema.entities[batch.entity], batch, now_ms)
        faulty = {rejection.row for rejection in rejected}
        rows = [row for row in range(len(batch.ids)) if row not in faulty]
        if not rows:
            return WriteResult(0, rejected)
        if self.check_room is not None:
            self.check_room(batch.entity, [batch.ids[row] for row in rows])
        writing = Writing(self.rows, batch.entity, batch, now_ms, self._settings)
        outcome = await self._run(writing, batch.ids, rows)
        return WriteResult(len(rows), rejected, outcome.late_count, sorted(outcome.repeated))

    async def delete(self, entity: str, ids: Sequence[str]) -> int:
        """See SignalStore.delete."""
        self._check_open()
        distinct = list(dict.fromkeys(id_ for id_ in ids if is_id(id_)))
        if not distinct:
            return 0
        writing = Writing(self.rows, entity, None, self._now_ms(), self._settings)
        return (await self._run(writing, distinct, range(len(distinct)))).deleted_count

    async def _run(self, writing: Writing, ids: Sequence[str], rows: Sequence[int]) -> Outcome:
        try:
            return await writing.run(ids, rows)
        finally:
            for commit in writing.outcome.commits:
                if self.on_commit is not None:
                    await self.on_commit(commit)
            if writing.outcome.commits:
                self._count(writing.outcome.commits[0].entity, writing.outcome.counts)

    def _settings(self, entity: str) -> tuple[Argument, ...]:
        options = self.rows.options
        has_log = not self.schema.entities[entity].is_fetched
        now_ms = self._now_ms()
        return (
            options.stream_length if has_log else 0,
            self.writer,
            max(1, round(options.remember_deletes_s * 1000)),
            now_ms,
            now_ms - round(options.remember_writes_s * 1000),
            max(1, options.most_writes // options.shards),
        )

    async def forget(self, user_id: str) -> Mapping[str, int]:
        """See SignalStore.forget. Goes over all keys in Redis."""
        self._check_open()
        counts = {}
        for name, entity in self.schema.entities.items():
            if ids := await self._ids_of(entity, user_id):
                counts[name] = await self.delete(name, ids)
        return {name: count for name, count in counts.items() if count}

    async def _ids_of(self, entity: Entity, user_id: str) -> list[str]:
        if entity.name == _USER:
            return [user_id]
        if _USER not in entity.key:
            return []
        at, count = entity.key.index(_USER), len(entity.key)
        prefix = composite_id([user_id, ""]) if at == 0 else ""
        found: dict[str, None] = {}
        cursor, is_end = "", False
        while not is_end:
            ids, cursor = await self.rows.scan_ids(
                entity.name, cursor, _SAMPLE_PAGE, self.rows.options.scan_timeout_s, prefix
            )
            is_end = not cursor
            for id_ in ids:
                parts = composite_parts(id_, count) if user_id in id_ else None
                if parts is not None and parts[at] == user_id:
                    found[id_] = None
        return list(found)

    # ---- reading

    async def fetch_rows(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> dict[str, RowStates]:
        """Rows by entity in the order of the ids, in one round trip. UnavailableError."""
        self._check_open()
        return await self.rows.fetch(wanted, timeout_s)

    async def get(self, entity: str, ids: Sequence[str], signals: Sequence[str], now_s: float) -> StoredRows:
        """See SignalStore.get. UnavailableError."""
        rows = (await self.fetch_rows({entity: ids}, self.rows.options.scan_timeout_s))[entity]
        return self._stored(entity, rows, signals, now_s)

    async def scan(self, entity: str, signals: Sequence[str], cursor: str, most: int, now_s: float) -> ScanPage:
        """See SignalStore.scan. UnavailableError."""
        rows, following = await self.scan_rows(entity, cursor, most)
        live = rows.take(rows.where(Status.LIVE))
        return ScanPage(live.ids, self._stored(entity, live, signals, now_s), following)

    async def scan_rows(self, entity: str, cursor: str, most: int) -> tuple[RowStates, str]:
        """Rows and tombstones as they lie there: see RedisRows.scan."""
        self._check_open()
        return await self.rows.scan(entity, cursor, most, self.rows.options.scan_timeout_s)

    def _stored(self, entity: str, rows: RowStates, signals: Sequence[str], now_s: float) -> StoredRows:
        found = rows.where(Status.LIVE)
        live = rows.take(found)
        now_ms = round(now_s * 1000)
        declared = self.schema.entities[entity].signals
        columns = [_column(declared[name], live, now_ms) for name in signals]
        return StoredRows(found, columns, live.latest_ms)

    def row_counts(self) -> Mapping[str, int]:
        """Rows per entity, as far as is known: see `refresh_counts`."""
        return {name: max(0, sum(counts.values())) for name, counts in self._counts.items()}

    def _count(self, entity: str, counts: Mapping[int, int]) -> None:
        """What a write's scripts said."""
        self._counts[entity] |= counts
        self._write_number += 1
        self._last_write |= {(entity, bucket): self._write_number for bucket in counts}

    async def refresh_counts(self, entities: Iterable[str] | None = None) -> None:
        """Asks how many rows there are, of all entities or some. UnavailableError."""
        names = self.schema.entities if entities is None else entities
        places = [(name, bucket) for name in names for bucket in range(self.rows.options.shards)]
        keys = [self.keys.count(*place) for place in places]
        asked = self._write_number
        replies = await self.connection.run(
            [(key, ("GET", key)) for key in keys], self.rows.options.scan_timeout_s, is_repeatable=True
        )
        for (name, bucket), reply in zip(places, replies, strict=True):
            # Of a bucket that was written meanwhile the answer may be older than what the write said.
            if self._last_write.get((name, bucket), 0) <= asked:
                self._counts[name][bucket] = int(good(reply) or 0)

    async def statistics(self, now_s: float, entities: Collection[str] | None = None) -> Mapping[str, EntityStatistics]:
        """See SignalStore.statistics; of all entities or some. UnavailableError."""
        names = self.schema.entities if entities is None else entities
        await self.refresh_counts(names)
        counts = self.row_counts()
        return {name: await self._statistics(name, counts[name], now_s) for name in names}

    async def _statistics(self, entity: str, count: int, now_s: float) -> EntityStatistics:
        now_ms = round(now_s * 1000)
        codec = self.codecs[entity]
        ages: dict[str, list[NDArray[np.int64]]] = {signal.name: [] for signal in codec.signals}
        sampled, used_bytes, cursor, is_end = 0, 0, "", False
        while not is_end and sampled < _SAMPLE_ROWS:
            rows, cursor = await self.scan_rows(entity, cursor, _SAMPLE_PAGE)
            is_end = not cursor
            live = rows.take(rows.where(Status.LIVE))
            sampled += len(live)
            used_bytes += sum(map(len, codec.pack(live))) + sum(map(len, self.keys.rows(entity, live.ids)))
            for name, column in live.columns.items():
                is_there = (column.state == VALUE) & ~is_expired(column, now_ms)
                ages[name].append(now_ms - column.times_ms[is_there])
        scale = count / sampled if sampled else 0.0
        signals = {name: _signal_statistics(np.concatenate([_NO_AGES, *of]), scale) for name, of in ages.items()}
        return EntityStatistics(count, round(used_bytes * scale) + count * _ROW_OVERHEAD_BYTES, signals)

    # ---- for a replica

    async def log_ends(self, entity: str) -> dict[int, bytes]:
        """See ChangeLog.ends."""
        return await self.log.ends(entity)

    async def read_changes(self, positions: Mapping[Place, bytes], wait_s: float) -> list[Change]:
        """See ChangeLog.read."""
        return await self.log.read(positions, wait_s)

    async def close(self) -> None:
        """Closes connections. A second call does nothing."""
        self._is_closed = True
        await self.connection.close()

    def _now_ms(self) -> int:
        """Never goes back: what is written after a step of the clock is not of before what was written then."""
        self._latest_ms = max(self._latest_ms, round(self._clock() * 1000))
        return self._latest_ms

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the signal store is closed")


_NO_AGES = np.empty(0, np.int64)


def _column(signal: Signal, rows: RowStates, now_ms: int) -> ColumnValues:
    """A signal of live rows as it was written; of a ratio, what it comes to now, where one of its counters is there."""
    if signal.kind is SignalKind.RATIO:
        return _ratio(signal, rows, now_ms)
    column = rows.columns[signal.name]
    is_value = column.state == VALUE
    is_there = is_value & ~is_expired(column, now_ms)
    at = np.flatnonzero(is_there)
    values = take(column.values, np.flatnonzero(is_there[is_value]))
    return ColumnValues(signal.name, at, values, np.flatnonzero(~is_there), times_ms=column.times_ms[at])


def _ratio(signal: Signal, rows: RowStates, now_ms: int) -> ColumnValues:
    assert signal.ratio_of is not None
    over, under = (rows.columns[name] for name in signal.ratio_of)
    sums = [np.nan_to_num(np.where(is_expired(c, now_ms), 0.0, window_sums(c, now_ms))) for c in (over, under)]
    mean, weight = (signal.prior.mean, signal.prior.weight) if signal.prior is not None else (0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (sums[0] + mean * weight) / (sums[1] + weight)
    is_there = np.isfinite(ratios) & ((over.state == VALUE) | (under.state == VALUE))
    at = np.flatnonzero(is_there)
    times = np.maximum(*(np.where(c.state == VALUE, c.times_ms, np.iinfo(np.int64).min) for c in (over, under)))
    return ColumnValues(signal.name, at, ratios[at].astype(np.float32), np.flatnonzero(~is_there), times_ms=times[at])


def _signal_statistics(ages_ms: NDArray[np.int64], scale: float) -> SignalStatistics:
    if not len(ages_ms):
        return SignalStatistics(0, float("nan"), float("nan"))
    ages_s = ages_ms / 1000
    return SignalStatistics(round(len(ages_ms) * scale), float(np.median(ages_s)), float(ages_s.max()))
