"""`rankd status`: the processes of a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, json_option, print_json, print_table, workspace_argument


@click.command()
@workspace_argument
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.01, 3600), default=5.0, show_default=True, metavar="SECONDS",
    help="How long to wait for the answer.",
)  # fmt: skip
@json_option
def command(directory: Path, timeout_s: float, as_json: bool) -> None:
    """Show the processes of the service that serves the workspace in DIR (default: here).

    It must run on this machine, as the same user. A worker is starting, serving, draining, or backing
    off after it died too often. `own` is memory that no other process shares. Exit status 1 if a process
    is not serving, 3 if no service runs.

    \b
    Examples:
      rankd status
      rankd status shop --json
    """
    status = _ask(directory, timeout_s)
    if as_json:
        print_json(status)
    else:
        _print(status)
    if not all(row["state"] == "serving" for row in status["processes"]):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _ask(directory: Path, timeout_s: float) -> dict[str, Any]:
    from rankd.server.supervisor.runtime import NOTE_NAME, note_of, read_note
    from rankd.server.supervisor.status_socket import ask_status

    # Not by way of what rankd.yaml says: it may be broken, and the service goes on with what it has read.
    file = (directory / "rankd.yaml" if directory.is_dir() else directory).resolve()
    for note in (note_of(file), file.parent / "data" / NOTE_NAME):
        socket = read_note(note)
        if socket is not None and socket.exists():
            return ask_status(socket, timeout_s)
    raise CommandError(f"no service runs for {file}", ExitCode.UNREACHABLE)


def _print(status: dict[str, Any]) -> None:
    click.echo(
        f"rankd {status['version']}, {status['state']} on {status['address']}, health on {status['health_address']}, "
        f"up {_duration(status['uptime_s'])}\n"
    )
    columns = ["process", "pid", "state", "up", "restarts", "in flight", "calls", "memory", "own"]
    own = ("supervisor", status["pid"], status["state"], _duration(status["uptime_s"]), "", "", "")
    rows = [(*own, _mib(status["resident_bytes"]), _mib(status["own_bytes"])), *map(_cells, status["processes"])]
    print_table(columns, rows, right=["pid", "up", "restarts", "in flight", "calls", "memory", "own"])
    _print_versions(status["processes"])
    for row in status["processes"]:
        if row["last_end"]:
            click.echo(f"{row['name']}, last end: {row['last_end']}")
        if last := row["reload"]:
            what = ", ".join(last["changed"]) or "nothing changed" if last["ok"] else last["error"]
            click.echo(f"{row['name']}, last reload: {'done' if last['ok'] else 'refused'}: {what}")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["name"],
        _or_dash(row["pid"]),
        row["state"] if row["retry_in_s"] is None else f"{row['state']} {row['retry_in_s']:.0f} s",
        _duration(row["uptime_s"]),
        row["restarts"] + row["recycled"],
        _or_dash(row["in_flight"]),
        _or_dash(row["calls"]),
        _mib(row["resident_bytes"]),
        _mib(row["own_bytes"]),
    )


def _print_versions(processes: list[dict[str, Any]]) -> None:
    """One line per set of versions: workers that differ are seen at once."""
    by_versions: dict[str, list[str]] = {}
    for row in processes:
        if row["versions"]:
            text = ", ".join(
                f"{name.rpartition('.')[2]}@{version}" for name, version in sorted(row["versions"].items())
            )
            by_versions.setdefault(text, []).append(row["name"])
    rows: dict[str, int] = {}
    for row in processes:
        rows.update(row["rows"] or {})
        if (replica := row.get("replica")) is not None:
            lag = "no full copy yet" if replica["lag_s"] is None else f"at most {replica['lag_s']:.1f} s behind"
            click.echo(f"\nreplica: {'in step with Redis' if replica['in_step'] else 'not in step with Redis'}, {lag}")
    click.echo("\nrows: " + (", ".join(f"{count:,} {name}" for name, count in rows.items()) or "none"))
    for text, names in by_versions.items():
        click.echo(f"versions: {text}" + (f" ({', '.join(names)})" if len(by_versions) > 1 else ""))


def _or_dash(value: object) -> object:
    return "–" if value is None else value


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count else "–"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock
