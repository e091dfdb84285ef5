"""`rankd load`: files into a running server."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.loading import Loader, Outcome, Reject
from rankd.cli.output import CommandError, json_option, print_json
from rankd.cli.place import Place
from rankd.cli.progress import LoadProgress, count_lines
from rankd.cli.remote import breaking_off, connected, printable, remote_options
from rankd.cli.row_times import RowTimes
from rankd.signals.coerce import coerce_rows
from rankd.signals.rowfile import FORMATS, read_rows
from rankd.types.schema import Entity, Schema

SHOWN_REJECTS = 20


@dataclass
class Report:
    """What a load did so far."""

    rejects_file: IO[str] | None
    written_count: int = 0
    rejected_count: int = 0
    late_count: int = 0
    path: Path | None = None
    line: int = 0
    """All up to here, of `path`, is written or rejected."""
    shown: list[str] = field(default_factory=list)

    def begin(self, path: Path) -> None:
        self.path, self.line = path, 0

    def add(self, last_line: int, outcome: Outcome) -> None:
        self.line = last_line
        self.written_count += outcome.written_count
        self.rejected_count += len(outcome.rejects)
        self.late_count += outcome.late_count
        for reject in outcome.rejects:
            self._add_reject(reject)

    def _add_reject(self, reject: Reject) -> None:
        if self.rejects_file is not None:
            entry = {"file": str(self.path), "line": reject.line, "id": reject.id or None,
                     "field": reject.field or None, "reason": reject.reason}  # fmt: skip
            self.rejects_file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        if len(self.shown) < SHOWN_REJECTS:
            what = f"{reject.field}: " if reject.field else ""
            self.shown.append(printable(f"{self.path}:{reject.line}: {what}{reject.reason}"))

    def how_far(self) -> str:
        done = f"{self.written_count:,} rows are written"
        if self.path is not None and self.line:
            done += f", {self.path} up to line {self.line}"
        return f"{done}. To go on, run the same command again: writing the same rows again does no harm."


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--entity", default="item", show_default=True, metavar="NAME", help="What the rows are about.")
@click.option("--format", "format", type=click.Choice(FORMATS), help="Default: by each file's name.")
@click.option("--id-field", default="id", show_default=True, metavar="NAME", help="The field with the id.")
@click.option("--batch-rows", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="Rows per call.")
@click.option("--in-flight", type=click.IntRange(1, 64), default=4, show_default=True, help="Calls at a time.")
@click.option(
    "--unknown",
    type=click.Choice(["error", "ignore"]),
    default="error",
    show_default=True,
    help="What to do about fields that are no signals of the entity: reject the row, or leave them out.",
)
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to list rejected rows, as JSONL.",
)
@click.option(
    "--time-field", metavar="NAME", help="The field that says when a row was so. A value does not replace a later one."
)
@click.option("--write-id", default="", metavar="TEXT", help="Write each batch once, in all loads with the same TEXT.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep in FILE how far it is, and go on from there.",
)
@click.option("--allow-rejects", is_flag=True, help="Exit with status 0 even if rows were rejected.")
@remote_options
@json_option
def command(
    files: tuple[Path, ...],
    entity: str,
    format: str | None,
    id_field: str,
    batch_rows: int,
    in_flight: int,
    unknown: Literal["error", "ignore"],
    rejects: Path | None,
    time_field: str | None,
    write_id: str,
    resume: Path | None,
    allow_rejects: bool,
    address: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Write the signals in JSONL, CSV or Parquet files.

    Each row has an id and fields named like the entity's signals; a field that a row lacks
    keeps its value, a null of JSONL clears it. A row with a fault is reported and left out; all
    others are written, and are on disk when the command ends.

    \b
    Exit status: 1 if rows were rejected, 3 if the server is away (for longer than --timeout);
    what was written by then stays, and running the same command again does no harm.

    \b
    Examples:
      rankd load items.jsonl
      rankd load --entity user users.csv.gz --id-field user_id --unknown ignore
      rankd load items.parquet --rejects rejects.jsonl
      rankd load items.jsonl --time-field updated_at --resume items.place
    """
    rejects_file = nullcontext() if rejects is None else rejects.open("w", encoding="utf-8")
    with connected(address, timeout_s) as client, rejects_file as rejects_to:
        declared = _find_entity(client.describe_schema().schema, entity)
        report = Report(rejects_to)
        totals = [count_lines(path, format) for path in files]
        known = [total for total in totals if total is not None]
        progress = LoadProgress(sum(known) if len(known) == len(totals) else None)

        def done(last_line: int, outcome: Outcome) -> None:
            lines = last_line - report.line
            report.add(last_line, outcome)
            progress.advance(lines, outcome.written_count + len(outcome.rejects))
            place.keep(number, last_line)

        place = Place(resume, files)
        with progress, breaking_off(address, report.how_far):
            for number, path in enumerate(files):
                report.begin(path)
                rows = place.rest(number, read_rows(path, format, id_field))
                times = None if time_field is None else RowTimes(time_field)
                named = f"{write_id}/{number}" if write_id else ""
                loader = Loader(client, declared, done, in_flight, timeout_s, times, named)
                timed = rows if times is None else times.take_out(rows)
                loader.write(coerce_rows(declared, timed, batch_rows=batch_rows, on_unknown=unknown))
                place.keep(number + 1, 0)
    _print(report, progress.elapsed_s, rejects, as_json)
    if report.rejected_count and not allow_rejects:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _find_entity(schema: Schema, name: str) -> Entity:
    if name not in schema.entities:
        known = ", ".join(sorted(schema.entities)) or "none"
        raise CommandError(f"--entity: expected one of {known}, got {name!r}", ExitCode.USAGE)
    return schema.entities[name]


def _print(report: Report, elapsed_s: float, rejects: Path | None, as_json: bool) -> None:
    for line in report.shown:
        click.echo(line, err=True)
    if report.rejected_count > len(report.shown):
        more = f"and {report.rejected_count - len(report.shown):,} more"
        click.echo(more + (f"; all are in {rejects}" if rejects else "; --rejects FILE lists all"), err=True)
    rate = report.written_count / max(elapsed_s, 1e-9)
    if as_json:
        summary: dict[str, Any] = {
            "written": report.written_count,
            "rejected": report.rejected_count,
            "late_values": report.late_count,
            "seconds": round(elapsed_s, 3),
            "rows_per_second": round(rate),
        }
        print_json(summary)
    else:
        late = f"{report.late_count:,} values older than what is there, " if report.late_count else ""
        click.echo(
            f"{report.written_count:,} rows written, {report.rejected_count:,} rejected, {late}"
            f"in {elapsed_s:.1f} s ({rate:,.0f} rows/s)"
        )
