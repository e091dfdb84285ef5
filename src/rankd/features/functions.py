"""The functions of the expression language. docs/features.md says what each means.

Must live here: names, parameters and how a call becomes operations. Must not: any
arithmetic; the kernels do that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rankd.features.parse import did_you_mean
from rankd.features.program import ValueType
from rankd.features.values import (
    CATEGORY,
    EMBEDDING,
    MAP,
    NUMBER,
    SCALARS,
    SET,
    TEXT,
    TIMESTAMP,
    Literal,
    Operand,
    Typer,
    Value,
)

_ORDERED = (NUMBER, TIMESTAMP)
_ANY = tuple(ValueType)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")

Lower = Callable[[Typer, ast.expr, Sequence[Operand]], Value]


@dataclass(frozen=True, slots=True)
class Function:
    """`parameters` are names; the last `optional` may be left out; the last of a `variadic` one repeats."""

    name: str
    parameters: tuple[str, ...]
    lower: Lower
    optional: int = 0
    variadic: bool = False

    @property
    def signature(self) -> str:
        """As the documentation writes it."""
        required = self.parameters[: len(self.parameters) - self.optional]
        rest = "".join(f"[, {p}]" for p in self.parameters[len(required) :])
        return f"{self.name}({', '.join(required)}{rest}{', …' if self.variadic else ''})"


def call(typer: Typer, node: ast.Call, function: Function, visit: Callable[[ast.expr], Operand]) -> Value:
    """Binds a call's arguments to parameters and lowers it."""
    return function.lower(typer, node, [visit(argument) for argument in _bind(typer, node, function)])


def _bind(typer: Typer, node: ast.Call, function: Function) -> list[ast.expr]:
    parameters = function.parameters
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            raise typer.source.error(f"`*` cannot be used in a call: {function.signature}", argument)
    if len(node.args) > len(parameters) and not function.variadic:
        raise typer.source.error(f"{function.signature} got {len(node.args)} arguments", node.args[len(parameters)])
    arguments: list[ast.expr] = list(node.args)
    for keyword in node.keywords:
        name = keyword.arg
        if name is None or function.variadic or name not in parameters:
            hint = "" if name is None or function.variadic else did_you_mean(name, parameters)
            raise typer.source.error(f"{function.signature} has no parameter `{name or '**'}`{hint}", keyword)
        position = parameters.index(name)
        if position < len(arguments):
            raise typer.source.error(f"{function.signature} got `{name}` twice", keyword)
        if position > len(arguments):
            raise typer.source.error(f"{function.signature} lacks `{parameters[len(arguments)]}`", keyword)
        arguments.append(keyword.value)
    if len(arguments) < len(parameters) - function.optional:
        raise typer.source.error(f"{function.signature} lacks `{parameters[len(arguments)]}`", node)
    return arguments


