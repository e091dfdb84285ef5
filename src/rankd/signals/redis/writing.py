"""A batch on its way into Redis: read what is stored, merge, apply bucket by bucket if nobody was faster, else again.

A bucket's rows, their records of change and the ids of what was applied are written together or not at all
(scripts.APPLY); of a batch of several buckets some may be written and others not when Redis is lost: sent again with
its write id, it is completed. Whether a script ran whose answer was lost is told by what was applied: increments are
never made twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from rankd.errors import StoreFullError, UnavailableError
from rankd.signals.redis.codec import RowCodec, RowStates, Status
from rankd.signals.redis.connection import Keyed
from rankd.signals.redis.merge import bury, merge
from rankd.signals.redis.options import MOST_ROWS_PER_SCRIPT
from rankd.signals.redis.rows import RedisRows, good
from rankd.signals.redis.scripts import Applied, Apply
from rankd.signals.store import Operation, WriteBatch

_ATTEMPT_S: Final = 0.5
"""Of one round trip of a write at most; but no less than that of a read."""

_PAUSE_S: Final = 0.005
"""After somebody was faster, on average; grows with each attempt."""

_AWAY_PAUSE_S: Final = 0.05
"""After Redis did not answer."""

_AWAY_S: Final = 0.75
"""A caller whose Redis is known to be away for so long is told, and may try again."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Rows that were written, as they are now; tombstones are deletions. `lasts`: by bucket, the id of the last record
    of their change, where one is known."""

    entity: str
    rows: RowStates
    lasts: Mapping[int, bytes]


@dataclass(slots=True, eq=False)
class _Chunk:
    """Ids of one bucket that are written together. `rows`: positions of the batch, ascending; `events`: of them, those
    that have event ids, with their marks. `mark`: of the batch and this chunk; b"": it may be applied twice."""

    bucket: int
    number: int
    ids: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    mark: bytes = b""
    events: dict[int, bytes] = field(default_factory=dict)
    was_sent: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of a batch so far."""

    commits: list[Commit] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    late_count: int = 0
    repeated: list[int] = field(default_factory=list)
    deleted_count: int = 0


