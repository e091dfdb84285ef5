"""Calls that read rows which are fetched for each request: what they ask for, and what they answer once it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support import rank_world as world

from rankd.errors import ConfigError
from rankd.limits import RequestLimits
from rankd.ranking.ranker import Method, Pending, Ranked, Ranker
from rankd.signals.embedded import EmbeddedStore, open_embedded
from rankd.signals.store import ColumnValues, Fetched, WriteBatch
from rankd.types.text import composite_id
from rankd.v1 import ranking_pb2 as pb

NOW_S = 1_700_000_000.0


class FetchingStore:
    """An embedded store some of whose entities are there only once they are fetched, as with signals in Redis."""

    def __init__(self, store: EmbeddedStore, fetched: Sequence[str]) -> None:
        self._store = store
        self.fetched = frozenset(fetched)
        self.kept: dict[str, dict[str, list[ColumnValues]]] = {name: {} for name in fetched}
        self.wanted: list[Mapping[str, Sequence[str]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, entity: str, entity_id: str, column: ColumnValues) -> None:
        self.kept[entity][entity_id] = [column]

    async def fetch(self, wanted: Mapping[str, Sequence[str]], timeout_s: float) -> Fetched:
        self.wanted.append(wanted)
        for entity, ids in wanted.items():
            for entity_id in ids:
                if entity_id in self.kept[entity]:
                    await self._store.write(WriteBatch(entity, [entity_id], self.kept[entity][entity_id]))
        return Fetched()


def number(name: str, value: float) -> ColumnValues:
    none = np.empty(0, np.int64)
    return ColumnValues(name, np.arange(1), np.array([value], np.float32), none)


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedStore]:
    store = await open_embedded(world.SCHEMA, None, 1000, clock=lambda: NOW_S)
    none = np.empty(0, np.int64)
    brands = ColumnValues("brand", np.arange(3), ["acme", "größe", "acme"], none)
    await store.write(WriteBatch("item", ["item-0", "item-1", "item-2", "item-3"], [brands]))
    yield store
    await store.close()


def ranker_of(store: Any) -> Ranker:
    return Ranker(world.plans(store), store, RequestLimits())


def asked(profile: str = "everything", ids: Sequence[str] = ("item-0", "item-1"), **more: Any) -> pb.RankRequest:
    return pb.RankRequest(profile=profile, candidates=pb.Candidates(ids=ids), view=pb.VIEW_FEATURES, **more)


def call(ranker: Ranker, request: Any, method: Method = Method.RANK, **more: Any) -> Ranked | Pending:
    return ranker.rank(method, request.SerializeToString(), request_id="made", now_s=NOW_S, **more)


def feature(answer: Any, name: str) -> dict[str, float]:
    column = next(f for f in answer.features if f.name == name)
    return dict(zip(answer.ids, column.values, strict=True))


async def test_what_is_wanted_is_fetched_and_then_read(embedded: EmbeddedStore) -> None:
    store = FetchingStore(embedded, ["user", "session", "query_item", "user_brand", "user_query"])
    ranker = ranker_of(store)
    pair, brand = composite_id(["grösse", "item-1"]), composite_id(["ann", "größe"])
    await store.put("user", "ann", number("age", 41))
    await store.put("query_item", pair, number("ctr", 0.25))
    await store.put("user_brand", brand, number("ctr", 0.5))
    request = asked(ids=["item-0", "item-1", "item-2", "item-3", "unknown"], query=pb.Query(text=" GRÖSSE"))
    request.user.visitor_id, request.user.user_id, request.user.session_id = "bob", "ann", "s1"
    pending = call(ranker, request)
    assert isinstance(pending, Pending)
    assert pending.wanted == {
        "user": ["ann"],
        "session": ["s1"],
        "query_item": [composite_id(["grösse", one]) for one in request.candidates.ids],
        "user_brand": [composite_id(["ann", "acme"]), brand],
        "user_query": [composite_id(["ann", "grösse"])],
    }
    await store.fetch(pending.wanted, 1.0)
    ranked = pending.run()
    assert ranked.fault is None and not ranked.degraded
    answer = pb.RankResponse.FromString(ranked.answer)
    assert set(feature(answer, "user_age").values()) == {41}
    assert feature(answer, "pair_ctr")["item-1"] == 0.25
    assert np.isnan(feature(answer, "pair_ctr")["item-0"])
    assert feature(answer, "brand_ctr")["item-1"] == 0.5
    assert np.isnan([feature(answer, "brand_ctr")[one] for one in ("item-0", "item-2", "item-3", "unknown")]).all()
    with pytest.raises(ValueError, match="runs once"):
        pending.run()


async def test_nothing_wanted_is_answered_at_once(embedded: EmbeddedStore) -> None:
    ranker = ranker_of(FetchingStore(embedded, ["user", "session", "query_item", "user_brand", "user_query"]))
    assert isinstance(call(ranker, asked()), Ranked)  # nobody, and no query
    assert isinstance(call(ranker, asked("plain", user=pb.User(user_id="ann"))), Ranked)  # reads no users
    long = call(ranker, asked(), inline_cost=0)
    assert isinstance(long, Pending) and long.wanted == {}
    with_user = asked(user=pb.User(user_id="ann"))
    with_user.page_size = 0
    refused = call(ranker, with_user)
    assert isinstance(refused, Ranked) and refused.fault is not None
    embedded_only = call(ranker_of(embedded), asked(user=pb.User(user_id="ann")))
    assert isinstance(embedded_only, Ranked)


async def test_candidates_can_be_fetched(embedded: EmbeddedStore) -> None:
    ranker = ranker_of(FetchingStore(embedded, ["query"]))
    pending = call(ranker, asked("queries", ["Red  Shoe", "GRÖSSE"]))
    assert isinstance(pending, Pending) and pending.wanted == {"query": ["red shoe", "grösse"]}


async def test_ids_of_a_batch_are_wanted_once(embedded: EmbeddedStore) -> None:
    ranker = ranker_of(FetchingStore(embedded, ["user", "query_item", "user_brand"]))
    request = pb.BatchRankRequest(common=asked(query=pb.Query(text="red"), user=pb.User(user_id="ann")))
    request.common.ClearField("candidates")
    for ids in (["item-0", "item-1"], ["item-1", "item-2"], []):
        request.lists.add(candidates=pb.Candidates(ids=ids))
    pending = call(ranker, request, Method.BATCH_RANK)
    assert isinstance(pending, Pending)
    assert pending.wanted == {
        "user": ["ann"],
        "query_item": [composite_id(["red", f"item-{i}"]) for i in range(3)],
        "user_brand": [composite_id(["ann", "acme"]), composite_id(["ann", "größe"])],
    }
    told = pb.RankResponse(degradation=pb.Degradation(reasons=["signals_unavailable"]))
    ranked = pending.run(told.SerializeToString())
    assert ranked.degraded
    results = pb.BatchRankResponse.FromString(ranked.answer).results
    assert [r.response.degradation.reasons for r in results] == [["signals_unavailable"]] * 3


async def test_a_degradation_is_told_beside_the_ladders(embedded: EmbeddedStore) -> None:
    ranker = ranker_of(FetchingStore(embedded, ["user"]))
    told = pb.RankResponse(degradation=pb.Degradation(reasons=["signals_unavailable"])).SerializeToString()
    ladder = pb.RankResponse(degradation=pb.Degradation(level=2, reasons=["overload"])).SerializeToString()
    request = asked(user=pb.User(user_id="ann"))
    pending = call(ranker, request, max_rescored=0, degradation=ladder)
    assert isinstance(pending, Pending)
    answer = pb.RankResponse.FromString(pending.run(told).answer)
    assert answer.degradation == pb.Degradation(level=2, reasons=["signals_unavailable", "overload"])
    scores = pb.ScoreRequest(profile="everything", user=request.user, candidates=request.candidates)
    pending = call(ranker, scores, Method.SCORE)
    assert isinstance(pending, Pending)
    ranked = pending.run(told)
    assert ranked.degraded
    assert pb.ScoreResponse.FromString(ranked.answer).degradation.reasons == ["signals_unavailable"]


async def test_later_pages_want_only_what_they_show(embedded: EmbeddedStore) -> None:
    ranker = ranker_of(FetchingStore(embedded, ["user"]))
    request = asked(user=pb.User(user_id="ann"), page_size=1)
    first = call(ranker, request)
    assert isinstance(first, Pending)
    request.page_token = pb.RankResponse.FromString(first.run().answer).next_page_token
    scored = call(ranker, request)
    assert isinstance(scored, Pending) and scored.wanted == {"user": ["ann"]}
    request.view = pb.VIEW_BASIC
    plain = call(ranker, request)
    assert isinstance(plain, Ranked) and plain.fault is None


async def test_two_round_trips_are_refused(embedded: EmbeddedStore) -> None:
    with pytest.raises(ConfigError, match=r"item\.brand in its key; one of them must be replicated"):
        ranker_of(FetchingStore(embedded, ["item", "user_brand"]))
