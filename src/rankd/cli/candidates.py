"""The options of `rankd rank` and `rankd score` that say what to rank and in which context."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError
from rankd.client import Text
from rankd.signals.rowfile import BadRow, read_rows
from rankd.v1.ranking_pb2 import User

_F = TypeVar("_F", bound=Callable[..., Any])

BASE_SCORE = "base_score"
"""A column of this name is the caller's own score, not a column of the profile."""

SURFACES = ("search", "browse", "autocomplete", "recommendation")


@dataclass(frozen=True, slots=True)
class Given:
    """Candidates as the command line gives them: what Client.rank takes."""

    ids: list[str]
    base_scores: list[float] | None
    columns: dict[str, list[float]]


_OPTIONS = (
    click.option("--profile", metavar="NAME", help="A profile of the workspace."),
    click.option("--ids", metavar="A,B,C", help="Candidates, separated by commas."),
    click.option("--ids-file", type=click.File(), metavar="FILE", help="Candidates, one a line; - is standard input."),
    click.option(
        "--column", "column_texts", multiple=True, metavar="NAME=1,2,…",
        help=f"A number per candidate; an empty one is missing. {BASE_SCORE}: your own score.",
    ),
    click.option(
        "--columns-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
        help="CSV, JSONL or Parquet with an id and numbers; gives the candidates, too, unless --ids does.",
    ),
    click.option("--query", metavar="TEXT", help="What the user typed."),
    click.option("--user", metavar="ID", help="A user's id."),
    click.option("--visitor", metavar="ID", help="A browser's or device's id."),
    click.option("--session", metavar="ID", help="A visit's id."),
    click.option(
        "--context", "context_texts", multiple=True, metavar="NAME=VALUE",
        help="A context feature. A number, true or false, else a category; or NAME:TYPE=VALUE with a type of "
        "number, bool, category, text, timestamp, set (a|b), embedding (1,2).",
    ),
    click.option("--surface", type=click.Choice(SURFACES), help="Where the list is shown."),
    click.option("--as-of", metavar="TIME", help="The time to compute ages against, ISO 8601 (UTC if without zone)."),
    click.option(
        "--request", "request_file", type=click.File(), metavar="FILE",
        help="The whole request as protobuf JSON, instead of the options above; - is standard input.",
    ),
)  # fmt: skip


def candidate_options(function: _F) -> _F:
    """All of the above."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_user(user: str | None, visitor: str | None, session: str | None) -> User | None:
    """Who asks; None: nobody is known."""
    if user is None and visitor is None and session is None:
        return None
    return User(user_id=user or "", visitor_id=visitor or "", session_id=session or "")


def read_candidates(
    ids: str | None, ids_file: IO[str] | None, column_texts: Sequence[str], columns_file: Path | None
) -> Given:
    """Ids and columns from the options. UsageError or CommandError (usage) if they contradict each other."""
    if ids is not None and ids_file is not None:
        raise click.UsageError("--ids and --ids-file exclude each other.")
    given: list[str] | None = None
    if ids is not None:
        given = [text.strip() for text in ids.split(",") if text.strip()]
    elif ids_file is not None:
        given = [line.rstrip("\r\n") for line in ids_file if line.strip()]
    columns: dict[str, list[float]] = {}
    if columns_file is not None:
        given, columns = _read_columns(columns_file, given)
    if given is None:
        raise click.UsageError("no candidates: give --ids, --ids-file or --columns-file (or --request).")
    for text in column_texts:
        name, equals, numbers = text.partition("=")
        if not equals:
            raise click.BadParameter(f"expected NAME=1,2,…, got {text!r}", param_hint="--column")
        columns[name] = [_number(one.strip(), f"--column {name}") for one in numbers.split(",")]
        if len(columns[name]) != len(given):
            message = f"{name}: expected {len(given)} numbers, one per candidate, got {len(columns[name])}"
            raise click.BadParameter(message, param_hint="--column")
    return Given(given, columns.pop(BASE_SCORE, None), columns)


def _read_columns(path: Path, ids: list[str] | None) -> tuple[list[str], dict[str, list[float]]]:
    """Columns of a file for `ids` (NaN where it has none), or for all ids of the file in its order."""
    rows: dict[str, dict[str, float]] = {}
    for row in read_rows(path):
        where = f"{path}:{row.line}"
        if isinstance(row, BadRow):
            raise CommandError(f"{where}: {row.description}", ExitCode.USAGE)
        if row.id in rows:
            raise CommandError(f"{where}: expected distinct ids, got {row.id!r} again", ExitCode.USAGE)
        rows[row.id] = {name: _number(value, f"{where}: {name}") for name, value in row.values.items()}
    wanted = list(rows) if ids is None else ids
    names = dict.fromkeys(name for row_columns in rows.values() for name in row_columns)
    return wanted, {name: [rows.get(i, {}).get(name, math.nan) for i in wanted] for name in names}


def _number(value: Any, where: str) -> float:
    if value is None or value == "":
        return math.nan
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, int | float):
        return float(value)
    raise CommandError(f"{where}: expected a number, got {value!r}", ExitCode.USAGE)


def read_context(texts: Sequence[str]) -> dict[str, Any]:
    """Context features of NAME=VALUE and NAME:TYPE=VALUE."""
    context: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, _, kind = name.partition(":")
        if not equals or not name:
            raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--context")
        try:
            context[name] = _CONTEXT_TYPES[kind](value)
        except KeyError:
            known = ", ".join(k for k in _CONTEXT_TYPES if k)
            raise click.BadParameter(
                f"{name}: expected a type of {known}, got {kind!r}", param_hint="--context"
            ) from None
        except ValueError:
            raise click.BadParameter(f"{name}: expected a {kind}, got {value!r}", param_hint="--context") from None
    return context


def _guess(value: str) -> float | bool | str:
    if value.lower() in ("true", "false"):
        return _flag(value)
    try:
        return float(value)
    except ValueError:
        return value


_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def _flag(value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[value.lower()]


def read_time(text: str) -> datetime:
    """ISO 8601; without a zone it is UTC. ValueError."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_CONTEXT_TYPES: dict[str, Callable[[str], Any]] = {
    "": _guess,
    "number": float,
    "bool": _flag,
    "category": str,
    "text": Text,
    "timestamp": read_time,
    "set": lambda value: set(value.split("|")) if value else set(),
    "embedding": lambda value: [float(one) for one in value.split(",")],
}


def read_as_of(text: str | None) -> datetime | None:
    """--as-of."""
    if text is None:
        return None
    try:
        return read_time(text)
    except ValueError:
        raise click.BadParameter(
            f"expected a time such as 2026-01-31T12:00:00Z, got {text!r}", param_hint="--as-of"
        ) from None
