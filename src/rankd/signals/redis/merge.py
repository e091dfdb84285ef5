"""What a batch makes of rows as they are stored: the new rows whole, by the rules of signals.store.

Pure. A value replaces another unless that one is of a later time; increments are of signals.accumulate; nothing of a
time before its row's deletion is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.packed import MOST_VERSION
from rankd.signals.accumulate import NEVER_MS, States, accumulate
from rankd.signals.batches import latest_wins
from rankd.signals.redis.codec import CLEARED, NONE, VALUE, RowStates, StateColumn, Status, put
from rankd.signals.redis.parts import parts_of
from rankd.signals.store import ColumnValues, Operation, WriteBatch
from rankd.signals.values import take
from rankd.types.schema import SignalKind

_VERSION_EPOCH_MS = 1_735_689_600_000
"""2025-01-01: versions are milliseconds since then, so that a row that was forgotten does not begin anew."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Merged:
    """`rows`: all rows, as they are now to be; `changed`: positions of those that must be written, ascending; `late`
    int64, by row: values that were not taken."""

    rows: RowStates
    changed: Rows
    late: NDArray[np.int64]


def merge(stored: RowStates, batch: WriteBatch, taken: Rows, places: Rows, now_ms: int) -> Merged:
    """`stored`: rows of distinct ids; what is not LIVE or TOMBSTONE is as if it were not there. `taken`: positions of
    the batch to be applied, ascending; `places`: where in `stored` each of them is."""
    is_live = stored.status == Status.LIVE
    deleted_ms = np.where(stored.status == Status.TOMBSTONE, stored.latest_ms, NEVER_MS)
    times = np.full(len(batch.ids), now_ms, np.int64) if batch.event_ms is None else batch.event_ms
    place_of = np.full(len(batch.ids), -1, np.int64)
    place_of[taken] = places
    latest = np.where(is_live, stored.latest_ms, NEVER_MS)
    before = latest.copy()
    lives = times[taken] >= deleted_ms[places]
    np.maximum.at(latest, places[lives], times[taken][lives])
    changed = latest != before
    work = _Work(deleted_ms, place_of, times, latest, changed, now_ms)
    columns = dict(stored.columns)
    for column in batch.columns:
        name = column.signal
        columns[name] = (work.add if column.operation is Operation.ADD else work.set)(columns[name], column)
    back = np.flatnonzero((stored.status == Status.TOMBSTONE) & (latest != NEVER_MS))
    if len(back):
        columns = {name: _cleared(column, back, deleted_ms[back]) for name, column in columns.items()}
    status = np.where(latest == NEVER_MS, stored.status, Status.LIVE).astype(np.uint8)
    latest = np.where(latest == NEVER_MS, stored.latest_ms, latest)
    rows = RowStates(stored.ids, status, next_versions(stored, now_ms), latest, columns)
    return Merged(rows, np.flatnonzero(changed), work.late)


def _cleared(column: StateColumn, rows: Rows, times_ms: NDArray[np.int64]) -> StateColumn:
    """The column with what was never written of rows cleared: of a row that is there again, the time of its
    deletion."""
    state, times = column.state.copy(), column.times_ms.copy()
    is_none = state[rows] == NONE
    state[rows[is_none]], times[rows[is_none]] = CLEARED, times_ms[is_none]
    return StateColumn(column.signal, state, times, column.parts)


def bury(stored: RowStates, blank: RowStates, now_ms: int) -> RowStates:
    """Tombstones of rows; `blank`: the same ids without anything."""
    status = np.full(len(stored), Status.TOMBSTONE, np.uint8)
    latest = np.full(len(stored), now_ms, np.int64)
    return RowStates(stored.ids, status, next_versions(stored, now_ms), latest, blank.columns)


def next_versions(stored: RowStates, now_ms: int) -> NDArray[np.int64]:
    """Of rows that change now."""
    versions: NDArray[np.int64] = np.maximum(stored.versions + 1, now_ms - _VERSION_EPOCH_MS)
    return np.clip(versions, 0, MOST_VERSION)


