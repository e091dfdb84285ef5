"""How far a load is: a bar on a terminal, else a line every few seconds. On standard error."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from rankd.cli.output import console

PLAIN_INTERVAL_S = 5.0


def count_lines(path: Path, format: str | None) -> int | None:
    """About how many lines a file has: the scale of the bar. None where only reading it all would tell."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if format == "parquet" or (format is None and suffixes[-1:] in ([".parquet"], [".pq"])):
        try:
            import pyarrow.parquet as parquet

            return int(parquet.read_metadata(path).num_rows)
        except Exception:
            return None  # reading it will say what is wrong with it
    if suffixes[-1:] == [".gz"]:
        return None
    lines = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            lines += block.count(b"\n")
    return lines


class LoadProgress:
    """Use as a context manager. `total`: lines of all files; None: unknown. `what`: what is counted."""

    def __init__(self, total: int | None, what: str = "rows") -> None:
        self._what = what
        self._total = total
        self._started = self._printed = time.monotonic()
        self._rows = self._lines = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        screen = console(stderr=True)
        if screen.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                BarColumn(),
                TextColumn(f"{{task.fields[rows]:,}} {what}"),
                TextColumn(f"{{task.fields[rate]:,.0f}} {what}/s"),
                TimeRemainingColumn(),
                console=screen,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, rows=0, rate=0.0)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def rows(self) -> int:
        """So far."""
        return self._rows

    def advance(self, lines: int, rows: int) -> None:
        """`lines` of the files and `rows` of them written or rejected since the last call."""
        self._lines += lines
        self._rows += rows
        rate = self._rows / max(self.elapsed_s, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._lines, rows=self._rows, rate=rate)
        elif time.monotonic() - self._printed >= PLAIN_INTERVAL_S:
            self._printed = time.monotonic()
            click.echo(f"{self._rows:,} {self._what}, {rate:,.0f} {self._what}/s{self._left()}", err=True)

    def _left(self) -> str:
        if not self._total or not self._lines:
            return ""
        return f", about {max(0.0, self.elapsed_s * (self._total / self._lines - 1)):.0f} s left"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
