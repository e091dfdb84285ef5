"""`rankd build-signals`: signals from a history of events."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, console, json_option, print_json, read_workspace
from rankd.cli.progress import LoadProgress
from rankd.cli.remote import connected, printable
from rankd.cli.times import TIME
from rankd.errors import ConfigError

if TYPE_CHECKING:
    from rankd.cli.sending_built import Written
    from rankd.events.batch.build import Outcome
    from rankd.events.batch.checks import History
    from rankd.events.nodes import Property
    from rankd.signals.rowfile import BadRow
    from rankd.types.schema import Schema

SHOWN_BAD: Final = 20


@dataclass
class _Bad:
    """Events that cannot be taken: how many, and what is told of the first."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, count: int, told: Sequence[str]) -> None:
        self.count += count
        self.shown += map(printable, told[: SHOWN_BAD - len(self.shown)])


def _parse_rows(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for text in given:
        entity, equals, name = text.partition("=")
        if not equals or not entity or not Path(name).exists():
            raise click.BadParameter(f"expected ENTITY=FILE with a file that is there, got {text!r}")
        found.setdefault(entity, []).append(Path(name))
    return found


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("events", metavar="EVENTS...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path),
              help="Where to write a Parquet file for each entity.")  # fmt: skip
@click.option("--to", "address", metavar="HOST:PORT", help="Write the signals into this server.")
@click.option("--until", "until_ms", type=TIME, metavar="TIME",
              help="Leave out events from then on: ISO 8601, or milliseconds since 1970.")  # fmt: skip
@click.option("--format", "format", type=click.Choice(["jsonl", "parquet", "ubi"]), help="Default: by each name.")
@click.option("--rows", multiple=True, metavar="ENTITY=FILE", callback=_parse_rows,
              help="Parquet with `id` and the signals that expressions look up, such as item.category.")  # fmt: skip
@click.option("--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb", show_default=True)
@click.option("--spark-master", default="local[*]", show_default=True, metavar="URL", help="Of --engine spark.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of DuckDB. Default: all cores.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True,
              metavar="SECONDS", help="How long to wait for the server.")  # fmt: skip
@click.option("--allow-rejects", is_flag=True, help="Exit with status 0 even if events or rows were rejected.")
@json_option
def command(
    directory: Path, events: tuple[Path, ...], out: Path | None, address: str | None, until_ms: int | None,
    format: str | None, rows: dict[str, list[Path]], engine: str, spark_master: str, threads: int | None,
    timeout_s: float, allow_rejects: bool, as_json: bool,
) -> None:  # fmt: skip
    """Build signals from a history of events: the sources of DIR's schema, run over EVENTS.

    EVENTS are Parquet or JSONL files as `rankd ingest` takes them, each event with its time. The same declarations
    that follow events as they come are run over all of them at once, by DuckDB on this machine or by Spark, and come to
    the same values. Of each entity a Parquet file is written: `id`, and for each signal its state and time. Needs
    pip install 'rankd[history]', and for Spark 'rankd[spark]' and Java.

    With --to they are written into a server that runs with the same schema, each value with its own time. Give a time
    to --until, then the same to `rankd ingest --since`, so that every event counts once.

    \b
    Examples:
      rankd build-signals . events.parquet --out signals
      rankd build-signals . 2026-*.parquet --rows item=items.parquet --until 2026-07-01 --to localhost:50051
      rankd ingest --redis-stream redis://localhost events --group rankd --since 2026-07-01
      rankd build-signals . events.jsonl --out signals --engine spark --spark-master 'local[4]'
    """
    if out is None and address is None:
        raise click.UsageError("expected --out FOLDER, --to HOST:PORT, or both")
    try:
        import ibis  # noqa: F401
    except ImportError:
        raise CommandError("this needs Ibis and DuckDB: pip install 'rankd[history]'", ExitCode.FAILED) from None
    from rankd.events.batch.build import build
    from rankd.events.batch.engines import open_engine
    from rankd.events.batch.tables import used_properties
    from rankd.events.declare import compile_sources

    started = time.perf_counter()
    schema = read_workspace(directory).schema
    bad = _Bad()
    if address is not None:
        _check_server(address, timeout_s, schema)
    with tempfile.TemporaryDirectory(prefix="rankd-build-") as name:
        with _saying() as say:
            histories = _histories(events, format, Path(name), used_properties(compile_sources(schema)), bad, say)
            say(f"starting {engine}")
            with open_engine(engine, spark_master, threads) as opened:  # type: ignore[arg-type]  # a Choice
                outcome = build(
                    opened, schema, histories, rows, out or Path(name) / "out", now_ms=round(time.time() * 1000),
                    until_ms=until_ms,
                    report=lambda entity, done, total: say(f"building {entity} ({done + 1} of {total})"),
                )  # fmt: skip
        bad.add(outcome.fault_count, outcome.faults)
        written = {} if address is None else _send(address, timeout_s, schema, outcome)
    _print(outcome, written, bad, out is not None, time.perf_counter() - started, as_json)
    if (bad.count or any(one.rejects for one in written.values())) and not allow_rejects:
        raise click.exceptions.Exit(ExitCode.FAILED)


@contextlib.contextmanager
def _saying() -> Iterator[Callable[[str], None]]:
    """Says what is being done: on a terminal beside a spinner, else as lines."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with screen.status("reading events") as status:
        yield status.update


def _histories(
    events: Sequence[Path], format: str | None, folder: Path, properties: Sequence[Property], bad: _Bad,
    say: Callable[[str], None],
) -> list[History]:  # fmt: skip
    """Parquet as it is, all else turned into it."""
    from rankd.events.batch.checks import History
    from rankd.events.batch.history import is_parquet, to_parquet

    found = []
    for path in (inner for given in events for inner in _files(given)):
        if format == "parquet" or (format is None and is_parquet(path)):
            found.append(History.of(path))
            continue

        def on_bad(row: BadRow, path: Path = path) -> None:
            bad.add(1, [f"{path}:{row.line}: {row.description}"])

        def on_events(read: int, count: int, path: Path = path) -> None:
            say(f"reading {path}: {read:,} events")

        found.append(History(folder / f"{len(found)}.parquet", path))
        to_parquet(path, found[-1].path, properties, on_bad, on_events, format)
    return found


def _files(path: Path) -> list[Path]:
    """A file, or the Parquet files of a folder, as Spark writes it."""
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.parquet"))
    if not found:
        raise ConfigError("expected a file, or a folder with *.parquet, got a folder without", str(path))
    return found


def _check_server(address: str, timeout_s: float, schema: Schema) -> None:
    """Before the work, not after it."""
    from rankd.cli.sending_built import check_schema

    with connected(address, timeout_s) as client:
        check_schema(client.describe_schema().schema, schema)


def _send(address: str, timeout_s: float, schema: Schema, outcome: Outcome) -> dict[str, Written]:
    """By entity. A server that is away for longer than `timeout_s` ends the command; running it again does no harm."""
    from rankd.cli.sending_built import send

    progress = LoadProgress(sum(one.row_count for one in outcome.entities))
    with connected(address, timeout_s) as client, progress:
        return {
            one.entity: send(
                client, schema.entities[one.entity], one, timeout_s, lambda rows: progress.advance(rows, rows)
            )
            for one in outcome.entities
        }


def _print(
    outcome: Outcome, written: dict[str, Written], bad: _Bad, is_kept: bool, elapsed_s: float, as_json: bool
) -> None:
    for line in bad.shown:
        click.echo(line, err=True)
    if bad.count > len(bad.shown):
        click.echo(f"and {bad.count - len(bad.shown):,} more", err=True)
    for entity, one in written.items():
        for reject in one.rejects[:SHOWN_BAD]:
            what = f"{reject.field}: " if reject.field else ""
            click.echo(printable(f"{entity} {reject.id}: {what}{reject.reason}"), err=True)
        if one.late_count:
            click.echo(
                f"{entity}: {one.late_count:,} values were left out, as the server has later ones: a history goes in "
                "before the events after it",
                err=True,
            )
    if as_json:
        print_json(_document(outcome, written, bad, is_kept, elapsed_s))
        return
    for built in outcome.entities:
        click.echo(f"{built.path if is_kept else built.entity}: {built.row_count:,} rows")
    newest = "" if outcome.newest_ms is None else f", the newest of {_iso(outcome.newest_ms)}"
    rows = f"; {sum(one.row_count for one in written.values()):,} rows written" if written else ""
    click.echo(f"{outcome.event_count:,} events{newest}, {bad.count:,} rejected, built in {elapsed_s:.1f} s{rows}")


def _document(
    outcome: Outcome, written: dict[str, Written], bad: _Bad, is_kept: bool, elapsed_s: float
) -> dict[str, object]:
    entities: dict[str, dict[str, object]] = {}
    for built in outcome.entities:
        one: dict[str, object] = {"rows": built.row_count}
        entities[built.entity] = one
        if is_kept:
            one["file"] = str(built.path)
        if (sent := written.get(built.entity)) is not None:
            one |= {"written": sent.row_count, "rejected": len(sent.rejects), "late_values": sent.late_count}
    return {
        "entities": entities, "events": outcome.event_count, "newest_unix_millis": outcome.newest_ms,
        "rejected": bad.count, "seconds": round(elapsed_s, 3),
    }  # fmt: skip


def _iso(unix_millis: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(unix_millis / 1000, UTC).isoformat(timespec="milliseconds")
