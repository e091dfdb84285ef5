"""Expressions as Ibis runs them on DuckDB, beside the stream's own evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest

from rankd.events import nodes
from rankd.events.batch.expression import compile_node
from rankd.events.batch.tables import normalise
from rankd.events.evaluate import Array, evaluate, missing
from rankd.events.nodes import ValueType

NUMBER, TEXT, TIME, CONDITION = ValueType.NUMBER, ValueType.TEXT, ValueType.TIME, ValueType.CONDITION
NUMBERS = [None, 0.0, 1.0, -1.5, 3.0, 1e308, -7.25, 0.1]
TEXTS = [None, "click", "a", "é", "Z"]
ROWS = [(n, p, t, u) for n in NUMBERS for p in (None, 1.0, 4.0) for t in (0, 1_700_000_000_123, -5) for u in TEXTS]

EVENTS = pa.table(
    {
        "event_id": [f"e{i}" for i in range(len(ROWS))],
        "type": ["click"] * len(ROWS),
        "time": pa.array([row[2] for row in ROWS], pa.int64()),
        "item_id": pa.array([row[3] for row in ROWS], pa.string()),
        "value": pa.array([row[0] for row in ROWS], pa.float64()),
        "position": pa.array([row[1] for row in ROWS], pa.float64()),
        "properties.n": pa.array([row[0] for row in ROWS], pa.float64()),
        "properties.t": pa.array([row[3] for row in ROWS], pa.string()),
    }
)
PROPERTIES = [nodes.Property("n", NUMBER), nodes.Property("t", TEXT), nodes.Property("absent", NUMBER)]


class Columns:
    """The same rows for the stream's evaluation."""

    length = len(ROWS)

    def field(self, name: str) -> Array:
        match name:
            case "value":
                return self._numbers(0)
            case "position":
                return self._numbers(1)
            case "time":
                return np.array([float(row[2]) for row in ROWS])
            case "item_id":
                return np.array([row[3] for row in ROWS], object)
            case _:
                return np.full(len(ROWS), None, object)

    def property(self, name: str, type: ValueType) -> Array:
        if name == "n" and type is NUMBER:
            return self._numbers(0)
        if name == "t" and type is TEXT:
            return np.array([row[3] for row in ROWS], object)
        return np.full(len(ROWS), np.nan) if type is NUMBER else np.full(len(ROWS), None, object)

    def lookup(self, entity: str, signal: str) -> Array:
        raise AssertionError(entity, signal)

    @staticmethod
    def _numbers(place: int) -> Array:
        return np.array([math.nan if row[place] is None else row[place] for row in ROWS])


LEAVES: dict[ValueType, list[Any]] = {
    NUMBER: [nodes.Field("value", NUMBER), nodes.Field("position", NUMBER), *PROPERTIES[::2],
             *(nodes.Constant(v, NUMBER) for v in (None, 0.0, 2.0, -0.5, 1e300))],
    TEXT: [nodes.Field("item_id", TEXT), PROPERTIES[1], *(nodes.Constant(v, TEXT) for v in (None, "a", "é", "it's"))],
    TIME: [nodes.Field("time", TIME)],
    CONDITION: [nodes.Constant(v, CONDITION) for v in (None, True, False)],
}  # fmt: skip
ORDER = ("==", "!=", "<", "<=", ">", ">=")


def grow(random: Random, kind: ValueType, depth: int) -> Any:
    """A random tree of a type."""
    if depth == 0 or random.random() < 0.1:
        return random.choice(LEAVES[kind])

    def some(of: ValueType) -> Any:
        return grow(random, of, depth - 1)

    makers: dict[ValueType, list[Callable[[], Any]]] = {
        NUMBER: [
            lambda: nodes.Arithmetic(random.choice("+-*/%"), some(NUMBER), some(NUMBER), NUMBER),
            lambda: nodes.Arithmetic("-", some(TIME), some(TIME), NUMBER),
            lambda: nodes.AsNumber(some(CONDITION)),
        ],
        TIME: [lambda: nodes.Arithmetic(random.choice("+-"), some(TIME), some(NUMBER), TIME)],
        TEXT: [],
        CONDITION: [
            lambda: nodes.Compare(random.choice(ORDER), some(NUMBER), some(NUMBER)),
            lambda: nodes.Compare(random.choice(ORDER), some(TIME), some(TIME)),
            lambda: nodes.Compare(random.choice(ORDER[:2]), some(TEXT), some(TEXT)),
            lambda: nodes.IsMissing(some(random.choice([NUMBER, TEXT, CONDITION]))),
            lambda: nodes.Not(some(CONDITION)),
            lambda: nodes.And((some(CONDITION), some(CONDITION))),
            lambda: nodes.Or((some(CONDITION), some(CONDITION), some(CONDITION))),
            lambda: nodes.AsCondition(some(NUMBER)),
        ],
    }
    choices = [*makers[kind], lambda: nodes.Choose(some(CONDITION), some(kind), some(kind), kind)]
    return random.choice(choices)()


def as_ibis(trees: list[Any]) -> list[dict[str, Any]]:
    """Rows with the trees' values, by the trees' numbers."""
    table = normalise(ibis.memtable(EVENTS), PROPERTIES)
    columns = {str(i): compile_node(tree, table) for i, tree in enumerate(trees)}
    rows = table.select(event_id=table["event_id"], **columns).to_pyarrow().to_pylist()
    return sorted(rows, key=lambda row: int(row["event_id"][1:]))


@pytest.mark.parametrize("seed", range(8))
def test_the_engine_agrees_with_the_stream(seed: int) -> None:
    random = Random(seed)
    trees = [grow(random, random.choice([NUMBER, TEXT, TIME, CONDITION]), 3) for _ in range(40)]
    rows = as_ibis(trees)
    for number, tree in enumerate(trees):
        expected = evaluate(tree, Columns())
        absent = missing(expected)
        for row, is_absent, value in zip(rows, absent.tolist(), expected.tolist(), strict=True):
            got = row[str(number)]
            if is_absent or isinstance(value, str):
                assert got == (None if is_absent else value), tree
            else:
                assert got is not None, (tree, value)
                assert float(got) == pytest.approx(value, rel=1e-12, abs=1e-300), tree
