"""Metrics against hand-worked lists, brute force and LightGBM's own ndcg."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankd.learn import metrics
from rankd.learn.metrics import NoRelevant

NAN = float("nan")
GRADES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, NAN]), min_size=1, max_size=7)


def test_dcg_by_hand() -> None:
    # Gains 7, 3, 7, 0, 1, 3 at discounts 1, 1.58496, 2, 2.32193, 2.58496, 2.80735.
    worked = 7 + 3 / math.log2(3) + 7 / 2 + 0 + 1 / math.log2(6) + 3 / math.log2(7)
    assert metrics.dcg([3, 2, 3, 0, 1, 2], 6) == pytest.approx(worked, rel=1e-15)
    assert metrics.dcg([3, 2, 3, 0, 1, 2], 3) == pytest.approx(7 + 3 / math.log2(3) + 3.5, rel=1e-15)
    assert metrics.dcg([], 10) == 0.0


def test_ndcg_by_hand() -> None:
    assert metrics.ndcg([0, 1], 10) == pytest.approx(1 / math.log2(3), rel=1e-15)
    assert metrics.ndcg([2, 1, 0], 2) == 1.0
    # A relevant document that was not retrieved lowers the value: the ideal list has it.
    assert metrics.ndcg([1, 0], 10, judged=[1, 0, 3]) == pytest.approx(1 / (7 + 1 / math.log2(3)), rel=1e-15)


def test_unjudged_counts_as_not_relevant_unless_condensed() -> None:
    ranked = [NAN, 1, 0]
    assert metrics.ndcg(ranked, 10) == pytest.approx(1 / math.log2(3), rel=1e-15)
    assert metrics.ndcg(metrics.condense(ranked), 10) == 1.0
    assert metrics.reciprocal_rank(ranked) == 0.5
    assert metrics.recall(ranked, 1) == 0.0


def test_reciprocal_rank_precision_and_recall_by_hand() -> None:
    ranked = [0, 2, 0, 1, 0]
    assert metrics.reciprocal_rank(ranked) == 0.5
    assert metrics.reciprocal_rank(ranked, least_grade=1.5) == 0.5
    assert metrics.reciprocal_rank([0, 1, 2], least_grade=2) == pytest.approx(1 / 3)
    assert metrics.average_precision(ranked) == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics.average_precision(ranked, relevant_count=4) == pytest.approx((1 / 2 + 2 / 4) / 4)
    assert metrics.recall(ranked, 2) == 0.5
    assert metrics.recall(ranked, 4, relevant_count=4) == 0.5


@pytest.mark.parametrize(
    "measure",
    [lambda g: metrics.ndcg(g, 10), metrics.reciprocal_rank, metrics.average_precision, lambda g: metrics.recall(g, 5)],
)
def test_a_query_without_relevant_documents_is_undefined(measure) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(measure([0, 0, NAN]))
    assert math.isnan(measure([]))


def test_average_says_what_becomes_of_undefined_queries() -> None:
    values = [1.0, NAN, 0.5]
    assert metrics.average(values, NoRelevant.EXCLUDE) == 0.75
    assert metrics.average(values, NoRelevant.ZERO) == 0.5
    assert metrics.average(values, NoRelevant.ONE) == pytest.approx(2.5 / 3)
    assert math.isnan(metrics.average([NAN], NoRelevant.EXCLUDE))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(GRADES, st.integers(1, 8))
def test_the_ideal_is_the_best_of_all_orders(grades: list[float], k: int) -> None:
    best = max(metrics.dcg(order, k) for order in permutations(grades))
    value = metrics.ndcg(grades, k)
    if best == 0:
        assert math.isnan(value)
    else:
        assert value == pytest.approx(metrics.dcg(grades, k) / best, rel=1e-12)
        assert 0.0 <= value <= 1.0 + 1e-12


@settings(derandomize=True, deadline=None, max_examples=100)
@given(GRADES)
def test_average_precision_is_the_mean_of_precisions(grades: list[float]) -> None:
    relevant = [g >= 1 for g in grades]
    precisions = [sum(relevant[: i + 1]) / (i + 1) for i, hit in enumerate(relevant) if hit]
    expected = sum(precisions) / len(precisions) if precisions else NAN
    assert metrics.average_precision(grades) == pytest.approx(expected, nan_ok=True)


def test_ndcg_is_lightgbms() -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM, the oracle, is not installed")
    generator = np.random.default_rng(3)
    sizes = generator.integers(1, 30, size=60)
    features = generator.normal(size=(int(sizes.sum()), 4)).round(1)
    grades = np.clip(np.round(features[:, 0] + generator.normal(size=len(features))), 0, 4)
    grades[: sizes[0]] = 0  # a query without a relevant document: 1 to LightGBM
    record: dict[str, dict[str, list[float]]] = {}
    booster = lightgbm.train(
        {"objective": "lambdarank", "metric": "ndcg", "eval_at": [1, 5, 10], "num_leaves": 4, "verbosity": -1},
        lightgbm.Dataset(features, grades, group=sizes),
        num_boost_round=3,
        valid_sets=[lightgbm.Dataset(features, grades, group=sizes)],
        valid_names=["all"],
        callbacks=[lightgbm.record_evaluation(record)],
    )
    scores = booster.predict(features)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    for k in (1, 5, 10):
        values = []
        for start, end in pairwise(bounds):
            values.append(metrics.ndcg(grades[start:end][metrics.order_by_score(scores[start:end])], k))
        assert metrics.average(values, NoRelevant.ONE) == pytest.approx(record["all"][f"ndcg@{k}"][-1], rel=1e-12)
        assert metrics.average(values, NoRelevant.ZERO) < metrics.average(values, NoRelevant.ONE)
