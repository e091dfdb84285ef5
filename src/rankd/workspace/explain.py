"""pydantic's findings in rankd's words: what was expected, what came."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rankd.limits import RequestLimits
from rankd.workspace.settings import LimitsSection
from rankd.workspace.values import did_you_mean
from rankd.workspace.yaml_text import Document, Path, shown

_EXPECTED = {
    "missing": "a value",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}


def report_errors(document: Document, errors: list[ErrorDetails], root: type[BaseModel]) -> None:
    """Adds a problem for each of pydantic's errors to the document."""
    for error in errors:
        # "[key]" is how pydantic says that the key, not the value, is at fault.
        path: Path = tuple(part for part in error["loc"] if part != "[key]")
        if error["type"] == "missing":
            document.report(path[:-1], f'expected the key "{path[-1]}", got none')
            continue
        # A short form (`price: f32`) is checked as the mapping it stands for: report what was written.
        path = document.known(path)
        document.report(path, _message(error, path, root))


def _message(error: ErrorDetails, path: Path, root: type[BaseModel]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        return str(context["error"])
    if error["type"] == "extra_forbidden":
        name = str(path[-1])
        names = keys_at(root, path[:-1])
        return f"expected one of {', '.join(names)}; got {shown(name)}{did_you_mean(name, names)}"
    expected = _EXPECTED.get(error["type"])
    if expected is None:
        return f"{error['msg']}, got {shown(error['input'])}"
    got = shown(error["input"])
    if error["type"] == "string_type" and isinstance(error["input"], bool | int | float):
        got += "; put it in quotes if text is meant"
    if error["type"] in ("too_long", "too_short"):
        got = str(context["actual_length"])
    if error["type"] == "string_too_long":
        got = str(len(error["input"]))
    return f"expected {expected.format(**context)}, got {got}"


def keys_at(root: type[BaseModel], path: Path) -> list[str]:
    """The keys that the mapping at `path` of a document of type `root` may have; [] where any goes."""
    here: Any = root
    for part in path:
        here = _step(here, part)
    model = _model(here)
    return [f.alias or name for name, f in model.model_fields.items()] if model else []


def _step(annotation: Any, part: str | int) -> Any:
    model = _model(annotation)
    if model is not None:
        return next((f.annotation for name, f in model.model_fields.items() if part in (f.alias, name)), None)
    arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
    return arguments[-1] if arguments else None


def _model(annotation: Any) -> type[BaseModel] | None:
    if annotation is RequestLimits:
        return LimitsSection
    if isinstance(annotation, types.UnionType):  # Section | None
        return next((model for model in map(_model, typing.get_args(annotation)) if model is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
