"""`rankd export`: all rows of an entity into a file that `rankd load` reads back."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError
from rankd.cli.plain import plain
from rankd.cli.progress import LoadProgress
from rankd.cli.remote import connected, remote_options
from rankd.cli.rowwriter import CsvWriter, JsonlWriter, ParquetWriter, RowWriter
from rankd.client import ScannedPage
from rankd.signals.rowfile import FORMATS
from rankd.types.schema import Entity, Signal, SignalKind

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_PARQUET = {
    SignalKind.F32: "float",
    SignalKind.I64: "int64",
    SignalKind.TIMESTAMP: "int64",
    SignalKind.BOOL: "bool",
    SignalKind.EMBEDDING: "list<float>",
    SignalKind.SET: "list<string>",
    SignalKind.COUNTER: "double",
}
"""Of the kinds that are not text."""


@click.command()
@click.option("--entity", default="item", show_default=True, metavar="NAME", help="Whose rows.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where to write. Default: standard output.")  # fmt: skip
@click.option("--format", "format", type=click.Choice(FORMATS), help="Default: by the file's name, else jsonl.")
@click.option("--signals", metavar="A,B,C", help="Which signals. Default: all.")
@click.option("--id-field", default="id", show_default=True, metavar="NAME", help="The field for the id.")
@click.option("--time-field", metavar="NAME", help="Write when values were so, for `rankd load --time-field`.")
@click.option("--resume", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Keep in FILE how far it is, and go on from there.")  # fmt: skip
@remote_options
def command(
    entity: str,
    output: Path | None,
    format: str | None,
    signals: str | None,
    id_field: str,
    time_field: str | None,
    resume: Path | None,
    address: str,
    timeout_s: float,
) -> None:
    """Write all rows of an entity as JSONL, CSV or Parquet.

    `rankd load` of the file gives the same rows. What has no value is left out (JSONL), or empty; times are
    milliseconds since 1970. CSV cannot tell an empty text from none. What is written to the server meanwhile may or
    may not be in it; a row may come twice.

    \b
    Examples:
      rankd export -o items.jsonl
      rankd export --entity user --signals tastes -o users.parquet
      rankd export -o items.jsonl --time-field written_at --resume items.cursor
    """
    format = format or (_SUFFIXES.get(output.suffix.lower(), "jsonl") if output is not None else "jsonl")
    if output is None and format == "parquet":
        raise click.UsageError("Parquet cannot be written to standard output: --output FILE.")
    if resume is not None and (output is None or format == "parquet"):
        raise click.UsageError("--resume needs --output FILE of JSONL or CSV.")
    names = [name.strip() for name in signals.split(",") if name.strip()] if signals else []
    done = _Done.read(resume)
    with connected(address, timeout_s) as client:
        found = client.describe_schema()
        declared = _declared(found.schema.entities, entity, names)
        fields = _Fields(declared, id_field, time_field)
        progress = LoadProgress(found.row_counts[entity])
        with _writer(output, format, fields, done) as writer, progress:
            if not done.is_over:
                scan = client.scan(entity, list(declared), cursor=done.cursor, patience_s=max(timeout_s, 1.0))
                for page in scan:
                    writer.write(list(fields.records(page)))
                    progress.advance(len(page), len(page))
                    done = _Done(page.cursor, done.rows + len(page), writer.size or 0, not page.cursor)
                    done.keep(resume)
    rate = progress.rows / max(progress.elapsed_s, 1e-9)
    click.echo(f"{done.rows:,} rows of {entity} exported in {progress.elapsed_s:.1f} s ({rate:,.0f} rows/s)", err=True)


def _declared(entities: Mapping[str, Entity], entity: str, names: list[str]) -> dict[str, Signal]:
    """The signals to export: those that can be loaded again."""
    if entity not in entities:
        known = ", ".join(sorted(entities)) or "none"
        raise CommandError(f"--entity: expected one of {known}, got {entity!r}", ExitCode.USAGE)
    stored = {name: s for name, s in entities[entity].signals.items() if s.is_stored}
    for name in names:
        if name not in stored:
            raise CommandError(f"--signals: expected some of {', '.join(stored)}, got {name!r}", ExitCode.USAGE)
    return {name: stored[name] for name in names or stored}


class _Fields:
    """Rows as records. With a time field: the row's time in it, and in FIELD:SIGNAL that of a value that differs."""

    def __init__(self, signals: Mapping[str, Signal], id_field: str, time_field: str | None) -> None:
        self._signals = signals
        self._id_field = id_field
        self._time_field = time_field
        fields = [id_field, *signals, *([time_field] if time_field else [])]
        twice = {name for name in fields if fields.count(name) > 1}
        if twice:
            raise CommandError(f"a signal has the name of a field: {', '.join(sorted(twice))}", ExitCode.USAGE)

    @property
    def names(self) -> list[str]:
        """All that a record may have, in order."""
        times = [self._time_field, *(f"{self._time_field}:{name}" for name in self._signals)]
        return [self._id_field, *self._signals, *(name for name in times if self._time_field and name)]

    @property
    def parquet_types(self) -> dict[str, str]:
        kinds = {name: _PARQUET.get(signal.kind, "string") for name, signal in self._signals.items()}
        return {name: kinds.get(name, "string" if name == self._id_field else "int64") for name in self.names}

    def records(self, page: ScannedPage) -> Iterator[dict[str, Any]]:
        times = page.value_times if self._time_field else {}
        for row, (id_, values) in enumerate(page.rows()):
            record: dict[str, Any] = {self._id_field: id_}
            for name, value in values.items():
                if isinstance(value, np.datetime64):
                    record[name] = int(value.astype(np.int64))
                elif value is not None:
                    record[name] = plain(value, self._signals[name].kind)
            if self._time_field:
                written = int(page.message.written_unix_millis[row])
                record[self._time_field] = written
                for name, of_rows in times.items():
                    time = of_rows[row]
                    if time is not None and time != written:
                        record[f"{self._time_field}:{name}"] = time
            yield record


