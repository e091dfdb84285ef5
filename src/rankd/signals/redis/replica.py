"""The replica: this machine's tables of the entities that every machine has, kept in step with Redis.

    resync    note the ends of the logs ─ scan all rows ─ look at what only the tables have
    follow    read the logs of all buckets from there on ─ apply ─ note how far

A log is bounded: whoever is further behind than it reaches (or whose log is another after a failover) resyncs. Applying
anything twice, or late, changes nothing: see tables.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from rankd.errors import RankdError, StoreFullError
from rankd.signals.redis.changes import BEGINNING, MOST_RECORDS, Change, Place
from rankd.signals.redis.codec import RowStates
from rankd.signals.redis.node import RefusedError
from rankd.signals.redis.store import RedisStore
from rankd.signals.redis.tables import Positions, ReplicaTables, save_positions
from rankd.signals.redis.writing import Commit
from rankd.signals.scanning import all_ids

SCAN_ROWS: Final = 2_000
WAIT_S: Final = 0.25
"""How long a read of the logs waits for something new; when all is quiet, the lag that is told goes up to this."""

_AT_ONCE_S: Final = 0.001
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_SAVE_S: Final = 1.0
_CHECK_TIMEOUT_S: Final = 5.0
_TELL_S: Final = 30.0
"""How often the same is said again."""

_LOG = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class ReplicaState:
    """How the replica fares. `in_step_s`: the monotonic clock when it last had everything; None: never yet.
    `delay_s`: of the last change of another machine's, from its commit until it was in the tables."""

    is_following: bool = False
    in_step_s: float | None = None
    delay_s: float = 0.0
    applied_count: int = 0
    resync_count: int = 0
    gap_count: int = 0

    @property
    def lag_s(self) -> float:
        """How far behind the tables are, at most; infinite before the first time they had everything."""
        return float("inf") if self.in_step_s is None else max(0.0, time.monotonic() - self.in_step_s)


