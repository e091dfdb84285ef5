"""The repository as the architecture tests see it: tracked files, parsed sources."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "rankd"


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Every file in git or about to be (untracked and not ignored), relative to ROOT."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(sorted(Path(name) for name in names.split("\0") if name and (ROOT / name).is_file()))


def sources(*suffixes: str, under: str = "") -> list[Path]:
    """Tracked files with one of the suffixes, in a folder (such as "src/rankd") and below."""
    return [p for p in tracked() if p.suffix in suffixes and (not under or p.is_relative_to(under))]


@functools.cache
def text(path: Path) -> str:
    """The content of a tracked file."""
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a tracked Python file."""
    return ast.parse(text(path), str(path))
