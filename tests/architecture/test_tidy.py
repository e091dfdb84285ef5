"""Sizes, leftovers, flags and names: what a reviewer should not have to say twice."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.repository import sources, text, tracked, tree

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70
CODE = sources(".py", ".pyi", ".pyx", ".pxd", ".c", ".h")
PYTHON = sources(".py")
SRC_PYTHON = sources(".py", under="src/rankd")
TESTS = [path for path in sources(".py", under="tests") if path.name.startswith("test_")]
THIS = Path("tests/architecture/test_tidy.py")


@pytest.mark.parametrize("path", [*CODE, *sources(".proto", ".sh"), Path("Makefile")], ids=str)
def test_file_size(path: Path) -> None:
    assert len(text(path).splitlines()) <= MAX_FILE_LINES


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function of a source file."""
    if path.suffix in (".py", ".pyi"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
    elif path.suffix in (".c", ".h"):
        yield from c_functions(text(path))
    else:
        yield from cython_functions(text(path))


def c_functions(source: str) -> Iterator[tuple[str, int]]:
    """Bodies open with a brace that ends a line at the top level and close with one in column 0."""
    head, start = "", 0
    for number, line in enumerate(source.splitlines(), 1):
        if line and not line[0].isspace() and line[0] not in "{}#/*":
            head, start = line, number
        if line.startswith("}") and start:
            if name := re.search(r"(\w+)\s*\(", head):
                yield name[1], number - start + 1
            start = 0


def cython_functions(source: str) -> Iterator[tuple[str, int]]:
    """A function reaches to the last line that is indented deeper than its head."""
    lines = source.splitlines()
    for start, line in enumerate(lines):
        found = re.match(r"(\s*)(?:def|cpdef|cdef)\s[^=]*?(\w+)\s*\(", line)
        if not found:
            continue
        indent, last = len(found[1]), start
        for number in range(start + 1, len(lines)):
            stripped = lines[number].lstrip()
            if stripped and len(lines[number]) - len(stripped) <= indent and not stripped.startswith(")"):
                break
            last = number if stripped else last
        yield found[2], last - start + 1


@pytest.mark.parametrize("path", CODE, ids=str)
def test_function_size(path: Path) -> None:
    assert not [f"{name}: {lines} lines" for name, lines in functions(path) if lines > MAX_FUNCTION_LINES]


def test_function_sizes_are_seen_in_every_language() -> None:
    assert list(c_functions("static int\nf(int a)\n{\n  return a;\n}\n")) == [("f", 4)]
    assert list(c_functions("int g(int a) {\n  return a;\n}\n")) == [("g", 3)]
    assert list(cython_functions("def f(int a,\n      int b):\n    return a\n\nx = 1\n")) == [("f", 3)]
    assert list(cython_functions("cdef int g(\n    int a,\n) noexcept nogil:\n    return a\n")) == [("g", 4)]


_MARKERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bbreakpoint\(|\bpdb\b")


@pytest.mark.parametrize("path", [p for p in CODE if p != THIS], ids=str)
def test_no_leftovers(path: Path) -> None:
    assert not [line for line in text(path).splitlines() if _MARKERS.search(line)]


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) else function.body


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_nothing_is_left_unimplemented(path: Path) -> None:
    """NotImplementedError may only be the whole body of a base class's hook."""
    hooks = {
        statement.lineno
        for owner in ast.walk(tree(path))
        if isinstance(owner, ast.ClassDef)
        for function in owner.body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and len(_body(function)) == 1
        for statement in _body(function)
    }
    raised = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Raise) and n.exc is not None]
    unfinished = [n.lineno for n in raised if "NotImplementedError" in ast.unparse(n) and n.lineno not in hooks]
    assert not unfinished


@pytest.mark.parametrize("path", SRC_PYTHON, ids=str)
def test_only_the_command_line_prints(path: Path) -> None:
    if path.is_relative_to("src/rankd/cli"):
        return
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