class _Done:
    """How far an export is, as it is kept in a file. `bytes`: of the output, all of whole pages."""

    def __init__(self, cursor: str = "", rows: int = 0, byte_count: int = 0, is_over: bool = False) -> None:
        self.cursor = cursor
        self.rows = rows
        self.byte_count = byte_count
        self.is_over = is_over

    @classmethod
    def read(cls, path: Path | None) -> _Done:
        if path is None or not path.exists():
            return cls()
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(kept["cursor"]), int(kept["rows"]), int(kept["bytes"]), bool(kept["done"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path}: expected what an export keeps, got something else", ExitCode.USAGE) from error

    def keep(self, path: Path | None) -> None:
        if path is None:
            return
        document = {"cursor": self.cursor, "rows": self.rows, "bytes": self.byte_count, "done": self.is_over}
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(document), encoding="utf-8")
        new.replace(path)


@contextmanager
def _writer(output: Path | None, format: str, fields: _Fields, done: _Done) -> Iterator[RowWriter]:
    if format == "parquet":
        assert output is not None
        writer: RowWriter = ParquetWriter(output, fields.parquet_types)
        try:
            yield writer
        finally:
            writer.close()
        return
    with _opened(output, done.byte_count) as file:
        writer = (
            CsvWriter(file, done.byte_count, fields.names) if format == "csv" else JsonlWriter(file, done.byte_count)
        )
        yield writer
        writer.close()


@contextmanager
def _opened(output: Path | None, start: int) -> Iterator[IO[bytes]]:
    """The output, cut to what is known to be whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    if not start:
        with output.open("wb") as file:
            yield file
        return
    if not output.exists() or output.stat().st_size < start:
        raise CommandError(f"{output} is shorter than --resume says; remove that file to begin anew", ExitCode.USAGE)
    with output.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        yield file
