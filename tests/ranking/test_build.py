"""build_plan: what is proven before a profile is served, and what is refused with its place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.fakes import FakeCategories, FakeScorer

from rankd.errors import ConfigError
from rankd.models.scorer import LoadedModel
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Read
from rankd.ranking.rank import rank_list
from rankd.ranking.request import CandidateList, RequestContext, Retrieved, View
from rankd.ranking.stages import request_ids
from rankd.signals.embedded import open_embedded
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind


def schema() -> Schema:
    item = {
        "price": Signal("price", SignalKind.F32),
        "title": Signal("title", SignalKind.STRING),
        "brand": Signal("brand", SignalKind.CATEGORY),
        "released": Signal("released", SignalKind.TIMESTAMP),
    }
    user = {"taste": Signal("taste", SignalKind.MAP)}
    query = {"ctr": Signal("ctr", SignalKind.F32)}
    return Schema({"item": Entity("item", item), "user": Entity("user", user), "query": Entity("query", query)})


FEATURES = (
    Feature("cheap", "-log1p(item.price)"),
    Feature("words", "token_overlap(request.query, item.title)"),
    Feature("taste", "lookup(user.taste, item.brand)"),
    Feature("age", "age_days(item.released)"),
    Feature("bm25", "column.bm25"),
    Feature("hour", "context.hour"),
    Feature("query_ctr", "query.ctr"),
    Feature("member", "contains(request.segments, item.brand)"),
)


def profile(**changes: object) -> Profile:
    declared: dict[str, object] = {
        "columns": ("bm25",),
        "context": {"hour": ContextFeature("hour", ContextKind.NUMBER)},
        "features": FEATURES,
        "base": "bm25 + words",
    }
    return Profile("search", **(declared | changes))  # type: ignore[arg-type]


def loaded(*names: str) -> dict[str, LoadedModel]:
    return {"m": LoadedModel("m", "m@1", FakeScorer(names, lambda matrix: matrix.sum(axis=0)))}


def test_reads_are_what_the_expressions_use() -> None:
    plan = build_plan(profile(), schema(), FakeCategories(), {})
    assert plan.reads == (
        Read("item", ("price", "title", "brand", "released")), Read("user", ("taste",)), Read("query", ("ctr",)),
    )  # fmt: skip
    assert plan.feature_names == tuple(feature.name for feature in FEATURES)
    assert plan.versions.model == ""


def test_a_profile_without_signals_still_asks_which_candidates_are_known() -> None:
    plan = build_plan(profile(features=(Feature("x", "column.bm25"),), base=None), schema(), FakeCategories(), {})
    assert plan.reads == (Read("item", ()),)


def test_model_inputs_may_be_any_features_in_any_order() -> None:
    plan = build_plan(profile(model="m"), schema(), FakeCategories(), loaded("words", "cheap"))
    assert plan.model_rows is not None and plan.model_rows.tolist() == [1, 0]
    assert plan.versions.model == "m@1"


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"entity": "itm"}, "profiles.search.entity", "expected an entity of the schema"),
        ({"model": "n"}, "profiles.search.model", "expected a model"),
        ({"model": "m"}, "profiles.search.model", "needs features that the profile does not have: margin, stock"),
        ({"rerank_count": 5}, "profiles.search", "rerank needs a model"),
        ({"base": "bm52"}, "profiles.search.base", "bm52"),
        ({"features": (Feature("a", "b"), Feature("b", "a"))}, "profiles.search.features", "a -> b -> a"),
    ],
)
def test_what_cannot_be_served_is_refused(changes: dict[str, object], where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan(profile(**changes), schema(), FakeCategories(), loaded("cheap", "margin", "stock"))
    assert caught.value.where.startswith(where)
    assert message in str(caught.value)


async def test_a_plan_ranks_what_a_real_store_holds() -> None:
    """The whole floor once, with real programs and a real store, beside numbers worked out by hand."""
    store = await open_embedded(schema(), None, 100)
    every, none = np.arange(2), np.empty(0, np.int64)
    await store.write(
        WriteBatch(
            "item",
            ["a", "b"],
            [
                ColumnValues("price", every, np.array([1, 3], np.float32), none),
                ColumnValues("title", every, ["Red Shoe", "Blue Shoe"], none),
                ColumnValues("brand", every, ["acme", "bolt"], none),
                ColumnValues("released", every, np.array([0, 86_400_000]), none),
            ],
        )
    )
    plan = build_plan(profile(), schema(), store.categories, {})
    context = RequestContext(as_of_s=2 * 86_400.0, query_text="SHOE, red!", segments=("bolt", "unheard-of"))
    rows = {
        read.entity: await store.read(
            read.entity,
            ["a", "b", "c"] if read.entity == "item" else request_ids(read.entity, context),
            read.signals,
            context.as_of_s,
        )
        for read in plan.reads
    }
    candidates = CandidateList(
        ["a", "b", "c"], columns={"bm25": np.array([0, 1, 0.25], np.float32)}, view=View.FEATURES
    )
    page = rank_list(plan, context, candidates, Retrieved(rows), None, itertools.count().__next__)
    nan = np.nan
    assert page.indexes.tolist() == [1, 0, 2]  # b: 1 + 1/2, a: 0 + 1, c: its title is missing, so is its score
    np.testing.assert_array_equal(page.base_scores, [1.5, 1.0, nan])
    np.testing.assert_allclose(
        page.features,
        [
            [-np.log(4), -np.log(2), nan],
            [0.5, 1, nan],
            [nan] * 3,
            [1, 2, nan],
            [1, 0, 0.25],
            [nan] * 3,
            [nan] * 3,
            [1, 0, nan],
        ],
        rtol=1e-7,
    )
    assert page.missing_indexes.tolist() == [2]
    await store.close()
