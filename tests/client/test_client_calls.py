"""Client and AsyncClient against a real gRPC server that fakes the insides."""

from __future__ import annotations

import asyncio
import inspect
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from rankd.client import (
    AsyncClient,
    Client,
    Degradation,
    InvalidRequestError,
    Query,
    RankedList,
    RankList,
    RequestError,
    ServerUnavailableError,
    Text,
    User,
)
from rankd.v1 import ranking_pb2

IDS = ["a", "b", "unknown-1", "d"]


def test_rank_sends_all_it_is_given(client, fake):
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    client.rank(
        "search",
        np.array(["a", "b"]),
        base_scores=[1, None],
        columns={"bm25": np.array([0.5, 2.0]), "ctr": [None, math.nan]},
        query="laptop",
        user="u1",
        context={"hour": 12, "mobile": True, "country": "de", "page": Text("front"), "at": when,
                 "groups": {"y", "x"}, "taste": np.array([0.25, 1]), "absent": None},
        surface="search",
        labels={"team": "shop"},
        as_of=when,
        page_size=1,
        view="features",
        timings=True,
        request_id="r1",
        metadata=[("traceparent", "00-aa-bb-01")],
    )  # fmt: skip
    (sent,) = fake.requests("Rank")
    assert (sent.profile, sent.surface, sent.request_id) == ("search", ranking_pb2.SURFACE_SEARCH, "r1")
    assert list(sent.candidates.ids) == ["a", "b"]
    assert sent.candidates.base_scores[0] == 1 and math.isnan(sent.candidates.base_scores[1])
    assert [c.name for c in sent.candidates.columns] == ["bm25", "ctr"]
    assert list(sent.candidates.columns[0].values) == [0.5, 2.0]
    assert all(map(math.isnan, sent.candidates.columns[1].values)) and len(sent.candidates.columns[1].values) == 2
    assert sent.query.text == "laptop" and sent.user.user_id == "u1"
    context = sent.context_features
    assert context["hour"].number == 12 and context["mobile"].flag and context["country"].category == "de"
    assert context["page"].text == "front" and context["at"].timestamp.ToDatetime(UTC) == when
    assert list(context["groups"].set.values) == ["x", "y"] and list(context["taste"].vector.values) == [0.25, 1]
    assert "absent" not in context
    assert sent.as_of.ToDatetime(UTC) == when and sent.labels["team"] == "shop"
    assert sent.page_size == 1 and sent.view == ranking_pb2.VIEW_FEATURES and sent.include_timings
    assert fake.metadata[-1]["traceparent"] == "00-aa-bb-01"


def test_what_is_not_given_is_not_sent(client, fake):
    client.rank("search", [])
    (sent,) = fake.requests("Rank")
    assert sent == ranking_pb2.RankRequest(
        profile="search", candidates=ranking_pb2.Candidates(), view=ranking_pb2.VIEW_BASIC
    )
    assert not sent.HasField("page_size") and not sent.HasField("as_of") and not sent.HasField("user")


def test_messages_are_taken_for_query_and_user(client, fake):
    client.rank("search", ["a"], query=Query(text="x", language_code="de"), user=User(visitor_id="v"))
    (sent,) = fake.requests("Rank")
    assert sent.query.language_code == "de" and sent.user.visitor_id == "v"


def test_a_ranked_list_reads_as_arrays_and_as_items(client):
    ranked = client.rank(
        "search", IDS, base_scores=[1, 4, 3, 2], columns={"bm25": [1, 2, 3, 4]}, view="features", timings=True
    )
    assert ranked.ids == ["b", "unknown-1", "d", "a"]
    assert ranked.ranks.tolist() == [1, 2, 3, 4] and ranked.indexes.tolist() == [1, 2, 3, 0]
    assert ranked.scores.dtype == np.float64 and ranked.scores.tolist() == [8, 6, 4, 2]
    assert ranked.base_scores.tolist() == [4, 3, 2, 1]
    assert list(ranked.features) == ["bm25"] and ranked.features["bm25"].dtype == np.float32
    assert ranked.features["bm25"].tolist() == [2, 3, 4, 1]
    assert ranked.missing_ids == ["unknown-1"] and ranked.total_count == 4 and len(ranked) == 4
    assert ranked.timings == {"base": 12.5} and ranked.versions.profile == "p1" and ranked.next_page_token == ""
    first = next(iter(ranked))
    assert (first.rank, first.id, first.index, first.score, first.base_score) == (1, "b", 1, 8.0, 4.0)
    assert "4 of 4" in repr(ranked)


def test_without_scores_items_have_nan(client):
    (item,) = client.rank("search", ["a"])
    assert math.isnan(item.score) and math.isnan(item.base_score)


