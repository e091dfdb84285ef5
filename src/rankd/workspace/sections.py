"""The shape of rankd.yaml: one class per mapping. What JSON Schema says is said here.

Must live here: types, bounds and names of keys, and rules within one mapping. Must not:
rules between sections (load.py) and the meaning of expressions (rankd.features).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from rankd.limits import HARD_MAX_CANDIDATES, MAX_EXPRESSION_CHARS, MAX_FEATURES, MAX_MODEL_FEATURES
from rankd.types.profile import ContextKind
from rankd.types.schema import SignalKind
from rankd.workspace.settings import PathText, Section, Settings
from rankd.workspace.values import (
    DURATION_PATTERN,
    IDENTIFIER_PATTERN,
    NAME_PATTERN,
    RESERVED_ENTITIES,
    check_entity_name,
    check_identifier,
    check_name,
    parse_duration,
    parse_type,
)
from rankd.workspace.yaml_text import shown

ModelFormat = Literal["catboost", "compiled", "lightgbm", "linear", "xgboost"]
MODEL_FORMATS: dict[str, ModelFormat] = {
    ".txt": "lightgbm", ".json": "linear", ".ubj": "xgboost", ".rkmodel": "compiled",
}  # fmt: skip
"""The format of a model file by its extension, where the workspace does not say it."""

_F32_MAX = 3.4028234663852886e38
_EMBEDDING = r"embedding\[[1-9][0-9]{0,3}\]"
_SIGNAL_TYPES = [k.value for k in SignalKind]
_CONTEXT_TYPES = [k.value for k in ContextKind]
_DEFAULT_KINDS = (SignalKind.F32, SignalKind.I64, SignalKind.TIMESTAMP, SignalKind.BOOL)


def _type_schema(names: list[str], what: str) -> WithJsonSchema:
    plain = "|".join(n for n in names if n != "embedding")
    return WithJsonSchema({"type": "string", "pattern": f"^({plain}|{_EMBEDDING})$", "description": what})


def _check_signal_type(text: str) -> str:
    parse_type(text, _SIGNAL_TYPES, "a signal type")
    return text


def _check_context_type(text: str) -> str:
    parse_type(text, _CONTEXT_TYPES, "a context type")
    return text


def _check_duration(text: str) -> str:
    parse_duration(text)
    return text


def _expression_text(value: Any) -> Any:
    """A constant expression may be written as a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return repr(value)
    if not isinstance(value, str):
        raise ValueError(f"expected an expression (text or a number), got {shown(value)}")
    return value


def _check_version(value: Any) -> Any:
    # true == 1 in Python, so Literal[1] alone would take it.
    if isinstance(value, bool) or value != 1:
        raise ValueError(f"expected 1, got {shown(value)}")
    return 1


Identifier: TypeAlias = Annotated[
    str, AfterValidator(check_identifier), WithJsonSchema({"type": "string", "pattern": IDENTIFIER_PATTERN})
]
EntityName: TypeAlias = Annotated[
    str,
    AfterValidator(check_entity_name),
    WithJsonSchema(
        {"type": "string", "pattern": IDENTIFIER_PATTERN, "not": {"enum": sorted(RESERVED_ENTITIES)}},
    ),
]
Name: TypeAlias = Annotated[
    str, AfterValidator(check_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})
]
SignalType: TypeAlias = Annotated[str, AfterValidator(_check_signal_type), _type_schema(_SIGNAL_TYPES, "Its type.")]
ContextType: TypeAlias = Annotated[
    str, AfterValidator(_check_context_type), _type_schema(_CONTEXT_TYPES, "The type of a context feature.")
]
Duration: TypeAlias = Annotated[
    str, AfterValidator(_check_duration), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})
]
Expression: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=MAX_EXPRESSION_CHARS),
    BeforeValidator(_expression_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION_CHARS}, {"type": "number"}]}
    ),
]


class SignalSection(Section):
    """A signal: `price: f32`, or a mapping with more."""

    type: SignalType
    """f32, i64, timestamp, bool, category, string, embedding[n], set or map."""
    default: Annotated[Any, WithJsonSchema({"type": ["number", "boolean", "null"]})] = None
    """What a missing value reads as: a number (true or false for bool); null: it stays missing."""
    ttl: Duration | None = None
    """How long after its write a value becomes missing: 30s, 15m, 12h, 7d; null: never."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @field_validator("default")
    @classmethod
    def _check_default(cls, value: Any, info: Any) -> float | None:
        if value is None or "type" not in info.data:
            return None
        kind = SignalKind(parse_type(info.data["type"], _SIGNAL_TYPES, "a signal type")[0])
        if kind not in _DEFAULT_KINDS:
            raise ValueError(f"expected no default for a signal of type {info.data['type']}, got {shown(value)}")
        if kind is SignalKind.BOOL:
            if not isinstance(value, bool):
                raise ValueError(f"expected true or false, got {shown(value)}")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected a number, got {shown(value)}")
        number = float(value)
        if not math.isfinite(number) or (kind is SignalKind.F32 and abs(number) > _F32_MAX):
            raise ValueError(f"expected a number within the range of {kind.value}, got {shown(value)}")
        if kind is SignalKind.I64 and not (number.is_integer() and abs(number) <= 2**53):
            raise ValueError(f"expected a whole number of at most 2**53, got {shown(value)}")
        return number

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [dict(schema["properties"]["type"]), dict(schema)]}


class ModelSection(Section):
    """A model file."""

    file: PathText
    """The file, relative to the workspace."""
    format: ModelFormat | None = None
    """Default: by extension; .txt is lightgbm, .json linear, .ubj xgboost, .rkmodel compiled."""
    features: list[Identifier] | None = Field(default=None, min_length=1, max_length=MAX_MODEL_FEATURES)
    """The profile's features that are the model's inputs, in its order; default: the names in the file."""

    @field_validator("features")
    @classmethod
    def _distinct(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else _check_distinct(value)


class ProfileSection(Section):
    """A named ranking configuration."""

    entity: Identifier = "item"
    """The kind of the candidates: an entity of the schema."""
    columns: list[Identifier] = Field(default_factory=list, max_length=65_536)
    """The request columns that callers may send: numbers, `column.NAME` in expressions."""
    context: dict[Identifier, ContextType] = Field(default_factory=dict)
    """The context features that callers may send, by type; `context.NAME` in expressions."""
    features: dict[Identifier, Expression] = Field(default_factory=dict, max_length=MAX_FEATURES)
    """Named expressions, in the order in which responses and models see them."""
    base: Expression | None = None
    """The base score: orders the list and picks what the model re-scores; default: the caller's base scores."""
    rerank: Annotated[int, Field(ge=1, le=HARD_MAX_CANDIDATES)] | None = None
    """How many of the best by base score the model re-scores; default: all."""
    model: Name | None = None
    """The model, by its name under `models`; default: none, the base score decides."""

    @field_validator("columns")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        return _check_distinct(value)


class Root(Settings):
    """rankd.yaml: the configuration of a ranking service."""

    version: Annotated[Literal[1], BeforeValidator(_check_version)]
    """The version of this format: 1."""
    schema_: dict[EntityName, dict[Identifier, SignalSection]] = Field(default_factory=dict, alias="schema")
    """What is known about what: entities (item, user, query …) and their signals."""
    models: dict[Name, ModelSection] = Field(default_factory=dict)
    """Model files, by name."""
    profiles: dict[Name, ProfileSection] = Field(default_factory=dict)
    """Ranking configurations, by name."""


def _check_distinct(names: list[str]) -> list[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"expected distinct names, got {shown(name)} twice")
        seen.add(name)
    return names
