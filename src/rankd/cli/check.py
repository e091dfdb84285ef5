"""`rankd check`: everything that would keep the workspace from being served, found without serving."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankd.cli.exit_codes import ExitCode
from rankd.cli.output import json_option, print_json, print_table, read_workspace, workspace_argument
from rankd.errors import ConfigError, Problem, WorkspaceError

if TYPE_CHECKING:
    from rankd.models.scorer import LoadedModel
    from rankd.workspace import Workspace


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
    findings = Findings(entities={e.name: {"signals": len(e.signals)} for e in workspace.schema.entities.values()})
    models = _check_models(workspace, findings)
    _check_profiles(workspace, models, findings)
    return findings


def _check_models(workspace: Workspace, findings: Findings) -> dict[str, LoadedModel]:
    from rankd.models import load_model

    loaded = {}
    for name, spec in workspace.models.items():
        try:
            model = loaded[name] = load_model(spec)
        except ConfigError as error:
            path = f"models.{name}.file"
            # The file's own place, such as shop.txt:12, belongs to the message; `where` is rankd.yaml's.
            findings.problems.append(Problem(workspace.place(path), path, str(error)))
            continue
        findings.models[name] = {
            "version": model.version,
            "format": spec.format,
            "features": len(model.scorer.feature_names),
            # Only models of trees have them.
            "trees": getattr(getattr(model.scorer, "forest", None), "trees", None),
        }
    return loaded


def _check_profiles(workspace: Workspace, models: dict[str, LoadedModel], findings: Findings) -> None:
    from rankd.ranking.build import build_plan
    from rankd.signals.categories import CategoryTable

    categories = CategoryTable()
    for name, profile in workspace.profiles.items():
        if profile.model is not None and profile.model not in models:
            continue  # its file is the problem, and is reported
        try:
            plan = build_plan(profile, workspace.schema, categories, models)
        except ConfigError as error:
            path = error.where or f"profiles.{name}"
            findings.problems.append(Problem(workspace.place(path), path, error.message))
            continue
        findings.profiles[name] = {
            "version": plan.versions.profile,
            "entity": profile.entity,
            "features": len(profile.features),
            "base": profile.base is not None,
            "model": profile.model,
            "rerank": profile.rerank_count,
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
