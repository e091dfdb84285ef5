"""Which entities a profile can read, and how the ids of their rows are found.

A row belongs to the candidate itself, to what a request names one of (user, session, query), or, of a composite
entity, to several of these at once.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from rankd.features.parse import did_you_mean
from rankd.types.schema import Schema, SignalKind

REQUEST_ENTITIES = ("user", "session", "query")
"""Entities of which a request names one."""


class UnknownNameError(Exception):
    """A name that stands for nothing; its text says what there is."""


class PartSource(enum.Enum):
    """What a part of an id is."""

    CANDIDATE = "candidate"  # the candidate's id
    USER = "user"  # the user's id, or else the visitor's
    SESSION = "session"
    QUERY = "query"  # types.text.query_key of the query
    CATEGORY = "category"  # a category signal of the candidate

    @property
    def is_per_candidate(self) -> bool:
        return self in (PartSource.CANDIDATE, PartSource.CATEGORY)


class IdPart(NamedTuple):
    """One part of an id; `signal`: of CATEGORY."""

    source: PartSource
    signal: str = ""


def id_parts(candidates: str, schema: Schema, entity: str) -> tuple[IdPart, ...]:
    """What the ids of an entity's rows are joined of, where the candidates are of the entity `candidates`.

    UnknownNameError: there is no such entity, or a request with such candidates does not tell its ids.
    """
    if entity == candidates:
        return (IdPart(PartSource.CANDIDATE),)
    declared = schema.entities.get(entity)
    if declared is None:
        if entity in REQUEST_ENTITIES:
            raise UnknownNameError(f"the schema declares no entity `{entity}`" + did_you_mean(entity, schema.entities))
        known = [name for name in schema.entities if _is_known(candidates, schema, name)]
        options = [*known, "column", "context", "request", "candidate"]
        raise UnknownNameError(f"unknown namespace `{entity}`" + did_you_mean(entity, options))
    return tuple(_part(candidates, schema, entity, text) for text in declared.key or (entity,))


def _is_known(candidates: str, schema: Schema, entity: str) -> bool:
    try:
        id_parts(candidates, schema, entity)
    except UnknownNameError:
        return False
    return True


def _part(candidates: str, schema: Schema, entity: str, text: str) -> IdPart:
    owner, _, signal = text.partition(".")
    if signal and owner == candidates:
        declared = schema.entities[owner].signals.get(signal)
        if declared is not None and declared.kind is SignalKind.CATEGORY:
            return IdPart(PartSource.CATEGORY, signal)
    elif not signal and text == candidates:
        return IdPart(PartSource.CANDIDATE)
    elif not signal and text in REQUEST_ENTITIES:
        return IdPart(PartSource(text))
    of_key = "" if text == entity else f" `{text}` of its key cannot be told:"
    raise UnknownNameError(
        f"signals of `{entity}` cannot be read here:{of_key} the candidates are of the entity `{candidates}`, "
        f"and a request names one user, one session and one query"
    )
