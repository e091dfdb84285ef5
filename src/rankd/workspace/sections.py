"""The shape of rankd.yaml: one class per mapping. What JSON Schema says is said here.

Must live here: types, bounds and names of keys, and rules within one mapping. Must not:
rules between sections (load.py) and the meaning of expressions (rankd.features).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator

from rankd.limits import HARD_MAX_CANDIDATES, MAX_FEATURES, MAX_MODEL_FEATURES
from rankd.types.profile import ContextKind
from rankd.workspace.settings import PathText, Section, Settings
from rankd.workspace.signals import Expression, Identifier, SignalSection, check_distinct, type_schema
from rankd.workspace.values import (
    IDENTIFIER_PATTERN,
    NAME_PATTERN,
    RESERVED_ENTITIES,
    check_entity_name,
    check_identifier,
    check_name,
    parse_type,
)
from rankd.workspace.yaml_text import shown

ModelFormat = Literal["catboost", "compiled", "lightgbm", "linear", "xgboost"]
MODEL_FORMATS: dict[str, ModelFormat] = {
    ".txt": "lightgbm", ".json": "linear", ".ubj": "xgboost", ".rkmodel": "compiled",
}  # fmt: skip
"""The format of a model file by its extension, where the workspace does not say it."""

_CONTEXT_TYPES = [k.value for k in ContextKind]


def _check_context_type(text: str) -> str:
    parse_type(text, _CONTEXT_TYPES, "a context type")
    return text


def _check_key_part(text: str) -> str:
    for name in text.split(".", 1):
        check_identifier(name)
    return text


def _check_version(value: Any) -> Any:
    # true == 1 in Python, so Literal[1] alone would take it.
    if isinstance(value, bool) or value != 1:
        raise ValueError(f"expected 1, got {shown(value)}")
    return 1


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
ContextType: TypeAlias = Annotated[
    str,
    AfterValidator(_check_context_type),
    type_schema(_CONTEXT_TYPES, "The type of a context feature.", sized=r"embedding\[[1-9][0-9]{0,3}\]"),
]
KeyPart: TypeAlias = Annotated[
    str,
    AfterValidator(_check_key_part),
    WithJsonSchema({"type": "string", "pattern": rf"{IDENTIFIER_PATTERN[:-1]}(\.{IDENTIFIER_PATTERN[1:-1]})?$"}),
]


class EntitySection(Section):
    """What an entity is, beside its signals."""

    key: Annotated[list[KeyPart], Field(min_length=2, max_length=8)] | None = None
    """Of a composite entity: what its ids are joined of, such as [query, item] or [user, item.category]."""
    storage: Literal["replicated", "fetched"] | None = None
    """Where signals are shared through Redis: all rows on every machine, or read for each request; default: fetched for
    user, visitor and session and what begins with them."""

    @field_validator("key")
    @classmethod
    def _distinct(cls, value: list[str] | None) -> list[str] | None:
        return None if value is None else check_distinct(value)


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
        return None if value is None else check_distinct(value)


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
        return check_distinct(value)


class Root(Settings):
    """rankd.yaml: the configuration of a ranking service."""

    version: Annotated[Literal[1], BeforeValidator(_check_version)]
    """The version of this format: 1."""
    schema_: dict[EntityName, dict[Identifier, SignalSection]] = Field(default_factory=dict, alias="schema")
    """What is known about what: entities (item, user, query …) and their signals."""
    entities: dict[Identifier, EntitySection] = Field(default_factory=dict)
    """Entities of the schema of which more is to be said: composite ones, and where rows are kept."""
    models: dict[Name, ModelSection] = Field(default_factory=dict)
    """Model files, by name."""
    profiles: dict[Name, ProfileSection] = Field(default_factory=dict)
    """Ranking configurations, by name."""
