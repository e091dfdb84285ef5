"""Rows into files that `rankd load` reads back: JSONL, CSV and Parquet."""

from __future__ import annotations

import abc
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rankd.cli.output import CommandError

Record = Mapping[str, Any]
"""A row: its fields that have a value."""


class RowWriter(abc.ABC):
    """Writes rows one page after the other."""

    @abc.abstractmethod
    def write(self, records: Sequence[Record]) -> None:
        """Rows after those that are there."""

    @abc.abstractmethod
    def close(self) -> None:
        """The file is whole."""

    @property
    @abc.abstractmethod
    def size(self) -> int | None:
        """Bytes that are in the file for good, where writing may be taken up again; None: it cannot be."""


class _TextWriter(RowWriter):
    def __init__(self, file: IO[bytes], start: int) -> None:
        self._file = file
        self._size = start

    def _put(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self._file.flush()
        self._size += len(data)

    def close(self) -> None:
        self._file.flush()

    @property
    def size(self) -> int | None:
        return self._size


class JsonlWriter(_TextWriter):
    """An object a line; what has no value is left out."""

    def write(self, records: Sequence[Record]) -> None:
        self._put("".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records))


class CsvWriter(_TextWriter):
    """A header and a line a row; an empty cell is no value. Lists and maps are JSON."""

    def __init__(self, file: IO[bytes], start: int, fields: Sequence[str]) -> None:
        super().__init__(file, start)
        self._fields = fields
        if not start:
            self._put(self._lines([list(fields)]))

    def write(self, records: Sequence[Record]) -> None:
        self._put(self._lines([[self._cell(record.get(name)) for name in self._fields] for record in records]))

    @staticmethod
    def _lines(rows: Sequence[Sequence[str]]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()

    @staticmethod
    def _cell(value: Any) -> str:
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


class ParquetWriter(RowWriter):
    """A column a field. Sets are lists; maps are JSON texts, since their keys are not known beforehand."""

    def __init__(self, path: Path, types: Mapping[str, str]) -> None:
        """`types`: of the fields, as pyarrow names them; "list<float>" and "list<string>" of lists."""
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise CommandError('Parquet needs pyarrow: pip install "rankd[parquet]"') from error
        made: Any = arrow  # its stubs know every alias by itself
        known = {"list<float>": made.list_(made.float32()), "list<string>": made.list_(made.string())}
        fields = [(name, known.get(text) or made.type_for_alias(text)) for name, text in types.items()]
        self._arrow = made
        self._schema = arrow.schema(fields)
        self._writer = parquet.ParquetWriter(path, self._schema)

    def write(self, records: Sequence[Record]) -> None:
        columns = [
            self._arrow.array([self._cell(record.get(field.name), field.type) for record in records], field.type)
            for field in self._schema
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))

    def _cell(self, value: Any, kind: Any) -> Any:
        is_text = self._arrow.types.is_string(kind)
        return json.dumps(value, ensure_ascii=False) if is_text and isinstance(value, dict | list) else value

    def close(self) -> None:
        self._writer.close()

    @property
    def size(self) -> int | None:
        return None