def test_ids_may_end_in_nul(client):
    assert client.rank("search", ["a\0", "ünï"]).ids == ["a\0", "ünï"]


def test_pages_end_and_together_are_the_list(client, fake):
    ids = [f"i{n}" for n in range(10)]
    pages = list(client.pages("search", ids, base_scores=range(10), page_size=4, request_id="r"))
    assert [len(p) for p in pages] == [4, 4, 2]
    assert [i for p in pages for i in p.ids] == ids[::-1]
    assert [r for p in pages for r in p.ranks.tolist()] == list(range(1, 11))
    sent = fake.requests("Rank")
    assert [s.page_token for s in sent] == ["", "4", "8"]
    assert all(s.candidates == sent[0].candidates and s.request_id == "r" for s in sent)
    with pytest.raises(ValueError, match="last page"):
        client.next_page(pages[-1])


def test_batch_gives_each_list_its_answer_or_its_error(client, fake):
    good, bad, last = client.batch_rank(
        "search",
        [RankList(["a", "b"], base_scores=[1, 2], request_id="r0"), ["bad"], ("x", "y")],
        query="q",
        view="scores",
    )
    assert good.ids == ["b", "a"] and good.request_id == "r0" and good.scores.tolist() == [4, 2]
    assert isinstance(bad, InvalidRequestError) and bad.violations[0].field == "candidates.ids[0]"
    assert last.ids == ["x", "y"]
    (sent,) = fake.requests("BatchRank")
    assert sent.common.query.text == "q" and not sent.common.HasField("candidates")


def test_score(client, fake):
    scored = client.score("search", ["abc", "d"], raw=True, features=True, columns={"c": [1, 2]})
    assert scored.scores.tolist() == [3, 1] and list(scored.outputs) == ["score"] and len(scored) == 2
    assert scored.features["c"].tolist() == [1, 2] and scored.missing_ids == ["abc"]
    assert fake.requests("Score")[0].raw


def test_get_delete_describe_health(client, fake):
    stored = client.get_signals("item", ["a", "b"], ["price", "brand", "released"])
    assert stored.ids == ["a"] and stored.missing_ids == ["b"] and len(stored) == 1
    assert dict(stored.rows()) == {
        "a": {"price": 2.5, "brand": None, "released": np.datetime64(1000, "ms")},
    }
    assert stored.written_at[0] == np.datetime64("1970-01-02")
    assert client.delete_signals("item", ["a", "b"]) == 2
    described = client.describe_schema()
    signals = described.schema.entities["item"].signals
    assert signals["price"].default == 1.5 and signals["price"].ttl_s == 60 and signals["vector"].dimension == 2
    assert "later" not in signals, "a type of a newer server is left out"
    assert described.row_counts == {"item": 3} and described.version == "0123456789ab"
    assert client.health() is True
    fake.health.set(2)
    assert client.health() is False


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"ids": ["a", 1]}, "candidates.ids[1]"),
        ({"ids": "abc"}, "candidates.ids"),
        ({"ids": ["a", "\ud800"]}, "candidates.ids[1]"),
        ({"base_scores": [1, "2"]}, "candidates.base_scores[1]"),
        ({"base_scores": [[1, 2], [3, 4]]}, "candidates.base_scores"),
        ({"columns": {"c": [1, object()]}}, 'candidates.columns["c"][1]'),
        ({"columns": {"c": [[1], [1, 2]]}}, 'candidates.columns["c"]'),
        ({"context": {"x": object()}}, 'context_features["x"]'),
        ({"context": {"x": datetime(2026, 1, 1)}}, 'context_features["x"]'),
        ({"as_of": datetime(2026, 1, 1)}, "as_of"),
        ({"view": "everything"}, "view"),
        ({"surface": "moon"}, "surface"),
        ({"page_size": -1}, "page_size"),
        ({"query": "\udfff"}, "query.text[0]"),
    ],
)
def test_what_cannot_be_sent_is_named(client, fake, arguments, field):
    with pytest.raises(RequestError) as caught:
        client.rank(**{"profile": "search", "ids": ["a", "b"], **arguments})
    assert caught.value.violations[0].field == field
    assert not fake.calls


