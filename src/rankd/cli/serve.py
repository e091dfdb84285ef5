"""`rankd serve`: the composition root of the service."""

from __future__ import annotations

from pathlib import Path

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, read_workspace, workspace_argument
from rankd.errors import ConfigError, WorkspaceError

_ADDRESSES = ("server.listen", "server.health_listen", "server.metrics_listen")


@click.command()
@workspace_argument
@click.option("--listen", metavar="ADDRESS", help="Where to serve; port 0 takes any free one. Sets server.listen.")
@click.option("--health-listen", metavar="ADDRESS", help="Where to answer health checks. Sets server.health_listen.")
@click.option("--data-dir", metavar="DIR", help="Where to keep signals. Sets server.data_dir.")
@click.option("--workers", type=int, metavar="N", help="Processes that answer calls. Sets server.workers.")
@click.option("--in-memory", is_flag=True, help="Keep signals in memory only; they are lost at exit.")
def command(
    directory: Path,
    listen: str | None,
    health_listen: str | None,
    data_dir: str | None,
    workers: int | None,
    in_memory: bool,
) -> None:
    """Run the ranking service of the workspace in DIR (default: here).

    It runs a supervisor, a keeper that holds the signals, and N workers that answer calls (default:
    one for each CPU granted); `rankd status` shows them. It serves until SIGTERM or Ctrl-C: then
    health says NOT_SERVING, calls in flight are finished, and it ends with status 0. Settings come
    from options, then from variables such as RANKD_SERVER__LISTEN, then from rankd.yaml.

    \b
    Examples:
      rankd serve shop
      rankd serve --listen 127.0.0.1:6000 --health-listen 127.0.0.1:6001
      rankd serve --workers 4 --in-memory
      RANKD_TRACING__OTLP_ENDPOINT=http://127.0.0.1:4317 rankd serve
    """
    from rankd.workspace import Override

    if in_memory and data_dir is not None:
        raise click.UsageError("--in-memory and --data-dir exclude each other.")
    # A path is relative to where the command is given, a setting in the file to the workspace.
    data_path = None if data_dir is None else str(Path.cwd() / data_dir)
    given = {"listen": listen, "health_listen": health_listen, "data_dir": data_path, "workers": workers}
    overrides = [
        Override("--" + name.replace("_", "-"), ("server", name), value)
        for name, value in given.items()
        if value is not None
    ]
    if in_memory:
        overrides.append(Override("--in-memory", ("server", "data_dir"), None))
    try:
        workspace = read_workspace(directory, overrides)
    except WorkspaceError as error:
        options = all(problem.where.startswith("--") for problem in error.problems)
        raise CommandError(str(error), ExitCode.USAGE if options else ExitCode.FAILED) from error

    from rankd.server.supervisor.service import run_service

    try:
        code = run_service(workspace, overrides)
    except ConfigError as error:
        if error.where in _ADDRESSES:
            raise CommandError(str(error), ExitCode.ADDRESS) from error
        raise
    raise click.exceptions.Exit(code)
