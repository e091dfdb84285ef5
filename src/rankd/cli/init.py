"""`rankd init`: a workspace to start from. Its files stand in cli/starter."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError

FILES = ("rankd.yaml", "items.jsonl", "users.jsonl", "events.jsonl", "judgments.csv", "README.md")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Write into a directory that is not empty, over files of the same names.")
def command(directory: Path, force: bool) -> None:
    """Write a small, commented, working workspace to DIR.

    A shop with 20 products, two users, two profiles, some judgments and events.

    \b
    Examples:
      rankd init shop
      rankd init . --force
    """
    if directory.is_dir() and any(directory.iterdir()) and not force:
        raise CommandError(f"{directory} is not empty; --force writes into it all the same", ExitCode.USAGE)
    directory.mkdir(parents=True, exist_ok=True)
    starter = files("rankd.cli") / "starter"
    for name in FILES:
        (directory / name).write_bytes((starter / name).read_bytes())
    # What the shell has to be told to go there; nothing where it is there already.
    place = "" if directory.resolve() == Path.cwd() else f"  cd {directory}\n"
    click.echo(
        f"Wrote {', '.join(FILES)} to {directory}. Next:\n\n{place}"
        "  rankd check\n"
        "  rankd serve                     then, in another terminal:\n"
        "  rankd load items.jsonl\n"
        "  rankd load users.jsonl --entity user\n"
        "  rankd ingest events.jsonl\n"
        "  rankd rank --help"
    )
