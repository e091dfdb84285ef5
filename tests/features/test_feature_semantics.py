"""Random well-typed expressions over random columns against the plain-Python oracle, bit by bit."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from support.feature_oracle import Oracle
from support.feature_world import SCHEMA, SHAPES, World, expressions, profile_of, worlds

from rankd.features import ValueType, compile_base, compile_features

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


def run(program, world: World, dtype=np.float64):
    return program.run(world.length, [world.column(i) for i in program.inputs], dtype)


def assert_same(actual: np.ndarray, expected: list[float]) -> None:
    """Equal to the bit (so 0 is not -0), but that any NaN is a NaN."""
    wanted = np.array(expected, np.float64)
    wanted[np.isnan(wanted)] = np.nan
    assert actual.view(np.uint64).tolist() == wanted.view(np.uint64).tolist(), f"{actual} != {wanted}"


def check(expression: str, world: World) -> None:
    program = compile_features(profile_of({"f": expression}), SCHEMA, world.intern)
    actual = run(program, world)[0]
    assert_same(actual, Oracle(world.length, world.values, {}).evaluate(expression))
    with np.errstate(over="ignore"):
        single = actual.astype(np.float32)
    np.testing.assert_array_equal(run(program, world, np.float32)[0], single)


@settings(max_examples=500 * SCALE)
@given(st.data())
def test_an_expression_means_what_the_oracle_says(data: st.DataObject):
    expression = data.draw(expressions())
    check(expression, data.draw(worlds([expression])))


DECAYS = tuple((f"decay({{}}, half_life={h})", (ValueType.TIMESTAMP,)) for h in ('"1.5h"', '"4w"', "(60 * 60)"))


@pytest.mark.parametrize(("shape", "types"), [*SHAPES[ValueType.NUMBER], *DECAYS])
def test_each_operation_alone(shape: str, types: tuple[ValueType, ...]):
    @settings(max_examples=30 * SCALE)
    @given(st.data())
    def matches(data: st.DataObject) -> None:
        expression = shape.format(*(data.draw(expressions(t, depth=0)) for t in types))
        check(expression, data.draw(worlds([expression], lengths=(7, 3))))

    matches()


@settings(max_examples=100 * SCALE)
@given(st.lists(expressions(depth=2), min_size=2, max_size=6), st.data())
def test_profiles_of_features_that_read_each_other(expressions_: list[str], data: st.DataObject):
    world = data.draw(worlds(expressions_))
    features = {}
    for i, expression in enumerate(expressions_):
        other = data.draw(st.sampled_from([f"f{j}" for j in range(i)])) if i else "1"
        features[f"f{i}"] = f"{expression} + {other}"
    base = f"{expressions_[0]} * f1"
    shuffled = {name: features[name] for name in data.draw(st.permutations(sorted(features)))}
    note(str(shuffled))
    profile = profile_of(shuffled, base)
    oracle = Oracle(world.length, world.values, features)
    rows = run(compile_features(profile, SCHEMA, world.intern), world)
    for name, row in zip(shuffled, rows, strict=True):
        assert_same(row, oracle.evaluate(features[name]))
    with np.errstate(over="ignore"):
        shown = rows[list(shuffled).index("f1")].astype(np.float32).astype(np.float64)
    with_features = World(world.length, {**world.values, "f1": shown.tolist()}, world.codes)
    assert_same(run(compile_base(profile, SCHEMA, world.intern), with_features)[0], oracle.evaluate(base))


@settings(max_examples=30 * SCALE)
@given(st.lists(expressions(depth=3), min_size=1, max_size=4), st.integers(250, 520), st.data())
def test_long_lists_are_done_in_blocks(expressions_: list[str], length: int, data: st.DataObject):
    """More candidates than a block holds: the same rows over and over."""
    world = data.draw(worlds(expressions_, lengths=(1,)))
    values = {n: v if n.startswith("request of") else list(v) * length for n, v in world.values.items()}
    longer = World(length, values, world.codes)
    features = {f"f{i}": e for i, e in enumerate(expressions_) if "list_" not in e}
    program = compile_features(profile_of(features), SCHEMA, world.intern)
    once, many = run(program, world), run(program, longer)
    np.testing.assert_array_equal(many, np.repeat(once, length, axis=1))
