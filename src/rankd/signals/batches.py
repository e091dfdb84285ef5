"""From a batch as sent to a batch that can be applied in any order: no faulty rows, no id twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.id_index import first_duplicate
from rankd.signals.store import ColumnValues, Values, WriteBatch
from rankd.signals.values import NO_ROWS, take


@dataclass(frozen=True, slots=True)
class CleanBatch:
    """What a write comes to: distinct ids, and per signal the last thing said about each of them.

    `written_count` counts rows of the batch as sent (an id that came twice counts twice).
    """

    entity: str
    ids: Sequence[str]
    columns: Sequence[ColumnValues]
    written_count: int


def clean(batch: WriteBatch, rejected_rows: Collection[int]) -> CleanBatch:
    """Leaves out rejected rows, lets the later of two rows with the same id win signal by signal,
    and turns NaN of f32 columns into clears."""
    ids = batch.ids
    written_count = len(ids) - len(rejected_rows)
    if not rejected_rows and first_duplicate(ids) is None:
        columns = [_nan_clears(column) for column in batch.columns]
        return CleanBatch(batch.entity, ids, columns, written_count)
    places: dict[str, int] = {}
    place_of = np.full(len(ids), -1, np.int64)
    for row, id_ in enumerate(ids):
        if row not in rejected_rows:
            place_of[row] = places.setdefault(id_, len(places))
    columns = [_last_wins(_nan_clears(column), place_of) for column in batch.columns]
    return CleanBatch(batch.entity, list(places), columns, written_count)


def _nan_clears(column: ColumnValues) -> ColumnValues:
    values = column.values
    if not (isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype == np.float32):
        return column
    missing = np.isnan(values)
    if not missing.any():
        return column
    clear_rows = np.sort(np.concatenate([column.clear_rows, column.rows[missing]]))
    return ColumnValues(column.signal, column.rows[~missing], values[~missing], clear_rows)


def _last_wins(column: ColumnValues, place_of: NDArray[np.int64]) -> ColumnValues:
    """The column with positions in the distinct ids, each at most once; place -1 is left out."""
    count = len(column.rows)
    positions = np.concatenate([column.rows, column.clear_rows])
    last = np.argsort(positions, kind="stable")[::-1]
    last = last[place_of[positions[last]] >= 0]
    places, where = np.unique(place_of[positions[last]], return_index=True)
    source = last[where]  # index into rows then clear_rows, of the last mention of each place
    is_value = source < count
    values: Values = take(column.values, source[is_value])
    cleared = places[~is_value]
    return ColumnValues(column.signal, places[is_value], values, cleared if len(cleared) else NO_ROWS)