class Replica:
    """Belongs to one event loop; tables are written in `executor`, one call at a time."""

    def __init__(
        self,
        store: RedisStore,
        tables: ReplicaTables,
        entities: Collection[str],
        executor: Executor,
        *,
        source: str,
        positions: Positions,
        on_progress: OnProgress | None = None,
        tell: Callable[[float | None, bool], None] = lambda _, __: None,
    ) -> None:
        """`entities`: those that are replicated. `source`: what the positions are of; `positions`: from which to go on;
        none of a bucket: it is read whole. `tell`: hears when the tables last had everything, and whether they
        follow."""
        self._store = store
        self._tables = tables
        self._entities = tuple(entities)
        self._executor = executor
        self._source = source
        self._positions = {key: at for key, at in positions.items() if key[0] in self._entities}
        self._on_progress = on_progress
        self._tell = tell
        # Fewer records than this after a position: nothing between them was trimmed.
        self._full = min(MOST_RECORDS, store.rows.options.stream_length)
        self._saved_s = 0.0
        self._saved: Positions = {}
        self._runner: asyncio.Task[None] | None = None
        self._is_filled = asyncio.Event()
        self._lock = asyncio.Lock()
        self._told_s: dict[str, float] = {}  # when a fault was last told of
        # Groups whose rows Redis has lost: what is here stays until it is written again.
        self._lost: set[Place] = set()
        self.state = ReplicaState()
        if not self._entities:
            self._is_filled.set()

    def start(self) -> None:
        """Begins to follow."""
        if self._entities:
            self._runner = asyncio.create_task(self._run())
        self._store.on_commit = self.commit

    async def filled(self) -> None:
        """Returns when the tables have had everything for the first time. The replica's error if it ended."""
        if self._runner is None:
            await self._is_filled.wait()
            return
        waiting = asyncio.ensure_future(self._is_filled.wait())
        try:
            await asyncio.wait({waiting, self._runner}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._runner.done():
            self._runner.result()

    async def commit(self, commit: Commit) -> None:
        """An own write, which Redis has: applied before it is acknowledged."""
        if commit.entity in self._entities:
            await self._apply(commit.entity, commit.rows)

    async def close(self) -> None:
        """Notes how far it came."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
        async with self._lock:
            self._save()

    async def _run(self) -> None:
        """Follows, for ever. Redis may go and come back; only a fault of this machine's ends it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await self._catch_up()
                self._tell_back()
                pause_s = _FIRST_PAUSE_S
                while True:
                    await self._follow()
            except StoreFullError as error:
                self._tell_lost(str(error))
                pause_s = 5.0
            except RefusedError as error:
                self._tell_lost(str(error.for_operator()))
            except RankdError as error:
                self._tell_lost(str(error))
            self.state.is_following = False
            self._tell(self.state.in_step_s, False)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _tell_lost(self, why: str) -> None:
        # By fault: an absent Redis is met in several ways, in turns.
        now_s = time.monotonic()
        if now_s - self._told_s.get(why, -_TELL_S) >= _TELL_S:
            self._told_s[why] = now_s
            _LOG.warning("the replica does not follow: %s", why)

    def _tell_back(self) -> None:
        if self._told_s:
            self._told_s.clear()
            _LOG.info("the replica follows Redis again")

    async def _catch_up(self) -> None:
        """Reads whole what has no position, or one that its log no longer reaches back to."""
        self._store.rows.forget_registration()
        await self._store.rows.register()
        if self._positions:
            self._lose(await self._store.log.gaps(self._positions))
        await self._fill()

    async def _fill(self) -> None:
        for entity in self._entities:
            wanted = [b for b in range(self._store.keys.shards) if (entity, b) not in self._positions]
            if wanted:
                await self._resync(entity, wanted)

    def _lose(self, gaps: Sequence[Change]) -> None:
        self.state.gap_count += len(gaps)
        for gap in gaps:
            self._positions.pop((gap.entity, gap.bucket), None)
            if gap.is_lost:
                self._lost.add((gap.entity, gap.bucket))
        for entity in dict.fromkeys(gap.entity for gap in gaps):
            lost = [gap.is_lost for gap in gaps if gap.entity == entity]
            if count := lost.count(False):
                _LOG.warning(
                    "%s: %d of %d logs no longer reach back to where this machine is: all rows are read again",
                    entity, count, self._store.keys.shards,
                )  # fmt: skip
            if count := lost.count(True):
                _LOG.error(
                    "%s: Redis has lost what it had in %d of %d groups of rows; those that it has not are kept here as "
                    "they are until they are written again",
                    entity, count, self._store.keys.shards,
                )  # fmt: skip

    async def _follow(self) -> None:
        """What is new in the logs."""
        asked_s = time.monotonic()
        changes = await self._store.read_changes(self._positions, WAIT_S if self._is_filled.is_set() else _AT_ONCE_S)
        full = {
            (change.entity, change.bucket): self._positions[change.entity, change.bucket]
            for change in changes
            if len(change.rows) >= self._full
        }
        if full:
            # So far behind, records may have been trimmed before they were read.
            self._lose(await self._store.log.gaps(full))
        for change in changes:
            if (change.entity, change.bucket) in self._positions:
                await self._take(change)
        await self._fill()
        if not full:
            self._note_in_step(asked_s)
        self.state.is_following = True
        self._tell(self.state.in_step_s, True)
        if time.monotonic() - self._saved_s >= _SAVE_S:
            self._save()

    async def _take(self, change: Change) -> None:
        await self._apply(change.entity, change.rows)
        self._positions[change.entity, change.bucket] = change.position
        foreign = np.flatnonzero(~change.is_own)
        if len(foreign):
            # Records are named by the time, in ms, of the node that took them.
            committed_ms = int(change.records[int(foreign[-1])].partition(b"-")[0])
            self.state.delay_s = max(0.0, time.time() - committed_ms / 1e3)

    def _note_in_step(self, asked_s: float) -> None:
        self.state.in_step_s = asked_s
        self._is_filled.set()

    async def _resync(self, entity: str, buckets: list[int]) -> None:
        """All rows of an entity, and away with those that are not there any more."""
        started_s, done = time.monotonic(), 0
        ends = await self._store.log_ends(entity)
        table = self._tables.tables.tables[entity]
        was_empty = len(table) == 0
        await self._store.refresh_counts()
        total = self._store.row_counts().get(entity, 0)
        cursor, applying = "", None
        while True:
            rows, cursor = await self._store.scan_rows(entity, cursor, SCAN_ROWS)
            if applying is not None:
                await applying
            # While these go into the table, the next are read.
            applying = asyncio.ensure_future(self._apply(entity, rows))
            done += len(rows)
            self._progress(done, total)
            if not cursor:
                break
        await applying
        if not was_empty:
            await self._check_rows(entity)
        for bucket in buckets:
            self._positions[entity, bucket] = ends.get(bucket, BEGINNING)
        self.state.resync_count += 1
        self._save()
        took_s = time.monotonic() - started_s
        _LOG.info("%s: %s rows read from Redis in %.1f s", entity, f"{done:,}", took_s)

    async def _check_rows(self, entity: str) -> None:
        """What the table has and Redis has not, or has in an earlier state: Redis is right."""
        table = self._tables.tables.tables[entity]
        for ids in all_ids(table):
            versions = table.keys(ids)
            there = (await self._store.fetch_rows({entity: ids}, _CHECK_TIMEOUT_S))[entity]
            is_kept = None
            if self._lost:
                is_kept = np.array([(entity, b) in self._lost for b in self._store.keys.buckets(ids)], np.bool_)
            await self._call(partial(self._tables.force, entity, there, versions, is_kept))

    def _progress(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, max(done, total))

    async def _apply(self, entity: str, rows: RowStates) -> None:
        if len(rows):
            self.state.applied_count += await self._call(partial(self._tables.apply, entity, rows))

    async def _call(self, work: Callable[[], int]) -> int:
        """Work on the tables, one at a time; what has begun is ended even if nobody waits."""
        async with self._lock:
            future = asyncio.get_running_loop().run_in_executor(self._executor, work)
            try:
                return await asyncio.shield(future)
            except asyncio.CancelledError:
                await asyncio.wait([future])
                raise

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        if self._saved == self._positions:
            return
        try:
            save_positions(self._tables.tables, self._source, self._positions)
            self._saved = dict(self._positions)
        except OSError as error:
            _LOG.warning("how far the replica is cannot be noted: %s", error.strerror)
