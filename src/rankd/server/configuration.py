"""A configuration: one version of everything that is served, loaded, compiled and tried.

    inspect    loads every model file, compiles every profile, and collects what is wrong
    load       the same, or WorkspaceError with all of it

Both block for as long as it takes to read the models: call them on a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ConfigError, ModelFileError, Problem, WorkspaceError
from rankd.events.declare import source_faults
from rankd.models.load import load_model
from rankd.models.scorer import LoadedModel, Scorer
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Plan
from rankd.signals.store import Categories
from rankd.types.profile import ModelSpec, Profile
from rankd.workspace import Workspace
from rankd.workspace.watch import FileState, file_state

_TRIED_VALUES: Final = (np.nan, 0.0, 1.0, -1.0)
_TRIED_MIXED_ROWS: Final = 4


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A loaded model and the file it is from, so that the same content is not loaded twice."""

    spec: ModelSpec
    state: FileState
    model: LoadedModel


@dataclass(frozen=True)
class Configuration:
    """See the module's docstring. `files`: every file it was read from, in the state in which it was read."""

    workspace: Workspace
    plans: Mapping[str, Plan]
    models: Mapping[str, ModelFile]
    files: Mapping[Path, FileState | None]

    @property
    def versions(self) -> dict[str, str]:
        """Versions by path: profiles.search, models.shop, and the schema's under schema."""
        return {
            "schema": self.workspace.schema.version,
            **{f"profiles.{name}": plan.versions.profile for name, plan in self.plans.items()},
            **{f"models.{name}": file.model.version for name, file in self.models.items()},
        }


@dataclass
class Inspection:
    """What was found in a workspace: what is sound, and every problem."""

    workspace: Workspace
    models: dict[str, ModelFile] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    files: dict[Path, FileState | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def configuration(self) -> Configuration:
        """What can be served. WorkspaceError with every problem, if there are any."""
        if self.problems:
            raise WorkspaceError(self.problems)
        return Configuration(self.workspace, self.plans, self.models, self.files)


def load_configuration(workspace: Workspace, categories: Categories) -> Configuration:
    """What is served of a workspace. WorkspaceError with every problem. Blocks."""
    return inspect_workspace(workspace, categories).configuration()


def inspect_workspace(workspace: Workspace, categories: Categories, before: Configuration | None = None) -> Inspection:
    """Loads, compiles and tries everything. Blocks.

    Models and plans of `before` that have not changed are taken over. Strings that expressions compare with are
    given codes by `categories`.
    """
    found = Inspection(workspace)
    found.files[workspace.inputs.file] = workspace.inputs.state
    found.problems += [
        Problem(workspace.place(fault.where), fault.where, fault.message) for fault in source_faults(workspace.schema)
    ]
    known = before.models if before is not None else {}
    for name, spec in workspace.models.items():
        found.files[Path(spec.path)] = file_state(Path(spec.path))
        try:
            found.models[name] = _load(spec, known.get(name))
        except ConfigError as error:
            path = f"models.{name}.file"
            # The file's own place, such as shop.txt:12, belongs to the message; `where` is rankd.yaml's.
            found.problems.append(Problem(workspace.place(path), path, str(error)))
    models = {name: file.model for name, file in found.models.items()}
    for name, profile in workspace.profiles.items():
        if profile.model is not None and profile.model not in models:
            continue  # its file is the problem, and is reported
        plan = _unchanged_plan(workspace, profile, models, before)
        try:
            found.plans[name] = plan or build_plan(profile, workspace.schema, categories, models)
        except ConfigError as error:
            path = error.where or f"profiles.{name}"
            found.problems.append(Problem(workspace.place(path), path, error.message))
    return found


def _unchanged_plan(
    workspace: Workspace, profile: Profile, models: Mapping[str, LoadedModel], before: Configuration | None
) -> Plan | None:
    """The plan of `before`, if this profile would become the same."""
    plan = before.plans.get(profile.name) if before is not None else None
    if before is None or plan is None or plan.profile != profile or before.workspace.schema != workspace.schema:
        return None
    model = None if profile.model is None else models[profile.model]
    return plan if plan.model is model else None


def _load(spec: ModelSpec, known: ModelFile | None) -> ModelFile:
    """The model of a file; `known` itself or its model if the file has not changed."""
    path = Path(spec.path)
    state = file_state(path)
    if known is not None and (known.spec, known.state) == (spec, state):
        return known
    if known is not None and _but_path(known.spec) == _but_path(spec) and _has_version(path, known):
        model = known.model
    else:
        model = load_model(spec)
        _try(model, spec)
    if state is None or file_state(path) != state:
        raise ModelFileError("was changed while it was being read", str(path))
    return ModelFile(spec, state, model)


def _has_version(path: Path, known: ModelFile) -> bool:
    """Whether another file has the content of `known`. A compiled model is not read for that: to map it is quicker."""
    try:
        if known.spec.format == "compiled" or not path.is_file():  # a pipe would block
            return False
        with path.open("rb") as file:
            return known.model.version.endswith("@" + hashlib.file_digest(file, "sha256").hexdigest()[:12])
    except (OSError, ValueError):  # load_model says it better
        return False


def _but_path(spec: ModelSpec) -> tuple[str, str, tuple[str, ...] | None]:
    return spec.name, spec.format, spec.features


def tried_rows(inputs: int) -> NDArray[np.float32]:
    """Rows that every model must give finite scores: float32 (inputs, rows).

    All missing, all 0, all 1, all -1, and some of small values of different sizes with missing ones among them.
    """
    constant = np.repeat(np.array([_TRIED_VALUES], np.float32), inputs, axis=0)
    position = np.arange(inputs * _TRIED_MIXED_ROWS, dtype=np.float32).reshape(inputs, _TRIED_MIXED_ROWS)
    mixed = np.float32(3.0) * np.sin(position * np.float32(1.7))
    mixed[(np.arange(mixed.size).reshape(mixed.shape) * 7) % 11 == 0] = np.nan
    return np.ascontiguousarray(np.hstack([constant, mixed]), np.float32)


def _try(model: LoadedModel, spec: ModelSpec) -> None:
    """Scores tried_rows. ModelFileError if a score is not finite."""
    scorer: Scorer = model.scorer
    # Raw: an exponential objective may well overflow on values that are not its features'.
    scores = scorer.score(tried_rows(len(scorer.feature_names)), raw=True)
    if not np.isfinite(scores).all():
        row = int(np.argwhere(~np.isfinite(scores))[0][1])
        raise ModelFileError(f"expected finite scores of rows tried, got {scores[:, row].tolist()}", spec.path)
