"""Signal batches: messages to the store's values and back."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankd.errors import Reason, RequestError, Violation
from rankd.limits import RequestLimits
from rankd.ranking.wording import quoted, unknown_name
from rankd.signals.accumulate import bucket_ms
from rankd.signals.batches import keep_rows
from rankd.signals.check import check_batch
from rankd.signals.store import (
    ColumnValues,
    ListValues,
    MapValues,
    Operation,
    Rejection,
    SetValues,
    StoredRows,
    Values,
    WindowValues,
    WriteBatch,
)
from rankd.signals.values import NO_ROWS, empty
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import composite_id, stored_ids, unjoined_ids
from rankd.v1 import signals_pb2 as pb

FIELDS: Final = {
    SignalKind.F32: "floats",
    SignalKind.I64: "ints",
    SignalKind.BOOL: "bools",
    SignalKind.CATEGORY: "strings",
    SignalKind.STRING: "strings",
    SignalKind.TIMESTAMP: "timestamps",
    SignalKind.EMBEDDING: "embeddings",
    SignalKind.SET: "sets",
    SignalKind.MAP: "maps",
    SignalKind.COUNTER: "doubles",
    SignalKind.WINDOW: "windows",
    SignalKind.LIST: "lists",
    SignalKind.RATIO: "floats",
}
"""The field of SignalColumn.values that a kind travels in; a ratio only to the client."""

_ADDED: Final = {
    SignalKind.COUNTER: "doubles",
    SignalKind.WINDOW: "doubles",
    SignalKind.MAP: "maps",
    SignalKind.LIST: "strings",
}
"""The same of what is added."""

_RAGGED: Final = frozenset({SignalKind.SET, SignalKind.MAP, SignalKind.WINDOW, SignalKind.LIST})

_OPERATIONS: Final = {
    pb.OPERATION_UNSPECIFIED: Operation.SET,
    pb.OPERATION_SET: Operation.SET,
    pb.OPERATION_ADD: Operation.ADD,
}

_SHAPE_PATH = re.compile(r"(columns\[(\d+)\])\.(values|lengths|counts|unix_millis)")
_INNER: Final = {
    ("timestamps", "values"): "unix_millis",
    ("windows", "values"): "lengths",
    ("lists", "values"): "lengths",
}


def find_entity(schema: Schema, name: str) -> Entity:
    """An entity of the schema. RequestError (UNKNOWN_NAME)."""
    entity = schema.entities.get(name)
    if entity is None:
        raise unknown_name(Reason.UNKNOWN_NAME, "entity", list(schema.entities), name)
    return entity


def check_row_count(count: int, limits: RequestLimits) -> None:
    """RequestError unless there is 1 to max_write_rows ids."""
    if not 1 <= count <= limits.max_write_rows:
        reason = Reason.LIMIT_EXCEEDED if count else Reason.INVALID_FIELD
        raise RequestError.one(reason, "ids", f"1 to {limits.max_write_rows} ids", f"{count}")


def decode_batch(request: pb.WriteSignalsRequest, schema: Schema, limits: RequestLimits) -> WriteBatch:
    """A batch whose names, types and lengths fit the schema. RequestError at the first that does not."""
    entity = find_entity(schema, request.entity)
    check_row_count(len(request.ids), limits)
    ids = list(request.ids)
    every_row = np.arange(len(ids), dtype=np.int64)
    columns = [_decode_column(column, entity, every_row, f"columns[{i}]") for i, column in enumerate(request.columns)]
    event_ms = np.array(request.unix_millis, np.int64) if request.unix_millis else None
    if event_ms is not None and len(event_ms) == 1:
        event_ms = np.full(len(ids), event_ms[0])
    columns = [_with_member_times(column, event_ms) for column in columns]
    event_ids = list(request.event_ids) if request.event_ids else None
    batch = WriteBatch(
        entity.name, stored_ids(entity.name, ids, entity.key), columns, event_ms, request.write_id, event_ids
    )
    try:
        check_batch(schema, batch)
    except RequestError as error:
        raise RequestError(error.reason, [_as_sent(v, request) for v in error.violations]) from None
    return batch


def _as_sent(violation: Violation, request: pb.WriteSignalsRequest) -> Violation:
    """The path in the message: what a column holds stands inside the field of its kind."""
    match = _SHAPE_PATH.fullmatch(violation.field)
    if match is None:
        return violation
    column, position, inner = match.groups()
    kind = request.columns[int(position)].WhichOneof("values") or ""
    if inner == "unix_millis" and "per member" not in violation.expected:
        return violation
    return Violation(f"{column}.{kind}.{_INNER.get((kind, inner), inner)}", violation.expected, violation.got)


def _decode_column(column: pb.SignalColumn, entity: Entity, every_row: NDArray[np.int64], path: str) -> ColumnValues:
    signal = entity.signals.get(column.signal)
    if signal is None:
        raise unknown_name(Reason.UNKNOWN_NAME, f"{path}.signal", list(entity.signals), column.signal)
    operation = _operation(column, signal, path)
    field = (_ADDED if operation is Operation.ADD else FIELDS)[signal.kind]
    clear_rows = np.array(column.clear_rows, np.int64)
    sent = column.WhichOneof("values")
    if sent is None:
        if column.rows:
            raise RequestError.one(Reason.INVALID_FIELD, path, f"{field} for its rows", "no values")
        return ColumnValues(signal.name, NO_ROWS, _no_values(signal, operation), clear_rows, operation)
    if sent != field:
        what = f"{field} for signal {entity.name}.{signal.name} of type {signal.type_name}"
        beside = " and OPERATION_ADD" if operation is Operation.ADD else ""
        raise RequestError.one(Reason.WRONG_TYPE, path, what + beside, sent)
    if len(clear_rows) and not column.rows:
        raise RequestError.one(
            Reason.INVALID_FIELD, f"{path}.rows", "explicit rows beside values and clear_rows", "none"
        )
    positions = np.array(column.rows, np.int64) if column.rows else every_row
    times = np.array(column.unix_millis, np.int64) if column.unix_millis else None
    values = _decode_amounts(column, signal) if operation is Operation.ADD else _decode_values(column, signal, path)
    return ColumnValues(signal.name, positions, values, clear_rows, operation, times)


def _with_member_times(column: ColumnValues, event_ms: NDArray[np.int64] | None) -> ColumnValues:
    """A list's members that came without a time came at their row's. What does not fit together is left to
    check_batch."""
    values = column.values
    if not isinstance(values, ListValues) or not len(values.times_ms) or values.times_ms.all():
        return column
    lengths, rows = values.lengths, column.rows
    times = column.times_ms if column.times_ms is not None or event_ms is None else event_ms.take(rows, mode="clip")
    if times is None:
        times = np.full(len(rows), time.time_ns() // 1_000_000)
    if not (len(times) == len(rows) == len(lengths) and int(lengths.sum()) == len(values.times_ms)):
        return column
    filled = np.where(values.times_ms == 0, np.repeat(times, lengths), values.times_ms)
    return dataclasses.replace(column, values=dataclasses.replace(values, times_ms=filled))


def _operation(column: pb.SignalColumn, signal: Signal, path: str) -> Operation:
    """What the column does. RequestError if its signal cannot be written, or not so."""
    if not signal.is_stored:
        expected = f"a signal that is stored; {signal.name} is computed from {' and '.join(signal.ratio_of or ())}"
        raise RequestError.one(Reason.WRONG_TYPE, f"{path}.signal", expected, quoted(signal.name))
    operation = _OPERATIONS.get(column.operation)
    if operation is None or (operation is Operation.ADD and signal.kind not in _ADDED):
        known = "OPERATION_SET" + (" or OPERATION_ADD" if signal.kind in _ADDED else f" for {signal.type_name}")
        got = "OPERATION_ADD" if operation is Operation.ADD else str(column.operation)
        raise RequestError.one(Reason.INVALID_FIELD, f"{path}.operation", known, got)
    return operation


def _decode_amounts(column: pb.SignalColumn, signal: Signal) -> Values:
    match signal.kind:
        case SignalKind.MAP:
            return _decode_maps(column.maps)
        case SignalKind.LIST:
            return list(column.strings.values)
    return np.array(column.doubles.values, np.float64)


def _decode_values(column: pb.SignalColumn, signal: Signal, path: str) -> Values:
    match signal.kind:
        case SignalKind.F32:
            return np.array(column.floats.values, np.float32)
        case SignalKind.I64:
            return np.array(column.ints.values, np.int64)
        case SignalKind.BOOL:
            return np.array(column.bools.values, np.bool_)
        case SignalKind.TIMESTAMP:
            return np.array(column.timestamps.unix_millis, np.int64)
        case SignalKind.SET:
            return SetValues(list(column.sets.values), np.array(column.sets.lengths, np.int64))
        case SignalKind.MAP:
            return _decode_maps(column.maps)
        case SignalKind.EMBEDDING:
            return _decode_embeddings(column.embeddings, signal, f"{path}.embeddings")
        case SignalKind.COUNTER:
            return np.array(column.doubles.values, np.float64)
        case SignalKind.WINDOW:
            return _decode_windows(column.windows, signal, f"{path}.windows")
        case SignalKind.LIST:
            lists = column.lists
            times = np.array(lists.unix_millis, np.int64)
            return ListValues(list(lists.values), times, np.array(lists.lengths, np.int64))
    return list(column.strings.values)


def _decode_maps(maps: pb.MapValues) -> MapValues:
    return MapValues(list(maps.keys), np.array(maps.values, np.float32), np.array(maps.lengths, np.int64))


def _decode_windows(sent: pb.WindowValues, signal: Signal, path: str) -> WindowValues:
    """RequestError for a start that is no multiple of the signal's bucket, or has no number."""
    length = bucket_ms(signal)
    starts = np.array(sent.bucket_unix_millis, np.int64)
    bad = np.flatnonzero((starts % length != 0) | (starts < 0) | (starts // length > np.iinfo(np.int32).max))
    if len(bad):
        field = f"{path}.bucket_unix_millis[{bad[0]}]"
        raise RequestError.one(Reason.INVALID_FIELD, field, f"a multiple of {length} from 0 on", f"{starts[bad[0]]}")
    buckets = (starts // length).astype(np.int32)
    return WindowValues(buckets, np.array(sent.counts, np.float32), np.array(sent.lengths, np.int64))


def _decode_embeddings(sent: pb.EmbeddingValues, signal: Signal, path: str) -> Values:
    if sent.dimension != signal.dimension:
        raise RequestError.one(
            Reason.WRONG_TYPE, f"{path}.dimension", f"{signal.dimension} for {signal.type_name}", f"{sent.dimension}"
        )
    if len(sent.values) % signal.dimension:
        raise RequestError.one(
            Reason.LENGTH_MISMATCH, f"{path}.values", f"a multiple of {signal.dimension} numbers", f"{len(sent.values)}"
        )
    return np.array(sent.values, np.float32).reshape(-1, signal.dimension)


def _no_values(signal: Signal, operation: Operation) -> Values:
    if operation is Operation.ADD:
        return _decode_amounts(pb.SignalColumn(), signal)
    return empty(signal)


def split_bad_ids(
    batch: WriteBatch, entity: Entity, max_id_bytes: int
) -> tuple[WriteBatch, list[int], list[Rejection]]:
    """The batch without rows whose id is longer than the server allows or, of a composite entity, not joined of its
    parts, where its rows stood, and the rest."""
    rejected = _long_ids(batch.ids, max_id_bytes) | _unjoined_ids(batch.ids, entity)
    if not rejected:
        return batch, [], []
    is_kept = np.ones(len(batch.ids), np.bool_)
    is_kept[list(rejected)] = False
    faults = [Rejection(row, "", rejected[row]) for row in sorted(rejected)]
    return keep_rows(batch, is_kept), np.flatnonzero(is_kept).tolist(), faults


def _long_ids(ids: Sequence[str], max_id_bytes: int) -> dict[int, str]:
    if max(map(len, ids)) * 4 <= max_id_bytes:
        return {}
    sizes = [len(text.encode()) for text in ids]
    return {row: f"expected at most {max_id_bytes} bytes, got {n}" for row, n in enumerate(sizes) if n > max_id_bytes}


def _unjoined_ids(ids: Sequence[str], entity: Entity) -> dict[int, str]:
    count = len(entity.key)
    if not count:
        return {}
    bad = unjoined_ids(ids, count)
    example = composite_id([name.upper() for name in entity.key])
    joined = f'an id joined of {" and ".join(entity.key)}, such as "{example}"'
    return {row: f"expected {joined}, got {quoted(ids[row])}" for row in bad}


def rejection_path(batch: WriteBatch, rejection: Rejection, entity: Entity) -> str:
    """Where in the request a rejected row's fault is: "columns[2].floats.values[17]", or "ids[3]"."""
    row = rejection.row
    if not rejection.signal:
        at_once = batch.event_ms is not None and rejection.part == "time"
        return f"unix_millis[{row}]" if at_once else f"{'event_ids' if rejection.part else 'ids'}[{row}]"
    i = next(i for i, column in enumerate(batch.columns) if column.signal == rejection.signal)
    column, signal = batch.columns[i], entity.signals[rejection.signal]
    at = int(np.searchsorted(column.rows, row))
    if rejection.part == "time":
        return f"columns[{i}].unix_millis[{at}]"
    is_added = column.operation is Operation.ADD
    field = (_ADDED if is_added else FIELDS)[signal.kind]
    if signal.kind in _RAGGED and not (is_added and signal.kind is not SignalKind.MAP):
        return f"columns[{i}].{field}.lengths[{at}]"
    if signal.kind is SignalKind.EMBEDDING:
        at *= signal.dimension
    inner = "unix_millis" if signal.kind is SignalKind.TIMESTAMP else "values"
    return f"columns[{i}].{field}.{inner}[{at}]"


def encode_rows(ids: Sequence[str], stored: StoredRows, entity: Entity) -> pb.GetSignalsResponse:
    """The answer to GetSignals: what was found, and which ids were not."""
    found = stored.found.tolist()
    is_found = set(found)
    return pb.GetSignalsResponse(
        ids=[ids[i] for i in found],
        columns=[encode_column(column, entity.signals[column.signal]) for column in stored.columns],
        missing_ids=[text for i, text in enumerate(ids) if i not in is_found],
        written_unix_millis=stored.written_ms.tolist(),
    )


def encode_column(column: ColumnValues, signal: Signal) -> pb.SignalColumn:
    """A column as it is sent, in either direction."""
    message = pb.SignalColumn(signal=column.signal, rows=column.rows.tolist(), clear_rows=column.clear_rows.tolist())
    if column.operation is Operation.ADD:
        message.operation = pb.OPERATION_ADD
    if not len(column.rows):
        return message
    if column.times_ms is not None:
        message.unix_millis.extend(column.times_ms.tolist())
    _encode_values(message, column.values, signal)
    return message


def _encode_values(message: pb.SignalColumn, values: Values, signal: Signal) -> None:
    if isinstance(values, SetValues):
        message.sets.values.extend(values.members)
        message.sets.lengths.extend(values.lengths.tolist())
    elif isinstance(values, MapValues):
        message.maps.keys.extend(values.keys)
        message.maps.values.extend(values.values.tolist())
        message.maps.lengths.extend(values.lengths.tolist())
    elif isinstance(values, WindowValues):
        starts = values.buckets.astype(np.int64) * bucket_ms(signal)
        message.windows.bucket_unix_millis.extend(starts.tolist())
        message.windows.counts.extend(values.counts.tolist())
        message.windows.lengths.extend(values.lengths.tolist())
    elif isinstance(values, ListValues):
        message.lists.values.extend(values.members)
        message.lists.unix_millis.extend(values.times_ms.tolist())
        message.lists.lengths.extend(values.lengths.tolist())
    elif not isinstance(values, np.ndarray):
        message.strings.values.extend(values)
    elif signal.kind is SignalKind.EMBEDDING:
        message.embeddings.dimension = signal.dimension
        message.embeddings.values.extend(values.ravel().tolist())
    elif signal.kind is SignalKind.TIMESTAMP:
        message.timestamps.unix_millis.extend(values.tolist())
    elif values.dtype == np.float64:
        message.doubles.values.extend(values.tolist())
    else:
        getattr(message, FIELDS[signal.kind]).values.extend(values.tolist())


def check_signal_names(names: Sequence[str], entity: Entity) -> list[str]:
    """The signals to read; all of the entity if none is named. RequestError unless they are distinct and known."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name not in entity.signals:
            raise unknown_name(Reason.UNKNOWN_NAME, f"signals[{i}]", list(entity.signals), name)
        if name in seen:
            raise RequestError.one(Reason.INVALID_FIELD, f"signals[{i}]", "distinct names", f"{quoted(name)} again")
        seen.add(name)
    return list(names) or list(entity.signals)
