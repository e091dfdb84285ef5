"""How far a load of files is, kept in a file so that another run can go on from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError
from rankd.signals.rowfile import BadRow, Row


class Place:
    """`path`: where it is kept; None: nowhere. CommandError if it was kept by a load of other files."""

    def __init__(self, path: Path | None, files: Sequence[Path]) -> None:
        self._path = path
        self._files = [str(file) for file in files]
        self._number = self._line = 0
        if path is None or not path.exists():
            return
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._number, self._line, of = int(kept["file"]), int(kept["line"]), list(kept["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{path}: expected what a load keeps, got something else", ExitCode.USAGE) from error
        if of != self._files:
            names = ", ".join(map(str, of))
            raise CommandError(f"{path} is of a load of {names}; remove it to begin anew", ExitCode.USAGE)

    def rest(self, number: int, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows of a file that are not done. Files are still read from their beginning."""
        done_number, done_line = self._number, self._line
        if number < done_number:
            return
        for row in rows:
            if number > done_number or row.line > done_line:
                yield row

    def keep(self, number: int, line: int) -> None:
        """All files before this one are done, and of it all up to the line."""
        if self._path is None or (number, line) <= (self._number, self._line):
            return
        document = {"files": self._files, "file": number, "line": line}
        new = self._path.with_name(self._path.name + ".new")
        new.write_text(json.dumps(document), encoding="utf-8")
        new.replace(self._path)
        self._number, self._line = number, line
