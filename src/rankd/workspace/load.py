"""Loading a workspace: file -> document -> sections -> the types that the rest of rankd uses.

All problems are collected and raised together. Expressions and model files are not
looked at here: `rankd check` and the server compile and load them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rankd.errors import Problem, WorkspaceError
from rankd.limits import MAX_WORKSPACE_FILE_BYTES
from rankd.types.profile import ContextFeature, ContextKind, Feature, ModelSpec, Profile
from rankd.types.schema import Entity, Schema, Storage
from rankd.workspace.environment import Override, apply_overrides, read_environment
from rankd.workspace.explain import report_errors
from rankd.workspace.references import check_references
from rankd.workspace.sections import MODEL_FORMATS, EntitySection, ModelSection, ProfileSection, Root
from rankd.workspace.settings import Settings
from rankd.workspace.signals import signal_of
from rankd.workspace.values import parse_type
from rankd.workspace.watch import FileState, file_state
from rankd.workspace.yaml_text import parse_document, path_text

FILE_NAME = "rankd.yaml"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a workspace was read from. `file`: absolute; its links are followed by each reading. `state`: as it was."""

    file: Path
    state: FileState | None
    environ: Mapping[str, str]
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class Workspace:
    """A configuration as declared, before anything is compiled or loaded.

    `root` is the absolute directory of the file `path`; model paths are absolute. `places` says
    where things were written ("rankd.yaml:12") by path, such as profiles.search.base. `inputs`: to read it again.
    """

    root: Path
    path: Path
    schema: Schema
    profiles: Mapping[str, Profile]
    models: Mapping[str, ModelSpec]
    settings: Settings
    places: Mapping[str, str] = field(repr=False, compare=False)
    inputs: Inputs = field(repr=False, compare=False)

    @property
    def data_dir(self) -> Path | None:
        """Where signals are kept; None: in memory only."""
        name = self.settings.server.data_dir
        return None if name is None else self.root / name

    def place(self, path: str) -> str:
        """Where a path such as profiles.search.base was written ("rankd.yaml:12"), or the innermost thing around it."""
        while path not in self.places and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places[path]

    def reread(self) -> Workspace:
        """The workspace as it is now, with the same environment and overrides. WorkspaceError as for load_workspace."""
        return load_workspace(self.inputs.file, self.inputs.environ, self.inputs.overrides)


def load_workspace(path: Path, environ: Mapping[str, str], overrides: Iterable[Override] = ()) -> Workspace:
    """Reads a workspace: a directory with rankd.yaml, or the file itself.

    `environ` gives settings (see environment.py), `overrides` those of the command line, which win.
    Raises WorkspaceError with every problem found.
    """
    file = path.absolute() / FILE_NAME if path.is_dir() else path.absolute()
    overrides = tuple(overrides)
    state = file_state(file)
    text = _read_text(file)
    if file_state(file) != state:
        raise WorkspaceError(
            [Problem(file.name, "", "expected a file at rest, it was changed while it was being read")]
        )
    document = parse_document(text, file.name)
    if document.value is None:
        raise WorkspaceError(
            [Problem(file.name, "", 'expected a workspace, got an empty file; begin with "version: 1"')]
        )
    settings, problems = read_environment(environ)
    document.problems.extend(problems)
    apply_overrides(document, [*settings, *overrides])
    root: Root | None = None
    try:
        root = Root.model_validate(document.value)
    except ValidationError as error:
        report_errors(document, error.errors(include_url=False), Root)
    check_references(document)
    if root is None or document.problems:
        raise WorkspaceError(_in_file_order(document.problems))
    # Of the directory, not of the file: where that is a link, as in a mounted ConfigMap, models stand beside the link.
    directory = file.parent.resolve()
    return Workspace(
        root=directory,
        path=directory / file.name,
        schema=_schema(root),
        profiles={name: _profile(name, section) for name, section in root.profiles.items()},
        models={name: _model(name, section, directory) for name, section in root.models.items()},
        settings=Settings(server=root.server, tracing=root.tracing, signals=root.signals),
        places={path_text(path): place for path, place in document.places.items()},
        inputs=Inputs(file, state, environ, overrides),
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of rankd.yaml, for editors."""
    schema = Root.model_json_schema(by_alias=True)
    _close(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "rankd.yaml"}


def _close(schema: Any) -> None:
    """Refuses names that fit no pattern; pydantic states the patterns but leaves the mapping open."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            _close(inner)


def _read_text(file: Path) -> str:
    def problem(message: str) -> WorkspaceError:
        return WorkspaceError([Problem(str(file), "", message)])

    if not file.is_file():
        raise problem("expected a workspace file, got none; `rankd init DIR` writes one to start from")
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_WORKSPACE_FILE_BYTES + 1)
    except OSError as error:
        raise problem(f"expected a readable file, got: {error.strerror}") from None
    if len(data) > MAX_WORKSPACE_FILE_BYTES:
        raise problem(f"expected at most {MAX_WORKSPACE_FILE_BYTES} bytes, got more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WorkspaceError([Problem(f"{file.name}:{line}", "", "expected UTF-8 text, got other bytes")]) from None


def _in_file_order(problems: list[Problem]) -> list[Problem]:
    def order(problem: Problem) -> tuple[bool, int]:
        _, colon, line = problem.where.rpartition(":")
        return (False, int(line)) if colon and line.isdecimal() else (True, 0)

    return sorted(dict.fromkeys(problems), key=order)


def _schema(root: Root) -> Schema:
    entities = {}
    for name, signals in root.schema_.items():
        more = root.entities.get(name, EntitySection())
        storage = None if more.storage is None else Storage(more.storage)
        typed = {signal: signal_of(signal, section) for signal, section in signals.items()}
        entities[name] = Entity(name, typed, tuple(more.key or ()), storage)
    return Schema(entities)


def _profile(name: str, section: ProfileSection) -> Profile:
    context = {}
    for key, text in section.context.items():
        kind, dimension = parse_type(text, [k.value for k in ContextKind], "a context type")
        context[key] = ContextFeature(key, ContextKind(kind), dimension)
    return Profile(
        name=name,
        entity=section.entity,
        columns=tuple(section.columns),
        context=context,
        features=tuple(Feature(key, text) for key, text in section.features.items()),
        base=section.base,
        rerank_count=section.rerank,
        model=section.model,
    )


def _model(name: str, section: ModelSection, directory: Path) -> ModelSpec:
    file = directory / section.file
    features = None if section.features is None else tuple(section.features)
    return ModelSpec(name, str(file), section.format or MODEL_FORMATS[file.suffix], features)
