"""rank_list and score_list beside a plain Python ranking."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import FakeCategories, FakeScorer, plan, retrieved, ticking

from rankd.errors import Reason, RequestError
from rankd.ranking.bind import category, category_set
from rankd.ranking.rank import RankedPage, open_page, rank_list, score_list
from rankd.ranking.request import CandidateList, RequestContext, View

NOW = RequestContext(as_of_s=1_000.0)
VALUES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, math.nan]), st.floats(-100, 100, width=32))


def rank(a_plan, candidates, context=NOW, known=None) -> RankedPage:
    known = [True] * len(candidates.ids) if known is None else known
    cursor = open_page(a_plan, context, candidates)
    return rank_list(a_plan, context, candidates, retrieved(known), cursor, ticking())


def candidate_list(values, **more) -> CandidateList:
    ids = more.pop("ids", [f"id-{i}" for i in range(len(values))])
    return CandidateList(ids=ids, columns={"a": np.array(values, np.float32)}, **more)


def descending(score: float) -> tuple[int, float]:
    return (1, 0.0) if math.isnan(score) else (0, -score)


@given(st.lists(VALUES, max_size=30), st.integers(1, 40), st.randoms(use_true_random=False))
def test_phased_ranking_is_two_sorts(values, rerank_count, random) -> None:
    ids = [f"{random.randrange(10**6):06d}-{i}" for i in range(len(values))]
    scorer = FakeScorer(("a",), lambda m: np.round(np.sin(m[0].astype(np.float64)), 1))
    page = rank(
        plan(base=True, scorer=scorer, rerank_count=rerank_count), candidate_list(values, ids=ids, view=View.SCORES)
    )
    exact = np.array(values, np.float32).astype(np.float64)
    base = sorted(range(len(ids)), key=lambda i: (descending(exact[i]), ids[i]))
    best = base[:rerank_count]
    scores = np.round(np.sin(exact), 1)
    expected = sorted(best, key=lambda i: (descending(scores[i]), base.index(i))) + base[rerank_count:]
    assert page.indexes.tolist() == expected
    assert page.rescored_count == len(best)
    shown = [scores[i] if i in best else exact[i] for i in expected]
    np.testing.assert_array_equal(page.scores, shown)
    np.testing.assert_array_equal(page.base_scores, exact[expected])


def test_without_base_or_scores_the_given_order_stands() -> None:
    page = rank(plan(), candidate_list([3, 1, 2], ids=["z", "a", "m"], view=View.SCORES))
    assert page.indexes.tolist() == [0, 1, 2]
    assert np.isnan(page.scores).all()


def test_the_callers_base_scores_order_a_profile_without_base() -> None:
    scores = np.array([1.0, math.nan, 2.0, 1.0])
    page = rank(plan(), candidate_list([0, 0, 0, 0], ids=["b", "c", "d", "a"], base_scores=scores))
    assert page.indexes.tolist() == [2, 3, 0, 1]


def test_equal_model_scores_keep_base_rank() -> None:
    scorer = FakeScorer(("a",), lambda m: np.zeros(m.shape[1]))
    page = rank(plan(base=True, scorer=scorer), candidate_list([1, 3, 2]))
    assert page.indexes.tolist() == [1, 2, 0]


def test_model_inputs_are_found_by_name() -> None:
    scorer = FakeScorer(("b", "a"), lambda m: m[0] * 10.0 + m[1])
    a_plan = plan(("a", "b"), scorer=scorer, model_rows=[1, 0])
    columns = {"a": np.array([1, 2], np.float32), "b": np.array([5, 4], np.float32)}
    page = rank(a_plan, CandidateList(["x", "y"], columns=columns, view=View.FEATURES))
    assert page.scores.tolist() == [51.0, 42.0]
    np.testing.assert_array_equal(page.features, [[1, 2], [5, 4]])


def test_unknown_ids_are_ranked_and_named() -> None:
    page = rank(plan(base=True), candidate_list([1, 2, 3]), known=[True, False, False])
    assert page.indexes.tolist() == [2, 1, 0]
    assert page.missing_indexes.tolist() == [1, 2]


def test_an_absent_column_is_missing() -> None:
    page = rank(plan(base=True), CandidateList(["b", "a"], view=View.FEATURES))
    assert np.isnan(page.features).all()
    assert page.indexes.tolist() == [1, 0]


def test_no_candidates() -> None:
    scorer = FakeScorer(("a",), lambda m: m[0])
    page = rank(plan(base=True, scorer=scorer), candidate_list([], view=View.FEATURES))
    assert page.indexes.tolist() == []
    assert page.features.shape == (1, 0)
    assert page.next_page_token == ""


def test_stages_are_timed_in_their_order_with_counts() -> None:
    scorer = FakeScorer(("a",), lambda m: m[0])
    page = rank(plan(base=True, scorer=scorer, rerank_count=2), candidate_list([1, 2, 3], page_size=1))
    assert [(t.stage, t.candidate_count) for t in page.times] == [
        ("features", 3), ("base", 3), ("model", 2), ("page", 1),
    ]  # fmt: skip
    edges = [edge for t in page.times for edge in (t.start_ns, t.end_ns)]
    assert edges == sorted(edges)


@given(st.lists(VALUES, min_size=1, max_size=25), st.integers(1, 7), st.integers(1, 30), st.sampled_from(View))
def test_pages_are_the_whole_list_cut(values, page_size, rerank_count, view) -> None:
    scorer = FakeScorer(("a",), lambda m: -m[0])
    a_plan = plan(base=True, scorer=scorer, rerank_count=rerank_count)
    whole = rank(a_plan, candidate_list(values, view=View.FEATURES))
    token, seen = "", 0
    while True:
        page = rank(a_plan, candidate_list(values, page_size=page_size, page_token=token, view=view))
        here = slice(seen, seen + page_size)
        assert page.first_rank == seen + 1
        assert page.indexes.tolist() == whole.indexes[here].tolist()
        assert (page.total_count, page.rescored_count) == (len(values), whole.rescored_count)
        if view >= View.SCORES:
            np.testing.assert_array_equal(page.scores, whole.scores[here])
            np.testing.assert_array_equal(page.base_scores, whole.base_scores[here])
        if view >= View.FEATURES:
            np.testing.assert_array_equal(page.features, whole.features[:, here])
        seen += len(page.indexes)
        token = page.next_page_token
        if not token:
            break
    assert seen == len(values)


def test_a_later_page_keeps_the_order_when_the_model_changes() -> None:
    rising = plan(base=True, scorer=FakeScorer(("a",), lambda m: m[0]))
    falling = plan(base=True, scorer=FakeScorer(("a",), lambda m: -m[0]))
    first = rank(rising, candidate_list([1, 4, 3, 2], page_size=2))
    second = rank(falling, candidate_list([1, 4, 3, 2], page_token=first.next_page_token, view=View.SCORES))
    assert first.indexes.tolist() + second.indexes.tolist() == [1, 2, 3, 0]
    assert second.scores.tolist() == [-2.0, -1.0]


def test_a_later_page_is_of_the_first_pages_time() -> None:
    first = rank(plan(base=True), candidate_list([1, 2, 3], page_size=1))
    later = RequestContext(as_of_s=2_000.0)
    cursor = open_page(plan(base=True), later, candidate_list([1, 2, 3], page_token=first.next_page_token))
    assert cursor is not None and cursor.as_of_s == 1_000.0


def test_score_keeps_the_order_given_and_gives_every_output() -> None:
    scorer = FakeScorer(("a",), lambda m: np.array([m[0], -m[0]]), output_names=("class_0", "class_1"))
    a_plan = plan(scorer=scorer)
    scored = score_list(a_plan, NOW, candidate_list([2, 1]), retrieved([True, False]), False, ticking())
    assert scored.outputs.tolist() == [[2, 1], [-2, -1]]
    assert scored.features.tolist() == [[2, 1]]
    assert scored.missing_indexes.tolist() == [1]
    with pytest.raises(RequestError, match="one output"):
        rank(a_plan, candidate_list([2, 1]))


def test_score_needs_a_model() -> None:
    with pytest.raises(RequestError) as caught:
        score_list(plan(), NOW, candidate_list([1]), retrieved([True]), False, ticking())
    assert caught.value.reason is Reason.NO_MODEL


def test_a_token_outlives_a_write_that_names_its_strings() -> None:
    a_plan = plan(base=True)
    kinds = {"device": category, "tags": lambda text, known: category_set([text, "old"], known)}

    def context() -> RequestContext:
        return replace(NOW, context={name: make("toaster", a_plan.categories) for name, make in kinds.items()})

    first = rank(a_plan, candidate_list([1, 2, 3], page_size=1), context())
    before = context()
    a_plan.categories.intern("toaster")
    assert context().context["device"].codes != before.context["device"].codes
    second = rank(a_plan, candidate_list([1, 2, 3], page_token=first.next_page_token), context())
    assert second.indexes.tolist() == [1, 0]


CHANGES = {
    "ids": lambda c: (NOW, replace(c, ids=["id-0", "id-1", "other"])),
    "columns": lambda c: (NOW, replace(c, columns={"a": np.array([1, 2, 4], np.float32)})),
    "base_scores": lambda c: (NOW, replace(c, base_scores=np.zeros(3))),
    "query": lambda c: (replace(NOW, query_text="q"), c),
    "user": lambda c: (replace(NOW, user_id="u"), c),
    "segments": lambda c: (replace(NOW, segments=("s",)), c),
    "device": lambda c: (replace(NOW, context={"device": category("phone", FakeCategories())}), c),
    "as_of": lambda c: (replace(NOW, as_of_given=True), c),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_token_is_bound_to_its_request(what: str) -> None:
    a_plan = plan(base=True)
    token = rank(a_plan, candidate_list([1, 2, 3], page_size=1)).next_page_token
    context, candidates = CHANGES[what](candidate_list([1, 2, 3], page_token=token))
    with pytest.raises(RequestError, match="token of this request") as caught:
        rank(a_plan, candidates, context)
    assert caught.value.reason is Reason.BAD_PAGE_TOKEN
