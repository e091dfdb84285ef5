"""`rankd check`: everything that would keep the workspace from being served, found without serving."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import json_option, print_json, print_table, read_workspace, workspace_argument
from rankd.errors import Problem, WorkspaceError

if TYPE_CHECKING:
    from rankd.ranking.plan import Plan
    from rankd.server.configuration import ModelFile


@dataclass(slots=True)
class Findings:
    """What a check found: problems, and a summary of what is sound."""

    problems: list[Problem] = field(default_factory=list)
    entities: dict[str, Any] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)


@click.command()
@workspace_argument
@json_option
def command(directory: Path, as_json: bool) -> None:
    """Find every problem of the workspace in DIR (default: here).

    Reads rankd.yaml, compiles every expression and loads every model file, as the server would.
    Each problem names its line, its path, what was expected and what came. Exit status 1 if
    there are any.

    \b
    Examples:
      rankd check
      rankd check shop --json
    """
    findings = check(directory)
    if as_json:
        print_json(
            {
                "ok": not findings.problems,
                "problems": [{"where": p.where, "path": p.path, "message": p.message} for p in findings.problems],
                "entities": findings.entities,
                "profiles": findings.profiles,
                "models": findings.models,
            }
        )
    else:
        _print(findings)
    if findings.problems:
        raise click.exceptions.Exit(ExitCode.FAILED)


def check(directory: Path) -> Findings:
    """Checks a workspace. Raises only for what is no matter of its contents."""
    try:
        workspace = read_workspace(directory)
    except WorkspaceError as error:
        return Findings(problems=list(error.problems))
    from rankd.server.configuration import inspect_workspace
    from rankd.signals.categories import ScratchCategories

    inspection = inspect_workspace(workspace, ScratchCategories())
    return Findings(
        problems=inspection.problems,
        entities={e.name: {"signals": len(e.signals)} for e in workspace.schema.entities.values()},
        profiles={name: _profile_facts(plan) for name, plan in inspection.plans.items()},
        models={name: _model_facts(file) for name, file in inspection.models.items()},
    )


def _model_facts(file: ModelFile) -> dict[str, Any]:
    scorer = file.model.scorer
    return {
        "version": file.model.version,
        "format": file.spec.format,
        "features": len(scorer.feature_names),
        # Only models of trees have them.
        "trees": getattr(getattr(scorer, "forest", None), "trees", None),
    }


def _profile_facts(plan: Plan) -> dict[str, Any]:
    return {
        "version": plan.versions.profile,
        "entity": plan.profile.entity,
        "features": len(plan.profile.features),
        "base": plan.profile.base is not None,
        "model": plan.profile.model,
        "rerank": plan.profile.rerank_count,
    }


def _print(findings: Findings) -> None:
    for problem in findings.problems:
        click.echo(str(problem), err=True)
    if findings.problems:
        count = len(findings.problems)
        click.echo(f"{count} problem{'s' if count > 1 else ''} found", err=True)
        return
    print_table(["entity", "signals"], [(n, e["signals"]) for n, e in findings.entities.items()], right=["signals"])
    if findings.models:
        click.echo()
        print_table(
            ["model", "version", "inputs", "trees"],
            [(n, m["version"], m["features"], _or_dash(m["trees"])) for n, m in findings.models.items()],
            right=["inputs", "trees"],
        )
    if findings.profiles:
        click.echo()
        print_table(
            ["profile", "version", "entity", "features", "base", "rerank", "model"],
            [
                (n, p["version"], p["entity"], p["features"], "yes" if p["base"] else "caller's",
                 "all" if p["model"] and p["rerank"] is None else _or_dash(p["rerank"]), _or_dash(p["model"]))
                for n, p in findings.profiles.items()
            ],
            right=["features", "rerank"],
        )  # fmt: skip
    click.echo("\nno problems found")


def _or_dash(value: object) -> object:
    return "-" if value is None else value
