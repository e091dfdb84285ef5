"""Expressions over a batch of events with NumPy: what the stream runs, and the oracle of the batch builder.

Arrays have one entry per event. Numbers and times: float64, NaN is missing. Conditions: float64 of 1, 0 and NaN. Texts
and sets: object, None is missing; a set is a frozenset of str.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rankd.events import nodes
from rankd.events.nodes import Node, ValueType

Array: TypeAlias = NDArray[Any]


class Columns(Protocol):
    """Where the leaves of a tree come from, as arrays of the module's kinds."""

    @property
    def length(self) -> int: ...

    def field(self, name: str) -> Array:
        """A field of the events."""

    def property(self, name: str, type: ValueType) -> Array:
        """A property, as a number or as a text."""

    def lookup(self, entity: str, signal: str) -> Array:
        """A stored signal of the events' own rows of an entity."""


def evaluate(node: Node, columns: Columns) -> Array:
    """The value of an expression for each event."""
    match node:
        case nodes.Field(name=name):
            return columns.field(name)
        case nodes.Property(name=name, type=type):
            return columns.property(name, type)
        case nodes.Lookup(entity=entity, signal=signal):
            return columns.lookup(entity, signal)
        case nodes.Constant():
            return _constant(node, columns.length)
        case nodes.Choose(condition=condition, then=then, otherwise=otherwise):
            holds = evaluate(condition, columns) == 1
            return np.where(holds, evaluate(then, columns), evaluate(otherwise, columns))
        case nodes.Compare(op=op, left=left, right=right):
            return _compare(op, evaluate(left, columns), evaluate(right, columns))
        case nodes.Arithmetic():
            return _arithmetic(node, columns)
        case nodes.Contains(member=member, set=members):
            return _contains(evaluate(member, columns), evaluate(members, columns))
        case nodes.IsMissing(operand=operand):
            return missing(evaluate(operand, columns)).astype(np.float64)
        case nodes.AsNumber(operand=operand):
            return evaluate(operand, columns)
        case nodes.AsCondition(operand=operand):
            return _known(evaluate(operand, columns), lambda values: values != 0)
        case nodes.Not(operand=operand):
            return 1 - evaluate(operand, columns)
        case nodes.And(operands=operands):
            return _joined(np.minimum, 0, [evaluate(operand, columns) for operand in operands])
        case nodes.Or(operands=operands):
            return _joined(np.maximum, 1, [evaluate(operand, columns) for operand in operands])


def missing(values: Array) -> NDArray[np.bool_]:
    """Which entries are missing."""
    if values.dtype != object:
        return np.isnan(values)
    return np.fromiter((value is None for value in values), np.bool_, len(values))


def _constant(node: nodes.Constant, length: int) -> Array:
    if node.type in (ValueType.TEXT, ValueType.SET):
        return np.full(length, node.value, object)
    return np.full(length, np.nan if node.value is None else float(node.value), np.float64)


def _known(values: Array, test: Callable[[Array], Array]) -> Array:
    return np.where(np.isnan(values), np.nan, test(values))


_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _compare(op: str, left: Array, right: Array) -> Array:
    unknown = missing(left) | missing(right)
    return np.where(unknown, np.nan, _COMPARISONS[op](left, right).astype(np.float64))


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": lambda x, y: x - np.floor(x / y) * y,
}


def _arithmetic(node: nodes.Arithmetic, columns: Columns) -> Array:
    """Walks down the left side in a loop: a long sum leans left and would recurse deeply."""
    chain: list[nodes.Arithmetic] = []
    left: Node = node
    while isinstance(left, nodes.Arithmetic):
        chain.append(left)
        left = left.left
    result = evaluate(left, columns)
    for step in reversed(chain):
        result = _step(step, result, evaluate(step.right, columns))
    return result


def _step(node: nodes.Arithmetic, left: Array, right: Array) -> Array:
    times = (node.left.type is ValueType.TIME, node.right.type is ValueType.TIME)
    with np.errstate(all="ignore"):
        if node.type is ValueType.TIME:
            left, right = (
                side if is_time else side * 1000.0 for side, is_time in zip((left, right), times, strict=True)
            )
        result = _ARITHMETIC[node.op](left, right)
        if all(times):
            result = result / 1000.0
        return np.where(np.isfinite(result), result, np.nan)


def _contains(member: Array, members: Array) -> Array:
    found = (np.nan if m is None or s is None else float(m in s) for m, s in zip(member, members, strict=True))
    return np.fromiter(found, np.float64, len(member))


def _joined(join: Callable[[Array, Array], Array], decisive: float, sides: list[Array]) -> Array:
    """Kleene's and, or: minimum and maximum give NaN where a side is, unless another one decides."""
    decided = np.zeros(len(sides[0]), np.bool_)
    result = sides[0]
    for side in sides:
        decided |= side == decisive
        result = join(result, side)
    return np.where(decided, decisive, result)