def test_the_asyncio_client_gives_the_same(fake):
    """Every public method exists in both, with the same signature, and gives equal messages."""

    def public(kind):
        return {n: f for n, f in inspect.getmembers(kind, inspect.isfunction) if n[0] != "_"}

    assert public(Client).keys() == public(AsyncClient).keys()
    for name, method in public(Client).items():
        own, other = inspect.signature(method).parameters, inspect.signature(public(AsyncClient)[name]).parameters
        if name == "stream":  # the batches may come by an async iterator, too
            own, other = ({n: p for n, p in both.items() if n != "batches"} for both in (own, other))
        assert own == other
    target = f"127.0.0.1:{fake.port}"
    rank = {"profile": "search", "ids": IDS, "base_scores": [1, 2, 3, 4], "view": "scores", "request_id": "r"}
    with Client(target) as client:
        expected = [
            client.rank(**rank).message,
            [p.message for p in client.pages(**rank, page_size=3)],
            client.score("search", IDS).message,
            [r.message if isinstance(r, RankedList) else str(r) for r in client.batch_rank("p", [["a"], ["bad"]])],
            client.write_signals("item", IDS, {"price": [1, 2, None, 4]}, batch_rows=3),
            client.get_signals("item", IDS).message,
            client.delete_signals("item", IDS),
            client.describe_schema(),
            client.health(),
        ]

    async def main():
        async with AsyncClient(target) as client:
            batch = await client.batch_rank("p", [["a"], ["bad"]])
            return [
                (await client.rank(**rank)).message,
                [p.message async for p in client.pages(**rank, page_size=3)],
                (await client.score("search", IDS)).message,
                [r.message if isinstance(r, RankedList) else str(r) for r in batch],
                await client.write_signals("item", IDS, {"price": [1, 2, None, 4]}, batch_rows=3),
                (await client.get_signals("item", IDS)).message,
                await client.delete_signals("item", IDS),
                await client.describe_schema(),
                await client.health(),
            ]

    assert asyncio.run(main()) == expected


def test_asyncio_errors_are_the_same_classes(fake):
    async def main():
        async with AsyncClient("127.0.0.1:1") as client:
            with pytest.raises(ServerUnavailableError) as caught:
                await client.rank("search", ["a"])
            return caught.value

    assert asyncio.run(main()).retryable


def test_connections_are_used_in_turn(fake):
    peers = set()
    inner = fake._arrive

    def arrive(method, request, context):
        peers.add(context.peer())
        inner(method, request, context)

    fake._arrive = arrive
    with Client(f"127.0.0.1:{fake.port}", connections=3) as client:
        for _ in range(6):
            client.rank("search", ["a"])
    assert len(peers) == 3
    with pytest.raises(ValueError, match="at least 1"):
        Client("x", connections=0)


def test_batch_priority_is_said_and_live_is_what_silence_means(fake):
    target = f"127.0.0.1:{fake.port}"
    with Client(target) as live, Client(target, priority="batch") as batch:
        live.rank("search", ["a"])
        live.rank("search", ["a"], priority="batch", metadata=[("traceparent", "00-aa-bb-01")])
        batch.score("search", ["a"])
        batch.write_signals("item", ["a"], {"price": [1]}, types={"price": "f32"})
        batch.rank("search", ["a"], priority="live")
        first = batch.rank("search", ["a", "b"], page_size=1)
        batch.next_page(first)
        with pytest.raises(RequestError, match="live or batch"):
            live.rank("search", ["a"], priority="urgent")
    said = [metadata.get("rankd-priority") for metadata in fake.metadata]
    assert said == [None, "batch", "batch", "batch", None, "batch", "batch"]
    assert fake.metadata[1]["traceparent"] == "00-aa-bb-01"
    with pytest.raises(RequestError, match="live or batch"):
        Client(target, priority="soon")


def test_what_was_left_out_is_told(client, fake):
    assert client.rank("search", ["a"]).degradation is None
    fake.degradation = ranking_pb2.Degradation(
        level=ranking_pb2.DEGRADATION_LEVEL_BASE_ONLY, reasons=["overload"], stages_skipped=["model"]
    )
    assert client.rank("search", ["a"]).degradation == Degradation("base_only", ("overload",), ("model",))
    fake.degradation = ranking_pb2.Degradation(level=ranking_pb2.DEGRADATION_LEVEL_FEWER_CANDIDATES)
    assert client.rank("search", ["a"]).degradation == Degradation("fewer_candidates", (), ())
    fake.degradation = ranking_pb2.Degradation(level=9)
    assert client.rank("search", ["a"]).degradation.level == "9", "of a newer server"


def test_a_call_that_the_caller_gives_up_is_not_repeated(fake):
    async def main():
        async with AsyncClient(f"127.0.0.1:{fake.port}", connections=1) as client:
            await client.rank("search", ["a"])
            fake.delay_s = 0.2
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.rank("search", ["a"]), 0.05)
            fake.delay_s = 0.0
            assert (await client.rank("search", ["b"])).ids == ["b"]

    asyncio.run(main())
    assert [list(request.candidates.ids) for request in fake.requests("Rank")] == [["a"], ["a"], ["b"]]


def test_a_closed_client_says_so(fake):
    client = Client(f"127.0.0.1:{fake.port}")
    client.rank("search", ["a"])
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.rank("search", ["a"])
