"""Leaves and margins against XGBoost itself, over many small models and inputs at the edges."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from support.xgboost_boosters import (
    BOOSTERS,
    LINEAR,
    document,
    leaf_numbers,
    leaves,
    margins,
    model_bytes,
    nasty_rows,
    predictions,
    trees_of,
)

from rankd.kernels.transform import margin
from rankd.models import ForestScorer, LinearScorer, parse_xgboost
from rankd.models.document import nearest_float32

FILES = Path(__file__).parent / "files"
"""Files of XGBoost 1.7.6 and 2.1.4, and the margins that the version which wrote them gives for some rows."""
OLD: dict[str, Any] = json.loads((FILES / "xgboost_margins.json").read_text())
SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
SIZES = (1, 7, 8, 64, 65, 400)
"""Rows: one, around the walk's and the block's borders, and several blocks."""


def same_float32(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Bit for bit; XGBoost's float32 are exact as the doubles of a Scorer. A zero's sign is a bit like others."""
    return np.array_equal(ours.view(np.int64), theirs.astype(np.float64).view(np.int64))


@pytest.mark.parametrize("name", sorted(BOOSTERS))
def test_leaves_and_margins_equal_xgboost(name: str) -> None:
    scorer = parse_xgboost(model_bytes(name))
    numbers = [leaf_numbers(tree) for tree in trees_of(document(name))]
    for seed in range(SCALE):
        rows = nasty_rows(name, max(SIZES), seed)
        matrix = np.ascontiguousarray(rows.T)
        found = scorer.forest.leaves(matrix)
        expected = leaves(name, rows)
        assert len(found) == len(expected) == len(numbers)
        for tree, number in enumerate(numbers):
            assert np.array_equal(np.array(number)[found[tree]], expected[tree]), tree
        raw = margins(name, rows)
        for size in SIZES:
            assert same_float32(scorer.score(np.ascontiguousarray(matrix[:, -size:]), raw=True), raw[:, -size:])


@pytest.mark.parametrize("name", sorted(n for n in BOOSTERS if "dart" not in n))
def test_margins_of_infinite_values(name: str) -> None:
    """DMatrix refuses infinities, prediction in place takes them (but adds DART's weights up otherwise)."""
    rows = nasty_rows(name, 300, 5, infinite=True)
    scorer = parse_xgboost(model_bytes(name))
    assert same_float32(scorer.score(np.ascontiguousarray(rows.T), raw=True), margins(name, rows))


@pytest.mark.parametrize("name", sorted({*BOOSTERS, *LINEAR}))
def test_json_and_ubjson_are_the_same_model(name: str) -> None:
    matrix = np.ascontiguousarray(nasty_rows(name, 200, 1).T)
    scorers = [parse_xgboost(model_bytes(name, kind)) for kind in ("json", "ubj")]
    assert np.array_equal(*(scorer.score(matrix) for scorer in scorers), equal_nan=True)


@pytest.mark.parametrize("name", sorted({*BOOSTERS, *LINEAR} - {"softmax"}))
def test_scores_within_float32(name: str) -> None:
    """XGBoost transforms in float32, rankd in double."""
    rows = nasty_rows(name, 300, 2)
    if name in LINEAR:
        rows = np.clip(rows, -100, 100)
    ours, theirs = parse_xgboost(model_bytes(name)).score(np.ascontiguousarray(rows.T)), predictions(name, rows)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-37)


def test_softmax_gives_probabilities() -> None:
    """multi:softmax predicts only the number of the largest."""
    rows = nasty_rows("softmax", 300, 2)
    scores = parse_xgboost(model_bytes("softmax")).score(np.ascontiguousarray(rows.T))
    np.testing.assert_allclose(scores.sum(axis=0), 1.0)
    assert np.array_equal(scores.argmax(axis=0), predictions("softmax", rows)[0])


@pytest.mark.parametrize("name", sorted(LINEAR))
def test_linear_margins_equal_xgboost(name: str) -> None:
    scorer = parse_xgboost(model_bytes(name))
    assert isinstance(scorer, LinearScorer)
    rows = nasty_rows(name, 400, 3)
    assert same_float32(scorer.score(np.ascontiguousarray(rows.T), raw=True), margins(name, rows))


