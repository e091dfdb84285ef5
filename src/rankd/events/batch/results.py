"""What was built, as batches to be written: SET with the time of each value, so that nothing newer is undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from rankd.signals.accumulate import F32_MAX
from rankd.signals.store import ColumnValues, ListValues, MapValues, Values, WindowValues, WriteBatch
from rankd.types.schema import Entity, Signal, SignalKind

BATCH_ROWS: Final = 1_000
_NONE: Final = np.empty(0, np.int64)


def read_batches(entity: Entity, path: Path, batch_rows: int = BATCH_ROWS) -> Iterator[WriteBatch]:
    """A file or folder of events.batch.build as batches for SignalStore.write or a client."""
    data = ds.dataset(str(path), format="parquet")
    names = [name for name in data.schema.names if name in entity.signals]
    for record in data.to_batches(batch_size=batch_rows):
        if record.num_rows:
            columns = [
                _column(entity.signals[name], record.column(name), record.column(f"{name}.time")) for name in names
            ]
            ids: Any = record.column("id").to_pylist()
            yield WriteBatch(entity.name, ids, columns)


def _column(signal: Signal, values: Any, times: Any) -> ColumnValues:
    rows = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
    present = values.take(pa.array(rows))
    times_ms = times.take(pa.array(rows)).to_numpy(zero_copy_only=False).astype(np.int64)
    return ColumnValues(signal.name, rows, _values(signal, present), _NONE, times_ms=times_ms)


def _values(signal: Signal, present: Any) -> Values:
    match signal.kind:
        case SignalKind.WINDOW:
            lengths, buckets, counts = _elements(present, "bucket", "count")
            return WindowValues(buckets.astype(np.int32), _f32(counts), lengths)
        case SignalKind.MAP:
            lengths, keys, numbers = _elements(present, "key", "value")
            return MapValues(keys.tolist(), _f32(numbers), lengths)
        case SignalKind.LIST:
            lengths, ages, members = _elements(present, "age", "member")
            return ListValues(members.tolist(), -ages.astype(np.int64), lengths)
        case SignalKind.CATEGORY | SignalKind.STRING:
            texts: Sequence[str] = present.to_pylist()
            return texts
        case SignalKind.BOOL:
            return np.asarray(present.to_pylist(), np.bool_)
        case SignalKind.I64 | SignalKind.TIMESTAMP:
            return np.asarray(present.to_numpy(zero_copy_only=False), np.int64)
        case SignalKind.F32:
            return np.asarray(present.to_numpy(zero_copy_only=False), np.float32)
        case _:
            return np.asarray(present.to_numpy(zero_copy_only=False), np.float64)


def _f32(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Sums, as far as float32 goes, as the stream bounds them."""
    bounded: NDArray[np.float32] = np.clip(numbers, -F32_MAX, F32_MAX).astype(np.float32)
    return bounded


def _elements(lists: Any, first: str, second: str) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Lengths, and two fields of all elements, joined."""
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = lists.flatten()
    return (
        lengths,
        inner.field(first).to_numpy(zero_copy_only=False),
        inner.field(second).to_numpy(zero_copy_only=False),
    )
