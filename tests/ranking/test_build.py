"""build_plan: what is proven before a profile is served, and what is refused with its place."""

from __future__ import annotations

import numpy as np
import pytest
from support.fakes import FakeCategories, FakeScorer

from rankd.errors import ConfigError
from rankd.features.entities import IdPart, PartSource
from rankd.limits import RequestLimits
from rankd.models.scorer import LoadedModel
from rankd.ranking.build import build_plan
from rankd.ranking.plan import Read
from rankd.ranking.ranker import Method, Ranked, Ranker
from rankd.signals.embedded import open_embedded
from rankd.signals.store import ColumnValues, WriteBatch
from rankd.types.profile import ContextFeature, ContextKind, Feature, Profile
from rankd.types.schema import Entity, Schema, Signal, SignalKind
from rankd.v1 import ranking_pb2 as pb


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
        Read("item", ("price", "title", "brand", "released"), (IdPart(PartSource.CANDIDATE),)),
        Read("user", ("taste",), (IdPart(PartSource.USER),)),
        Read("query", ("ctr",), (IdPart(PartSource.QUERY),)),
    )
    assert plan.feature_names == tuple(feature.name for feature in FEATURES)
    assert plan.versions.model == ""


def test_a_profile_without_signals_still_asks_which_candidates_are_known() -> None:
    plan = build_plan(profile(features=(Feature("x", "column.bm25"),), base=None), schema(), FakeCategories(), {})
    assert plan.reads == (Read("item", (), (IdPart(PartSource.CANDIDATE),)),)


def test_signals_that_ids_are_made_of_are_read_first() -> None:
    joined = {"ctr": Signal("ctr", SignalKind.F32)}
    entities = dict(schema().entities)
    entities["user_brand"] = Entity("user_brand", joined, ("user", "item.brand"))
    features = (Feature("x", "item.price"), Feature("y", "user_brand.ctr"))
    plan = build_plan(profile(features=features, base=None), Schema(entities), FakeCategories(), {})
    assert plan.reads == (
        Read("item", ("brand", "price"), (IdPart(PartSource.CANDIDATE),)),
        Read("user_brand", ("ctr",), (IdPart(PartSource.USER), IdPart(PartSource.CATEGORY, "brand"))),
    )


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
    ranker = Ranker({"search": build_plan(profile(), schema(), store.categories, {})}, store, RequestLimits())
    request = pb.RankRequest(
        profile="search",
        candidates=pb.Candidates(ids=["a", "b", "c"], columns=[pb.Column(name="bm25", values=[0, 1, 0.25])]),
        view=pb.VIEW_FEATURES,
    )
    request.query.text = "SHOE, red!"
    request.user.segments.extend(["bolt", "unheard-of"])
    request.as_of.seconds = 2 * 86_400
    ranked = ranker.rank(Method.RANK, request.SerializeToString(), request_id="made", now_s=0.0)
    assert isinstance(ranked, Ranked) and ranked.fault is None
    page = pb.RankResponse.FromString(ranked.answer)
    nan = np.nan
    assert list(page.indexes) == [1, 0, 2]  # b: 1 + 1/2, a: 0 + 1, c: its title is missing, so is its score
    np.testing.assert_array_equal(page.base_scores, [1.5, 1.0, nan])
    np.testing.assert_allclose(
        [list(feature.values) for feature in page.features],
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
    assert list(page.missing_ids) == ["c"]
    await store.close()
