"""Rows of a file, one by one: JSONL, CSV and Parquet. Says what is malformed and goes on.

Must live here: where a row stands and what its fields are. Must not: the schema
(rankd.signals.coerce turns raw values into typed ones).
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from rankd.errors import ConfigError

FORMATS = ("jsonl", "csv", "parquet")

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line of JSONL is a bad row; a longer cell of CSV is one, too."""

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the file has it. `line`: 1-based, the physical line at which the row starts (JSONL, CSV)
    or the row's number (Parquet). `values` lacks what the file does not give; None is an explicit null."""

    line: int
    id: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    description: str


def read_rows(path: Path, format: str | None = None, id_field: str = "id") -> Iterator[Row | BadRow]:
    """The rows of a file in its order.

    `format`: one of FORMATS; None: by the file's name (.jsonl, .ndjson, .csv, .parquet, .pq; the text
    formats also with .gz). A null in JSONL stays None; an empty cell of CSV and a null of Parquet
    count as not given. Ids are text or integers. ConfigError if the file as a whole cannot be read.
    """
    format = format or _format_of(path)
    if format not in FORMATS:
        raise ConfigError(f'expected one of the formats {", ".join(FORMATS)}, got "{format}"', str(path))
    rows = {"jsonl": _jsonl_rows, "csv": _csv_rows, "parquet": _parquet_rows}[format]
    try:
        yield from rows(path, id_field)
    except OSError as error:
        raise ConfigError(error.strerror or str(error), str(path)) from error


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    format = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if format is None:
        raise ConfigError(f"expected a name ending in {', '.join(_SUFFIXES)} or a format, got neither", str(path))
    return format


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _make_row(line: int, values: dict[str, Any], id_field: str) -> Row | BadRow:
    id_ = values.pop(id_field, None)
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    if not isinstance(id_, str) or not id_:
        came = "nothing" if id_ is None else '""' if id_ == "" else type(id_).__name__
        return BadRow(line, f'expected an id, text or an integer, in "{id_field}", got {came}')
    return Row(line, id_, values)


def _jsonl_rows(path: Path, id_field: str) -> Iterator[Row | BadRow]:
    decode = msgspec.json.Decoder().decode
    for line, text in _lines(path):
        if isinstance(text, BadRow):
            yield text
            continue
        if line == 1:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if not text.strip():
            continue
        try:
            document = decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield BadRow(line, f"expected a JSON object, got a malformed line: {error}")
            continue
        if isinstance(document, dict):
            yield _make_row(line, document, id_field)
        else:
            yield BadRow(line, f"expected a JSON object, got {type(document).__name__}")


def read_lines(path: Path) -> Iterator[tuple[int, bytes | BadRow]]:
    """Numbered lines, of a .gz unpacked. ConfigError if the file cannot be read."""
    try:
        yield from _lines(path)
    except OSError as error:
        raise ConfigError(error.strerror or str(error), str(path)) from error


def _lines(path: Path) -> Iterator[tuple[int, bytes | BadRow]]:
    """Numbered lines with their ends. What a damaged archive still gives ends in a BadRow."""
    line = 0
    with _open(path) as file:
        try:
            while text := file.readline(MAX_LINE_BYTES + 1):
                line += 1
                if len(text) <= MAX_LINE_BYTES:
                    yield line, text
                    continue
                while text and not text.endswith(b"\n"):
                    text = file.readline(MAX_LINE_BYTES)
                yield line, BadRow(line, f"expected at most {MAX_LINE_BYTES} bytes a line, got more")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield line + 1, BadRow(line + 1, f"the file is damaged here and cannot be read on: {error}")


def _csv_rows(path: Path, id_field: str) -> Iterator[Row | BadRow]:
    # The limit is the module's, not the reader's; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    faults: list[BadRow] = []

    def texts() -> Iterator[str]:
        for line, text in _lines(path):
            if isinstance(text, BadRow):
                faults.append(text)
                text = b"\n"
            if line == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")
            yield text.decode("utf-8", "surrogateescape")

    reader = csv.reader(texts(), strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise ConfigError(f"expected a header line, got: {error}", f"{path}:1") from error
    _check_header(header, id_field, path)
    assert header is not None
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield BadRow(start, f"expected comma-separated cells, got a malformed line: {error}")
            continue
        yield from faults
        faults.clear()
        if cells is None:
            return
        if cells:
            yield _csv_row(start, header, cells, id_field)


def _check_header(header: list[str] | None, id_field: str, path: Path) -> None:
    if not header:
        raise ConfigError("expected a header line with the names of the columns, got none", f"{path}:1")
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise ConfigError(f"expected distinct names, got {', '.join(sorted(repeated))} more than once", f"{path}:1")
    if id_field not in header:
        raise ConfigError(f'expected a column "{id_field}" in the header, got {", ".join(header)[:200]}', f"{path}:1")


def _csv_row(line: int, header: list[str], cells: list[str], id_field: str) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(line, f"expected {len(header)} cells, got {len(cells)}")
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell):
            return BadRow(line, f'expected UTF-8, got other bytes in "{name}"')
    return _make_row(line, {n: c for n, c in zip(header, cells, strict=True) if c != ""}, id_field)


def _parquet_rows(path: Path, id_field: str) -> Iterator[Row | BadRow]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "rankd[parquet]"', str(path)) from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if id_field not in names:
                raise ConfigError(f'expected a column "{id_field}", got {", ".join(names)[:200]}', str(path))
            line = 0
            for batch in file.iter_batches(batch_size=4096):
                columns = {name: _parquet_values(arrow, batch.column(name)) for name in names}
                for cells in zip(*columns.values(), strict=True):
                    line += 1
                    given = {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
                    yield _make_row(line, given, id_field)
    except arrow.ArrowException as error:
        raise ConfigError(f"expected a Parquet file, got: {error}", str(path)) from error


def _parquet_values(arrow: Any, column: Any) -> list[Any]:
    """Plain values; times become whole milliseconds since 1970 (of their own time zone or UTC)."""
    kind = column.type
    if arrow.types.is_date(kind) or arrow.types.is_timestamp(kind):
        zone = kind.tz if arrow.types.is_timestamp(kind) else None
        column = column.cast(arrow.timestamp("ms", zone), safe=False).cast(arrow.int64())
    values: list[Any] = column.to_pylist()
    return values
