"""`rankd completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rankd.cli.output import CommandError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that completes rankd's commands and options.

    \b
    Examples:
      bash:  rankd completion bash > ~/.local/share/bash-completion/completions/rankd
      zsh:   rankd completion zsh > "${fpath[1]}/_rankd"
      fish:  rankd completion fish > ~/.config/fish/completions/rankd.fish
    """
    from rankd.cli.main import cli

    completion = get_completion_class(shell)
    if completion is None:
        raise CommandError(f"click knows no completion for {shell}")
    click.echo(completion(cli, {}, "rankd", "_RANKD_COMPLETE").source())
