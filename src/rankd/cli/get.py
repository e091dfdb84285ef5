"""`rankd get`: what the server's store holds."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import json_option, print_json, print_table
from rankd.cli.remote import connected, printable, remote_options
from rankd.client import StoredSignals

MANY_ROWS = 5
"""From this many rows on a row is a line of the table; below, a signal is."""


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--entity", default="item", show_default=True, metavar="NAME", help="The kind of the ids.")
@click.option("--signals", metavar="A,B,C", help="Which signals. Default: all.")
@remote_options
@json_option
def command(
    ids: tuple[str, ...], entity: str, signals: str | None, address: str, timeout_s: float, as_json: bool
) -> None:
    """Read signals back, exactly as written.

    – is a missing value. Exit status 1 if nothing is known about any of the ids.

    \b
    Examples:
      rankd get sku-1
      rankd get --entity user u1 u2 --signals tastes --json
    """
    names = [name.strip() for name in signals.split(",") if name.strip()] if signals else []
    with connected(address, timeout_s) as client:
        stored = client.get_signals(entity, ids, names)
    if as_json:
        rows = zip(stored.rows(), stored.written_at, strict=True)
        documents = [
            {"id": i, "written_at": _time(at), "signals": {n: _plain(v) for n, v in values.items()}}
            for (i, values), at in rows
        ]
        print_json({"entity": entity, "rows": documents, "missing_ids": stored.missing_ids})
    else:
        if len(stored):
            _print(stored)
        if stored.missing_ids:
            click.echo(f"unknown: {', '.join(map(printable, stored.missing_ids))}", err=True)
    if not len(stored):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _print(stored: StoredSignals) -> None:
    written = [_time(at) for at in stored.written_at]
    ids = [printable(i) for i in stored.ids]
    columns = {name: [_shown(value) for value in values] for name, values in stored.columns.items()}
    if len(ids) >= MANY_ROWS:
        rows = zip(ids, *columns.values(), written, strict=True)
        print_table(["id", *columns, "written"], rows)
        return
    print_table(["signal", *ids], [*((name, *values) for name, values in columns.items()), ("written", *written)])


def _time(value: np.datetime64) -> str:
    """ISO 8601 in UTC; as NumPy writes it, for years that datetime lacks, too."""
    return f"{np.datetime_as_string(value, unit='ms')}Z"


def _plain(value: Any) -> Any:
    """A value as JSON has it. Sets are sorted: a set has no order."""
    if isinstance(value, np.datetime64):
        return _time(value)
    if isinstance(value, np.ndarray):
        return [_f32(v) for v in value]
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, dict):
        return {k: _f32(v) for k, v in value.items()}
    return _f32(value) if isinstance(value, float) else value


def _f32(value: Any) -> float:
    """The shortest number that is the same float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(value)))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    plain = _plain(value)
    if isinstance(plain, list):
        return printable(", ".join(map(str, plain))) or "(empty)"
    if isinstance(plain, dict):
        return printable(", ".join(f"{k}: {v}" for k, v in plain.items())) or "(empty)"
    return printable(str(plain))
