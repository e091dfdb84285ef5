"""Rows to write, checked, and as messages. Pure."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankd.client.columns import KEEP, ColumnData, row_values, signal_column
from rankd.client.requests import Time
from rankd.client.values import is_missing, strings, unix_millis, wrong_type
from rankd.errors import Reason, RequestError
from rankd.types.schema import Signal, SignalKind
from rankd.v1 import signals_pb2
from rankd.v1.signals_pb2 import SignalColumn, WriteSignalsRequest

OperationName: TypeAlias = Literal["set", "add"]
"""What a column does to what is stored: replaces it, or adds to it (counters, maps; a list: one member a row)."""

Times: TypeAlias = "Time | Iterable[Time] | NDArray[Any]"
"""When rows were so: one time for all of them, or one per id."""

_ADDED_AS: Final = {SignalKind.WINDOW: SignalKind.COUNTER, SignalKind.LIST: SignalKind.STRING}
"""What is added to these kinds travels as numbers, and as one text a row."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one entity. `times`: int64 ms since 1970, none, one or one per id; `event_ids`: none or one per id."""

    entity: str
    ids: list[str]
    columns: Mapping[str, ColumnData]
    times: NDArray[np.int64]
    operations: Mapping[str, OperationName]
    write_id: str
    event_ids: list[str]

    @classmethod
    def of(
        cls,
        entity: str,
        ids: Iterable[str],
        columns: Mapping[str, Iterable[Any]],
        times: Times | None,
        operations: Mapping[str, OperationName] | None,
        write_id: str,
        event_ids: Iterable[str] | None,
    ) -> Rows:
        """RequestError for what does not fit together. What adds has a write id of its own unless it has another: a
        retry must not add again."""
        texts = strings("ids", ids)
        count = len(texts)
        found = {name: row_values(name, data, count) for name, data in columns.items()}
        for name, operation in (operations or {}).items():
            if name not in found:
                known = ", ".join(found) or "none"
                raise RequestError.one(Reason.UNKNOWN_NAME, f'operations["{name}"]', f"one of {known}", repr(name))
            if operation not in ("set", "add"):
                raise RequestError.one(Reason.INVALID_FIELD, f'operations["{name}"]', '"set" or "add"', repr(operation))
        events = [] if event_ids is None else strings("event_ids", event_ids)
        if event_ids is not None and len(events) != count:
            raise RequestError.one(Reason.LENGTH_MISMATCH, "event_ids", f"{count} texts, one per id", str(len(events)))
        adds = "add" in (operations or {}).values()
        if adds and not write_id and (not events or "" in events):
            write_id = uuid.uuid4().hex
        return cls(entity, texts, found, _times(times, count), dict(operations or {}), write_id, events)

    def message(self, signals: Mapping[str, Signal], start: int, end: int) -> WriteSignalsRequest:
        """Some of the rows. RequestError for a name that is no signal, or a value that cannot be sent."""
        for name in self.columns:
            if name not in signals:
                known = ", ".join(sorted(signals))
                raise RequestError.one(Reason.UNKNOWN_NAME, f'columns["{name}"]', f"one of {known}", repr(name))
        made = (self._column(signals[name], data[start:end], start) for name, data in self.columns.items())
        is_whole = start == 0 and end >= len(self.ids)
        return WriteSignalsRequest(
            entity=self.entity,
            ids=self.ids[start:end],
            columns=[column for column in made if column],
            unix_millis=(self.times if len(self.times) == 1 else self.times[start:end]).tolist(),
            write_id=self.write_id if is_whole or not self.write_id else f"{self.write_id}/{start}",
            event_ids=self.event_ids[start:end],
        )

    def _column(self, signal: Signal, data: ColumnData, start: int) -> SignalColumn | None:
        if self.operations.get(signal.name) != "add":
            return signal_column(signal, data, start)
        is_whole = isinstance(data, np.ndarray) and data.dtype.kind in "fiu" and not np.isnan(data).any()
        for position, value in enumerate(() if is_whole else data):
            if value is not KEEP and is_missing(value):
                field = f'columns["{signal.name}"][{start + position}]'
                wrong_type(field, "what to add, or KEEP for a row to which nothing is added", value)
        kind = _ADDED_AS.get(signal.kind, signal.kind)
        column = signal_column(dataclasses.replace(signal, kind=kind), data, start)
        if column is not None:
            column.operation = signals_pb2.OPERATION_ADD
        return column


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """A batch of a stream: what `write_signals` takes. `cursor`: comes back when the batch is written, such as a line
    of a file; at most 1,024 bytes. Without a `write_id` it is given one, so that it is written once even if it has to
    be sent again."""

    entity: str
    ids: Iterable[str]
    columns: Mapping[str, Iterable[Any]]
    times: Times | None = None
    operations: Mapping[str, OperationName] | None = None
    write_id: str = ""
    event_ids: Iterable[str] | None = None
    types: Mapping[str, str] | None = None
    cursor: str = ""

    def rows(self) -> Rows:
        """Checked. RequestError."""
        return Rows.of(self.entity, self.ids, self.columns, self.times, self.operations, self.write_id, self.event_ids)


def _times(times: Times | None, count: int) -> NDArray[np.int64]:
    if times is None:
        return np.empty(0, np.int64)
    if isinstance(times, np.ndarray) and times.ndim == 1 and times.dtype.kind in "iM":
        if times.dtype.kind == "M":
            times = times.astype("datetime64[ms]")
        found = times.astype(np.int64)
    elif isinstance(times, Iterable):
        if isinstance(times, str | bytes):
            wrong_type("times", "a time, or one per id", times)
        found = np.array([unix_millis(f"times[{i}]", time) for i, time in enumerate(times)], np.int64)
    else:
        return np.array([unix_millis("times", times)], np.int64)
    if len(found) != count:
        raise RequestError.one(Reason.LENGTH_MISMATCH, "times", f"{count} times, one per id", str(len(found)))
    return found
