"""Expressions over events: their values, and what people are told who get them wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_world import SCHEMA

from rankd.errors import ExpressionError
from rankd.events import nodes
from rankd.events.evaluate import Array, evaluate
from rankd.events.expression import compile_expression
from rankd.events.nodes import Constant, ValueType
from rankd.features.parse import Source

ANY = tuple(ValueType)
NAN = math.nan


class OneEvent:
    """The leaves of one event."""

    length = 1

    def __init__(self, **values: Any) -> None:
        self._values = values

    def _array(self, value: Any, is_number: bool) -> Array:
        if is_number:
            return np.array([NAN if value is None else float(value)])
        array = np.empty(1, object)
        array[0] = value
        return array

    def field(self, name: str) -> Array:
        return self._array(self._values.get(name), name in ("time", "position", "value"))

    def property(self, name: str, type: ValueType) -> Array:
        value = self._values.get("properties", {}).get(name)
        is_number = type is ValueType.NUMBER
        return self._array(value if isinstance(value, str) != is_number else None, is_number)

    def lookup(self, entity: str, signal: str) -> Array:
        return self._array(
            self._values.get(f"{entity}_{signal}"), signal not in ("category", "title", "tags", "language")
        )


EVENT = OneEvent(
    type="click", id="e1", time=86_400_000.0, item_id="p1", user_id=None, position=3, value=2.5,
    properties={"price": 9.5, "colour": "red", "mobile": 1.0},
    item_price=4.0, item_on_sale=1.0, item_released=80_000_000.0, item_category="phones",
    item_tags=frozenset(["new", "red"]),
)  # fmt: skip


def value_of(text: str, event: OneEvent = EVENT) -> Any:
    tree = compile_expression(Source(text, "here"), SCHEMA, ANY, "the whole")
    value = evaluate(tree, event)[0]
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("event.type", "click"),
        ("event.value * 2 + 1", 6.0),
        ("event.position - 4", -1.0),
        ("-event.value", -2.5),
        ("+event.value", 2.5),
        ("7 % 3", 1.0),
        ("-7 % 3", 2.0),
        ("event.value / 0", None),
        ("event.value % 0", None),
        ("1e308 * 10", None),
        ("event.user_id", None),
        ("event.properties.price + event.properties.mobile", 10.5),
        ("event.properties.gone + 1", None),
        ("event.properties.colour == 'red'", 1.0),
        ("event.properties.price == 'red'", None),  # a number is no text
        ("event.properties.colour > 1", None),
        ("event.properties['price'] > 9", 1.0),
        ("event.time - item.released", 6_400.0),
        ("event.time + 60", 86_460_000.0),
        ("event.time - 60", 86_340_000.0),
        ("60 + event.time", 86_460_000.0),
        ("event.time > item.released", 1.0),
        ("item.on_sale", 1.0),
        ("item.on_sale + 1", 2.0),
        ("item.on_sale and event.value", 1.0),
        ("not item.on_sale", 0.0),
        ("item.on_sale == True", 1.0),
        ("'new' in item.tags", 1.0),
        ("'old' not in item.tags", 1.0),
        ("event.properties.colour in item.tags", 1.0),
        ("event.type in ('click', 'cart')", 1.0),
        ("event.position in [1, 2]", 0.0),
        ("event.properties.price in [9.5]", 1.0),
        ("event.user_id is None", 1.0),
        ("event.item_id is not None", 1.0),
        ("event.properties.gone is None", 1.0),
        ("event.properties.price is None", 0.0),
        ("event.properties.colour is None", 0.0),
        ("None is None", 1.0),
        ("event.user_id == 'u'", None),
        ("event.user_id == 'u' or event.value > 1", 1.0),
        ("event.user_id == 'u' and event.value > 1", None),
        ("event.user_id == 'u' and event.value > 9", 0.0),
        ("not event.user_id == 'u'", None),
        ("1 < event.position <= 3", 1.0),
        ("2 if event.user_id == 'u' else 3", 3.0),
        ("event.value if event.type == 'click' else None", 2.5),
        ("None if event.type == 'click' else event.value", None),
        ("event.properties.colour if event.value > 1 else item.category", "red"),
        ("item.category if event.value > 9 else event.properties.colour", "red"),
        ("item.on_sale if event.value > 9 else 7", 7.0),
        ("''", None),
        ("'a' if 1 > 2 else 'b'", "b"),
        ("True", 1.0),
    ],
)
def test_values(text: str, expected: Any):
    assert value_of(text) == expected


BAD = [
    ("event.valeu", 1, "an event has no `valeu`; did you mean `value`?"),
    ("evnet.value", 1, "the schema declares no entity `evnet`; did you mean `event`?"),
    ("value", 1, "unknown name `value`"),
    ("event", 1, "it is followed by a dot and a name, such as event.…"),
    ("event.properties", 1, "a property is named, such as event.properties.price"),
    ("event.properties.a.b", 1, "expected event.NAME, event.properties.NAME or ENTITY.SIGNAL"),
    ("item.categry", 1, "the entity `item` has no signal `categry`; did you mean `category`?"),
    ("brand.n", 1, "an event has no row of the entity `brand`"),
    ("1 + item.vector", 5, "expected a signal that expressions over events can read"),
    ("1 + item.clicks_7d", 5, "got one of type windowed_counter"),
    ("1 + event.type", 5, "a side of `+` must be a number, not a text"),
    ("event.time * 2", 1, "a time can be subtracted from a time"),
    ("1 - event.time", 1, "a time can be subtracted from a time"),
    ("event.time + event.time", 1, "a time can be subtracted from a time"),
    ("event.type < 'a'", 1, "a side of `<` must be a number or a time, not a text"),
    ("event.type == 1", 15, "a side of `==` must be a text, not a number"),
    ("event.time > 5", 14, "a side of `>` must be a time, not a number"),
    ("event.time > event.properties.t", 14, "expected a time, got a property, which is a number or a text"),
    ("event.properties.a == event.properties.b", 1, "which may be both"),
    ("event.value == None", 1, "is said by `x is None`"),
    ("event.value is 1", 1, "`is` is followed by None or not None"),
    ("event.type in event.item_id", 15, "the right side of `in` must be a set of texts, not a text"),
    ("event.type in []", 15, "expected numbers or strings in the list after `in`"),
    ("event.type in ['a', 1]", 15, "expected either numbers or strings"),
    ("not event.type", 5, "the argument of `not` must be a condition, not a text"),
    ("1 if event.type else 2", 6, "the condition must be a condition, not a text"),
    ("1 if True else 'a'", 16, "the other branch must be a number, not a text"),
    ("event.value ** 2", 1, "this operator is not part of expressions"),
    ("~event.position", 1, "`~` is not part of expressions"),
    ("max(1, 2)", 1, "this is not part of expressions over events"),
    ("1 + (lambda: 1)", 6, "this is not part of expressions over events"),
    ("b'a'", 1, "b'a' is not part of expressions"),
    ("9" * 400, 1, "the number is too large for a double"),
    ("event.value +", 13, "not an expression"),
    (" ", 0, "expected an expression, got nothing"),
]


@pytest.mark.parametrize(("text", "column", "message"), BAD)
def test_what_people_are_told(text: str, column: int, message: str):
    with pytest.raises(ExpressionError) as caught:
        compile_expression(Source(text, "schema.item.clicks.from.where"), SCHEMA, ANY, "the whole")
    assert message in caught.value.message
    assert caught.value.column == column
    assert caught.value.where == "schema.item.clicks.from.where"


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("event.type", ValueType.NUMBER, "the weight must be a number, not a text"),
        ("event.time", ValueType.NUMBER, "a time less another is a number of seconds"),
        ("event.value", ValueType.TEXT, "the weight must be a text, not a number"),
    ],
)
def test_the_whole_has_a_type(text: str, wanted: ValueType, message: str):
    with pytest.raises(ExpressionError, match=message):
        compile_expression(Source(text, "here"), SCHEMA, (wanted,), "the weight")


def test_constants_are_computed():
    tree = compile_expression(Source("1 + 2 * 3 if not (1 > 2) else 4", ""), SCHEMA, (ValueType.NUMBER,), "it")
    assert tree == Constant(7.0, ValueType.NUMBER)
    tree = compile_expression(Source("1 / 0", ""), SCHEMA, (ValueType.NUMBER,), "it")
    assert tree == Constant(None, ValueType.NUMBER)


def test_long_sums_are_not_deep():
    assert value_of("+".join(["event.value"] * 600)) == 2.5 * 600


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))


def python_value(node: nodes.Node, event: dict[str, Any]) -> Any:
    """One event, without arrays: None is missing."""
    match node:
        case nodes.Constant(value=value):
            return value
        case nodes.Field(name=name):
            return event[name]
        case nodes.Arithmetic(op=op, left=left, right=right):
            x, y = python_value(left, event), python_value(right, event)
            if x is None or y is None or (y == 0 and op in "/%"):
                return None
            result = {"+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "/": lambda: x / y,
                      "%": lambda: x - math.floor(x / y) * y}[op]()  # fmt: skip
            return result if math.isfinite(result) else None
        case nodes.Compare(op=op, left=left, right=right):
            x, y = python_value(left, event), python_value(right, event)
            tests = {"==": x == y, "!=": x != y} if x is None or y is None else {
                "==": x == y, "!=": x != y, "<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y}  # fmt: skip
            return None if x is None or y is None else tests[op]
        case nodes.Not(operand=operand):
            x = python_value(operand, event)
            return None if x is None else not x
        case nodes.And(operands=inner):
            sides = [python_value(side, event) for side in inner]
            return False if False in sides else None if None in sides else True
        case nodes.Or(operands=inner):
            sides = [python_value(side, event) for side in inner]
            return True if True in sides else None if None in sides else False
        case nodes.IsMissing(operand=operand):
            return python_value(operand, event) is None
        case nodes.Choose(condition=condition, then=then, otherwise=otherwise):
            return python_value(then if python_value(condition, event) else otherwise, event)
        case nodes.AsNumber(operand=operand):
            x = python_value(operand, event)
            return None if x is None else float(x)
        case nodes.AsCondition(operand=operand):
            x = python_value(operand, event)
            return None if x is None else x != 0
    raise AssertionError(node)


def expressions() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["event.value", "event.position", "0", "1", "2.5", "-3", "None"])

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            st.builds(lambda p, op: f"({p[0]} {op} {p[1]})", pair, st.sampled_from("+-*/")),
            st.builds(lambda p, op: f"({p[0]} {op} {p[1]})", pair, st.sampled_from(["and", "or"])),
            st.builds(lambda x: f"(not {x})", inner),
            st.builds(lambda x: f"({x} is None)", inner),
            st.builds(
                lambda p, op: f"(({p[0]}) + 0 {op} ({p[1]}) + 0)", pair, st.sampled_from(["<", ">=", "==", "!="])
            ),
            st.builds(lambda p, c: f"({p[0]} if {c} else {p[1]})", pair, inner),
        )

    return st.recursive(leaves, grow, max_leaves=12)


@given(expressions(), NUMBERS, NUMBERS)
def test_arrays_agree_with_python(text: str, value: float | None, position: float | None):
    event = {"value": value, "position": position}
    tree = compile_expression(Source(f"({text}) + 0", ""), SCHEMA, (ValueType.NUMBER,), "it")
    got = evaluate(tree, OneEvent(**event))[0]
    expected = python_value(tree, event)
    if expected is None:
        assert math.isnan(got), text
    else:
        assert got == expected, text
