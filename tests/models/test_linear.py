"""Linear models: sums in file order against plain Python, and a complaint with its path for all else."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankd.errors import ModelFileError
from rankd.models import parse_linear

FINITE = st.floats(-1e6, 1e6)


def document(**changes: object) -> dict[str, object]:
    return {"format": "rankd.linear/1", "weights": {"price": 1.0, "ctr": 2.0}, **changes}


@given(
    weights=st.lists(FINITE, min_size=1, max_size=8),
    intercept=FINITE,
    substitutes=st.dictionaries(st.integers(0, 7), FINITE),
    rows=st.integers(0, 5),
    transform=st.sampled_from(["identity", "sigmoid", "exp"]),
    data=st.data(),
)
def test_equals_plain_python(weights, intercept, substitutes, rows, transform, data) -> None:
    names = [f"f{i}" for i in range(len(weights))]
    missing = {names[i]: v for i, v in substitutes.items() if i < len(names)}
    text = json.dumps(
        document(
            weights=dict(zip(names, weights, strict=True)), intercept=intercept, missing=missing, transform=transform
        )
    )
    scorer = parse_linear(text)
    values = st.lists(st.one_of(st.just(math.nan), st.floats(-1e3, 1e3, width=32)), min_size=rows, max_size=rows)
    matrix = np.array([data.draw(values) for _ in names], np.float32).reshape(len(names), rows)
    raw, done = scorer.score(matrix, raw=True), scorer.score(matrix)
    assert raw.shape == done.shape == (1, rows)
    for r in range(rows):
        total = intercept
        for name, weight, x in zip(names, weights, matrix[:, r], strict=True):
            value = missing.get(name) if math.isnan(x) else float(x)
            total += 0.0 if value is None else weight * value
        assert raw[0, r] == total
        assert np.array_equal(scorer.score(matrix[:, r : r + 1]), done[:, r : r + 1])
        with np.errstate(over="ignore"):
            oracle = {
                "identity": total,
                "sigmoid": 1 / (1 + np.exp(np.float64(-total))),
                "exp": np.exp(np.float64(total)),
            }
        assert done[0, r] == pytest.approx(oracle[transform], rel=1e-15)


def test_what_is_missing_is_left_out_or_replaced() -> None:
    rows = np.array([[np.nan, np.nan, 3], [5, np.nan, 5]], np.float32)
    assert parse_linear(json.dumps(document(intercept=0.5))).score(rows).tolist() == [[10.5, 0.5, 13.5]]
    replaced = parse_linear(json.dumps(document(intercept=0.5, missing={"price": 100})))
    assert replaced.score(rows).tolist() == [[110.5, 100.5, 13.5]]
    assert replaced.feature_names == ("price", "ctr")
    assert replaced.output_names == ("score",)


def test_infinities_follow_the_sum() -> None:
    scorer = parse_linear(json.dumps(document(weights={"price": -1})))
    assert scorer.score(np.array([[np.inf, -np.inf]], np.float32)).tolist() == [[-math.inf, math.inf]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.json:1: expected JSON"),
        ("[]", "m.json: expected an object"),
        ("[" * 100_000, "m.json: expected JSON of three levels"),
        (b"\xff", "m.json: expected UTF-8"),
        ('{"format": "rankd.linear/2"}', 'm.json:format: expected "rankd.linear/1"'),
        ('{"format": "rankd.linear/1"}', "m.json:weights: expected an object of feature: weight, it is missing"),
        (document(weights={}), "m.json:weights: expected 1 to 65536 weights, got 0"),
        (document(weights=[1]), "m.json:weights: expected an object"),
        (document(weights={"a": "1"}), "m.json:weights.a: expected a finite number, got '1'"),
        (document(weights={"a": True}), "m.json:weights.a: expected a finite number, got True"),
        (document(weights={"a": None}), "m.json:weights.a: expected a finite number"),
        (document(weights={"": 1}), "m.json:weights.: expected printable, non-empty feature names"),
        (document(weights={"\ud800": 1}), "expected printable"),
        (document(bias=1), "m.json:bias: unknown key"),
        (document(transform="tanh"), "m.json:transform: expected one of identity, sigmoid, exp"),
        (document(transform=["exp"]), "m.json:transform: expected one of identity, sigmoid, exp"),
        (document(intercept=[]), "m.json:intercept: expected a finite number"),
        (document(intercept=math.nan), "expected finite numbers, got NaN"),
        (document(missing={"colour": 0}), "m.json:missing.colour: expected a feature that has a weight"),
        (
            '{"format": "rankd.linear/1", "weights": {"a": 1e999}}',
            "m.json:weights.a: expected a finite number, got inf",
        ),
        ('{"format": "rankd.linear/1", "weights": {"a": ' + "9" * 5000 + "}}", "m.json:weights.a: expected a finite"),
        ('{"format": "rankd.linear/1", "weights": {"a": 1, "a": 1}}', "m.json:a: the key stands twice"),
        ('{"format": "rankd.linear/1", "format": "rankd.linear/1"}', "m.json:format: the key stands twice"),
    ],
)
def test_refusals_name_the_path(text: object, message: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        parse_linear(text if isinstance(text, str | bytes) else json.dumps(text), "m.json")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_cut_is_refused() -> None:
    text = json.dumps(document())
    for end in range(len(text)):
        with pytest.raises(ModelFileError):
            parse_linear(text[:end])


def test_declared_features_must_be_the_weights() -> None:
    text = json.dumps(document())
    assert parse_linear(text, features=("price", "ctr")).feature_names == ("price", "ctr")
    with pytest.raises(ModelFileError, match="the declared features"):
        parse_linear(text, features=("ctr", "price"))


@pytest.mark.parametrize("matrix", [np.zeros((3, 1), np.float32), np.zeros((2, 1)), np.zeros(2, np.float32)])
def test_a_matrix_that_does_not_fit(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_linear(json.dumps(document())).score(matrix)