@dataclass(frozen=True, slots=True)
class _Direct:
    """A function that is one operation on arguments of fixed types, with a number as its result."""

    name: str
    parameters: tuple[str, ...]
    types: tuple[ValueType, ...]

    def __call__(self, typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
        values = [
            typer.coerce(operand, (type_,), f"`{parameter}` of {self.name}")
            for operand, parameter, type_ in zip(operands, self.parameters, self.types, strict=True)
        ]
        vectors = [v for v in values if v.type is EMBEDDING]
        if len({v.dimension for v in vectors}) > 1:
            raise typer.source.error(
                f"{self.name} needs embeddings of one dimension, not "
                + " and ".join(str(v.dimension) for v in vectors),
                values[1].node,
            )
        return typer.emit(node, NUMBER, self.name, *values)


def _where(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    condition = typer.coerce(operands[0], (NUMBER,), "a condition")
    values = typer.unify(operands[1:], SCALARS, "the values to choose from")
    return typer.emit(node, values[0].type, "where", condition, *values)


def _folded(name: str, types: tuple[ValueType, ...]) -> Lower:
    """f(a, b, c) as f(f(a, b), c)."""

    def lower(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
        values = typer.unify(operands, types, f"the arguments of {name}")
        result = values[0]
        for value in values[1:]:
            result = typer.emit(node, result.type, name, result, value)
        return result

    return lower


def _clip(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    x, low, high = typer.unify(operands, _ORDERED, "the arguments of clip")
    return typer.emit(node, x.type, "min", typer.emit(node, x.type, "max", x, low), high)


def _is_missing(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    value = typer.coerce(operands[0], _ANY, "`x` of is_missing")
    name = "is_missing" if value.type in SCALARS else f"{value.type.value}_missing"
    return typer.emit(node, NUMBER, name, value)


def _pow(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    x, y = (typer.coerce(operand, (NUMBER,), "the arguments of pow") for operand in operands)
    if typer.builder.constant_of(y.register) == 2:
        return typer.emit(node, NUMBER, "mul", x, x)
    return typer.emit(node, NUMBER, "pow", x, y)


def _age(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    moment = typer.coerce(operands[0], (TIMESTAMP,), "`ts`")
    return Value(node, NUMBER, typer.builder.op("sub", typer.now(), moment.register))


def _age_days(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    return typer.emit(node, NUMBER, "div", _age(typer, node, operands), typer.number(node, _SECONDS["d"]))


def _decay(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    half_life = typer.number(operands[1].node, _duration_s(typer, operands[1]))
    return typer.emit(node, NUMBER, "decay", _age(typer, node, operands[:1]), half_life)


def _duration_s(typer: Typer, operand: Operand) -> float:
    """A constant length of time, in seconds: "7d" or a number."""
    seconds: float | None = None
    if isinstance(operand, Literal):
        if match := _DURATION.fullmatch(operand.text):
            seconds = float(match[1]) * _SECONDS[match[2]]
    elif operand.type is NUMBER:
        seconds = typer.builder.constant_of(operand.register)
    if seconds is None or not 0 < seconds < float("inf"):
        raise typer.source.error(
            'a half-life is a constant above 0: seconds, or a string such as "90s", "15m", "12h", "7d", "4w"',
            operand.node,
        )
    return seconds


def _lookup(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
    table = typer.coerce(operands[0], (MAP,), "`map` of lookup")
    key = typer.coerce(operands[1], (CATEGORY,), "`category` of lookup")
    found = typer.emit(node, NUMBER, "lookup", table, key)
    if len(operands) == 2:
        return found
    default = typer.coerce(operands[2], (NUMBER,), "`default` of lookup")
    return typer.emit(node, NUMBER, "coalesce", found, default)


def _list(name: str, keeps_type: bool) -> Lower:
    def lower(typer: Typer, node: ast.expr, operands: Sequence[Operand]) -> Value:
        x = typer.coerce(operands[0], _ORDERED, f"`x` of {name}")
        return typer.emit(node, x.type if keeps_type else NUMBER, name, x)

    return lower


def _direct(name: str, **parameters: ValueType) -> Function:
    names = tuple(parameters)
    return Function(name, names, _Direct(name, names, tuple(parameters.values())))


_LIBRARY = (
    Function("where", ("condition", "x", "y"), _where),
    Function("coalesce", ("x", "y"), _folded("coalesce", SCALARS), variadic=True),
    Function("is_missing", ("x",), _is_missing),
    Function("min", ("x", "y"), _folded("min", _ORDERED), variadic=True),
    Function("max", ("x", "y"), _folded("max", _ORDERED), variadic=True),
    Function("clip", ("x", "lo", "hi"), _clip),
    Function("pow", ("x", "y"), _pow),
    _direct("abs", x=NUMBER),
    _direct("floor", x=NUMBER),
    _direct("sqrt", x=NUMBER),
    _direct("exp", x=NUMBER),
    _direct("log", x=NUMBER),
    _direct("log1p", x=NUMBER),
    Function("age", ("ts",), _age),
    Function("age_days", ("ts",), _age_days),
    Function("decay", ("ts", "half_life"), _decay),
    _direct("haversine", lat1=NUMBER, lon1=NUMBER, lat2=NUMBER, lon2=NUMBER),
    _direct("dot", a=EMBEDDING, b=EMBEDDING),
    _direct("cosine", a=EMBEDDING, b=EMBEDDING),
    Function("lookup", ("map", "category", "default"), _lookup, optional=1),
    _direct("contains", set=SET, category=CATEGORY),
    _direct("overlap", a=SET, b=SET),
    _direct("jaccard", a=SET, b=SET),
    Function("list_min", ("x",), _list("list_min", True)),
    Function("list_max", ("x",), _list("list_max", True)),
    _direct("list_mean", x=NUMBER),
    Function("list_rank", ("x",), _list("list_rank", False)),
    _direct("list_zscore", x=NUMBER),
    _direct("token_count", text=TEXT),
    _direct("token_overlap", query=TEXT, text=TEXT),
    _direct("prefix_match", query=TEXT, text=TEXT),
    _direct("trigram_similarity", a=TEXT, b=TEXT),
    _direct("edit_similarity", a=TEXT, b=TEXT),
)

FUNCTIONS: Mapping[str, Function] = {function.name: function for function in _LIBRARY}
