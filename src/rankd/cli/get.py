"""`rankd get`: what the server's store holds."""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import json_option, print_json, print_table
from rankd.cli.plain import plain, time_text
from rankd.cli.remote import connected, printable, remote_options
from rankd.cli.spans import shown_span
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

    – is a missing value. Of a single id every value's age is shown.

    Exit status 1 if nothing is known about any of the ids.

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
        times = stored.value_times
        documents = [
            {
                "id": i,
                "written_at": time_text(at),
                "signals": {n: plain(v) for n, v in values.items()},
                "unix_millis": {n: of_rows[row] for n, of_rows in times.items() if of_rows[row] is not None},
            }
            for row, ((i, values), at) in enumerate(rows)
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
    now_ms = time.time() * 1000
    written = [
        f"{time_text(at)} ({shown_span(max(0.0, now_ms - ms) / 1000)} ago)"
        for at, ms in zip(stored.written_at, stored.message.written_unix_millis, strict=True)
    ]
    ids = [printable(i) for i in stored.ids]
    columns = {name: [_shown(value, now_ms) for value in values] for name, values in stored.columns.items()}
    if len(ids) >= MANY_ROWS:
        rows = zip(ids, *columns.values(), written, strict=True)
        print_table(["id", *columns, "written"], rows)
        return
    if len(ids) == 1:
        times = stored.value_times
        ages = {name: _age(times.get(name, [None])[0], now_ms) for name in columns}
        rows_of_one = [*((name, values[0], ages[name]) for name, values in columns.items()), ("written", *written, "")]
        print_table(["signal", *ids, "age"], rows_of_one, ["age"])
        return
    print_table(["signal", *ids], [*((name, *values) for name, values in columns.items()), ("written", *written)])


def _age(time_ms: int | None, now_ms: float) -> str:
    return "–" if time_ms is None else shown_span(max(0.0, now_ms - time_ms) / 1000)


def _shown(value: Any, now_ms: float) -> str:
    if value is None:
        return "–"
    if isinstance(value, list) and value:
        pairs = ((text, _age(int(time.astype(np.int64)), now_ms)) for text, time in value)
        return printable(", ".join(f"{text} ({age} ago)" for text, age in pairs))
    found = plain(value)
    if isinstance(found, list):
        return printable(", ".join(map(str, found))) or "(empty)"
    if isinstance(found, dict):
        return printable(", ".join(f"{k}: {v}" for k, v in found.items())) or "(empty)"
    return printable(str(found))
