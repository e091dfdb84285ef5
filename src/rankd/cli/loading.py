"""Row batches to a running server: several calls in flight, nothing lost, everything accounted for.

A batch the server finds too large is halved; a server that is away is waited for, up to a limit.
Two batches that share an id are never in flight together: the later row must win.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rankd.cli.row_times import RowTimes
from rankd.client import Client, ExhaustedError, InvalidRequestError, RankdRpcError, ServerUnavailableError
from rankd.errors import Reason
from rankd.server.signal_codec import encode_column
from rankd.signals.coerce import RowBatch
from rankd.signals.store import ColumnValues
from rankd.signals.values import take
from rankd.types.schema import Entity
from rankd.types.text import stored_ids
from rankd.v1.signals_pb2 import WriteSignalsRequest

T = TypeVar("T")

MAX_REQUEST_BYTES = 8 * 1024 * 1024
"""A larger batch is halved unasked: servers take 16 MiB by default."""

FIRST_PAUSE_S = 0.2
MAX_PAUSE_S = 2.0

_COLUMN = re.compile(r"columns\[(\d+)\]")
_TOO_LARGE = "larger than max"
"""gRPC's words: it has no code of its own for this."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was not written. `id` and `field` are empty where they are not known."""

    line: int
    id: str
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    written_count: int
    rejects: list[Reject]
    late_count: int = 0
    """Values that were not written because the server has later ones."""

    def __add__(self, other: Outcome) -> Outcome:
        late = self.late_count + other.late_count
        return Outcome(self.written_count + other.written_count, self.rejects + other.rejects, late)


class Loader:
    """Writes the batches of one entity.

    `on_done(last_line, outcome)` is called for each batch, in the file's order, by the thread that
    runs `write`. `patience_s`: how long a server may be away. `times`: of the rows. `write_id`: what the batches'
    write ids begin with; "": they have none.
    """

    def __init__(
        self,
        client: Client,
        entity: Entity,
        on_done: Callable[[int, Outcome], None],
        in_flight: int,
        patience_s: float,
        times: RowTimes | None = None,
        write_id: str = "",
    ) -> None:
        self._times = times
        self._write_id = write_id
        self._client = client
        self._entity = entity
        self._on_done = on_done
        self._in_flight = in_flight
        self._patience_s = patience_s

    def write(self, batches: Iterable[RowBatch]) -> None:
        """All batches. RankdRpcError if one cannot be written; all before it have been reported by then."""
        waiting: deque[tuple[RowBatch, frozenset[str], Future[Outcome]]] = deque()
        with ThreadPoolExecutor(self._in_flight) as threads:
            try:
                for batch in batches:
                    ids = frozenset(stored_ids(self._entity.name, batch.ids, self._entity.key))
                    while waiting and (
                        len(waiting) >= self._in_flight or any(not ids.isdisjoint(others) for _, others, _ in waiting)
                    ):
                        self._finish(*waiting.popleft())
                    waiting.append((batch, ids, threads.submit(self._send, batch)))
                while waiting:
                    self._finish(*waiting.popleft())
            except BaseException:
                for _, _, later in waiting:
                    later.cancel()
                raise

    def _finish(self, batch: RowBatch, ids: frozenset[str], future: Future[Outcome]) -> None:
        outcome = future.result()
        bad = [Reject(row.line, "", "", row.description) for row in batch.bad_rows]
        rejects = sorted(bad + outcome.rejects, key=lambda reject: reject.line)
        lines = [*batch.lines[-1:].tolist(), *(row.line for row in batch.bad_rows[-1:])]
        last = max(lines, default=0)
        if self._times is not None:
            self._times.forget(last)
        self._on_done(last, Outcome(outcome.written_count, rejects, outcome.late_count))

    def _send(self, batch: RowBatch) -> Outcome:
        count = len(batch.ids)
        if not count:
            return Outcome(0, [])
        columns = [encode_column(column, self._entity.signals[column.signal]) for column in batch.columns]
        write_id = f"{self._write_id}/{batch.lines[0]}-{batch.lines[-1]}" if self._write_id else ""
        request = WriteSignalsRequest(entity=self._entity.name, ids=batch.ids, columns=columns, write_id=write_id)
        if self._times is not None:
            self._times.put_in(request, batch.lines)
        if count > 1 and request.ByteSize() > MAX_REQUEST_BYTES:
            return self._send_halves(batch)
        try:
            response = patiently(lambda: self._client.write_message(request), self._patience_s)
        except (InvalidRequestError, ExhaustedError) as error:
            if not is_too_large(error):
                raise
            if count > 1:
                return self._send_halves(batch)
            return Outcome(0, [Reject(int(batch.lines[0]), batch.ids[0], "", error.message)])
        rejects = [
            Reject(int(batch.lines[r.row]), batch.ids[r.row], _signal_of(r.field, request), r.description)
            for r in response.rejected
        ]
        return Outcome(response.written_count, rejects, response.late_count)

    def _send_halves(self, batch: RowBatch) -> Outcome:
        middle = len(batch.ids) // 2
        return self._send(part(batch, 0, middle)) + self._send(part(batch, middle, len(batch.ids)))


def patiently(call: Callable[[], T], patience_s: float) -> T:
    """What a call gives; it is made again while the server is away or has too much to do, for so long."""
    give_up = time.monotonic() + patience_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return call()
        except RankdRpcError as error:
            busy = isinstance(error, ExhaustedError) and error.reason is None and _TOO_LARGE not in error.message
            if not (busy or isinstance(error, ServerUnavailableError)) or time.monotonic() + pause_s > give_up:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def is_too_large(error: RankdRpcError) -> bool:
    """Whether a smaller batch could be taken."""
    return error.reason is Reason.LIMIT_EXCEEDED or _TOO_LARGE in error.message


def part(batch: RowBatch, start: int, end: int) -> RowBatch:
    """The rows from start to before end, without the bad rows."""
    columns = []
    for column in batch.columns:
        chosen = np.flatnonzero((column.rows >= start) & (column.rows < end))
        cleared: NDArray[np.int64] = column.clear_rows[(column.clear_rows >= start) & (column.clear_rows < end)]
        if len(chosen) or len(cleared):
            rows = column.rows[chosen] - start
            times = None if column.times_ms is None else column.times_ms[chosen]
            values = take(column.values, chosen)
            columns.append(ColumnValues(column.signal, rows, values, cleared - start, times_ms=times))
    return RowBatch(batch.lines[start:end], batch.ids[start:end], columns, [])


def _signal_of(field: str, request: WriteSignalsRequest) -> str:
    """The signal that a path of the request is about; the path itself if it is about none."""
    match = _COLUMN.match(field)
    if match is None or int(match[1]) >= len(request.columns):
        return "id" if field.startswith("ids[") else field
    return request.columns[int(match[1])].signal
