"""What expressions mean, in plain Python: a walk over the syntax tree on decoded values.

Written to be obviously right, one candidate at a time. It shares nothing with rankd.features.
Numbers are floats with NaN for missing; categories and texts are str, sets frozenset, maps
dict, embeddings float32 arrays, each None if missing. libm is called directly, so results
of random expressions can be compared bit by bit.
"""

from __future__ import annotations

import ast
import ctypes
import ctypes.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
NAN = math.nan


def libm(name: str, *arguments: float) -> float:
    function = getattr(_LIBM, name)
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_double] * len(arguments)
    return function(*arguments)


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def strict(function: Callable[..., Any]) -> Callable[..., float]:
    """Missing if any argument is."""

    def wrapped(*arguments: Any) -> float:
        return NAN if any(missing(a) for a in arguments) else float(function(*arguments))

    return wrapped


def ieee(operation: Callable[..., Any]) -> Callable[..., float]:
    """A NumPy function of doubles, without warnings."""

    def wrapped(*arguments: float) -> float:
        with np.errstate(all="ignore"):
            return float(operation(*(np.float64(a) for a in arguments)))

    return wrapped


def power(x: float, y: float) -> float:
    return ieee(np.multiply)(x, x) if y == 2 else libm("pow", x, y)


ARITHMETIC = {
    ast.Add: ieee(np.add),
    ast.Sub: ieee(np.subtract),
    ast.Mult: ieee(np.multiply),
    ast.Div: ieee(np.divide),
    ast.FloorDiv: ieee(np.floor_divide),
    ast.Mod: ieee(np.remainder),
    ast.Pow: power,
}

COMPARISONS = {
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
    ast.Eq: lambda x, y: x == y,
    ast.NotEq: lambda x, y: x != y,
}


def kleene_and(values: Sequence[float]) -> float:
    if any(v == 0 for v in values):
        return 0.0
    return NAN if any(missing(v) for v in values) else 1.0


def kleene_or(values: Sequence[float]) -> float:
    if any(v != 0 and not missing(v) for v in values):
        return 1.0
    return NAN if any(missing(v) for v in values) else 0.0


def kleene_not(x: float) -> float:
    return NAN if missing(x) else float(x == 0)


def where(condition: float, x: Any, y: Any) -> Any:
    if missing(condition):
        return NAN
    return x if condition != 0 else y


def coalesce(*values: Any) -> Any:
    return next((v for v in values if not missing(v)), values[-1])


def decay(age_s: float, half_life_s: float) -> float:
    return libm("exp2", -max(age_s, 0.0) / half_life_s)


def haversine(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    radians = math.pi / 180.0
    sin_lat = libm("sin", (lat2 - lat1) * radians / 2)
    sin_lon = libm("sin", (lon2 - lon1) * radians / 2)
    h = sin_lat * sin_lat + libm("cos", lat1 * radians) * libm("cos", lat2 * radians) * (sin_lon * sin_lon)
    return 2 * 6371.0088 * libm("asin", ieee(np.sqrt)(1.0 if h > 1 else h))


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Eight partial sums, as the kernel's contract has them."""
    sums = [0.0] * 8
    for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        sums[i % 8] += x * y
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return ieee(lambda x, y: x / y)(dot(a, b), math.sqrt(dot(a, a) * dot(b, b)))


def lookup(table: Any, category: Any, default: float = NAN) -> float:
    found = NAN if missing(table) or missing(category) else table.get(category, NAN)
    return default if missing(found) else found


def share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def jaccard(a: frozenset, b: frozenset) -> float:
    return share(len(a & b), len(a | b))


def token_overlap(query: str, text: str) -> float:
    wanted = set(query.split())
    return share(len(wanted & set(text.split())), len(wanted))


def prefix_match(query: str, text: str) -> float:
    if not query.split():
        return NAN
    *whole, last = query.split()
    return set(whole) <= set(text.split()) and any(t.startswith(last) for t in text.split())


def trigrams(text: str) -> frozenset:
    padded = [f"  {word} " for word in text.split()]
    return frozenset(word[i : i + 3] for word in padded for i in range(len(word) - 2))


def edit_similarity(a: str, b: str) -> float:
    a, b = a[:256], b[:256]
    rows = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (x != y))
    return 1 - rows[-1][-1] / max(len(a), len(b)) if a or b else NAN


