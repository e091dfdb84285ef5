"""Whole rows, as Redis has them, on their way into a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.table_writer import StagedRows, TableWriter
from rankd.signals.categories import CategoryTable
from rankd.signals.encode import encode
from rankd.signals.layout import EntityLayout
from rankd.signals.redis.codec import RowStates


def stage(
    table: TableWriter,
    layout: EntityLayout,
    rows: RowStates,
    categories: CategoryTable,
    versions: NDArray[np.int64] | None = None,
) -> StagedRows:
    """Holds room for rows that are live and distinct, which replace what the table has. Errors of TableWriter.stage."""
    columns = rows.to_columns(rows.columns)
    cells = encode(layout, columns, categories)
    return table.stage(rows.ids, cells, rows.latest_ms, versions)