def test_trees_without_categories() -> None:
    """As 1.0 to 1.2 wrote them: no word of categories, booleans, no numbers of targets and rounds."""
    model = document("depth_3")
    expected = parse_xgboost(json.dumps(model))
    del model["learner"]["learner_model_param"]["num_target"], model["learner"]["feature_types"]
    del model["learner"]["gradient_booster"]["model"]["cats"]
    del model["learner"]["gradient_booster"]["model"]["iteration_indptr"]
    for tree in trees_of(model):
        for key in ("categories", "categories_nodes", "categories_segments", "categories_sizes", "split_type"):
            del tree[key]
        tree["default_left"] = [bool(flag) for flag in tree["default_left"]]
        tree["tree_param"]["size_leaf_vector"] = "0"
    matrix = np.ascontiguousarray(nasty_rows("depth_3", 200, 6).T)
    assert np.array_equal(parse_xgboost(json.dumps(model)).score(matrix), expected.score(matrix))


def test_negative_zeros_of_dart() -> None:
    """Where nothing else is added, the sign of zero is seen."""
    model = document("dart")
    model["learner"]["learner_model_param"]["base_score"] = "[-0E0]"
    for tree in trees_of(model):
        tree["split_conditions"] = [-0.0] * len(tree["split_conditions"])
    data = json.dumps(model).encode()
    reference = xgb.Booster({"nthread": 1})
    reference.load_model(bytearray(data))
    rows = np.zeros((1, 7), np.float32)
    expected = reference.predict(xgb.DMatrix(rows), output_margin=True)
    assert same_float32(parse_xgboost(data).score(rows.T.copy(), raw=True)[0], expected)


@pytest.mark.parametrize("name", sorted(OLD["margins"]))
def test_files_of_earlier_versions(name: str) -> None:
    scorer = parse_xgboost((FILES / name).read_bytes())
    matrix = np.ascontiguousarray(np.array(OLD["rows"], np.float32).T)  # null becomes NaN
    assert same_float32(scorer.score(matrix, raw=True), np.array(OLD["margins"][name]))


def test_names() -> None:
    scorer = parse_xgboost(model_bytes("named"))
    assert isinstance(scorer, ForestScorer)
    assert scorer.feature_names == tuple(f"name_{i}" for i in range(7))
    assert parse_xgboost(model_bytes("exact")).feature_names == tuple(f"f{i}" for i in range(7))
    assert parse_xgboost(model_bytes("softprob")).output_names == ("class_0", "class_1", "class_2")


def test_decimals_of_float32() -> None:
    """A float32's shortest decimals, read as a double, give it back: of all 2^32 with one set right, here of some."""
    bits = np.random.default_rng(3).integers(0, 2**32, 20_000, np.uint32)
    numbers = np.concatenate([bits, [0x15AE43FD, 0x95AE43FD, 0x15AE43FE, 1, 0x7F7FFFFF]]).astype(np.uint32)
    numbers = numbers.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    texts = [np.format_float_scientific(number, unique=True) for number in numbers]
    assert np.array_equal(nearest_float32(np.array([float(text) for text in texts])), numbers)


@pytest.mark.parametrize("name", ["base_score_binary", "base_score_poisson"])
def test_base_margins_equal_xgboost(name: str) -> None:
    """The one logarithm, by the C library that XGBoost calls: bit for bit."""
    model = document(name)
    for tree in trees_of(model):
        tree["split_conditions"] = [0.0] * len(tree["split_conditions"])
    generator = np.random.default_rng(4)
    for score in [*generator.random(40), 1e-30, 1e-6, 0.5, 0.999999, 0.9999999, 1.0]:
        model["learner"]["learner_model_param"]["base_score"] = f"[{np.float32(score)!s}]"
        data = json.dumps(model).encode()
        reference = xgb.Booster({"nthread": 1})
        reference.load_model(bytearray(data))
        expected = reference.predict(xgb.DMatrix(np.zeros((1, 7))), output_margin=True)
        assert same_float32(parse_xgboost(data).score(np.zeros((7, 1), np.float32), raw=True)[0], expected)


@pytest.mark.parametrize("name", ["sigmoid", "exp"])
def test_margin_is_the_inverse(name: str) -> None:
    for score in (0.1, 0.5, 0.9999):
        raw = np.float64(margin(name, score))
        assert (1 / (1 + np.exp(-raw)) if name == "sigmoid" else np.exp(raw)) == pytest.approx(score, rel=1e-4)
    assert not np.isfinite(margin(name, -0.1))
