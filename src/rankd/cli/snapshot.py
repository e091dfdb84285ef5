"""`rankd snapshot`: copies of the signals of a data directory, and what to do when it is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import CommandError, json_option, print_json, read_workspace

if TYPE_CHECKING:
    from rankd.signals.recordfile import DamageError
    from rankd.signals.upkeep import Outcome, Survey

_EXISTING = click.Path(exists=True, path_type=Path)


@click.group()
def command() -> None:
    """Copy signals, check what is on the disk, put a copy back.

    DIR is a data directory (server.data_dir), or a workspace, which stands for its own. Signals shared through Redis
    are Redis's to copy.

    \b
    Examples:
      rankd snapshot create shop -o shop.rksnap
      rankd snapshot verify shop.rksnap
      rankd snapshot restore shop --from shop.rksnap
    """


@command.command()
@click.argument("directory", metavar="[DIR]", default=".", type=_EXISTING, required=False)
@click.option("--output", "-o", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new file.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def create(directory: Path, output: Path, force: bool, as_json: bool) -> None:
    """Copy all signals into one file, whether or not rankd is running.

    Of a running server the copy has all writes that were acknowledged before the command began, and no part of one.
    Everything read is checked: of a damaged directory there is no copy. The file appears when it is whole and on the
    disk.

    \b
    Examples:
      rankd snapshot create shop -o shop.rksnap
      rankd snapshot create /var/lib/rankd -o "/backup/$(date +%F).rksnap" --json
    """
    from rankd.signals import upkeep

    if output.exists() and not force:
        raise CommandError(f"{output} exists; --force replaces it", ExitCode.USAGE)
    survey = upkeep.create(data_directory(directory), output)
    size = output.stat().st_size
    if as_json:
        print_json({"file": str(output), "bytes": size, "rows": survey.rows})
    else:
        click.echo(f"{output}: {size:,} bytes, {_rows_text(survey)}")


@command.command()
@click.argument("path", metavar="[PATH]", default=".", type=_EXISTING, required=False)
@json_option
def verify(path: Path, as_json: bool) -> None:
    """Read every record of a data directory or of a snapshot's file, and say what is damaged, with file and offset.

    A data directory may be in use. Mapped tables are not read: they are made anew from the other files whenever in
    doubt. Exit status 1 if anything is damaged.

    \b
    Examples:
      rankd snapshot verify shop
      rankd snapshot verify shop.rksnap --json
    """
    from rankd.signals import upkeep

    place = data_directory(path) if path.is_dir() else path
    survey = upkeep.verify(place)
    if as_json:
        print_json({"path": str(place), "ok": not survey.damage} | _survey_document(survey))
    else:
        for report in survey.files.values():
            click.echo(f"{report.path}: {report.size:,} bytes, {report.groups:,} groups, {report.rows:,} rows")
        if survey.cut is not None:
            click.echo(f"{survey.cut}: it was never acknowledged, and goes at the next start", err=True)
        for damage in survey.damage:
            click.echo(f"damaged: {damage}", err=True)
        if not survey.damage:
            click.echo("all records are whole")
    if survey.damage:
        raise click.exceptions.Exit(ExitCode.FAILED)


@command.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--from", "source", metavar="PATH", type=_EXISTING, help="A snapshot's file, or another data directory.")
@click.option("--replace", "replace_old", is_flag=True, help="Replace signals that DIR has.")
@click.option("--accept-loss", is_flag=True, help="Go on without what is damaged.")
@json_option
def restore(directory: Path, source: Path | None, replace_old: bool, accept_loss: bool, as_json: bool) -> None:
    """Put a copy into a data directory, or make a damaged one good again. rankd must not be running there.

    With --from, DIR gets what is in PATH; what it had stays in DIR/before-restore-…, a data directory itself.

    Without it and with --accept-loss, what can be read of DIR's own files is kept, and what is lost is said: file,
    offset, groups of writes that are missing. The files as they were stay in DIR/before-repair-….

    \b
    Examples:
      rankd snapshot restore shop --from shop.rksnap
      rankd snapshot restore shop --from shop.rksnap --replace
      rankd snapshot restore shop --accept-loss
    """
    from rankd.signals import upkeep

    place = data_directory(directory)
    if source is not None:
        origin = data_directory(source) if source.is_dir() else source
        outcome = upkeep.restore(place, origin, replace_old=replace_old, accept_loss=accept_loss)
    elif replace_old or not accept_loss:
        raise click.UsageError(
            "expected --from PATH, or --accept-loss alone to make DIR good again from its own files."
        )
    else:
        outcome = upkeep.repair(place)
    _report(place, outcome, as_json)


def _report(directory: Path, outcome: Outcome, as_json: bool) -> None:
    survey, backup = outcome.survey, outcome.backup
    if as_json:
        document = {"directory": str(directory), "backup": None if backup is None else str(backup)}
        print_json(document | _survey_document(survey))
        return
    for damage in survey.damage:
        click.echo(f"lost: {damage}", err=True)
    click.echo(f"{directory}: {_rows_text(survey)}" + ("" if survey.damage else "; nothing is lost"))
    if backup is not None:
        click.echo(f"what was there is in {backup}; remove it when it is no longer wanted")


def _rows_text(survey: Survey) -> str:
    rows = ", ".join(f"{count:,} of {entity}" for entity, count in sorted(survey.rows.items()))
    return f"rows written: {rows or 'none'}"


def _survey_document(survey: Survey) -> dict[str, Any]:
    def place(error: DamageError) -> dict[str, Any]:
        return {"file": str(error.path), "offset": error.offset, "description": error.reason}

    return {
        "files": [
            {"file": str(r.path), "bytes": r.size, "groups": r.groups, "rows": r.rows} for r in survey.files.values()
        ],
        "rows": survey.rows,
        "damage": [place(error) for error in survey.damage],
        "cut": None if survey.cut is None else place(survey.cut),
    }


def data_directory(path: Path) -> Path:
    """Where a workspace keeps its signals; any other directory is one itself. CommandError: nowhere on this machine."""
    from rankd.workspace import FILE_NAME

    if not (path / FILE_NAME).exists():
        return path
    workspace = read_workspace(path)
    if workspace.settings.signals.backend == "redis":
        raise CommandError(
            f"{workspace.path} keeps signals in Redis (signals.backend): copy them as Redis copies what it has, see "
            "BGSAVE and appendonly",
            ExitCode.USAGE,
        )
    if workspace.data_dir is None:
        raise CommandError(f"{workspace.path} keeps signals in memory only (server.data_dir: null)", ExitCode.USAGE)
    return workspace.data_dir
