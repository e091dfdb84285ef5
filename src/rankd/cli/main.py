"""`rankd`: the table of commands, and how errors end them.

A command's module is imported only when the command is used, so that `rankd --help` is
quick and `rankd rank` does not import the server. Each has a click command, `command`.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from rankd import __version__
from rankd.cli.exit_codes import ExitCode, exit_code_of
from rankd.cli.output import CommandError
from rankd.errors import RankdError


@dataclass(frozen=True, slots=True)
class Entry:
    """A command before it is imported: its place, its heading and its line in `rankd --help`."""

    target: str
    section: str
    summary: str


COMMANDS = {
    "demo": Entry("rankd.cli.demo:command", "Start here", "A simulated shop: load, train, rank, compare."),
    "init": Entry("rankd.cli.init:command", "Start here", "Write a small working workspace."),
    "check": Entry("rankd.cli.check:command", "Workspace", "Find every problem of a workspace."),
    "schema": Entry("rankd.cli.schema:command", "Workspace", "Print rankd.yaml's JSON Schema; migrate what is stored."),
    "serve": Entry("rankd.cli.serve:command", "Service", "Run the ranking service."),
    "status": Entry("rankd.cli.status:command", "Service", "Show the processes of a running service."),
    "load": Entry("rankd.cli.load:command", "Service", "Write signals from JSONL, CSV or Parquet files."),
    "ingest": Entry(
        "rankd.cli.ingest:command", "Service", "Send events of files, of standard input or of a Redis Stream."
    ),
    "get": Entry("rankd.cli.get:command", "Service", "Read signals back."),
    "describe": Entry("rankd.cli.describe:command", "Service", "Show the schema, fill rates, ages and sizes."),
    "export": Entry("rankd.cli.export:command", "Service", "Write all rows of an entity to a file."),
    "forget": Entry("rankd.cli.forget:command", "Service", "Delete everything kept under a user's id."),
    "snapshot": Entry("rankd.cli.snapshot:command", "Service", "Copy signals, verify them, put a copy back."),
    "build-signals": Entry("rankd.cli.build_signals:command", "Workspace", "Build signals from a history of events."),
    "rank": Entry("rankd.cli.rank:command", "Service", "Order candidates."),
    "score": Entry("rankd.cli.score:command", "Service", "Print model outputs for candidates."),
    "model": Entry("rankd.cli.model:command", "Models", "Look at model files, and compile them."),
    "train": Entry("rankd.cli.train:command", "Learning", "Train a LambdaMART model on judged lists."),
    "evaluate": Entry("rankd.cli.evaluate:command", "Learning", "Measure rankings against judgments."),
    "completion": Entry("rankd.cli.completion:command", "Shell", "Print a completion script."),
}

EPILOG = """\b
Examples:
  rankd demo                            see it work, in under two minutes
  rankd init shop && cd shop            a workspace of your own
  rankd check && rankd serve            check it, serve it
  rankd load items.jsonl                fill it
  rankd rank --help                     order candidates

Exit status: 0 done, 1 failed or problems found, 2 usage, 3 no server. See docs/cli.md."""


class LazyGroup(click.Group):
    """A group over COMMANDS that turns errors into messages and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(name.ljust(width), e.summary) for name, e in COMMANDS.items() if e.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # As click does it, but from the table: completing a name must not import every command.
        names = [CompletionItem(name, help=e.summary) for name, e in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
        except RankdError as error:
            _fail(ctx, str(error), exit_code_of(error))
        except OSError as error:
            # A file or socket that the command named; faults of rankd's own have no reason to be OSErrors.
            name = f": {error.filename}" if error.filename is not None else ""
            _fail(ctx, f"{error.strerror or error}{name}", ExitCode.FAILED)
        except Exception as error:
            message = f"unexpected {type(error).__name__}: {error}\nThis is a fault of rankd."
            hint = "" if ctx.params.get("debug") else " Run it again as `rankd --debug …` to see where."
            _fail(ctx, message + hint, ExitCode.INTERNAL)


def _fail(ctx: click.Context, message: str, code: ExitCode) -> NoReturn:
    if ctx.params.get("debug"):
        traceback.print_exc(file=sys.stderr)
    raise CommandError(message, code) from None


@click.group(
    cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", prog_name="rankd", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
def cli(debug: bool) -> None:
    """rankd orders things: candidates and a context in, a ranked list with its reasons out."""


def main() -> None:
    """The console script."""
    cli(prog_name="rankd")
