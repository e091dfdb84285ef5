"""Whole profiles: order, sharing, circles, inputs."""

from __future__ import annotations

import numpy as np
import pytest

from rankd.errors import ExpressionError
from rankd.features import Input, Source, ValueType, compile_base, compile_features
from rankd.types.columns import NumericColumn
from rankd.types.profile import Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind

SCHEMA = Schema({"item": Entity("item", {"price": Signal("price", SignalKind.F32)})})
PRICES = NumericColumn(np.array([1.0, 0.1, np.nan]))


def profile_of(base: str | None = None, **features: str) -> Profile:
    return Profile("shop", features=tuple(Feature(n, e) for n, e in features.items()), base=base)


def test_features_in_any_order():
    profile = profile_of(b="a + c", a="item.price * 2", c="a / 4", unused="item.price * 2")
    program = compile_features(profile, SCHEMA, len)
    assert program.output_names == ("b", "a", "c", "unused")
    assert [str(i) for i in program.inputs] == ["item.price"]
    rows = program.run(3, [PRICES])
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows[1], rows[3])
    np.testing.assert_array_equal(rows[:, 0], np.float32([2.5, 2, 0.5, 2]))
    assert np.isnan(rows[:, 2]).all()


def test_a_feature_reads_another_as_it_is_shown():
    rows = compile_features(profile_of(a="item.price", b="a"), SCHEMA, len).run(3, [PRICES], np.float64)
    assert rows[0, 1] == 0.1
    assert rows[1, 1] == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("features", "circle", "where"),
    [
        ({"a": "a + 1"}, "a -> a", "a"),
        ({"x": "1", "a": "b", "b": "c + x", "c": "x + a"}, "a -> b -> c -> a", "c"),
        ({"z": "a", "a": "b", "b": "log(a)"}, "a -> b -> a", "b"),
    ],
)
def test_circles_are_shown(features, circle, where):
    with pytest.raises(ExpressionError, match=f"circle: {circle} ") as caught:
        compile_features(profile_of(**features), SCHEMA, len)
    assert caught.value.where == f"profiles.shop.features.{where}"
    assert caught.value.column > 0


def test_a_feature_called_like_a_function_is_no_circle():
    program = compile_features(profile_of(log="log(item.price)"), SCHEMA, len)
    assert program.run(3, [PRICES])[0, 0] == 0


def test_long_chains_do_not_recurse():
    features = {f"f{i}": f"f{i + 1} + 1" for i in range(3000)}
    program = compile_features(profile_of(**features, f3000="item.price"), SCHEMA, len)
    assert program.run(3, [PRICES])[0, 0] == 3001


def test_duplicates_are_refused():
    profile = Profile("shop", features=(Feature("a", "1"), Feature("a", "2")))
    with pytest.raises(ExpressionError, match=r"^profiles\.shop\.features\.a: this feature is declared twice$"):
        compile_features(profile, SCHEMA, len)


def test_base_reads_features_as_inputs():
    program = compile_base(profile_of("2 * a + item.price", a="item.price"), SCHEMA, len)
    assert program.inputs == (
        Input(Source.FEATURE, "feature", "a", ValueType.NUMBER, True),
        Input(Source.SIGNAL, "item", "price", ValueType.NUMBER, True),
    )
    assert program.output_names == ("base",)
    rows = program.run(3, [NumericColumn(np.array([1.0, 2, 3])), PRICES], np.float64)
    assert rows[0, 0] == 3


def test_no_base():
    assert compile_base(profile_of(a="1"), SCHEMA, len) is None


def test_no_features():
    assert compile_features(profile_of(), SCHEMA, len).run(3, []).shape == (0, 3)


def test_base_errors_say_where():
    with pytest.raises(ExpressionError, match=r"did you mean `price`") as caught:
        compile_base(profile_of("1 + prise", price="item.price"), SCHEMA, len)
    assert caught.value.where == "profiles.shop.base"
    assert caught.value.column == 5


def test_the_candidates_entity_may_be_another():
    schema = Schema(
        {
            "query": Entity("query", {"ctr": Signal("ctr", SignalKind.F32)}),
            "user": Entity("user", {"age": Signal("age", SignalKind.I64)}),
        }
    )
    profile = Profile("complete", entity="query", features=(Feature("a", "query.ctr * user.age"),))
    assert [(str(i), i.per_candidate) for i in compile_features(profile, schema, len).inputs] == [
        ("query.ctr", True),
        ("user.age", False),
    ]
