"""YAML text to plain values, with the line of each.

Must live here: everything about YAML as a syntax. Must not: what the keys mean.

Scalars follow the core schema of YAML 1.2, as editors and JSON do: only true and false
are booleans (`on`, `no` are text), 1e-3 is a number, there are no timestamps or base-60
numbers. Keys are text whatever they look like. Anchors, aliases and `<<` merges work,
within bounds; tags other than the core schema's are refused, so nothing is ever constructed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from rankd.errors import Problem, WorkspaceError
from rankd.limits import MAX_WORKSPACE_DEPTH, MAX_WORKSPACE_VALUES

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml: slower, the same language
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands: ("profiles", "search", "columns", 2)."""

_TAG = "tag:yaml.org,2002:"
_MAX_INT_DIGITS = 18  # longer ones are read as floats: int() of thousands of digits is slow, then refused


class _Loader(_SafeLoader):
    """The safe loader with the implicit types of YAML 1.2's core schema in place of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(slots=True)
class Document:
    """A document as plain dicts, lists, str, int, float, bool and None, and where each value came from.

    `places` gives "rankd.yaml:12" by path; the line is that of the key, or of the list's item.
    """

    value: Any
    places: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """Where `path` was written, or the innermost thing around it that was written."""
        return self.places[self.known(path)]

    def known(self, path: Path) -> Path:
        """The longest part of `path` that was written."""
        while path not in self.places:
            path = path[:-1]
        return path

    def report(self, path: Path, message: str) -> None:
        """Adds a problem."""
        self.problems.append(Problem(self.place(path), path_text(path), message))


def path_text(path: Path) -> str:
    """profiles.search.columns[2]."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def parse_document(text: str, file_name: str) -> Document:
    """Reads a YAML document. WorkspaceError where it is not YAML or too large for a workspace;
    lesser faults, such as duplicate keys, are left in `problems`."""
    try:
        _check_bounds(text, file_name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise WorkspaceError([_syntax_problem(error, text, file_name)]) from None
    document = Document(None, {(): f"{file_name}:1"})
    if root is not None:
        document.value = _Converter(document, file_name).convert(root, ())
    return document


def parse_scalar(text: str) -> Any:
    """The value of a lone YAML scalar, as in an environment variable. ValueError if it is not one."""
    try:
        node = yaml.compose(text, Loader=_Loader) if len(text) <= 65_536 else None
    except (yaml.YAMLError, UnicodeEncodeError):
        node = None
    if text.strip() and not isinstance(node, ScalarNode):
        raise ValueError(f"expected a single value, got {shown(text)}")
    return _scalar(node) if isinstance(node, ScalarNode) else None


def shown(value: Any) -> str:
    """A value as an error message shows it: as YAML writes it, with a word about what it is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a boolean)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        cut = value if len(value) <= 80 else value[:77] + "…"
        return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut) + '"'
    return str(value)


def _check_bounds(text: str, file_name: str) -> None:
    """Refuses what would make the composer recurse or grow without bound."""
    depth = 0
    values = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        values += isinstance(event, yaml.NodeEvent)
        for count, bound, what in (
            (depth, MAX_WORKSPACE_DEPTH, "levels of nesting"),
            (values, 2 * MAX_WORKSPACE_VALUES, "values and keys"),
        ):
            if count > bound:
                where = f"{file_name}:{event.start_mark.line + 1}" if event.start_mark else file_name
                raise WorkspaceError([Problem(where, "", f"expected at most {bound} {what}, got more")])


def _syntax_problem(error: yaml.YAMLError, text: str, file_name: str) -> Problem:
    where = file_name
    message = str(getattr(error, "reason", error))
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            where = f"{file_name}:{mark.line + 1}"
        message = ", ".join(str(m) for m in (error.context, error.problem) if m)
        lines = text.splitlines()
        if mark is not None and mark.line < len(lines) and "embedding[" in lines[mark.line]:
            message += "; between braces, write 'embedding[n]' in quotes"
    return Problem(where, "", f"expected YAML, got something else: {message}")


class _Converter:
    """Nodes to values. Aliases are expanded, so everything visited is counted."""

    def __init__(self, document: Document, file_name: str) -> None:
        self._document = document
        self._file_name = file_name
        self._count = 0
        self._open: set[int] = set()

    def convert(self, node: Node, path: Path) -> Any:
        self._visit(node)
        if isinstance(node, ScalarNode):
            try:
                return _scalar(node)
            except ValueError as error:
                self._document.report(path, str(error))
                return ""
        if id(node) in self._open:
            self._refuse(node, "an alias that contains itself")
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self._open.remove(id(node))
        return value

    def _sequence(self, node: Node, path: Path) -> list[Any]:
        self._check_tag(node, "seq", path)
        items = []
        for i, item in enumerate(node.value):
            self._set_place((*path, i), item)
            items.append(self.convert(item, (*path, i)))
        return items

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        self._check_tag(node, "map", path)
        merged: dict[str, tuple[Node, Node]] = {}
        own: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for inner_key, inner_value in self._merged_pairs(value_node, path):
                    merged.setdefault(self._key(inner_key, path), (inner_key, inner_value))
                continue
            key = self._key(key_node, path)
            if key in own:
                line = own[key][0].start_mark.line + 1
                where = f"{self._file_name}:{key_node.start_mark.line + 1}"
                message = f"expected each key once, got it again; it is already in line {line}"
                self._document.problems.append(Problem(where, path_text((*path, key)), message))
                continue
            own[key] = (key_node, value_node)
        result = {}
        for key, (key_node, value_node) in (merged | own).items():
            self._set_place((*path, key), key_node)
            result[key] = self.convert(value_node, (*path, key))
        return result

    def _merged_pairs(self, node: Node, path: Path) -> Iterator[tuple[Node, Node]]:
        """The pairs that `<<: node` brings, those that win first."""
        self._visit(node)
        if id(node) in self._open:
            self._refuse(node, "a merge (<<) of something that contains it")
        self._open.add(id(node))
        if isinstance(node, SequenceNode):
            for item in node.value:
                yield from self._merged_pairs(item, path)
        elif isinstance(node, MappingNode):
            own = [pair for pair in node.value if pair[0].tag != _TAG + "merge"]
            for pair in own:
                self._visit(pair[0])
            yield from own
            for key_node, value_node in node.value:
                if key_node.tag == _TAG + "merge":
                    yield from self._merged_pairs(value_node, path)
        else:
            self._document.report(path, "expected a mapping or a list of mappings after <<, got a single value")
        self._open.remove(id(node))

    def _key(self, node: Node, path: Path) -> str:
        if isinstance(node, ScalarNode):
            return str(node.value)
        where = f"{self._file_name}:{node.start_mark.line + 1}"
        self._document.problems.append(Problem(where, path_text(path), "expected text as a key, got a list or mapping"))
        return "?"

    def _set_place(self, path: Path, node: Node) -> None:
        self._document.places[path] = f"{self._file_name}:{node.start_mark.line + 1}"

    def _check_tag(self, node: Node, kind: str, path: Path) -> None:
        if node.tag != _TAG + kind:
            self._document.report(path, f"expected no YAML tag, got {shown(str(node.tag))}")

    def _visit(self, node: Node) -> None:
        self._count += 1
        if self._count > MAX_WORKSPACE_VALUES:
            self._refuse(node, f"more (aliases count as often as they are used); at most {MAX_WORKSPACE_VALUES} values")

    def _refuse(self, node: Node, got: str) -> None:
        where = f"{self._file_name}:{node.start_mark.line + 1}"
        raise WorkspaceError([*self._document.problems, Problem(where, "", f"expected a plain document, got {got}")])


def _scalar(node: ScalarNode) -> Any:
    """The value of a scalar node. ValueError if its tag and text do not go together."""
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    try:
        text.encode()
        if kind in ("str", "merge"):
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            digits = text.lstrip("+-")
            if len(digits) > _MAX_INT_DIGITS:
                return float(text)
            return int(text, {"0o": 8, "0x": 16}.get(digits[:2], 10))
        if kind == "float":
            return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
    except UnicodeEncodeError:
        raise ValueError("expected Unicode text, got half of a surrogate pair") from None
    except (ValueError, KeyError):
        raise ValueError(f"expected a value of the tag !!{kind}, got {shown(text)}") from None
    raise ValueError(f"expected no YAML tag, got {shown(str(node.tag))}")
