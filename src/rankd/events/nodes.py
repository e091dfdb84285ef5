"""The typed tree of an expression over events, which the stream and the batch builder both run.

What an engine must keep to, so that both give the same: a number is a double, and one that is not finite is missing; an
empty text is missing; times are milliseconds since 1970; conditions have SQL's three values, and a missing one does
not hold.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias


class ValueType(enum.Enum):
    """What an expression's value is."""

    NUMBER = "a number"
    TEXT = "a text"
    TIME = "a time"
    CONDITION = "a condition"
    SET = "a set of texts"


EVENT_FIELDS: Final = {
    "type": ValueType.TEXT,
    "id": ValueType.TEXT,
    "time": ValueType.TIME,
    "user_id": ValueType.TEXT,
    "visitor_id": ValueType.TEXT,
    "session_id": ValueType.TEXT,
    "item_id": ValueType.TEXT,
    "query": ValueType.TEXT,
    "position": ValueType.NUMBER,
    "value": ValueType.NUMBER,
}
"""What every event may have: event.NAME."""


@dataclass(frozen=True, slots=True)
class Field:
    """event.NAME, one of EVENT_FIELDS."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Property:
    """event.properties.NAME as a number or a text; missing where it is of the other kind. Flags are numbers, 1 or 0."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Lookup:
    """ENTITY.SIGNAL: what is stored, without the default, of the event's own row of the entity (declare.own_id)."""

    entity: str
    signal: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a text, or a condition; None: missing."""

    value: float | str | bool | None
    type: ValueType


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Of numbers, a number. time - time: seconds; time + number and time - number of seconds: a time.

    x % y is x - floor(x / y) * y. Missing where a side is missing or the result is not finite.
    """

    op: Literal["+", "-", "*", "/", "%"]
    left: Node
    right: Node
    type: ValueType


@dataclass(frozen=True, slots=True)
class Compare:
    """Both sides of one type: numbers, times or, with == and !=, texts. Missing where a side is."""

    op: Literal["==", "!=", "<", "<=", ">", ">="]
    left: Node
    right: Node
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class Contains:
    """Whether a text is among a set's. Missing where either is."""

    member: Node
    set: Node
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class IsMissing:
    """Never missing itself."""

    operand: Node
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class Not:
    """Missing where the operand is."""

    operand: Node
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class And:
    """False where one is false, else missing where one is missing."""

    operands: tuple[Node, ...]
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class Or:
    """True where one is true, else missing where one is missing."""

    operands: tuple[Node, ...]
    type: ValueType = ValueType.CONDITION


@dataclass(frozen=True, slots=True)
class Choose:
    """`then` where the condition holds, else (false or missing) `otherwise`; all of one type."""

    condition: Node
    then: Node
    otherwise: Node
    type: ValueType


@dataclass(frozen=True, slots=True)
class AsNumber:
    """1 where a condition holds, 0 where it does not, missing where it is missing."""

    operand: Node
    type: ValueType = ValueType.NUMBER


@dataclass(frozen=True, slots=True)
class AsCondition:
    """Whether a number is other than 0; missing where it is missing."""

    operand: Node
    type: ValueType = ValueType.CONDITION


Node: TypeAlias = (
    Field
    | Property
    | Lookup
    | Constant
    | Arithmetic
    | Compare
    | Contains
    | IsMissing
    | Not
    | And
    | Or
    | Choose
    | AsNumber
    | AsCondition
)


def operands(node: Node) -> tuple[Node, ...]:
    """The nodes directly within one."""
    inner: list[Node] = []
    for declared in fields(node):
        value = getattr(node, declared.name)
        inner += value if isinstance(value, tuple) else [value] if isinstance(value, Node) else []
    return tuple(inner)


def walk(node: Node) -> Iterator[Node]:
    """A node and all within it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack += operands(node)
