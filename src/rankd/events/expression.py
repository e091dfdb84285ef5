"""Expressions over events: text to the typed tree of rankd.events.nodes."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from rankd.events import nodes
from rankd.events.evaluate import Array, evaluate
from rankd.events.nodes import EVENT_FIELDS, Node, ValueType
from rankd.features.parse import Source, did_you_mean, parse
from rankd.types.schema import Schema, Signal, SignalKind

LOOKUP_TYPES: Final[Mapping[SignalKind, ValueType]] = {
    SignalKind.F32: ValueType.NUMBER,
    SignalKind.I64: ValueType.NUMBER,
    SignalKind.BOOL: ValueType.CONDITION,
    SignalKind.TIMESTAMP: ValueType.TIME,
    SignalKind.CATEGORY: ValueType.TEXT,
    SignalKind.STRING: ValueType.TEXT,
    SignalKind.SET: ValueType.SET,
}
"""Which stored signals expressions can read, and as what."""

EVENT_ENTITIES: Final = ("item", "query", "session", "user", "visitor")
"""Entities of which an event names one."""

_NUMBER, _TEXT, _TIME, _CONDITION, _SET = ValueType

_ALLOWED = "numbers, strings, names, None, + - * / %, comparisons, in, and, or, not and `x if c else y`"


def own_entities(schema: Schema) -> list[str]:
    """The entities of which an event has a row of its own: those it names one of, and joined ones of these."""
    return [e.name for e in schema.entities.values() if e.key or e.name in EVENT_ENTITIES]


@dataclass(frozen=True, slots=True)
class _Open:
    """An operand whose type its surroundings decide: a property, None, or a choice of such."""

    at: ast.expr
    what: str
    resolve: Callable[[ValueType], Node]


_Operand: TypeAlias = Node | _Open


def compile_expression(source: Source, schema: Schema, wanted: tuple[ValueType, ...], what: str) -> Node:
    """The tree of an expression, of one of the types `wanted`; what is constant is computed. `what` names the whole in
    messages, such as "the weight". ExpressionError: what is wrong, and where."""
    tree = parse(source)
    compiler = _Compiler(source, schema)
    return compiler.coerce(compiler.visit(tree), wanted, tree, what)


class _NoColumns:
    """What constants are computed over: one event of which nothing is asked."""

    length = 1

    def field(self, name: str) -> Array:
        raise AssertionError(name)

    def property(self, name: str, type: ValueType) -> Array:
        raise AssertionError(name)

    def lookup(self, entity: str, signal: str) -> Array:
        raise AssertionError(entity, signal)


def _folded(node: Node) -> Node:
    """The constant that a node of constants is."""
    inner = nodes.operands(node)
    if not inner or not all(isinstance(operand, nodes.Constant) for operand in inner):
        return node
    value = evaluate(node, _NoColumns())[0]
    if node.type is _TEXT:
        return nodes.Constant(value, _TEXT)
    if math.isnan(value):
        return nodes.Constant(None, node.type)
    return nodes.Constant(bool(value) if node.type is _CONDITION else float(value), node.type)


class _Compiler:
    """Compiles one expression."""

    def __init__(self, source: Source, schema: Schema) -> None:
        self._source = source
        self._schema = schema

    def coerce(self, operand: _Operand, wanted: tuple[ValueType, ...], at: ast.expr, what: str) -> Node:
        """The operand as one of some types: as it is, or converted. An open one becomes the first that it can be."""
        if isinstance(operand, _Open):
            return operand.resolve(next((type for type in wanted if type in (_NUMBER, _TEXT, _CONDITION)), wanted[0]))
        if operand.type in wanted:
            return operand
        if operand.type is _CONDITION and _NUMBER in wanted:
            return _folded(nodes.AsNumber(operand))
        if operand.type is _NUMBER and _CONDITION in wanted:
            return _folded(nodes.AsCondition(operand))
        expected = " or ".join(type.value for type in wanted)
        hint = "; a time less another is a number of seconds" if operand.type is _TIME and _NUMBER in wanted else ""
        raise self._source.error(f"{what} must be {expected}, not {operand.type.value}{hint}", at)

    def visit(self, node: ast.expr) -> _Operand:
        """The operand of a syntax tree."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Attribute() | ast.Subscript():
                return self._dotted_name(node)
            case ast.Name():
                raise self._source.error(f"unknown name `{node.id}`{self._namespaces(node.id)}", node)
            case ast.BinOp():
                return self._binary(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BoolOp():
                return self._boolean(node)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                return self._choose(node)
        raise self._source.error(f"this is not part of expressions over events, which are made of {_ALLOWED}", node)

    def _constant(self, node: ast.Constant) -> _Operand:
        value = node.value
        if value is None:
            return _Open(node, "None", lambda type: nodes.Constant(None, type))
        if isinstance(value, str):
            return nodes.Constant(value or None, _TEXT)
        if isinstance(value, bool):
            return nodes.Constant(value, _CONDITION)
        if isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if math.isinf(number):
                raise self._source.error("the number is too large for a double", node)
            return nodes.Constant(number, _NUMBER)
        raise self._source.error(f"{value!r:.40} is not part of expressions over events, made of {_ALLOWED}", node)

    def _namespaces(self, name: str) -> str:
        options = ["event", *(e for e in own_entities(self._schema) if e != "event")]
        if name in options:
            return f"; it is followed by a dot and a name, such as {name}.…"
        return did_you_mean(name, options)

    def _dotted_name(self, node: ast.Attribute | ast.Subscript) -> _Operand:
        match node:
            case ast.Attribute(value=ast.Name(id="event"), attr="properties"):
                raise self._source.error("a property is named, such as event.properties.price", node)
            case ast.Attribute(value=ast.Name(id="event"), attr=name):
                if name not in EVENT_FIELDS:
                    hint = did_you_mean(name, [*EVENT_FIELDS, "properties"])
                    raise self._source.error(f"an event has no `{name}`{hint}", node)
                return nodes.Field(name, EVENT_FIELDS[name])
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="event"), attr="properties"), attr=name):
                return self._property(node, name)
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id="event"), attr="properties"),
                slice=ast.Constant(value=str() as name),
            ):
                return self._property(node, name)
            case ast.Attribute(value=ast.Name(id=entity), attr=name):
                return self._lookup(node, entity, name)
        raise self._source.error(
            "expected event.NAME, event.properties.NAME or ENTITY.SIGNAL, got something else", node
        )

    def _property(self, node: ast.expr, name: str) -> _Open:
        def resolve(type: ValueType) -> Node:
            if type in (_NUMBER, _TEXT):
                return nodes.Property(name, type)
            if type is _CONDITION:
                return nodes.AsCondition(nodes.Property(name, _NUMBER))
            raise self._source.error(f"expected {type.value}, got a property, which is a number or a text", node)

        return _Open(node, "a property", resolve)

    def _lookup(self, node: ast.expr, entity: str, name: str) -> Node:
        if entity not in self._schema.entities:
            raise self._source.error(f"the schema declares no entity `{entity}`{self._namespaces(entity)}", node)
        if entity not in own_entities(self._schema):
            raise self._source.error(f"an event has no row of the entity `{entity}`{self._namespaces(entity)}", node)
        signals: Mapping[str, Signal] = self._schema.entities[entity].signals
        if name not in signals:
            hint = did_you_mean(name, signals)
            raise self._source.error(f"the entity `{entity}` has no signal `{name}`{hint}", node)
        kind = signals[name].kind
        if kind not in LOOKUP_TYPES:
            readable = ", ".join(kind.value for kind in LOOKUP_TYPES)
            message = f"expected a signal that expressions over events can read ({readable}), got one of type"
            raise self._source.error(f"{message} {signals[name].type_name}", node)
        return nodes.Lookup(entity, name, LOOKUP_TYPES[kind])

    def _binary(self, node: ast.BinOp) -> _Operand:
        """Walks down the left side in a loop: a long sum leans left and would recurse deeply."""
        chain: list[ast.BinOp] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp):
            chain.append(left)
            left = left.left
        result = self.visit(left)
        for step in reversed(chain):
            result = self._arithmetic(step, result, self.visit(step.right))
        return result

    def _arithmetic(self, node: ast.BinOp, left: _Operand, right: _Operand) -> Node:
        operators: Mapping[type[ast.operator], Literal["+", "-", "*", "/", "%"]] = {
            ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%",
        }  # fmt: skip
        symbol = operators.get(type(node.op))
        if symbol is None:
            raise self._source.error(f"this operator is not part of expressions, which are made of {_ALLOWED}", node)
        is_time = [isinstance(side, Node) and side.type is _TIME for side in (left, right)]
        wanted = [(_TIME,) if time else (_NUMBER,) for time in is_time]
        type_ = _TIME if any(is_time) else _NUMBER
        if any(is_time):
            if symbol == "-" and all(is_time):
                type_ = _NUMBER
            elif not (symbol == "+" and not all(is_time)) and not (symbol == "-" and is_time == [True, False]):
                raise self._source.error(
                    "a time can be subtracted from a time, and seconds be added to or subtracted from it", node
                )
        what = f"a side of `{symbol}`"
        sides = [
            self.coerce(side, types, at, what)
            for side, types, at in zip((left, right), wanted, (node.left, node.right), strict=True)
        ]
        return _folded(nodes.Arithmetic(symbol, sides[0], sides[1], type_))

    def _unary(self, node: ast.UnaryOp) -> Node:
        operand = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return _folded(nodes.Not(self.coerce(operand, (_CONDITION,), node.operand, "the argument of `not`")))
        if isinstance(node.op, ast.Invert):
            raise self._source.error(f"`~` is not part of expressions, which are made of {_ALLOWED}", node)
        symbol = "-" if isinstance(node.op, ast.USub) else "+"
        number = self.coerce(operand, (_NUMBER,), node.operand, f"the argument of `{symbol}`")
        return (
            number if symbol == "+" else _folded(nodes.Arithmetic("-", nodes.Constant(0.0, _NUMBER), number, _NUMBER))
        )

    def _boolean(self, node: ast.BoolOp) -> Node:
        is_and = isinstance(node.op, ast.And)
        what = f"a side of `{'and' if is_and else 'or'}`"
        sides = tuple(self.coerce(self.visit(value), (_CONDITION,), value, what) for value in node.values)
        return _folded(nodes.And(sides) if is_and else nodes.Or(sides))

    def _choose(self, node: ast.IfExp) -> _Operand:
        condition = self.coerce(self.visit(node.test), (_CONDITION,), node.test, "the condition")
        then, otherwise = self.visit(node.body), self.visit(node.orelse)

        def choice(type: ValueType) -> Node:
            branches = [
                self.coerce(side, (type,), at, "the other branch")
                for side, at in ((then, node.body), (otherwise, node.orelse))
            ]
            return _folded(nodes.Choose(condition, branches[0], branches[1], type))

        if isinstance(then, Node):
            return choice(_NUMBER if isinstance(otherwise, Node) and otherwise.type is _NUMBER else then.type)
        if isinstance(otherwise, Node):
            return choice(otherwise.type)
        return _Open(node, "a choice", choice)

    def _compare(self, node: ast.Compare) -> Node:
        results = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            results.append(_folded(self._comparison(node, left, op, right)))
            left = right
        return results[0] if len(results) == 1 else _folded(nodes.And(tuple(results)))

    def _comparison(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Node:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._source.error("`is` is followed by None or not None", node)
            test = self._missing(self.visit(left))
            return test if isinstance(op, ast.Is) else _folded(nodes.Not(test))
        if isinstance(op, ast.In | ast.NotIn):
            test = self._contains(left, right)
            return test if isinstance(op, ast.In) else _folded(nodes.Not(test))
        symbols: Mapping[type[ast.cmpop], Literal["==", "!=", "<", "<=", ">", ">="]] = {
            ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
        }  # fmt: skip
        symbol = symbols[type(op)]
        for side in (left, right):
            if isinstance(side, ast.Constant) and side.value is None:
                raise self._source.error("whether something is missing is said by `x is None`", node)
        operands = (self.visit(left), self.visit(right))
        types = (_NUMBER, _TIME, _TEXT) if symbol in ("==", "!=") else (_NUMBER, _TIME)
        wanted = [side.type for side in operands if isinstance(side, Node) and side.type is not _CONDITION]
        if not wanted and symbol in ("==", "!=") and all(isinstance(side, _Open) for side in operands):
            raise self._source.error(
                f"expected numbers or texts around `{symbol}`, got properties, which may be both", node
            )
        type_ = wanted[0] if wanted and wanted[0] in types else _NUMBER if not wanted else None
        if type_ is None:
            described = " or ".join(type.value for type in types)
            raise self._source.error(f"a side of `{symbol}` must be {described}, not {wanted[0].value}", node)
        what = f"a side of `{symbol}`"
        sides = [self.coerce(side, (type_,), at, what) for side, at in zip(operands, (left, right), strict=True)]
        return nodes.Compare(symbol, sides[0], sides[1])

    def _missing(self, operand: _Operand) -> Node:
        if isinstance(operand, Node):
            return _folded(nodes.IsMissing(operand))
        kinds = (operand.resolve(_NUMBER), operand.resolve(_TEXT))  # a property is missing if it is of neither kind
        return _folded(nodes.And(tuple(_folded(nodes.IsMissing(kind)) for kind in kinds)))

    def _contains(self, left: ast.expr, right: ast.expr) -> Node:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set):
            member = self.coerce(self.visit(left), (_TEXT,), left, "what is looked for by `in`")
            return nodes.Contains(member, self.coerce(self.visit(right), (_SET,), right, "the right side of `in`"))
        options = [self.visit(option) for option in right.elts]
        if not options or not all(
            isinstance(option, nodes.Constant) and option.value is not None for option in options
        ):
            raise self._source.error("expected numbers or strings in the list after `in`", right)
        types = {option.type for option in options if isinstance(option, Node)}
        if types not in ({_NUMBER}, {_TEXT}):
            raise self._source.error("expected either numbers or strings in the list after `in`", right)
        operand = self.coerce(self.visit(left), tuple(types), left, "what is looked for by `in`")
        tests = (nodes.Compare("==", operand, cast(Node, option)) for option in options)
        return _folded(nodes.Or(tuple(_folded(test) for test in tests)))
