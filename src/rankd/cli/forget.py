"""`rankd forget`: deletes everything kept under a user's id."""

from __future__ import annotations

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import json_option, print_json
from rankd.cli.remote import connected, printable, remote_options


@click.command()
@click.argument("user", metavar="USER")
@remote_options
@json_option
def command(user: str, address: str, timeout_s: float, as_json: bool) -> None:
    """Delete everything that is kept under a user's id.

    Its row of the entity `user`, and rows of entities whose ids are joined of a user's and others, such as
    user_category. When the command ends they are gone for good. Exit status 1 if there was nothing.

    \b
    Examples:
      rankd forget u1
      rankd forget u1 --json
    """
    with connected(address, timeout_s) as client:
        deleted = client.forget_user(user)
    if as_json:
        print_json({"user": user, "deleted": deleted})
    elif any(deleted.values()):
        rows = ", ".join(f"{count:,} {entity}" for entity, count in deleted.items() if count)
        click.echo(f"deleted: {rows}")
    else:
        click.echo(f"nothing is known of {printable(user)}", err=True)
    if not any(deleted.values()):
        raise click.exceptions.Exit(ExitCode.FAILED)
