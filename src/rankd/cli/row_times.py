"""When the values of rows were so, from fields of a file: FIELD of the row, FIELD:SIGNAL of a value that differs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.signals.coerce import coerce_value
from rankd.signals.rowfile import BadRow, Row
from rankd.types.schema import Signal, SignalKind
from rankd.v1.signals_pb2 import WriteSignalsRequest

_TIME = Signal("", SignalKind.TIMESTAMP)


class RowTimes:
    """Takes the times out of rows on their way, and puts them into the requests the rows end up in."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._lock = threading.Lock()
        self._by_line: dict[int, tuple[int, dict[str, int]]] = {}

    def take_out(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows without these fields. One without a time is a bad row."""
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                times = {name: self._millis(row, name) for name in list(row.values) if self._is_mine(name)}
            except ValueError as error:
                yield BadRow(row.line, str(error))
                continue
            if self._field not in times:
                yield BadRow(row.line, f'expected a time in "{self._field}", got nothing')
                continue
            own = {name.partition(":")[2]: time for name, time in times.items() if name != self._field}
            with self._lock:
                self._by_line[row.line] = (times[self._field], own)
            yield row

    def _is_mine(self, name: str) -> bool:
        return name == self._field or name.startswith(f"{self._field}:")

    def _millis(self, row: Row, name: str) -> int:
        value: Any = row.values.pop(name)
        try:
            return int(coerce_value(_TIME, value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    def put_in(self, request: WriteSignalsRequest, lines: NDArray[np.int64]) -> None:
        """The request's rows stand at these lines."""
        with self._lock:
            found = [self._by_line[line] for line in lines.tolist()]
        request.unix_millis.extend(time for time, _ in found)
        for column in request.columns:
            if any(column.signal in own for _, own in found):
                rows = column.rows or range(len(found))
                column.unix_millis.extend(found[row][1].get(column.signal, found[row][0]) for row in rows)

    def forget(self, last_line: int) -> None:
        """Rows up to here are written."""
        with self._lock:
            for line in list(self._by_line):
                if line > last_line:
                    break
                del self._by_line[line]
