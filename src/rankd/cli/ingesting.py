"""Events to a running server: several calls in flight, everything accounted for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from rankd.cli.loading import Reject, is_too_large, patiently
from rankd.client import Client, ExhaustedError, InvalidRequestError
from rankd.signals.rowfile import BadRow
from rankd.types.event import Event


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of some events; `accepted_count` has those in it that had come before. `rejects`: by position."""

    accepted_count: int
    repeated_count: int
    rejects: Sequence[tuple[int, str, str]]
    """(position, path of the field below the event or "", why)."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch of lines."""

    accepted_count: int
    repeated_count: int
    rejects: Sequence[Reject]


def send(client: Client, events: Sequence[Event], patience_s: float) -> Sent:
    """One batch, in as many calls as the server's limits take; waits for a server that is away for `patience_s`.
    RankdRpcError if it cannot be sent: then anything of it may have been taken, and it can be sent again."""
    if not events:
        return Sent(0, 0, [])
    try:
        result = patiently(lambda: client.collect(events, batch_events=len(events)), patience_s)
    except (InvalidRequestError, ExhaustedError) as error:
        if not is_too_large(error):
            raise
        if len(events) == 1:
            return Sent(0, 0, [(0, "", error.message)])
        middle = len(events) // 2
        first, second = send(client, events[:middle], patience_s), send(client, events[middle:], patience_s)
        later = [(middle + position, field, why) for position, field, why in second.rejects]
        return Sent(
            first.accepted_count + second.accepted_count,
            first.repeated_count + second.repeated_count,
            [*first.rejects, *later],
        )
    rejects = [(row.row, row.field.partition(".")[2], row.description) for row in result.rejected]
    return Sent(result.accepted_count, result.repeated_count, rejects)


class Ingester:
    """Sends the events of a file. `on_done(last_line, ingested)` is called for each batch, in the file's order, by the
    thread that runs `ingest`."""

    def __init__(
        self, client: Client, on_done: Callable[[int, Ingested], None], in_flight: int, patience_s: float
    ) -> None:
        self._client = client
        self._on_done = on_done
        self._in_flight = in_flight
        self._patience_s = patience_s

    def ingest(self, rows: Iterable[tuple[int, Event] | BadRow], batch_events: int) -> None:
        """All rows. RankdRpcError if a batch cannot be sent; all before it have been reported by then."""
        waiting: deque[tuple[list[tuple[int, Event] | BadRow], Future[Sent]]] = deque()
        with ThreadPoolExecutor(self._in_flight) as threads:
            try:
                for batch in _batches(rows, batch_events):
                    if len(waiting) >= self._in_flight:
                        self._finish(*waiting.popleft())
                    events = [row[1] for row in batch if not isinstance(row, BadRow)]
                    waiting.append((batch, threads.submit(send, self._client, events, self._patience_s)))
                while waiting:
                    self._finish(*waiting.popleft())
            except BaseException:
                for _, later in waiting:
                    later.cancel()
                raise

    def _finish(self, batch: Sequence[tuple[int, Event] | BadRow], future: Future[Sent]) -> None:
        sent = future.result()
        good = [row for row in batch if not isinstance(row, BadRow)]
        rejects = [Reject(row.line, "", "", row.description) for row in batch if isinstance(row, BadRow)]
        for position, field, why in sent.rejects:
            line, event = good[position]
            rejects.append(Reject(line, event.event_id, field, why))
        last = batch[-1]
        self._on_done(
            last.line if isinstance(last, BadRow) else last[0],
            Ingested(sent.accepted_count, sent.repeated_count, sorted(rejects, key=lambda reject: reject.line)),
        )


def _batches(rows: Iterable[tuple[int, Event] | BadRow], size: int) -> Iterator[list[tuple[int, Event] | BadRow]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