@pytest.mark.parametrize("path", SRC_PYTHON, ids=str)
def test_public_names_are_documented(path: Path) -> None:
    module = tree(path)
    bare = [
        f"line {node.lineno}: {node.name}"
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and not any("overload" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert not bare
    assert not module.body or ast.get_docstring(module), "the module says nothing of itself"


@pytest.mark.parametrize("path", SRC_PYTHON, ids=str)
def test_no_possessive_quantifiers(path: Path) -> None:
    """fullmatch accepts more than they allow before Python 3.11.5 (CPython issue 106052)."""
    strings = [
        n.value for n in ast.walk(tree(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str | bytes)
    ]
    texts = [value.decode("latin-1") if isinstance(value, bytes) else value for value in strings]
    assert not [value for value in texts if re.search(r"[\])}][*?+}]\+|\(\?>|[\])]\{[\d,]+\}\+", value)]


_GENERATED = re.compile(
    r"(_pb2(_grpc)?\.pyi?|\.so|\.o|\.a|\.py[cod]|\.whl|\.egg-info/.*)$|(^|/)(build|dist|__pycache__)/"
)


def test_nothing_generated_is_in_git() -> None:
    assert not [path for path in tracked() if _GENERATED.search(str(path))]
    assert not sources(".c", ".cpp", under="src"), "generated C belongs into build/"


_FOLDERS_BESIDE = {"tests", "fuzz", "counts"}
"""Of csrc: programs that test and measure it, and are in no wheel."""


@pytest.mark.parametrize("path", sources(".c", ".h", under="csrc"), ids=str)
def test_csrc_is_plain_c(path: Path) -> None:
    included = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)', text(path), re.MULTILINE)
    assert not [name for name in included if name.startswith(("Python", "numpy"))]
    assert not [name for name in included if name.endswith(".c")], "sources are linked, not included"
    if not _FOLDERS_BESIDE.intersection(path.parts):
        assert not re.search(r"\bf?printf\s*\(", text(path))


@pytest.mark.parametrize("path", sources(".h", under="csrc"), ids=str)
def test_public_c_symbols_have_the_prefix(path: Path) -> None:
    if _FOLDERS_BESIDE.intersection(path.parts):
        return
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text(path), flags=re.DOTALL)
    declared = re.findall(r"^(?!static|typedef|#|\s)[\w\s*]+?\b(\w+)\s*\([^;{]*\)\s*;", code, re.MULTILINE)
    assert not [name for name in declared if not name.startswith("rk_")]


_FLAGS = re.compile(r"-march=native|-mtune=native|-ffast-math|-Ofast|-funsafe-math-optimizations")


@pytest.mark.parametrize(
    "path", [*sources(".py", ".toml", ".cfg", ".sh", ".c", ".h", ".pyx"), Path("Makefile")], ids=str
)
def test_no_flags_that_change_meaning_or_pin_the_host(path: Path) -> None:
    if path != THIS:
        assert not _FLAGS.search(text(path))


def _is_pytest(node: ast.expr, *names: str) -> bool:
    return ast.unparse(node) in {f"pytest.{name}" for name in names}


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_no_bare_skips(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and _is_pytest(node.func, "skip", "xfail"):
            assert node.args or node.keywords, f"line {node.lineno}: a skip says why"
        elif isinstance(node, ast.Call) and _is_pytest(
            node.func, "mark.skip", "mark.skipif", "mark.xfail", "importorskip"
        ):
            assert any(k.arg == "reason" for k in node.keywords), f"line {node.lineno}: a skip says why"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not any(_is_pytest(d, "mark.skip", "mark.xfail") for d in node.decorator_list), node.lineno


def _checks(function: ast.AST, helpers: dict[str, ast.AST], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function asserts, expects an exception, or calls a helper that does."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if re.search(r"raises|assert|check|expect|verify|warns|fail", name):
                return True
            if name in helpers and name not in seen and _checks(helpers[name], helpers, seen | {name}):
                return True
    return False


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_tests_can_fail(path: Path) -> None:
    found = {n.name: n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    helpers: dict[str, ast.AST] = {name: node for name, node in found.items() if not name.startswith("test_")}
    assert not [name for name, node in found.items() if name.startswith("test_") and not _checks(node, helpers)]


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in TESTS]
    assert not {name for name in names if names.count(name) > 1}


# Folders of tests/ that mirror no room of src/rankd, and what they test instead.
_OTHER_TESTS = {"architecture", "contract", "csrc", "demo", "e2e", "load_tests", "readme", "real", "support", "wheel"}


def test_tests_mirror_src() -> None:
    rooms = {path.parts[2] for path in SRC_PYTHON if len(path.parts) > 3}
    with_code = {path.parts[2] for path in SRC_PYTHON if len(path.parts) > 3 and path.name != "__init__.py"}
    folders = {path.parts[1] for path in TESTS if len(path.parts) > 2}
    assert folders <= rooms | _OTHER_TESTS, f"mirrors no room: {sorted(folders - rooms - _OTHER_TESTS)}"
    # Types are data classes without logic; they are tested through the rooms that use them.
    assert with_code - folders <= {"types"}, f"rooms without tests: {sorted(with_code - folders - {'types'})}"
