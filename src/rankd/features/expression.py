"""A syntax tree to typed operations."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

from rankd.features.entities import UnknownNameError
from rankd.features.functions import FUNCTIONS, call
from rankd.features.parse import did_you_mean
from rankd.features.program import Input, ValueType
from rankd.features.values import (
    CATEGORY,
    NUMBER,
    TIMESTAMP,
    Literal,
    Operand,
    Typer,
    Value,
    described,
)

_ARITHMETIC: Mapping[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "add"),
    ast.Sub: ("-", "sub"),
    ast.Mult: ("*", "mul"),
    ast.Div: ("/", "div"),
    ast.FloorDiv: ("//", "floordiv"),
    ast.Mod: ("%", "mod"),
    ast.Pow: ("**", "pow"),
}

_TIMES: Mapping[tuple[str, ValueType, ValueType], ValueType] = {
    ("-", TIMESTAMP, TIMESTAMP): NUMBER,
    ("-", TIMESTAMP, NUMBER): TIMESTAMP,
    ("+", TIMESTAMP, NUMBER): TIMESTAMP,
    ("+", NUMBER, TIMESTAMP): TIMESTAMP,
}

_COMPARISONS: Mapping[type[ast.cmpop], tuple[str, str, bool]] = {
    ast.Lt: ("<", "lt", False),
    ast.LtE: ("<=", "le", False),
    ast.Gt: (">", "lt", True),
    ast.GtE: (">=", "le", True),
    ast.Eq: ("==", "eq", False),
    ast.NotEq: ("!=", "ne", False),
}
"""Symbol, operation, and whether its arguments are swapped."""

_ALLOWED = "numbers, strings, names, + - * / // % **, comparisons, and, or, not, `x if c else y` and function calls"


class Compiler:
    """Compiles one expression. `resolve(namespace, name)` and `feature(name)` give what names stand for.

    `feature` takes the node, too, and may raise; both may raise UnknownNameError.
    """

    def __init__(self, typer: Typer, resolve: Callable[[str, str], Input], feature: Callable[[str], int]) -> None:
        self._typer = typer
        self._source = typer.source
        self._resolve = resolve
        self._feature = feature

    def result(self, tree: ast.expr, what: str) -> int:
        """The register of the whole expression, which must be a number; `what` names it in messages."""
        operand = self._visit(tree)
        if isinstance(operand, Literal) or operand.type is not NUMBER:
            hint = "; age(…) turns it into seconds" if getattr(operand, "type", None) is TIMESTAMP else ""
            raise self._source.error(f"{what} must be a number, not {described(operand)}{hint}", tree)
        return operand.register

    def _visit(self, node: ast.expr) -> Operand:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._bare_name(node)
            case ast.Attribute():
                return self._dotted_name(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BoolOp():
                name = "and" if isinstance(node.op, ast.And) else "or"
                values = [self._typer.coerce(self._visit(v), (NUMBER,), f"a side of `{name}`") for v in node.values]
                return self._joined(node, name, values)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                operands = [self._visit(part) for part in (node.test, node.body, node.orelse)]
                return FUNCTIONS["where"].lower(self._typer, node, operands)
            case ast.Call():
                return self._call(node)
        raise self._source.error(f"{_describe(node)} is not part of expressions, which are made of {_ALLOWED}", node)

    def _constant(self, node: ast.Constant) -> Operand:
        value = node.value
        if isinstance(value, str):
            return Literal(node, value)
        if isinstance(value, (bool, int, float)):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isinf(number):
                raise self._source.error("the number is too large for a double", node)
            return self._typer.number(node, number)
        shown = "None (a missing value is tested by is_missing(x))" if value is None else f"{value!r:.40}"
        raise self._source.error(f"{shown} is not part of expressions, which are made of {_ALLOWED}", node)

    def _bare_name(self, node: ast.Name) -> Value:
        try:
            return Value(node, NUMBER, self._feature(node.id))
        except UnknownNameError as error:
            raise self._source.error(str(error), node) from None

    def _dotted_name(self, node: ast.Attribute) -> Value:
        if not isinstance(node.value, ast.Name):
            raise self._source.error("a name has one dot, such as item.price", node)
        try:
            source = self._resolve(node.value.id, node.attr)
        except UnknownNameError as error:
            raise self._source.error(str(error), node) from None
        return Value(node, source.type, self._typer.builder.load(source), source.dimension)

    def _binary(self, node: ast.BinOp) -> Operand:
        """Walks down the left side in a loop: a long sum leans left and would recurse deeply."""
        chain: list[ast.BinOp] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):
            chain.append(left)
            left = left.left
        result = self._visit(left)
        for step in reversed(chain):
            result = self._arithmetic(step, result, self._visit(step.right))
        return result

    def _arithmetic(self, node: ast.BinOp, left: Operand, right: Operand) -> Value:
        if type(node.op) not in _ARITHMETIC:
            raise self._source.error(f"this operator is not part of expressions, which are made of {_ALLOWED}", node)
        symbol, name = _ARITHMETIC[type(node.op)]
        if isinstance(left, Value) and isinstance(right, Value):
            if (symbol, left.type, right.type) in _TIMES:
                return self._typer.emit(node, _TIMES[symbol, left.type, right.type], name, left, right)
            if left.type is TIMESTAMP is right.type:
                raise self._source.error(f"timestamps can be subtracted and compared, not `{symbol}`", node)
        values = [self._typer.coerce(side, (NUMBER,), f"a side of `{symbol}`") for side in (left, right)]
        if name == "pow":
            return FUNCTIONS["pow"].lower(self._typer, node, values)
        return self._typer.emit(node, NUMBER, name, *values)

    def _unary(self, node: ast.UnaryOp) -> Value:
        symbols = {ast.USub: ("-", "neg"), ast.UAdd: ("+", ""), ast.Not: ("not", "not")}
        if type(node.op) not in symbols:
            raise self._source.error(f"`~` is not part of expressions, which are made of {_ALLOWED}", node)
        symbol, name = symbols[type(node.op)]
        value = self._typer.coerce(self._visit(node.operand), (NUMBER,), f"the argument of `{symbol}`")
        return self._typer.emit(node, NUMBER, name, value) if name else value

    def _compare(self, node: ast.Compare) -> Value:
        operands = [self._visit(part) for part in (node.left, *node.comparators)]
        results = []
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            if type(op) not in _COMPARISONS:
                hint = "; contains(set, category) tests membership" if isinstance(op, (ast.In, ast.NotIn)) else ""
                raise self._source.error(
                    f"this comparison is not part of expressions, which have < <= > >= == !={hint}", node
                )
            symbol, name, swapped = _COMPARISONS[type(op)]
            types = (NUMBER, TIMESTAMP, CATEGORY) if name in ("eq", "ne") else (NUMBER, TIMESTAMP)
            sides = self._typer.unify((left, right), types, f"the sides of `{symbol}`")
            results.append(self._typer.emit(node, NUMBER, name, *(reversed(sides) if swapped else sides)))
        return self._joined(node, "and", results)

    def _joined(self, node: ast.expr, name: str, values: list[Value]) -> Value:
        result = values[0]
        for value in values[1:]:
            result = self._typer.emit(node, NUMBER, name, result, value)
        return result

    def _call(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Name):
            raise self._source.error("only the functions of the expression language can be called", node)
        if node.func.id not in FUNCTIONS:
            hint = did_you_mean(node.func.id, FUNCTIONS)
            raise self._source.error(f"unknown function `{node.func.id}`{hint}", node)
        return call(self._typer, node, FUNCTIONS[node.func.id], self._visit)


_CONSTRUCTS: Mapping[type[ast.expr], str] = {
    ast.Subscript: "indexing with [ ]",
    ast.List: "a list",
    ast.Tuple: "a tuple",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.Lambda: "lambda",
    ast.JoinedStr: "an f-string",
    ast.NamedExpr: "`:=`",
    ast.Await: "await",
    ast.Starred: "`*`",
}


def _describe(node: ast.expr) -> str:
    return _CONSTRUCTS.get(type(node), f"this ({type(node).__name__})")
