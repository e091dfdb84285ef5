"""`rankd ingest --redis-stream`: read, send, acknowledge, again and again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from redis.exceptions import RedisError

from rankd.cli.ingest import Report, is_before
from rankd.cli.ingesting import Sent, send
from rankd.cli.loading import Reject
from rankd.cli.progress import LoadProgress
from rankd.cli.remote import printable, unreachable
from rankd.client import Client, DeadlineError, RankdRpcError, ServerUnavailableError
from rankd.events.redis_stream import Entry, StreamReader

T = TypeVar("T")

WAIT_S: Final = 0.5
"""How long a read waits for entries: after so long a signal to end is seen."""
FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 2.0


class _EndedError(Exception):
    """A signal to end came while something was waited for; what was not acknowledged comes again."""


class Consumer:
    """Ends after SIGINT or SIGTERM with what it is at, or when nothing has come for `idle_s` (None: never).

    Events before `since_ms` are acknowledged and left out. Where the server or Redis is away, it says so and waits.
    """

    def __init__(
        self,
        reader: StreamReader,
        address: str,
        timeout_s: float,
        report: Report,
        idle_s: float | None,
        since_ms: int | None,
    ) -> None:
        self._reader = reader
        self._address = address
        self._timeout_s = timeout_s
        self._report = report
        self._idle_s = idle_s
        self._since_ms = since_ms
        self._is_ended = False

    def run(self) -> float:
        """Until it ends; returns the seconds it took."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        progress = LoadProgress(None, "events")
        timeout_s = self._timeout_s
        try:
            with progress, Client(self._address, timeout_s=timeout_s, batch_timeout_s=timeout_s) as client:
                self._consume(client, progress)
        except _EndedError:
            pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._reader.close()
        return progress.elapsed_s

    def _end(self, number: int, frame: Any) -> None:
        self._is_ended = True

    def _consume(self, client: Client, progress: LoadProgress) -> None:
        self._patiently(self._reader.open)
        came_at = time.monotonic()
        while not self._is_ended:
            entries = self._patiently(lambda: self._reader.read(WAIT_S))
            if entries:
                self._work(client, entries)
                progress.advance(0, len(entries))
                came_at = time.monotonic()
            elif self._idle_s is not None and time.monotonic() - came_at >= self._idle_s:
                return

    def _work(self, client: Client, entries: Sequence[Entry]) -> None:
        read = [(entry, entry.event) for entry in entries if entry.event is not None]
        taken = [(entry, event) for entry, event in read if not is_before(event, self._since_ms)]
        good, events = [entry for entry, _ in taken], [event for _, event in taken]
        sent: Sent = self._patiently(lambda: send(client, events, self._timeout_s))
        rejects = [(entry, "", entry.fault) for entry in entries if entry.fault]
        rejects += [(good[position], field, why) for position, field, why in sent.rejects]
        faults = {entry.id: f"{field}: {why}" if field else why for entry, field, why in rejects}
        self._patiently(lambda: self._reader.finish(entries, faults))
        self._report.accepted_count += sent.accepted_count
        self._report.repeated_count += sent.repeated_count
        self._report.earlier_count += len(read) - len(taken)
        for entry, field, why in rejects:
            event_id = entry.event.event_id if entry.event is not None else ""
            place = f"{self._reader.rejected_key}: {entry.id}"
            self._report.reject(Reject(0, event_id, field, why), place, {"entry": entry.id})

    def _patiently(self, call: Callable[[], T]) -> T:
        """What a call gives; while the server or Redis is away, it is made again."""
        pause_s, is_told = FIRST_PAUSE_S, False
        while True:
            try:
                result = call()
            except (ServerUnavailableError, DeadlineError, RedisError) as error:
                if not is_told:
                    click.echo(f"waiting: {self._cause(error)}", err=True)
                is_told = True
                if isinstance(error, RedisError):
                    self._reader.again()
            else:
                if is_told:
                    click.echo("going on", err=True)
                return result
            if self._is_ended:
                raise _EndedError
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _cause(self, error: RankdRpcError | RedisError) -> str:
        if isinstance(error, ServerUnavailableError):
            return unreachable(self._address, error)
        if isinstance(error, RedisError):
            return printable(f"Redis: {error}")
        return f"rankd at {self._address} did not answer in time"