class _Work:
    """A batch on its way into rows; `latest` and `changed`, by row, are written to."""

    def __init__(
        self,
        deleted_ms: NDArray[np.int64],
        place_of: Rows,
        times: NDArray[np.int64],
        latest: NDArray[np.int64],
        changed: NDArray[np.bool_],
        now_ms: int,
    ) -> None:
        self._deleted_ms = deleted_ms
        self._place_of = place_of
        self._times = times
        self._latest = latest
        self._changed = changed
        self._now_ms = now_ms
        self.late = np.zeros(len(latest), np.int64)

    def set(self, stored: StateColumn, column: ColumnValues) -> StateColumn:
        """The column with values set and cleared."""
        latest, late = latest_wins(column, self._place_of, self._times, has_times=True)
        np.add.at(self.late, late, 1)
        assert latest.times_ms is not None and latest.clear_times_ms is not None
        place = np.concatenate([latest.rows, latest.clear_rows])
        time = np.concatenate([latest.times_ms, latest.clear_times_ms])
        is_new = (stored.state[place] == NONE) | (time >= stored.times_ms[place])
        is_new &= time >= self._deleted_ms[place]
        np.add.at(self.late, place[~is_new], 1)
        state = np.full(len(place), CLEARED, np.uint8)
        state[: len(latest.rows)] = VALUE
        given = parts_of(stored.signal, latest.values).take(np.flatnonzero(is_new[: len(latest.rows)]))
        place, time = place[is_new], time[is_new]
        self._touch(place, time)
        return put(stored, place, StateColumn(stored.signal, state[is_new], time, given))

    def add(self, stored: StateColumn, column: ColumnValues) -> StateColumn:
        """The column with amounts added."""
        times = self._times[column.rows] if column.times_ms is None else column.times_ms
        places = self._place_of[column.rows]
        given = np.flatnonzero(places >= 0)
        is_late = times[given] < self._deleted_ms[places[given]]
        np.add.at(self.late, places[given[is_late]], 1)
        taken = given[~is_late]
        if not len(taken):
            return stored
        touched, rows = np.unique(places[taken], return_inverse=True)
        before = stored.take(touched)
        states = _unexpired(before, self._now_ms)
        after = accumulate(stored.signal, states, rows, take(column.values, taken), times[taken])
        state = np.where(after.present, VALUE, before.state).astype(np.uint8)
        by = StateColumn(stored.signal, state, after.times_ms, parts_of(stored.signal, after.values))
        self._touch(touched, after.times_ms)
        return put(stored, touched, by)

    def _touch(self, places: Rows, times: NDArray[np.int64]) -> None:
        np.maximum.at(self._latest, places, times)
        self._changed[places] = True


def _unexpired(column: StateColumn, now_ms: int) -> States:
    """What can be added to."""
    present = column.state == VALUE
    kept = present & ~is_expired(column, now_ms)
    times = np.where(column.state == NONE, NEVER_MS, column.times_ms)
    return States(take(column.values, np.flatnonzero(kept[present])), kept, times)


def is_expired(column: StateColumn, now_ms: int) -> NDArray[np.bool_]:
    """By row: whether a value would be older than the signal's TTL."""
    ttl_s = column.signal.ttl_s
    if ttl_s is None:
        return np.zeros(len(column.state), np.bool_)
    expired: NDArray[np.bool_] = now_ms - column.times_ms >= max(1.0, ttl_s * 1000)
    return expired


def window_sums(column: StateColumn, now_ms: int) -> NDArray[np.float64]:
    """By row, the sum of a windowed counter's buckets of the window that ends now; NaN without a value."""
    signal, parts = column.signal, column.parts
    assert signal.kind is SignalKind.WINDOW and signal.bucket_s is not None and signal.window_s is not None
    assert parts.lengths is not None and parts.ints is not None and parts.fixed is not None
    newest = now_ms // round(signal.bucket_s * 1000)
    is_in = (parts.ints > newest - round(signal.window_s / signal.bucket_s)) & (parts.ints <= newest)
    counts = np.ascontiguousarray(parts.fixed).view("<f4").reshape(-1).astype(np.float64)
    owner = np.repeat(np.arange(parts.count), parts.lengths)
    sums = np.full(len(column.state), np.nan)
    sums[column.state == VALUE] = np.bincount(owner, np.where(is_in, counts, 0.0), parts.count)
    return sums
