"""From a batch as sent to a batch that can be applied in any order: no faulty rows, no id twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.id_index import first_duplicate
from rankd.signals.store import ColumnValues, Operation, Values, WriteBatch
from rankd.signals.values import NO_ROWS, take

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """What is added to one signal. `rows` int64 (m,): positions in the ids, in the order of writing, any number of
    times each; `amounts`: of m rows, as Operation.ADD has them; `times_ms` int64 (m,): as of when. See accumulate."""

    signal: str
    rows: NDArray[np.int64]
    amounts: Values
    times_ms: Times


@dataclass(frozen=True, slots=True)
class CleanBatch:
    """What a write comes to: distinct ids, what is said about each of them, and what is added to it.

    `columns` set and clear: per signal each id at most once; `times_ms` and `clear_times_ms` are given, both, where
    they are not the ids' own. `times_ms`: of the ids: int64 (n,), the latest of each; or one for all. `added`: what is
    added. `written_count` counts rows of the batch as sent (an id that came twice counts twice); `late_count`: values
    of the batch that came after one of a later time.
    """

    entity: str
    ids: Sequence[str]
    times_ms: Times | int
    columns: Sequence[ColumnValues]
    added: Sequence[AddedColumn]
    written_count: int
    late_count: int = 0


def keep_rows(batch: WriteBatch, is_kept: NDArray[np.bool_]) -> WriteBatch:
    """The batch of some of its rows, with positions among these."""
    place = np.cumsum(is_kept) - 1
    columns = []
    for column in batch.columns:
        some = np.flatnonzero(is_kept[column.rows])
        cleared = np.flatnonzero(is_kept[column.clear_rows])
        columns.append(
            ColumnValues(
                column.signal,
                place[column.rows[some]],
                take(column.values, some),
                place[column.clear_rows[cleared]],
                column.operation,
                None if column.times_ms is None else column.times_ms[some],
                None if column.clear_times_ms is None else column.clear_times_ms[cleared],
            )
        )
    rows = np.flatnonzero(is_kept).tolist()
    return replace(
        batch,
        ids=[batch.ids[i] for i in rows],
        columns=columns,
        event_ms=None if batch.event_ms is None else batch.event_ms[is_kept],
        event_ids=None if batch.event_ids is None else [batch.event_ids[i] for i in rows],
    )


def clean(batch: WriteBatch, dropped_rows: Collection[int], now_ms: int) -> CleanBatch:
    """Leaves out dropped rows (rejected, or written before), turns NaN of floats into clears, and of what several rows
    with one id say of a signal lets the latest win, of equal times the later row. What is added is all kept.

    `now_ms`: the time of what has none.
    """
    ids = batch.ids
    written_count = len(ids) - len(dropped_rows)
    if not dropped_rows and first_duplicate(ids) is None:
        times = now_ms if batch.event_ms is None else batch.event_ms
        columns = [_nan_clears(column, times) for column in batch.columns if column.operation is Operation.SET]
        added = [_added(c, times) for c in batch.columns if c.operation is Operation.ADD]
        return CleanBatch(batch.entity, ids, times, columns, added, written_count)
    return _merged(batch, dropped_rows, now_ms, written_count)


def _merged(batch: WriteBatch, dropped_rows: Collection[int], now_ms: int, written_count: int) -> CleanBatch:
    places: dict[str, int] = {}
    place_of = np.full(len(batch.ids), -1, np.int64)
    for row, id_ in enumerate(batch.ids):
        if row not in dropped_rows:
            place_of[row] = places.setdefault(id_, len(places))
    times: Times | int = now_ms
    row_times = np.full(len(batch.ids), now_ms, np.int64)
    if batch.event_ms is not None:
        row_times = batch.event_ms
        kept = place_of >= 0
        times = np.zeros(len(places), np.int64)
        np.maximum.at(times, place_of[kept], row_times[kept])
    columns: list[ColumnValues] = []
    added: list[AddedColumn] = []
    late_count = 0
    for column in batch.columns:
        if column.operation is Operation.ADD:
            every = _added(column, row_times)
            at = np.flatnonzero(place_of[every.rows] >= 0)
            amounts = take(every.amounts, at)
            added.append(AddedColumn(column.signal, place_of[every.rows[at]], amounts, every.times_ms[at]))
            continue
        latest, late = latest_wins(column, place_of, row_times, batch.event_ms is not None)
        columns.append(latest)
        late_count += len(late)
    return CleanBatch(batch.entity, list(places), times, columns, added, written_count, late_count)


def _added(column: ColumnValues, times_ms: Times | int) -> AddedColumn:
    """`times_ms`: of the rows, where the column has none."""
    own = _times_of(column.rows, times_ms) if column.times_ms is None else column.times_ms
    return AddedColumn(column.signal, column.rows, column.values, own)


def _times_of(rows: NDArray[np.int64], times_ms: Times | int) -> Times:
    return np.full(len(rows), times_ms, np.int64) if isinstance(times_ms, int) else times_ms[rows]


def _nan_clears(column: ColumnValues, row_times: Times | int) -> ColumnValues:
    """The column with NaN as clears, and with times of its own for values and clears or for neither."""
    if (column.times_ms is None) != (column.clear_times_ms is None):
        column = replace(
            column,
            times_ms=_times_of(column.rows, row_times) if column.times_ms is None else column.times_ms,
            clear_times_ms=_times_of(column.clear_rows, row_times)
            if column.clear_times_ms is None
            else column.clear_times_ms,
        )
    values = column.values
    if not (isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind == "f"):
        return column
    missing = np.isnan(values)
    if not missing.any():
        return column
    clear_rows = np.concatenate([column.clear_rows, column.rows[missing]])
    order = np.argsort(clear_rows)
    times, clear_times = column.times_ms, column.clear_times_ms
    if times is not None and clear_times is not None:
        clear_times = np.concatenate([clear_times, times[missing]])[order]
        times = times[~missing]
    return replace(
        column,
        rows=column.rows[~missing],
        values=values[~missing],
        clear_rows=clear_rows[order],
        times_ms=times,
        clear_times_ms=clear_times,
    )


def latest_wins(
    column: ColumnValues, place_of: NDArray[np.int64], row_times: Times, has_times: bool
) -> tuple[ColumnValues, NDArray[np.int64]]:
    """The column, NaN as clears, with positions in the distinct ids, each at most once (place -1 is left out), and the
    places of its values that came after a later one. `has_times`: whether the rows have times of their own."""
    column = _nan_clears(column, row_times)
    count = len(column.rows)
    positions = np.concatenate([column.rows, column.clear_rows])
    times = row_times[positions]
    for own, part in ((column.times_ms, slice(0, count)), (column.clear_times_ms, slice(count, None))):
        if own is not None:
            times[part] = own
    order = np.lexsort((positions, place_of[positions]))
    order = order[place_of[positions[order]] >= 0]
    place = place_of[positions[order]]
    # Which mentions are no earlier than those before them: the running maximum of (place, time), as one number.
    _, time_rank = np.unique(times[order], return_inverse=True)
    key = place * (len(positions) + 1) + time_rank
    wins = key >= np.maximum.accumulate(key) if len(key) else np.empty(0, np.bool_)
    late = place[~wins]
    order, place = order[wins], place[wins]
    is_last = np.ones(len(place), np.bool_)
    is_last[:-1] = place[1:] != place[:-1]
    source, place = order[is_last], place[is_last]  # index into rows then clear_rows, of what holds of each place
    is_value = source < count
    values: Values = take(column.values, source[is_value])
    cleared = place[~is_value]
    needs_times = has_times or column.times_ms is not None or column.clear_times_ms is not None
    merged = ColumnValues(
        column.signal,
        place[is_value],
        values,
        cleared if len(cleared) else NO_ROWS,
        times_ms=times[source[is_value]] if needs_times else None,
        clear_times_ms=times[source[~is_value]] if needs_times else None,
    )
    return merged, late
