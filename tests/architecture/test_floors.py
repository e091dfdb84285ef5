"""Imports point down only. The floors are read from the table in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import SRC, sources, text, tree

FLOORS_TABLE = Path("docs/architecture.md")


def floors() -> dict[str, int]:
    """room -> floor, as the table says."""
    found: dict[str, int] = {}
    for floor, rooms in re.findall(r"^\| (\d+) \| ([^|]*) \|", text(FLOORS_TABLE), re.MULTILINE):
        found |= dict.fromkeys(re.findall(r"`(\w+)`", rooms), int(floor))
    return found


def room_of(module: str) -> str:
    """The room of a dotted module name; "" for the package itself."""
    parts = module.split(".")
    if module == "rankd.__main__":
        return "cli"
    return parts[1] if len(parts) > 1 else ""


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    parts = path.relative_to("src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: str, is_package: bool, syntax: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every rankd module imported, wherever it stands, TYPE_CHECKING too."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from rankd import errors` imports a room; `from rankd.errors import Reason` a name of one.
            yield from ((node.lineno, f"{name}.{a.name}" if name == "rankd" else name) for a in node.names)


def cython_imports(source: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of import and cimport lines of a .pyx or .pxd."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := re.match(r"\s*(?:from\s+(rankd[\w.]*)\s+c?import\s+(\w+)|c?import\s+(rankd[\w.]*))", line):
            package, name, plain = found.groups()
            yield number, plain or (f"{package}.{name}" if package == "rankd" else package)


def violations(module: str, found: Iterator[tuple[int, str]], table: dict[str, int]) -> list[str]:
    """The imports that do not point down."""
    wrong = []
    own = room_of(module)
    for line, name in found:
        if name != "rankd" and not name.startswith("rankd."):
            continue
        room = room_of(name)
        if room in (own, "") or room not in table:
            continue
        if own == "" or table[room] >= table[own]:
            wrong.append(f"line {line}: {own or 'rankd'} (floor {table.get(own, 0)}) imports {room} ({table[room]})")
    return wrong


PYTHON = sources(".py", ".pyi", under="src/rankd")
CYTHON = sources(".pyx", ".pxd", under="src/rankd")


def test_table_and_folders_agree() -> None:
    on_disk = {p.name for p in SRC.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    on_disk |= {p.stem for p in SRC.glob("*.py") if not p.stem.startswith("__")}
    assert on_disk <= set(floors()), f"not in the table of {FLOORS_TABLE}: {sorted(on_disk - set(floors()))}"
    # A room may be announced before it is built, never the other way round.
    assert set(floors()) - on_disk <= {"telemetry"}


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_python_imports_point_down(path: Path) -> None:
    module = module_of(path)
    assert not violations(module, imports(module, path.stem == "__init__", tree(path)), floors())


@pytest.mark.parametrize("path", CYTHON, ids=str)
def test_cython_imports_point_down(path: Path) -> None:
    assert not violations(module_of(path), cython_imports(text(path)), floors())


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("rankd.ranking.plan", "from rankd.server.app import x", 1),
        ("rankd.ranking.plan", "import rankd.cli.main", 1),
        ("rankd.ranking.plan", "from rankd import server", 1),
        ("rankd.ranking.plan", "from ..server import app", 1),
        ("rankd.ranking.plan", "from .order import by_score", 0),
        ("rankd.ranking.plan", "def f():\n    from rankd.server import app", 1),
        ("rankd.ranking.plan", "if TYPE_CHECKING:\n    from rankd.client import y", 1),
        ("rankd.models.scorer", "from rankd.signals import store", 1),
        ("rankd.models.scorer", "from rankd.errors import ModelFileError\nimport numpy", 0),
        ("rankd.cli.main", "from rankd.server import app", 0),
    ],
)
def test_the_check_itself(module: str, source: str, count: int) -> None:
    assert len(violations(module, imports(module, False, ast.parse(source)), floors())) == count


_IMPURE = {"asyncio", "grpc", "io", "os", "pathlib", "random", "socket", "sqlite3", "subprocess", "threading", "time"}


@pytest.mark.parametrize("path", sources(".py", under="src/rankd/ranking"), ids=str)
def test_ranking_is_pure(path: Path) -> None:
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), node.lineno
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & _IMPURE, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in _IMPURE, node.lineno


def test_server_never_imports_the_training_library() -> None:
    """Model files are untrusted input; only learn may touch the library that trains."""
    for path in PYTHON:
        if room_of(module_of(path)) in ("learn", "cli"):
            continue
        for _, name in imports(module_of(path), path.stem == "__init__", tree(path)):
            assert name.split(".")[0] not in ("lightgbm", "xgboost", "catboost", "pickle", "joblib"), path