SCALAR: Mapping[str, Callable[..., Any]] = {
    "where": where,
    "coalesce": coalesce,
    "is_missing": lambda x: float(missing(x) or (isinstance(x, np.ndarray) and bool(np.isnan(x[0])))),
    "min": strict(min),
    "max": strict(max),
    "clip": strict(lambda x, low, high: min(max(x, low), high)),
    "pow": strict(power),
    "abs": strict(abs),
    "floor": strict(ieee(np.floor)),
    "sqrt": strict(ieee(np.sqrt)),
    "exp": strict(lambda x: libm("exp", x)),
    "log": strict(lambda x: libm("log", x)),
    "log1p": strict(lambda x: libm("log1p", x)),
    "haversine": strict(haversine),
    "dot": strict(dot),
    "cosine": strict(cosine),
    "lookup": lookup,
    "contains": strict(lambda s, category: category in s),
    "overlap": strict(lambda a, b: len(a & b)),
    "jaccard": strict(jaccard),
    "token_count": strict(lambda text: len(text.split())),
    "token_overlap": strict(token_overlap),
    "prefix_match": strict(prefix_match),
    "trigram_similarity": strict(lambda a, b: jaccard(trigrams(a), trigrams(b))),
    "edit_similarity": strict(edit_similarity),
}


def listwise(name: str, values: Sequence[float]) -> list[float]:
    known = [v for v in values if not missing(v)]
    if not known:
        return [NAN] * len(values)
    if name == "list_min":
        return [min(known)] * len(values)
    if name == "list_max":
        return [max(known)] * len(values)
    if name == "list_rank":
        return [NAN if missing(v) else 1.0 + sum(k > v for k in known) for v in values]
    equal = min(known) == max(known)
    total = 0.0
    for k in known:
        total += k
    mean = known[0] if equal else total / len(known)
    if name == "list_mean":
        return [mean] * len(values)
    squares = 0.0
    for k in known:
        squares += _squared(k - mean)
    deviation = ieee(np.sqrt)(squares / len(known))
    return [NAN if missing(v) else 0.0 if equal else ieee(np.divide)(v - mean, deviation) for v in values]


def _squared(difference: float) -> float:
    """inf - inf is left out of the sum of squares; the z-score is NaN or 0 / inf anyway."""
    return 0.0 if math.isnan(difference) else difference * difference


class Oracle:
    """`names`: values of dotted names, one per candidate. `features`: expressions by bare name."""

    def __init__(self, length: int, names: Mapping[str, Sequence[Any]], features: Mapping[str, str]) -> None:
        self.length = length
        self.names = names
        self.features = features

    def evaluate(self, expression: str) -> list[float]:
        return self._walk(ast.parse(expression.strip(), mode="eval").body)

    def _each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        return [function(*row) for row in zip(*columns, strict=True)]

    def _walk(self, node: ast.expr) -> list[Any]:
        walk = self._walk
        match node:
            case ast.Constant(value=str(value)):
                return [value] * self.length
            case ast.Constant(value=value):
                return [float(value)] * self.length
            case ast.Name(id=name):
                with np.errstate(over="ignore"):
                    return [float(np.float32(v)) for v in self.evaluate(self.features[name])]
            case ast.Attribute(value=ast.Name(id=namespace), attr=name):
                return list(self.names[f"{namespace}.{name}"])
            case ast.BinOp(left=left, op=op, right=right):
                return self._each(strict(ARITHMETIC[type(op)]), walk(left), walk(right))
            case ast.UnaryOp(op=ast.Not(), operand=x):
                return self._each(kleene_not, walk(x))
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return self._each(lambda v: -v, walk(x))
            case ast.UnaryOp(op=ast.UAdd(), operand=x):
                return walk(x)
            case ast.BoolOp(op=op, values=values):
                join = kleene_and if isinstance(op, ast.And) else kleene_or
                return self._each(lambda *vs: join(vs), *(walk(v) for v in values))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._each(where, walk(test), walk(body), walk(orelse))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [walk(side) for side in (left, *comparators)]
                links = [
                    self._each(strict(COMPARISONS[type(op)]), x, y)
                    for op, x, y in zip(ops, sides, sides[1:], strict=False)
                ]
                return self._each(lambda *vs: kleene_and(vs) if len(vs) > 1 else vs[0], *links)
            case ast.Call(func=ast.Name(id=name)):
                return self._call(name, [*node.args, *(k.value for k in node.keywords)])
        raise AssertionError(ast.dump(node))

    def _call(self, name: str, nodes: Sequence[ast.expr]) -> list[Any]:
        arguments = [self._walk(node) for node in nodes]
        if name.startswith("list_"):
            return listwise(name, arguments[0])
        if name in ("age", "age_days", "decay"):
            ages = self._each(strict(lambda now, ts: now - ts), self.names["request.now"], arguments[0])
            if name == "age":
                return ages
            if name == "age_days":
                return [age / 86400 for age in ages]
            half_lives = [float(v[:-1]) * _SECONDS[v[-1]] if isinstance(v, str) else v for v in arguments[1]]
            return self._each(strict(decay), ages, half_lives)
        return self._each(SCALAR[name], *arguments)