class Writing:
    """One batch (or deletion, `batch` None) of an entity. `rows`: positions that are to be written."""

    def __init__(
        self, at: RedisRows, entity: str, batch: WriteBatch | None, now_ms: int, settings: Callable[[str], Any]
    ) -> None:
        self._at = at
        self._entity = entity
        self._batch = batch
        self._now_ms = now_ms
        self._settings = settings
        self._is_known = True
        self.outcome = Outcome()

    async def run(self, ids: Sequence[str], rows: Sequence[int]) -> Outcome:
        """Writes the rows of `ids` at positions `rows`. UnavailableError: Redis does not answer; parts may be written.
        StoreFullError: it has no memory left."""
        began = time.monotonic()
        deadline = began + self._at.options.write_timeout_s
        todo = self._chunks(ids, rows)
        attempt = 0
        while True:
            try:
                await self._at.register()
                todo = await self._attempt(todo, deadline)
                pause = _PAUSE_S * attempt
            except UnavailableError:
                self._at.forget_registration()
                pause = _AWAY_PAUSE_S
                give_up = deadline if self._at.connection.is_available else min(deadline, began + _AWAY_S)
                if time.monotonic() + 2 * pause >= give_up:
                    raise
            if not todo:
                return self.outcome
            attempt += 1
            if time.monotonic() + pause >= deadline:
                raise UnavailableError("the rows are written to by too many at once")
            await asyncio.sleep(random.uniform(0.5, 1.5) * pause)

    def _chunks(self, ids: Sequence[str], rows: Sequence[int]) -> list[_Chunk]:
        """Groups of rows: all rows of an id are in one. The same batch gives the same groups."""
        open_: dict[int, _Chunk] = {}
        chunks: list[_Chunk] = []
        of_id: dict[str, _Chunk] = {}
        named = [ids[row] for row in rows]
        for row, id_, bucket in zip(rows, named, self._at.keys.buckets(named), strict=True):
            chunk = of_id.get(id_)
            if chunk is None:
                chunk = open_.get(bucket)
                if chunk is None or len(chunk.ids) >= MOST_ROWS_PER_SCRIPT:
                    chunk = open_[bucket] = _Chunk(bucket, len(chunks))
                    chunks.append(chunk)
                chunk.ids.append(id_)
                of_id[id_] = chunk
            chunk.rows.append(row)
        self._mark(chunks)
        return chunks

    def _mark(self, chunks: Sequence[_Chunk]) -> None:
        batch = self._batch
        if batch is None:
            return
        has_events = batch.event_ids is not None and any(batch.event_ids)
        adds = any(column.operation is Operation.ADD for column in batch.columns)
        write_id = batch.write_id or (uuid.uuid4().hex if adds or has_events else "")
        for chunk in chunks:
            if write_id:
                chunk.mark = _mark("w", write_id, str(chunk.number))
            if batch.event_ids is not None:
                given = ((row, batch.event_ids[row]) for row in chunk.rows)
                chunk.events = {row: _mark("e", batch.ids[row], event) for row, event in given if event}

    async def _attempt(self, todo: Sequence[_Chunk], deadline: float) -> list[_Chunk]:
        """One reading and writing of chunks; those that must be tried again."""
        codec = self._at.codecs[self._entity]  # one for all of it: others may learn of new declarations meanwhile
        values, seen = await self._read(todo, deadline)
        was_done = [chunk for chunk in todo if chunk.mark and chunk.mark in seen[chunk.number]]
        todo = [chunk for chunk in todo if chunk not in was_done]
        if was_done:
            await self._take_done(was_done, values, codec, deadline)
        ids = [id_ for chunk in todo for id_ in chunk.ids]
        stored = await self._unpacked(ids, values, codec, deadline)
        place = {id_: i for i, id_ in enumerate(ids)}
        repeated: list[int] = []
        if self._batch is None:
            blank = codec.blank(ids)
            rows, changed = bury(stored, blank, self._now_ms), np.arange(len(ids))
            late = np.zeros(len(ids), np.int64)
        else:
            taken, repeated = _taken(todo, seen)
            places = np.array([place[self._batch.ids[row]] for row in taken.tolist()], np.int64)
            merged = merge(stored, self._batch, taken, places, self._now_ms)
            rows, changed, late = merged.rows, merged.changed, merged.late
        packed = codec.pack(rows := rows.take(changed))
        again = await self._apply(todo, values, seen, rows, packed, deadline)
        done = [chunk for chunk in todo if chunk not in again]
        of_done = np.array([place[id_] for chunk in done for id_ in chunk.ids], np.int64)
        self.outcome.late_count += int(late[of_done].sum())
        self.outcome.repeated += sorted(set(repeated) & {row for chunk in done for row in chunk.rows})
        if self._batch is None:
            self.outcome.deleted_count += int(np.count_nonzero(stored.status[of_done] == Status.LIVE))
        return again

    async def _take_done(
        self, chunks: Sequence[_Chunk], values: Mapping[str, bytes | None], codec: RowCodec, deadline: float
    ) -> None:
        """Chunks that were applied: by an earlier call, or by this one, whose answer was lost."""
        rows = await self._unpacked([id_ for chunk in chunks for id_ in chunk.ids], values, codec, deadline)
        self.outcome.commits.append(Commit(self._entity, rows, {}))
        for chunk in chunks:
            if not chunk.was_sent:
                self.outcome.repeated += chunk.rows

    async def _unpacked(
        self, ids: list[str], values: Mapping[str, bytes | None], codec: RowCodec, deadline: float
    ) -> RowStates:
        rows = await self._at.unpacked(self._entity, [values[id_] for id_ in ids], ids, _left(deadline), codec)
        if np.any(rows.status == Status.WRONG_ID):
            raise UnavailableError("Redis answered with rows of other ids: they were not used")
        return rows

    async def _read(
        self, todo: Sequence[_Chunk], deadline: float
    ) -> tuple[Mapping[str, bytes | None], Mapping[int, set[bytes]]]:
        """Rows by id, and by chunk those of its marks that were applied."""
        commands: list[Keyed] = []
        keys = self._at.keys
        for chunk in todo:
            rows = keys.rows(self._entity, chunk.ids)
            commands.append((rows[0], ("MGET", *rows)))
            if marks := _marks(chunk):
                seen = keys.seen(self._entity, chunk.bucket)
                commands.append((seen, ("ZMSCORE", seen, *marks)))
        replies = iter(await self._at.connection.run(commands, self._patience(deadline), is_repeatable=True))
        values: dict[str, bytes | None] = {}
        applied: dict[int, set[bytes]] = {}
        for chunk in todo:
            values |= zip(chunk.ids, good(next(replies)), strict=True)
            marks = _marks(chunk)
            scores = good(next(replies)) if marks else ()
            applied[chunk.number] = {mark for mark, at in zip(marks, scores, strict=True) if at is not None}
        return values, applied

    async def _apply(
        self,
        todo: Sequence[_Chunk],
        values: Mapping[str, bytes | None],
        seen: Mapping[int, set[bytes]],
        changed: RowStates,
        packed: Sequence[bytes],
        deadline: float,
    ) -> list[_Chunk]:
        """Writes changed rows; the chunks where somebody was faster."""
        at_id = {id_: i for i, id_ in enumerate(changed.ids)}
        settings = self._settings(self._entity)
        commands: list[Keyed] = []
        sent: list[_Chunk] = []
        keys = self._at.keys
        for chunk in todo:
            ids = [id_ for id_ in chunk.ids if id_ in at_id]
            marks = [mark for mark in _marks(chunk) if mark not in seen[chunk.number]]
            if not ids and not marks:
                continue
            rows = [
                (key, values[id_], packed[at_id[id_]])
                for key, id_ in zip(keys.rows(self._entity, ids), ids, strict=True)
            ]
            log, known, count = (name(self._entity, chunk.bucket) for name in (keys.log, keys.seen, keys.count))
            commands.append((log, Apply((log, known, count), rows, marks, settings).command(self._is_known)))
            sent.append(chunk)
            chunk.was_sent = True
        replies = await self._at.connection.run(commands, self._patience(deadline)) if commands else []
        again: list[_Chunk] = []
        lasts: dict[int, bytes] = {}
        for chunk, reply in zip(sent, replies, strict=True):
            applied = self._applied(reply)
            if applied is None:
                again.append(chunk)
                continue
            self.outcome.counts[chunk.bucket] = applied.count
            if applied.last:
                lasts[chunk.bucket] = applied.last
        not_done = {id_ for chunk in again for id_ in chunk.ids}
        rows_done = np.array([i for i, id_ in enumerate(changed.ids) if id_ not in not_done], np.int64)
        if len(rows_done):
            rows_now = changed if len(rows_done) == len(changed) else changed.take(rows_done)
            self.outcome.commits.append(Commit(self._entity, rows_now, lasts))
        return again

    def _applied(self, reply: Any) -> Applied | None:
        if isinstance(reply, NoScriptError):
            self._is_known = False
            return None
        if isinstance(reply, OutOfMemoryError):
            raise StoreFullError("Redis has no memory left (maxmemory): nothing more is written")
        if isinstance(reply, ResponseError) and "OOM" in str(reply):
            raise StoreFullError("Redis has no memory left (maxmemory): nothing more is written")
        return Applied.of(good(reply))

    def _patience(self, deadline: float) -> float:
        return min(_left(deadline), max(_ATTEMPT_S, self._at.options.socket_timeout_s))


def _taken(todo: Sequence[_Chunk], seen: Mapping[int, set[bytes]]) -> tuple[NDArray[np.int64], list[int]]:
    """Positions to be applied, ascending, and those whose event was applied before, or comes twice."""
    taken: list[int] = []
    repeated: list[int] = []
    for chunk in todo:
        known = set(seen[chunk.number])
        for row in chunk.rows:
            mark = chunk.events.get(row)
            if mark is not None and mark in known:
                repeated.append(row)
                continue
            taken.append(row)
            if mark is not None:
                known.add(mark)
    return np.array(sorted(taken), np.int64), repeated


def _marks(chunk: _Chunk) -> list[bytes]:
    """What is remembered of a chunk, the same in reading and writing."""
    return [*([chunk.mark] if chunk.mark else []), *dict.fromkeys(chunk.events.values())]


def _mark(*parts: str) -> bytes:
    """16 bytes that stand for texts."""
    return hashlib.blake2b("\0".join(f"{len(part)}.{part}" for part in parts).encode(), digest_size=16).digest()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
