"""Profiles and models as declared, before anything is compiled or loaded."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rankd.types.schema import fingerprint


class ContextKind(enum.Enum):
    """The type of a context feature: a value the request carries for all candidates."""

    NUMBER = "number"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    CATEGORY = "category"
    TEXT = "text"
    SET = "set"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class ContextFeature:
    """A declared context feature; `dimension` is n of embedding[n], else 0."""

    name: str
    kind: ContextKind
    dimension: int = 0

    @property
    def type_name(self) -> str:
        return f"embedding[{self.dimension}]" if self.kind is ContextKind.EMBEDDING else self.kind.value


@dataclass(frozen=True, slots=True)
class Feature:
    """A named expression; its value is one float32 per candidate."""

    name: str
    expression: str


@dataclass(frozen=True)
class Profile:
    """A named ranking configuration.

    `entity` is the kind of the candidates. `columns` are the request columns it may
    be sent. `base` is an expression over features and inputs, or None: then the
    caller's base scores order the list. The best `rerank_count` by base go to
    `model` (a name; None: no model stage); None: all of them.
    """

    name: str
    entity: str = "item"
    columns: tuple[str, ...] = ()
    context: Mapping[str, ContextFeature] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    base: str | None = None
    rerank_count: int | None = None
    model: str | None = None

    @cached_property
    def column_names(self) -> frozenset[str]:
        """`columns` as a set: requests name hundreds of them."""
        return frozenset(self.columns)

    @cached_property
    def version(self) -> str:
        """12 hex digits: a fingerprint of the declaration."""
        return fingerprint(
            {
                "entity": self.entity,
                "columns": list(self.columns),
                "context": {c.name: c.type_name for c in self.context.values()},
                "features": [[f.name, f.expression] for f in self.features],
                "base": self.base,
                "rerank_count": self.rerank_count,
                "model": self.model,
            }
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A declared model file. `format` is one of rankd.models.load.FORMATS.

    `features` names the model's inputs in order, for files that do not name them
    themselves; None: the file's own names.
    """

    name: str
    path: str
    format: str
    features: tuple[str, ...] | None = None
