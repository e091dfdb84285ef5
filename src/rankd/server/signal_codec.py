"""Signal batches: messages to the store's values and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from rankd.errors import Reason, RequestError, Violation
from rankd.limits import RequestLimits
from rankd.ranking.wording import quoted, unknown_name
from rankd.signals.check import check_batch
from rankd.signals.store import ColumnValues, MapValues, Rejection, SetValues, StoredRows, Values, WriteBatch
from rankd.signals.values import NO_ROWS, take
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.types.text import stored_ids
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
}
"""The field of SignalColumn.values that a kind travels in."""

_SHAPE_PATH = re.compile(r"(columns\[(\d+)\])\.(values|lengths)")


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
    columns = [_decode_column(column, entity, len(ids), f"columns[{i}]") for i, column in enumerate(request.columns)]
    batch = WriteBatch(entity.name, stored_ids(entity.name, ids), columns)
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
    kind = request.columns[int(position)].WhichOneof("values")
    inner = "unix_millis" if kind == "timestamps" else inner
    return Violation(f"{column}.{kind}.{inner}", violation.expected, violation.got)


def _decode_column(column: pb.SignalColumn, entity: Entity, rows: int, path: str) -> ColumnValues:
    signal = entity.signals.get(column.signal)
    if signal is None:
        raise unknown_name(Reason.UNKNOWN_NAME, f"{path}.signal", list(entity.signals), column.signal)
    clear_rows = np.array(column.clear_rows, np.int64)
    sent = column.WhichOneof("values")
    if sent is None:
        if column.rows:
            raise RequestError.one(Reason.INVALID_FIELD, path, f"{FIELDS[signal.kind]} for its rows", "no values")
        return ColumnValues(signal.name, NO_ROWS, _no_values(signal), clear_rows)
    if sent != FIELDS[signal.kind]:
        raise RequestError.one(
            Reason.WRONG_TYPE,
            path,
            f"{FIELDS[signal.kind]} for signal {entity.name}.{signal.name} of type {signal.type_name}",
            sent,
        )
    if len(clear_rows) and not column.rows:
        raise RequestError.one(
            Reason.INVALID_FIELD, f"{path}.rows", "explicit rows beside values and clear_rows", "none"
        )
    positions = np.array(column.rows, np.int64) if column.rows else np.arange(rows, dtype=np.int64)
    return ColumnValues(signal.name, positions, _decode_values(column, signal, path), clear_rows)


def _decode_values(column: pb.SignalColumn, signal: Signal, path: str) -> Values:
    match signal.kind:
        case SignalKind.F32:
            return np.array(column.floats.values, np.float32)
        case SignalKind.I64:
            return np.array(column.ints.values, np.int64)
        case SignalKind.BOOL:
            return np.array(column.bools.values, np.bool_)
        case SignalKind.CATEGORY | SignalKind.STRING:
            return list(column.strings.values)
        case SignalKind.TIMESTAMP:
            return np.array(column.timestamps.unix_millis, np.int64)
        case SignalKind.SET:
            return SetValues(list(column.sets.values), np.array(column.sets.lengths, np.int64))
        case SignalKind.MAP:
            maps = column.maps
            return MapValues(list(maps.keys), np.array(maps.values, np.float32), np.array(maps.lengths, np.int64))
        case SignalKind.EMBEDDING:
            return _decode_embeddings(column.embeddings, signal, f"{path}.embeddings")


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


def _no_values(signal: Signal) -> Values:
    return _decode_values(pb.SignalColumn(embeddings=pb.EmbeddingValues(dimension=signal.dimension)), signal, "")


def split_long_ids(batch: WriteBatch, max_id_bytes: int) -> tuple[WriteBatch, list[int], list[Rejection]]:
    """The batch without rows whose id is longer than the server allows, where its rows stood, and the rest."""
    if max(map(len, batch.ids)) * 4 <= max_id_bytes:
        return batch, [], []
    sizes = [len(text.encode()) for text in batch.ids]
    rejected = [
        Rejection(row, "", f"expected at most {max_id_bytes} bytes, got {size}")
        for row, size in enumerate(sizes)
        if size > max_id_bytes
    ]
    if not rejected:
        return batch, [], []
    kept = np.flatnonzero(np.array(sizes) <= max_id_bytes)
    new_row = np.full(len(sizes), -1, np.int64)
    new_row[kept] = np.arange(len(kept))
    columns = []
    for column in batch.columns:
        of_kept = np.flatnonzero(new_row[column.rows] >= 0)
        cleared = new_row[column.clear_rows]
        columns.append(
            ColumnValues(
                column.signal, new_row[column.rows[of_kept]], take(column.values, of_kept), cleared[cleared >= 0]
            )
        )
    positions: list[int] = kept.tolist()
    return WriteBatch(batch.entity, [batch.ids[i] for i in positions], columns), positions, rejected


def rejection_path(batch: WriteBatch, rejection: Rejection, entity: Entity) -> str:
    """Where in the request a rejected row's fault is: "columns[2].floats.values[17]", or "ids[3]"."""
    if not rejection.signal:
        return f"ids[{rejection.row}]"
    i = next(i for i, column in enumerate(batch.columns) if column.signal == rejection.signal)
    kind = entity.signals[rejection.signal].kind
    at = int(np.searchsorted(batch.columns[i].rows, rejection.row))
    if kind in (SignalKind.SET, SignalKind.MAP):
        return f"columns[{i}].{FIELDS[kind]}.lengths[{at}]"
    if kind is SignalKind.EMBEDDING:
        at *= entity.signals[rejection.signal].dimension
    inner = "unix_millis" if kind is SignalKind.TIMESTAMP else "values"
    return f"columns[{i}].{FIELDS[kind]}.{inner}[{at}]"


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
    values = column.values
    if not len(column.rows):
        return message
    if isinstance(values, SetValues):
        message.sets.values.extend(values.members)
        message.sets.lengths.extend(values.lengths.tolist())
    elif isinstance(values, MapValues):
        message.maps.keys.extend(values.keys)
        message.maps.values.extend(values.values.tolist())
        message.maps.lengths.extend(values.lengths.tolist())
    elif not isinstance(values, np.ndarray):
        message.strings.values.extend(values)
    elif signal.kind is SignalKind.EMBEDDING:
        message.embeddings.dimension = signal.dimension
        message.embeddings.values.extend(values.ravel().tolist())
    elif signal.kind is SignalKind.TIMESTAMP:
        message.timestamps.unix_millis.extend(values.tolist())
    else:
        getattr(message, FIELDS[signal.kind]).values.extend(values.tolist())
    return message


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
