"""`rankd build-signals`: signals from a history of events."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, console, json_option, print_json, read_workspace

if TYPE_CHECKING:
    from rankd.events.batch.build import Built
    from rankd.events.nodes import Property
    from rankd.signals.rowfile import BadRow

SHOWN_BAD = 20


def _parse_rows(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for text in given:
        entity, equals, name = text.partition("=")
        if not equals or not entity or not Path(name).exists():
            raise click.BadParameter(f"expected ENTITY=FILE with a file that is there, got {text!r}")
        found.setdefault(entity, []).append(Path(name))
    return found


def _parse_time(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
    if given is None:
        return None
    if re.fullmatch(r"-?[0-9]+", given):
        return int(given)
    from rankd.signals.coerce import coerce_value
    from rankd.types.schema import Signal, SignalKind

    try:
        return int(coerce_value(Signal("", SignalKind.TIMESTAMP), given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.argument("events", metavar="EVENTS...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path),
              help="Where to write a Parquet file for each entity.")  # fmt: skip
@click.option("--rows", multiple=True, metavar="ENTITY=FILE", callback=_parse_rows,
              help="Parquet with `id` and the signals that expressions look up, such as item.category.")  # fmt: skip
@click.option("--engine", type=click.Choice(["duckdb", "spark"]), default="duckdb", show_default=True)
@click.option("--spark-master", default="local[*]", show_default=True, metavar="URL", help="Of --engine spark.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of DuckDB. Default: all cores.")
@click.option("--as-of", callback=_parse_time, metavar="TIME",
              help="Leave out later events: ISO 8601, or milliseconds since 1970.")  # fmt: skip
@click.option("--allow-rejects", is_flag=True, help="Exit with status 0 even if events were rejected.")
@json_option
def command(
    directory: Path, events: tuple[Path, ...], out: Path, rows: dict[str, list[Path]], engine: str, spark_master: str,
    threads: int | None, as_of: int | None, allow_rejects: bool, as_json: bool,
) -> None:  # fmt: skip
    """Build signals from a history of events: the sources of DIR's schema, run over EVENTS.

    EVENTS are Parquet or JSONL files as `rankd ingest` takes them. The same declarations that follow events as they
    come are run over all of them at once, by DuckDB on this machine or by Spark, and come to the same
    values. Of each entity a Parquet file is written: `id`, and for each signal its state and time. Needs
    pip install 'rankd[history]', and for Spark 'rankd[spark]' and Java.

    \b
    Examples:
      rankd build-signals . events.parquet --out signals
      rankd build-signals . 2026-*.parquet --out signals --rows item=items.parquet --as-of 2026-06-30
      rankd build-signals . events.jsonl --out signals --engine spark --spark-master 'local[4]'
    """
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
    bad: list[str] = []
    said = console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="rankd-events-") as name, said.status("reading events") as status:
        histories = _histories(events, Path(name), used_properties(compile_sources(schema)), bad, status.update)
        status.update(f"starting {engine}")
        with open_engine(engine, spark_master, threads) as connected:  # type: ignore[arg-type]  # a Choice
            built = build(
                connected, schema, histories, rows, out, as_of_ms=as_of,
                report=lambda entity, done, total: status.update(f"building {entity} ({done + 1} of {total})"),
            )  # fmt: skip
    _print(built, bad, time.perf_counter() - started, as_json)
    if bad and not allow_rejects:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _histories(
    events: Sequence[Path], folder: Path, properties: Sequence[Property], bad: list[str], say: Any
) -> list[Path]:
    """Parquet as it is, all else turned into it."""
    from rankd.events.batch.history import is_parquet, to_parquet

    found = []
    for number, path in enumerate(events):
        if is_parquet(path):
            found.append(path)
            continue

        def on_bad(row: BadRow, path: Path = path) -> None:
            bad.append(f"{path}:{row.line}: {row.description}")

        def on_events(read: int, count: int, path: Path = path) -> None:
            say(f"reading {path}: {read:,} events")

        found.append(folder / f"{number}.parquet")
        to_parquet(path, found[-1], properties, on_bad, on_events)
    return found


def _print(built: Sequence[Built], bad: Sequence[str], elapsed_s: float, as_json: bool) -> None:
    for line in bad[:SHOWN_BAD]:
        click.echo(line, err=True)
    if len(bad) > SHOWN_BAD:
        click.echo(f"and {len(bad) - SHOWN_BAD:,} more", err=True)
    if as_json:
        entities = {one.entity: {"file": str(one.path), "rows": one.row_count} for one in built}
        print_json({"entities": entities, "rejected": len(bad), "seconds": round(elapsed_s, 3)})
        return
    for one in built:
        click.echo(f"{one.path}: {one.row_count:,} rows")
    click.echo(f"built in {elapsed_s:.1f} s; {len(bad):,} events rejected")
