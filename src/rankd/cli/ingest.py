"""`rankd ingest`: events of files, of standard input and of a Redis Stream into a running server."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.ingesting import Ingested, Ingester
from rankd.cli.loading import Reject
from rankd.cli.output import json_option, print_json
from rankd.cli.progress import LoadProgress, count_lines
from rankd.cli.remote import breaking_off, connected, printable, remote_options
from rankd.cli.times import TIME
from rankd.events.files import FORMATS, read_events
from rankd.events.ubi import read_ubi
from rankd.signals.rowfile import BadRow
from rankd.types.event import Event

SHOWN_REJECTS: Final = 20
STDIN: Final = Path("/dev/stdin")
UBI: Final = "ubi"


@dataclass
class Report:
    """What was done so far."""

    rejects_file: IO[str] | None
    accepted_count: int = 0
    repeated_count: int = 0
    rejected_count: int = 0
    earlier_count: int = 0
    """Left out as of a time before --since."""
    source: str = ""
    line: int = 0
    """All up to here, of `source`, is taken or rejected."""
    shown: list[str] = field(default_factory=list)

    def begin(self, source: str) -> None:
        """What comes now is of another file."""
        self.source, self.line = source, 0

    def add(self, ingested: Ingested) -> None:
        """Counts a batch."""
        self.accepted_count += ingested.accepted_count
        self.repeated_count += ingested.repeated_count
        for reject in ingested.rejects:
            self.reject(reject, f"{self.source}:{reject.line}", {"file": self.source, "line": reject.line})

    def reject(self, reject: Reject, place: str, place_fields: dict[str, object]) -> None:
        """Counts an event that was rejected, and tells of it."""
        self.rejected_count += 1
        if self.rejects_file is not None:
            entry = {**place_fields, "id": reject.id or None, "field": reject.field or None, "reason": reject.reason}
            self.rejects_file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        if len(self.shown) < SHOWN_REJECTS:
            what = f"{reject.field}: " if reject.field else ""
            self.shown.append(printable(f"{place}: {what}{reject.reason}"))

    def how_far(self) -> str:
        """What to say when it breaks off."""
        done = f"{self.accepted_count:,} events are taken"
        if self.line:
            done += f", {self.source} up to line {self.line}; to go on from there: --from-line {self.line + 1}"
        return f"{done}. Events that are sent again within a day count once."

    def finish(self, elapsed_s: float, rejects: Path | None, as_json: bool) -> None:
        """Prints what was done."""
        for line in self.shown:
            click.echo(line, err=True)
        if self.rejected_count > len(self.shown):
            more = f"and {self.rejected_count - len(self.shown):,} more"
            click.echo(more + (f"; all are in {rejects}" if rejects else "; --rejects FILE lists all"), err=True)
        rate = (self.accepted_count + self.rejected_count) / max(elapsed_s, 1e-9)
        if as_json:
            print_json(
                {
                    "accepted": self.accepted_count, "repeated": self.repeated_count, "rejected": self.rejected_count,
                    "earlier": self.earlier_count,
                    "seconds": round(elapsed_s, 3), "events_per_second": round(rate),
                }
            )  # fmt: skip
        else:
            earlier = f"{self.earlier_count:,} earlier ones left out, " if self.earlier_count else ""
            click.echo(
                f"{self.accepted_count:,} events taken ({self.repeated_count:,} of them had come before), "
                f"{self.rejected_count:,} rejected, {earlier}in {elapsed_s:.1f} s ({rate:,.0f} events/s)"
            )


def _check_source(
    files: tuple[Path, ...], stream: tuple[str, str] | None, format: str | None, from_line: int, group: str
) -> None:
    if bool(files) == (stream is not None):
        raise click.UsageError("expected FILE... or --redis-stream URL KEY, one of the two")
    if stream is not None and not group:
        raise click.UsageError("--redis-stream: expected --group NAME, the group that shares the stream's entries")
    if stream is not None and (format is not None or from_line > 1):
        raise click.UsageError("--format and --from-line are of files, not of a stream")
    if from_line > 1 and len(files) > 1:
        raise click.UsageError("--from-line: expected one file")
    for file in files:
        if str(file) != "-" and not file.is_file():
            raise click.UsageError(f"expected a file, got {file}")


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE...|-]", type=click.Path(path_type=Path))
@click.option("--format", "format", type=click.Choice([*FORMATS, UBI]), help="Default: by each file's name; -: jsonl.")
@click.option("--from-line", type=click.IntRange(1), default=1, metavar="N", help="Skip the lines before.")
@click.option(
    "--since", "since_ms", type=TIME, metavar="TIME",
    help="Leave out events before: ISO 8601, or milliseconds since 1970. After build-signals --until TIME.",
)  # fmt: skip
@click.option(
    "--redis-stream", "stream", nargs=2, metavar="URL KEY", help="Read a Redis Stream, until it is ended (Ctrl-C)."
)
@click.option("--group", default="", metavar="NAME", help="Consumer group; each entry goes to one of its consumers.")
@click.option(
    "--consumer", default=f"{socket.gethostname()}-{os.getpid()}", metavar="NAME",
    help="This consumer. One that keeps its name goes on with what it had.  [default: host and process id]",
)  # fmt: skip
@click.option(
    "--claim-after", "claim_after_s", type=click.FloatRange(min=0.1), default=30.0, show_default=True,
    metavar="SECONDS", help="Take over entries that another consumer has had for so long.",
)  # fmt: skip
@click.option(
    "--stop-when-idle", "idle_s", type=click.FloatRange(min=0.0, min_open=True), metavar="SECONDS",
    help="End when the stream has had nothing for so long.",
)  # fmt: skip
@click.option("--batch-events", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="Per call.")
@click.option("--in-flight", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls at a time (files).")
@click.option(
    "--rejects", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Where to list rejected events, as JSONL.",
)  # fmt: skip
@click.option("--allow-rejects", is_flag=True, help="Exit with status 0 even if events were rejected.")
@remote_options
@json_option
def command(
    files: tuple[Path, ...],
    format: str | None,
    from_line: int,
    since_ms: int | None,
    stream: tuple[str, str] | None,
    group: str,
    consumer: str,
    claim_after_s: float,
    idle_s: float | None,
    batch_events: int,
    in_flight: int,
    rejects: Path | None,
    allow_rejects: bool,
    address: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Send what people did to a server, which updates the signals that its schema derives from it.

    Events are rows of JSONL or Parquet files with the fields event_id, type, time, user_id, visitor_id, session_id,
    item_id, query, position, value and properties; with --format ubi NDJSON of OpenSearch's UBI. Each counts once,
    however often it is sent within a day.

    \b
    Exit status: 1 if events were rejected, 3 if the server is away (for longer than --timeout; with
    --redis-stream it is waited for).

    \b
    Examples:
      rankd ingest events.jsonl.gz
      producer | rankd ingest -
      rankd ingest ubi_events.ndjson --format ubi --rejects rejects.jsonl
      rankd ingest --redis-stream redis://localhost:6379/0 events --group rankd
      rankd ingest events.jsonl --since 2026-07-01
    """
    _check_source(files, stream, format, from_line, group)
    rejects_file = nullcontext() if rejects is None else rejects.open("w", encoding="utf-8")
    with rejects_file as rejects_to:
        report = Report(rejects_to)
        if stream is not None:
            from rankd.cli.consuming import Consumer
            from rankd.events.redis_stream import StreamReader

            reader = StreamReader(*stream, group, consumer, most=batch_events, claim_after_s=claim_after_s)
            elapsed_s = Consumer(reader, address, timeout_s, report, idle_s, since_ms).run()
        else:
            rows = partial(_rows, format=format, from_line=from_line, since_ms=since_ms, report=report)
            elapsed_s = _ingest_files(files, format, rows, batch_events, in_flight, report, address, timeout_s)
    report.finish(elapsed_s, rejects, as_json)
    if report.rejected_count and not allow_rejects:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _ingest_files(
    files: tuple[Path, ...],
    format: str | None,
    rows: Callable[[Path], Iterator[tuple[int, Event] | BadRow]],
    batch_events: int,
    in_flight: int,
    report: Report,
    address: str,
    timeout_s: float,
) -> float:
    totals = [None if str(file) == "-" else count_lines(file, format) for file in files]
    known = [total for total in totals if total is not None]
    progress = LoadProgress(sum(known) if len(known) == len(totals) else None, "events")

    def done(last_line: int, ingested: Ingested) -> None:
        progress.advance(last_line - report.line, ingested.accepted_count + len(ingested.rejects))
        report.line = last_line
        report.add(ingested)

    with connected(address, timeout_s) as client, progress, breaking_off(address, report.how_far):
        ingester = Ingester(client, done, in_flight, timeout_s)
        for file in files:
            report.begin(str(file))
            ingester.ingest(rows(file), batch_events)
    return progress.elapsed_s


def _rows(
    file: Path, format: str | None, from_line: int, since_ms: int | None, report: Report
) -> Iterator[tuple[int, Event] | BadRow]:
    is_stdin = str(file) == "-"
    path = STDIN if is_stdin else file
    rows: Iterable[tuple[int, Event] | BadRow]
    rows = read_ubi(path) if format == UBI else read_events(path, format or ("jsonl" if is_stdin else None))
    for row in rows:
        if (row.line if isinstance(row, BadRow) else row[0]) < from_line:
            continue
        if not isinstance(row, BadRow) and is_before(row[1], since_ms):
            report.earlier_count += 1
            continue
        yield row


def is_before(event: Event, since_ms: int | None) -> bool:
    """Whether an event is to be left out. One without a time is of now."""
    return since_ms is not None and event.time_ms is not None and event.time_ms < since_ms
