"""Prints requirements from pyproject.toml, one a line: the one place that lists them.

    python tools/requirements.py build run train parquet test house bench

`build` is what the build backend needs, `run` what rankd imports; any other name is an extra or a
dependency group. Standard library only.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(names: list[str]) -> list[str]:
    """The requirement lines of the named sets, in order."""
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    project = document["project"]
    sets = {
        "build": document["build-system"]["requires"],
        "run": project["dependencies"],
        **project["optional-dependencies"],
        **document["dependency-groups"],
    }
    unknown = [name for name in names if name not in sets]
    if unknown:
        raise SystemExit(f"unknown set {unknown[0]!r}; there are {', '.join(sets)}")
    return [line for name in names for line in sets[name]]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
