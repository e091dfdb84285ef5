"""`rankd schema`: the JSON Schema of rankd.yaml; the stored schema beside the declared one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, json_option, print_json, print_table, read_workspace, workspace_argument

if TYPE_CHECKING:
    from rankd.signals.migration import Plan, Step
    from rankd.workspace import Workspace

_output_option = click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead."
)


@click.group(invoke_without_command=True)
@_output_option
@click.pass_context
def command(context: click.Context, output: Path | None) -> None:
    """Print the JSON Schema of rankd.yaml, or compare and change what is stored.

    Without a subcommand it is `rankd schema print`.

    \b
    Examples:
      rankd schema --output rankd.schema.json
      rankd schema diff shop
      rankd schema migrate shop --drop item.price
    """
    if context.invoked_subcommand is None:
        _print(output)
    elif output is not None:
        raise click.UsageError("--output belongs to `rankd schema print`.")


@command.command("print")
@_output_option
def print_(output: Path | None) -> None:
    """Print the JSON Schema of rankd.yaml, for editors.

    \b
    Examples:
      rankd schema print --output rankd.schema.json

    Editors with the YAML language server then complete and check rankd.yaml if its first
    line is `# yaml-language-server: $schema=rankd.schema.json`.
    """
    _print(output)


def _print(output: Path | None) -> None:
    from rankd.workspace import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


@command.command()
@workspace_argument
@json_option
def diff(directory: Path, as_json: bool) -> None:
    """Compare the schema of stored signals with the declared one.

    For each difference: how many values are stored, and what `rankd schema migrate` makes of them. rankd may be
    running. Exit status 1 if rankd would not start with the declared schema: if a signal is declared with another type
    than its stored values have.

    \b
    Examples:
      rankd schema diff shop
      rankd schema diff shop --json
    """
    plan = _planned(read_workspace(directory), (), False)
    _show(plan, as_json)
    if any(step.difference.what == "retyped" for step in plan.steps):
        raise click.exceptions.Exit(ExitCode.FAILED)


@command.command()
@workspace_argument
@click.option("--drop", "drops", metavar="NAME", multiple=True, help="Drop what is stored of ENTITY.SIGNAL or ENTITY.")
@click.option("--accept-loss", is_flag=True, help="Values that cannot be converted exactly become missing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@json_option
def migrate(directory: Path, drops: tuple[str, ...], accept_loss: bool, dry_run: bool, as_json: bool) -> None:
    """Convert stored signals to their declared types, and drop what is told. rankd must not be running.

    All or nothing: if anything can neither be converted nor is dropped, nothing is done. The files as they were stay
    in the data directory, in before-migrate-…; `rankd snapshot restore` takes them back. Values in Redis are only
    dropped.

    \b
    Examples:
      rankd schema migrate shop --dry-run
      rankd schema migrate shop --drop item.old_price --drop session
    """
    workspace = read_workspace(directory)
    if dry_run:
        _show(_planned(workspace, drops, accept_loss), as_json)
        return
    if workspace.settings.signals.backend == "redis":
        from rankd.cli.shared_schema import drop_shared

        _show(drop_shared(workspace, drops), as_json, is_done=True)
        return
    from rankd.signals import migration

    _show(migration.migrate(_data_dir(workspace), workspace.schema, drops, accept_loss), as_json, is_done=True)


def _planned(workspace: Workspace, drops: tuple[str, ...], accept_loss: bool) -> Plan:
    if workspace.settings.signals.backend == "redis":
        from rankd.cli.shared_schema import plan_shared

        return plan_shared(workspace, drops)
    from rankd.signals import migration

    return migration.plan(_data_dir(workspace), workspace.schema, drops, accept_loss)


def _data_dir(workspace: Workspace) -> Path:
    """With something in it."""
    from rankd.signals.upkeep import state_files

    if workspace.data_dir is None:
        raise CommandError(f"{workspace.path} keeps signals in memory only (server.data_dir: null)", ExitCode.USAGE)
    if not state_files(workspace.data_dir):
        raise CommandError(f"nothing is stored yet in {workspace.data_dir}", ExitCode.FAILED)
    return workspace.data_dir


def _show(plan: Plan, as_json: bool, is_done: bool = False) -> None:
    if as_json:
        steps = [_document(step) for step in plan.steps]
        backup = None if plan.backup is None else str(plan.backup)
        print_json({"ok": not plan.refused, "differences": steps, "backup": backup})
    elif not plan.steps:
        click.echo("what is stored is of the declared schema")
    else:
        _print_steps(plan)
        if is_done and not plan.changes_state:
            click.echo("there was nothing to do")
        if plan.backup is not None:
            click.echo(f"done; the files as they were are in {plan.backup}; remove it when it is no longer wanted")
    if plan.refused:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _print_steps(plan: Plan) -> None:
    rows = []
    for step in plan.steps:
        what = step.difference
        count = "" if step.stored is None or what.what == "added" else f"{step.stored:,}"
        rows.append((step.name, what.stored, what.declared, count, step.text))
    head = ("signal", "stored", "declared", "values", "rankd schema migrate")
    print_table(head, rows, right=("values",))


def _document(step: Step) -> dict[str, object]:
    what = step.difference
    return {
        "what": what.what,
        "entity": what.entity,
        "signal": what.signal or None,
        "stored_type": what.stored or None,
        "declared_type": what.declared or None,
        "values": step.stored,
        "inexact": step.inexact,
        "fate": step.fate.value,
        "description": step.text,
    }
