"""Settings from outside the file: environment variables and command line options.

RANKD_SERVER__LISTEN=0.0.0.0:50051 sets server.listen, RANKD_SERVER__LIMITS__MAX_CANDIDATES=500
sets server.limits.max_candidates: RANKD_, then the path in capitals with two underscores
between its parts. The value is read as a YAML scalar (null and nothing are null). Variables
without two underscores, such as RANKD_DATA, are not settings.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rankd.errors import Problem
from rankd.workspace.explain import keys_at
from rankd.workspace.settings import Settings
from rankd.workspace.values import did_you_mean
from rankd.workspace.yaml_text import Document, Path, parse_scalar, path_text

PREFIX = "RANKD_"


@dataclass(frozen=True, slots=True)
class Override:
    """A setting from outside the file. `source` is what errors name, such as --listen."""

    source: str
    path: tuple[str, ...]
    value: Any


def variable_name(path: Iterable[str]) -> str:
    """("server", "listen") -> RANKD_SERVER__LISTEN."""
    return PREFIX + "__".join(path).upper()


def settings_paths() -> list[tuple[str, ...]]:
    """The path of every single setting."""

    def below(path: tuple[str, ...]) -> list[tuple[str, ...]]:
        keys = _keys(path)
        return [leaf for key in keys for leaf in below((*path, key))] if keys else [path]

    return [leaf for section in Settings.sections() for leaf in below((section,))]


def setting_values(settings: Settings) -> dict[str, Any]:
    """Every single setting by its path, such as server.limits.max_candidates."""
    return {
        path_text(path): functools.reduce(lambda section, name: getattr(section, name), path, settings)
        for path in settings_paths()
    }


def read_environment(environ: Mapping[str, str]) -> tuple[list[Override], list[Problem]]:
    """The settings among environment variables, and what is wrong with those that look like settings."""
    known = {variable_name(path): path for path in settings_paths()}
    overrides = []
    problems = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        path = known.get(name)
        if path is None:
            message = f"expected the name of a setting, got an unknown one{did_you_mean(name, known)}"
            problems.append(Problem(name, "", message))
            continue
        try:
            overrides.append(Override(name, path, parse_scalar(environ[name])))
        except ValueError as error:
            problems.append(Problem(name, path_text(path), str(error)))
    return overrides, problems


def apply_overrides(document: Document, overrides: Iterable[Override]) -> None:
    """Puts the values into the document as if they had been written there, with their own places."""
    for override in overrides:
        here = document.value
        for i, part in enumerate(override.path[:-1]):
            if not isinstance(here, dict):
                break
            here = here.setdefault(part, {})
            document.places.setdefault(override.path[: i + 1], override.source)
        # Where a section is not a mapping, that is the problem, and it is reported by itself.
        if isinstance(here, dict):
            here[override.path[-1]] = override.value
            document.places[override.path] = override.source


def _keys(path: Path) -> list[str]:
    return keys_at(Settings, path)
