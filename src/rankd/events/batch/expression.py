"""Expressions over events as Ibis expressions: the same tree that the stream evaluates, on DuckDB or Spark.

A number is a double and NULL where it is missing or not finite; a time is milliseconds since 1970, a double; a text is
NULL where it is empty; a condition is SQL's boolean.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import ibis
import ibis.expr.types as ir

from rankd.events.nodes import (
    And,
    Arithmetic,
    AsCondition,
    AsNumber,
    Choose,
    Compare,
    Constant,
    Contains,
    Field,
    IsMissing,
    Lookup,
    Node,
    Not,
    Or,
    Property,
    ValueType,
)

_MS_PER_S: Final = 1000.0

_TYPES: Final = {
    ValueType.NUMBER: "float64",
    ValueType.TIME: "float64",
    ValueType.TEXT: "string",
    ValueType.CONDITION: "boolean",
}

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def property_column(name: str, kind: ValueType) -> str:
    """The column of a normalised table that holds a property as a number or as a text."""
    return f"property_{'number' if kind is ValueType.NUMBER else 'text'}_{name}"


def lookup_column(entity: str, signal: str) -> str:
    """The column that holds what is stored of the event's own row."""
    return f"lookup_{entity}.{signal}"


def compile_node(node: Node, table: ir.Table) -> Any:
    """A column of a normalised table (events.batch.tables) that holds the node's value."""
    match node:
        case Field(name):
            return table["event_id" if name == "id" else name]
        case Property(name, kind):
            return table[property_column(name, kind)]
        case Lookup(entity, signal):
            return table[lookup_column(entity, signal)]
        case Constant(value, kind):
            return _constant(value, kind)
        case Arithmetic():
            return _arithmetic(node, compile_node(node.left, table), compile_node(node.right, table))
        case Compare(op, left, right):
            return _COMPARISONS[op](compile_node(left, table), compile_node(right, table))
        case Contains(member, members):
            return compile_node(members, table).contains(compile_node(member, table))
        case IsMissing(operand):
            return ~is_there(compile_node(operand, table))
        case Not(operand):
            return ~compile_node(operand, table)
        case And(operands):
            return _joined(operator.and_, operands, table)
        case Or(operands):
            return _joined(operator.or_, operands, table)
        case Choose(condition, then, otherwise):
            holds = compile_node(condition, table).fill_null(False)
            return ibis.cases(
                (holds, compile_node(then, table)), else_=compile_node(otherwise, table)
            )  # fmt: skip
        case AsNumber(operand):
            return compile_node(operand, table).cast("int64").cast("float64")
        case AsCondition(operand):
            return compile_node(operand, table) != 0.0


def is_there(value: Any) -> Any:
    """Whether a value is not NULL."""
    # Ibis writes a condition's test as NOT x IS NOT NULL, which SQL reads as NOT (x IS NOT NULL).
    return (value.cast("int64") if value.type().is_boolean() else value).notnull()


def finite(value: Any) -> Any:
    """NULL where a number is not finite."""
    return ibis.cases((value.isnan() | value.isinf(), ibis.null("float64")), else_=value)


def whole(value: Any) -> Any:
    """A number as int64, without what is behind the point; beyond int64 as far as the stream goes."""
    bounded = ibis.least(ibis.greatest(value, _double(-_MOST)), _double(_MOST))
    return ibis.cases((bounded < 0.0, bounded.ceil()), else_=bounded.floor()).cast("int64")


_MOST: Final = 2.0**63 - 1024


def _double(number: float) -> Any:
    # Engines take 1.0 for a decimal, and Ibis leaves out a cast to what it takes it for already.
    return ibis.literal(repr(number)).cast("float64")


def _constant(value: float | str | bool | None, kind: ValueType) -> Any:
    if value is None or value == "":
        # Not a plain NULL: Ibis takes a comparison with that for "is null".
        return ibis.literal("").nullif("").cast(_TYPES[kind])
    if kind is ValueType.NUMBER and isinstance(value, int | float):
        return _double(value)
    return ibis.literal(value, type=_TYPES[kind])


def _joined(join: Callable[[Any, Any], Any], nodes: tuple[Node, ...], table: ir.Table) -> Any:
    columns = [compile_node(node, table) for node in nodes]
    result = columns[0]
    for column in columns[1:]:
        result = join(result, column)
    return result


def _arithmetic(node: Arithmetic, left: Any, right: Any) -> Any:
    kinds = (node.left.type, node.right.type)
    if kinds == (ValueType.TIME, ValueType.TIME):
        return finite((left - right) / _MS_PER_S)
    if kinds == (ValueType.TIME, ValueType.NUMBER):
        right = right * _MS_PER_S
    elif kinds == (ValueType.NUMBER, ValueType.TIME):
        left = left * _MS_PER_S
    match node.op:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case "/":
            result = left / right.nullif(0.0)
        case _:
            divisor = right.nullif(0.0)
            # floor gives an integer, which would be too small for large quotients.
            quotient = left / divisor
            result = left - _floor(quotient) * divisor
    return finite(result)


def _floor(value: Any) -> Any:
    """floor() as a double: whole numbers above 2**53 are themselves."""
    return ibis.cases((value.abs() < 2.0**53, value.floor().cast("float64")), else_=value)
