"""What all commands share: errors, --json, the workspace argument, tables.

Results go to standard output, all else to standard error, so that output can be piped.
Imports nothing slow: it is loaded with every command.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rankd.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from rankd.workspace import Override, Workspace

_F = TypeVar("_F", bound=Callable[..., Any])


class CommandError(click.ClickException):
    """Ends the command with a message on standard error and an exit status."""

    exit_code: int  # type: ignore[misc]  # click gives it per class; here it is per error

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(code)


def json_option(function: _F) -> _F:
    """--json: the result as one JSON document; passes `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(function)


def workspace_argument(function: _F) -> _F:
    """[DIR]: the workspace, by default the current directory; passes `directory`."""
    return click.argument(
        "directory", metavar="[DIR]", default=".", type=click.Path(exists=True, path_type=Path), required=False
    )(function)


def read_workspace(directory: Path, overrides: Iterable[Override] = ()) -> Workspace:
    """The workspace with the environment's settings. WorkspaceError with its problems; a missing file is
    a matter of usage."""
    from rankd.workspace import FILE_NAME, load_workspace

    if directory.is_dir() and not (directory / FILE_NAME).exists():
        raise CommandError(
            f"no {FILE_NAME} in {directory.resolve()}; `rankd init DIR` writes a workspace to start from",
            ExitCode.USAGE,
        )
    return load_workspace(directory, os.environ, overrides)


def print_json(value: Any) -> None:
    """One JSON document. NaN and infinities, which JSON lacks, become null."""
    click.echo(json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False))


def console(stderr: bool = False) -> Console:
    """A rich console. When piped it has no colours and does not cut lines to a terminal's width."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(stderr=stderr, highlight=False, width=10_000)
    return made


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on standard output; the columns named in `right` are aligned right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        # Text: values are data, not rich's markup.
        table.add_row(*[Text(str(value)) for value in row])
    console().print(table)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
