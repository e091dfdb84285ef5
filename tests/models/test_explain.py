"""Contributions against the libraries' own, and what they add up to."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from support.boosters import BOOSTERS, booster, nasty_rows
from support.catboost_boosters import CATBOOST, borders, catboost_model
from support.edge_rows import edge_rows

from rankd.errors import ExplanationError
from rankd.kernels.shap import Shap
from rankd.models import Explainer, ForestScorer, LinearScorer, parse_catboost, parse_lightgbm, parse_linear

ROWS = 130
"""More than two blocks of 64."""


def adds_up(scorer: ForestScorer | LinearScorer, matrix: np.ndarray, contributions: np.ndarray) -> bool:
    """To the raw score, within 1e-12 of its size (of 1 where it is smaller)."""
    score = scorer.score(matrix, raw=True)
    return bool((np.abs(contributions.sum(axis=1) - score) <= 1e-12 * np.maximum(1, np.abs(score))).all())


LINEAR_TREES = sorted(name for name, options in BOOSTERS.items() if options.get("linear_tree"))


@pytest.mark.parametrize("name", sorted(set(BOOSTERS) - set(LINEAR_TREES)))
def test_equals_lightgbm(name: str) -> None:
    model = booster(name)
    rows = nasty_rows(model, ROWS)
    matrix = np.ascontiguousarray(rows.T)
    scorer = parse_lightgbm(model.model_to_string())
    found = scorer.explain(matrix)
    expected = model.predict(rows.astype(np.float64), pred_contrib=True).reshape(ROWS, len(found), -1)
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), rtol=0, atol=1e-10)
    assert adds_up(scorer, matrix, found)


@pytest.mark.parametrize("name", LINEAR_TREES)
def test_linear_trees_are_refused(name: str) -> None:
    with pytest.raises(ExplanationError, match="linear trees"):
        parse_lightgbm(booster(name).model_to_string()).explain(np.zeros((7, 1), np.float32))


@pytest.mark.parametrize("name", ["small", "multiclass", "many_categories", "deep"])
def test_interactions_add_up(name: str) -> None:
    model = booster(name)
    matrix = np.ascontiguousarray(nasty_rows(model, 20).T)
    scorer = parse_lightgbm(model.model_to_string())
    pairs = scorer.explain(matrix, interactions=True)
    assert np.array_equal(pairs, pairs.transpose(0, 2, 1, 3))
    np.testing.assert_allclose(pairs.sum(axis=2), scorer.explain(matrix), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(n for n in CATBOOST if n != "depth_16"))
def test_equals_catboost(name: str) -> None:
    """Its ShapValues are doubles; 1e-10 of the largest, as some models' values are huge.

    Of trees that are not symmetric CatBoost's values do not add up to its own score (1.2.10), of monotone models
    they change with the pool they are asked for, and scaled models it refuses: there, ours add up.
    """
    catboost = pytest.importorskip("catboost", reason="catboost is not installed")
    model, data, _ = catboost_model(name)
    features, thresholds = borders(data)
    rows = edge_rows(40, features, thresholds, {}, 3)
    matrix = np.ascontiguousarray(rows.T)
    scorer = parse_catboost(data)
    document = json.loads(data)
    found = scorer.explain(matrix)
    assert adds_up(scorer, matrix, found)
    if name == "monotone" or "oblivious_trees" not in document or document["scale_and_bias"][0] != 1:
        return
    expected = model.get_feature_importance(
        catboost.Pool(rows), type="ShapValues", shap_calc_type="Regular", thread_count=1
    )
    expected = expected.reshape(len(rows), len(found), -1).transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name", ["reg:squarederror", "softprob", "partition", "lossguide_100", "depth_12", "dart", "targets", "no_missing"]
)
def test_equals_xgboost(name: str) -> None:
    """Its contributions are float32: equal to 1e-5 of the largest."""
    pytest.importorskip("xgboost", reason="xgboost is not installed")
    from support import xgboost_boosters as support

    from rankd.models import parse_xgboost

    rows = support.nasty_rows(name, 60)
    matrix = np.ascontiguousarray(rows.T)
    found = parse_xgboost(support.model_bytes(name)).explain(matrix)
    model = support.booster(name)
    expected = model.predict(support._matrix(rows), pred_contribs=True, strict_shape=True).transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    margins = support.margins(name, rows)
    np.testing.assert_allclose(found.sum(axis=1), margins, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_without_counts_of_training_rows() -> None:
    lines = booster("small").model_to_string().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(("leaf_count=", "internal_count=", "tree_sizes="))]
    scorer = parse_lightgbm("".join(kept))
    for _ in range(2):
        with pytest.raises(ExplanationError, match=r"cannot explain: .*covers"):
            scorer.explain(np.zeros((7, 1), np.float32))
    assert scorer.score(np.zeros((7, 1), np.float32)).shape == (1, 1)


def test_prepared_once_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def build(forest: object) -> Shap:
        built.append(forest)
        return Shap(forest)  # type: ignore[arg-type]

    monkeypatch.setattr("rankd.models.forest.Shap", build)
    scorer = parse_lightgbm(booster("small").model_to_string())
    matrix = np.zeros((7, 3), np.float32)
    threads = [threading.Thread(target=scorer.explain, args=(matrix,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert isinstance(scorer, Explainer)


def test_linear_contributions_are_the_terms() -> None:
    document = {"format": "rankd.linear/1", "intercept": 0.5, "transform": "sigmoid", "missing": {"b": 4.0}}
    scorer = parse_linear(json.dumps({**document, "weights": {"a": 2.0, "b": -3.0, "c": 0.25}}))
    matrix = np.array([[1, np.nan], [2, np.nan], [8, np.nan]], np.float32)
    found = scorer.explain(matrix)
    assert found.tolist() == [[[2, 0], [-6, -12], [2, 0], [0.5, 0.5]]]
    assert np.array_equal(found.sum(axis=1), scorer.score(matrix, raw=True))
    pairs = scorer.explain(matrix, interactions=True)
    assert np.array_equal(pairs.sum(axis=1), found)
    assert np.count_nonzero(pairs[0, ~np.eye(4, dtype=bool)]) == 0
    assert isinstance(scorer, Explainer)
    with pytest.raises(ValueError, match="expected 3 features"):
        scorer.explain(matrix[:2])
