"""Typed values while an expression is compiled, and how arguments are brought to the type they must have."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from rankd import limits
from rankd.features.builder import Builder
from rankd.features.names import NOW
from rankd.features.parse import Source
from rankd.features.program import ValueType
from rankd.types.text import normalise

NUMBER = ValueType.NUMBER
TIMESTAMP = ValueType.TIMESTAMP
CATEGORY = ValueType.CATEGORY
TEXT = ValueType.TEXT
SET = ValueType.SET
MAP = ValueType.MAP
EMBEDDING = ValueType.EMBEDDING

SCALARS = (NUMBER, TIMESTAMP, CATEGORY)
"""The types that live in numeric registers, which where and coalesce may choose between."""

_A = {EMBEDDING: "an embedding"}


@dataclass(frozen=True, slots=True)
class Value:
    """A typed register, and where in the expression it comes from. `dimension` is n of embedding[n]."""

    node: ast.expr
    type: ValueType
    register: int
    dimension: int = 0


@dataclass(frozen=True, slots=True)
class Literal:
    """A string literal: a category or a text, as its place asks for."""

    node: ast.expr
    text: str


Operand = Value | Literal


def described(operand: Operand) -> str:
    """For messages: "a number", "an embedding", "a string"."""
    return "a string" if isinstance(operand, Literal) else a_type(operand.type)


def a_type(type_: ValueType) -> str:
    """For messages: "a number", "an embedding"."""
    return _A.get(type_, f"a {type_.value}")


class Typer:
    """Brings operands to types, emitting what that takes."""

    def __init__(self, source: Source, builder: Builder, intern: Callable[[str], int]) -> None:
        self.source = source
        self.builder = builder
        self._intern = intern

    def now(self) -> int:
        """The register of request.now."""
        return self.builder.load(NOW)

    def coerce(self, operand: Operand, types: Collection[ValueType], what: str) -> Value:
        """The operand as one of `types`; `what` begins the message if it is none of them."""
        if isinstance(operand, Literal):
            if CATEGORY in types:
                return self._category(operand)
            if TEXT in types:
                self._check_encodes(operand)
                return Value(operand.node, TEXT, self.builder.text(normalise(operand.text)))
        elif operand.type in types:
            return operand
        wanted = " or ".join(a_type(t) for t in types)
        raise self.source.error(f"{what} must be {wanted}, not {described(operand)}", operand.node)

    def unify(self, operands: Sequence[Operand], types: Collection[ValueType], what: str) -> list[Value]:
        """Operands that must all be of one of `types`, the same one."""
        values = [self.coerce(operand, types, what) for operand in operands]
        for value in values[1:]:
            if value.type is not values[0].type:
                raise self.source.error(
                    f"{what} must be of one type, not {a_type(values[0].type)} and {a_type(value.type)}", value.node
                )
        return values

    def emit(self, node: ast.expr, type_: ValueType, name: str, *values: Value) -> Value:
        """The result of an operation."""
        return Value(node, type_, self.builder.op(name, *(v.register for v in values)))

    def number(self, node: ast.expr, value: float) -> Value:
        """A constant."""
        return Value(node, NUMBER, self.builder.constant(value))

    def _category(self, literal: Literal) -> Value:
        self._check_encodes(literal)
        size = len(literal.text.encode())
        if size > limits.MAX_CATEGORY_BYTES:
            raise self.source.error(
                f"a category has at most {limits.MAX_CATEGORY_BYTES} bytes, this has {size}", literal.node
            )
        return Value(literal.node, CATEGORY, self.builder.constant(float(self._intern(literal.text))))

    def _check_encodes(self, literal: Literal) -> None:
        try:
            literal.text.encode()
        except UnicodeEncodeError:
            raise self.source.error("a string must be valid Unicode, without lone surrogates", literal.node) from None
