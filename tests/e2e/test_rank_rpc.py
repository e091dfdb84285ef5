"""Rank, BatchRank and Score over a real socket with ordinary stubs: answers, and every refusal."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from support.serving import details, running, unpack

from rankd.limits import MAX_LABELS, MAX_QUERY_BYTES, MAX_REQUEST_ID_BYTES, MAX_SEGMENTS, RequestLimits
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

NAN, INF = math.nan, math.inf


def request(ids: list[str] | None = None, **fields: Any) -> pb.RankRequest:
    ids = ["a", "b", "c"] if ids is None else ids
    return pb.RankRequest(**{"profile": "search", "candidates": pb.Candidates(ids=ids), **fields})


def with_column(values: list[float], name: str = "bm25", ids: list[str] | None = None) -> pb.RankRequest:
    out = request(ids)
    out.candidates.columns.add(name=name, values=values)
    return out


async def store_prices(client: Any) -> None:
    await client.signals.WriteSignals(
        sp.WriteSignalsRequest(
            entity="item",
            ids=["a", "b"],
            columns=[sp.SignalColumn(signal="price", floats=sp.FloatValues(values=[10, 20]))],
        )
    )


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, list[tuple[str, str]]]:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    error: Any = caught.value
    status, info, violations = details(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    assert info.domain == "rankd"
    assert info.metadata["request_id"]
    return error.code(), info.reason, violations


async def test_a_ranked_list_with_everything() -> None:
    async with running() as (_, client):
        await store_prices(client)
        sent = with_column([1.0, 2.0, 300.0])
        sent.view, sent.include_timings, sent.request_id = pb.VIEW_FEATURES, True, "call-7"
        answer = await client.ranking.Rank(sent)
    assert answer.request_id == "call-7"
    assert list(answer.ids) == ["c", "b", "a"]
    assert list(answer.ranks) == [1, 2, 3]
    assert list(answer.indexes) == [2, 1, 0]
    assert list(answer.scores) == [300.0, 22.0, 11.0]
    assert list(answer.base_scores) == [300.0, 2.0, 1.0]
    assert list(answer.missing_ids) == ["c"]
    assert (answer.total_count, answer.rescored_count) == (3, 3)
    features = {column.name: list(column.values) for column in answer.features}
    assert features["bm25"] == [300.0, 2.0, 1.0]
    assert features["price"][1:] == [20.0, 10.0]
    assert math.isnan(features["price"][0])
    assert answer.versions.model == "m@0123456789ab"
    assert len(answer.versions.profile) == len(answer.versions.schema) == 12
    assert [t.stage for t in answer.timings] == ["retrieve", "features", "base", "model", "page"]


async def test_views_and_request_ids() -> None:
    async with running() as (_, client):
        basic = await client.ranking.Rank(request())
        scores = await client.ranking.Rank(request(view=pb.VIEW_SCORES))
    assert len(basic.request_id) == 32
    assert int(basic.request_id, 16) >= 0
    assert not basic.scores
    assert not basic.features
    assert not basic.timings
    assert len(scores.scores) == 3
    assert not scores.features


async def test_no_candidates_give_an_empty_list() -> None:
    async with running() as (_, client):
        for sent in (request([]), pb.RankRequest(profile="search")):
            answer = await client.ranking.Rank(sent)
            assert (list(answer.ids), answer.total_count, answer.next_page_token) == ([], 0, "")


async def test_the_same_request_gives_the_same_bytes() -> None:
    async with running() as (_, client):
        await store_prices(client)
        sent = with_column([3.0, NAN, 3.0])
        sent.view, sent.request_id, sent.as_of.seconds = pb.VIEW_FEATURES, "r", 1_700_000_000
        sent.context_features["hour"].number = 3
        data = sent.SerializeToString()
        raw = client.raw("RankingService/Rank")
        answers = {await raw(data) for _ in range(10)}
    assert len(answers) == 1


async def test_pages_follow_one_order() -> None:
    ids = [f"id-{i}" for i in range(25)]
    async with running() as (_, client):
        sent = with_column([float(i % 7) for i in range(25)], ids=ids)
        whole = await client.ranking.Rank(sent)
        sent.page_size = 10
        seen: list[str] = []
        ranks: list[int] = []
        while True:
            page = await client.ranking.Rank(sent)
            seen += page.ids
            ranks += page.ranks
            if not page.next_page_token:
                break
            sent.page_token = page.next_page_token
        assert seen == list(whole.ids)
        assert ranks == list(range(1, 26))
        sent.candidates.ids[0] = "other"
        code, reason, _ = await refusal(client.ranking.Rank(sent))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_PAGE_TOKEN")


@pytest.mark.parametrize("identity", ["a\0b", "a" * 512, "é" * 256, "𝔘𝔫𝔦", "\u202e", " ", "\n", "‮x"])
async def test_ids_come_back_as_sent(identity: str) -> None:
    async with running() as (_, client):
        answer = await client.ranking.Rank(request([identity, "other"]))
    assert sorted(answer.ids) == sorted([identity, "other"])
    assert sorted(answer.missing_ids) == sorted([identity, "other"])


async def test_ids_of_64_kib_where_the_limit_is_raised() -> None:
    identity = "\0é" * 21_845
    assert len(identity.encode()) == 65_535
    async with running(limits={"max_id_bytes": 65_536}) as (_, client):
        answer = await client.ranking.Rank(request([identity]))
        assert list(answer.ids) == [identity]
        code, reason, violations = await refusal(client.ranking.Rank(request([identity + "xx"])))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert violations == [("candidates.ids[0]", "expected at most 65536 bytes, got 65537")]


def changed(**fields: Any) -> pb.RankRequest:
    return request(**fields)


def base_scores(values: list[float]) -> pb.RankRequest:
    out = request()
    out.candidates.base_scores.extend(values)
    return out


def two_columns(first: str, second: str) -> pb.RankRequest:
    out = with_column([1, 2, 3], first)
    out.candidates.columns.add(name=second, values=[1, 2, 3])
    return out


def context(name: str, **value: Any) -> pb.RankRequest:
    return request(context_features={name: pb.ContextValue(**value)})


BAD = [
    (
        changed(profile="serch"),
        "UNKNOWN_PROFILE",
        "profile",
        'expected one of plain, search, got "serch"; did you mean "search"?',
    ),
    (changed(profile=""), "UNKNOWN_PROFILE", "profile", 'expected one of plain, search, got ""'),
    (
        request(["x", "y", "x"]),
        "DUPLICATE_ID",
        "candidates.ids[2]",
        'expected distinct ids, got "x", which is also ids[0]',
    ),
    (request(["x", ""]), "INVALID_FIELD", "candidates.ids[1]", 'expected a non-empty id, got ""'),
    (request(["x", "é" * 257]), "LIMIT_EXCEEDED", "candidates.ids[1]", "expected at most 512 bytes, got 514"),
    (with_column([1, 2]), "LENGTH_MISMATCH", "candidates.columns[0].values", "expected 3 values, one per id, got 2"),
    (
        with_column([1, 2, 3], "bm52"),
        "UNKNOWN_NAME",
        "candidates.columns[0].name",
        'expected one of bm25, ctr, got "bm52"; did you mean "bm25"?',
    ),
    (
        two_columns("bm25", "bm25"),
        "INVALID_FIELD",
        "candidates.columns[1].name",
        'expected distinct names, got "bm25" again',
    ),
    (
        with_column([1, INF, 3]),
        "INVALID_FIELD",
        "candidates.columns[0].values[1]",
        "expected a number, or NaN for missing, got inf",
    ),
    (
        with_column([1, NAN, -INF]),
        "INVALID_FIELD",
        "candidates.columns[0].values[2]",
        "expected a number, or NaN for missing, got -inf",
    ),
    (base_scores([1, 2]), "LENGTH_MISMATCH", "candidates.base_scores", "expected 3 values, one per id, or none, got 2"),
    (
        base_scores([1, 2, INF]),
        "INVALID_FIELD",
        "candidates.base_scores[2]",
        "expected a number, or NaN for missing, got inf",
    ),
    (context("hour", category="x"), "WRONG_TYPE", 'context_features["hour"]', "expected number, got category"),
    (context("hour"), "WRONG_TYPE", 'context_features["hour"]', "expected number, got no value"),
    (
        context("hour", number=INF),
        "INVALID_FIELD",
        'context_features["hour"].number',
        "expected a number, or NaN for missing, got inf",
    ),
    (context("our", number=1), "UNKNOWN_NAME", 'context_features["our"]', None),
    (
        context("taste", vector=pb.Vector(values=[1, 2])),
        "LENGTH_MISMATCH",
        'context_features["taste"].vector.values',
        "expected 3 numbers, got 2",
    ),
    (
        context("taste", vector=pb.Vector(values=[1, NAN, 2])),
        "INVALID_FIELD",
        'context_features["taste"].vector.values[1]',
        "expected a finite number, got nan",
    ),
    (
        context("likes", set=pb.StringSet(values=["x", "x"])),
        "INVALID_FIELD",
        'context_features["likes"].set.values[1]',
        'expected distinct strings, got "x" again',
    ),
    (
        context("likes", set=pb.StringSet(values=[str(i) for i in range(4_097)])),
        "LIMIT_EXCEEDED",
        'context_features["likes"].set.values',
        "expected at most 4096 strings, got 4097",
    ),
    (context("note", text="x" * (MAX_QUERY_BYTES + 1)), "LIMIT_EXCEEDED", 'context_features["note"].text', None),
    (changed(page_size=0), "INVALID_FIELD", "page_size", "expected 1 to 10000, got 0"),
    (changed(page_size=10_001), "INVALID_FIELD", "page_size", "expected 1 to 10000, got 10001"),
    (changed(page_token="%%%"), "BAD_PAGE_TOKEN", "page_token", None),
    (changed(view=9), "INVALID_FIELD", "view", None),
    (changed(surface=9), "INVALID_FIELD", "surface", None),
    (
        changed(request_id="x" * (MAX_REQUEST_ID_BYTES + 1)),
        "LIMIT_EXCEEDED",
        "request_id",
        "expected at most 128 bytes, got 129",
    ),
    (
        changed(query=pb.Query(text="x" * (MAX_QUERY_BYTES + 1))),
        "LIMIT_EXCEEDED",
        "query.text",
        "expected at most 8192 bytes, got 8193",
    ),
    (
        changed(query=pb.Query(language_code="x" * 65)),
        "LIMIT_EXCEEDED",
        "query.language_code",
        "expected at most 64 bytes, got 65",
    ),
    (changed(user=pb.User(user_id="x" * 513)), "LIMIT_EXCEEDED", "user.user_id", "expected at most 512 bytes, got 513"),
    (
        changed(user=pb.User(segments=["x"] * (MAX_SEGMENTS + 1))),
        "LIMIT_EXCEEDED",
        "user.segments",
        "expected at most 256 segments, got 257",
    ),
    (
        changed(labels={str(i): "" for i in range(MAX_LABELS + 1)}),
        "LIMIT_EXCEEDED",
        "labels",
        "expected at most 16 labels, got 17",
    ),
    (changed(labels={"k": "x" * 129}), "LIMIT_EXCEEDED", 'labels["k"]', "expected at most 128 bytes, got 129"),
    (changed(as_of={"seconds": 10**15}), "INVALID_FIELD", "as_of.seconds", None),
    (changed(as_of={"nanos": -1}), "INVALID_FIELD", "as_of.nanos", "expected 0 to 999999999, got -1"),
]


async def test_every_refusal_names_field_expectation_and_value() -> None:
    async with running() as (_, client):
        for sent, expected_reason, field, description in BAD:
            code, reason, violations = await refusal(client.ranking.Rank(sent))
            wanted = grpc.StatusCode.NOT_FOUND if field == "profile" else grpc.StatusCode.INVALID_ARGUMENT
            assert (code, reason, violations[0][0]) == (wanted, expected_reason, field)
            assert violations[0][1].startswith("expected ")
            if description is not None:
                assert violations[0][1] == description
        assert (await client.ranking.Rank(request())).total_count == 3


async def test_nan_is_missing_and_extremes_pass() -> None:
    async with running() as (_, client):
        sent = with_column([NAN, 3.4e38, 1e-45])
        sent.view = pb.VIEW_FEATURES
        sent.context_features["hour"].number = NAN
        answer = await client.ranking.Rank(sent)
    assert answer.ids[0] == "b"
    assert answer.total_count == 3


async def test_limits_plus_and_minus_one() -> None:
    limits = {"max_candidates": 50, "max_columns": 1, "max_batch_lists": 2, "max_batch_candidates": 60}
    ids = [str(i) for i in range(51)]
    async with running(limits=limits) as (_, client):
        assert (await client.ranking.Rank(request(ids[:50]))).total_count == 50
        _, reason, violations = await refusal(client.ranking.Rank(request(ids)))
        assert (reason, violations) == (
            "LIMIT_EXCEEDED",
            [("candidates.ids", "expected at most 50 candidates, got 51")],
        )
        _, reason, violations = await refusal(client.ranking.Rank(two_columns("bm25", "ctr")))
        assert (reason, violations[0][0]) == ("LIMIT_EXCEEDED", "candidates.columns")

        def batch(*sizes: int) -> pb.BatchRankRequest:
            lists = [pb.BatchRankRequest.List(candidates=pb.Candidates(ids=ids[:n])) for n in sizes]
            return pb.BatchRankRequest(common=pb.RankRequest(profile="search"), lists=lists)

        assert len((await client.ranking.BatchRank(batch(30, 30))).results) == 2
        for sent in (batch(30, 31), batch(1, 1, 1)):
            _, reason, violations = await refusal(client.ranking.BatchRank(sent))
            assert (reason, violations[0][0]) == ("LIMIT_EXCEEDED", "lists")
        _, reason, _ = await refusal(client.ranking.BatchRank(batch()))
        assert reason == "INVALID_FIELD"


async def test_a_message_over_the_limit_never_reaches_the_decoder() -> None:
    async with running(limits={"max_message_bytes": 10_000}) as (_, client):
        with pytest.raises(grpc.RpcError) as caught:
            await client.raw("RankingService/Rank")(b"\0" * 10_001)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        code, reason, _ = await refusal(client.raw("RankingService/Rank")(b"\0" * 10_000))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@pytest.mark.parametrize("method", ["RankingService/Rank", "RankingService/BatchRank", "RankingService/Score"])
async def test_malformed_bytes_are_placed(method: str) -> None:
    async with running() as (_, client):
        code, reason, violations = await refusal(client.raw(method)(b"\x0a\x7f"))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
    assert violations[0][1].startswith("expected a rankd.v1.")
    assert violations[0][1].endswith("a truncated value at byte 1")


async def test_ids_that_are_not_utf8_are_malformed() -> None:
    data = request(["sku-1", "ab"]).SerializeToString().replace(b"ab", b"\xff\xfe")
    async with running() as (_, client):
        _, reason, violations = await refusal(client.raw("RankingService/Rank")(data))
    assert reason == "MALFORMED_MESSAGE"
    assert violations[0][0] == "candidates.ids[1]"


async def test_every_kind_of_context_feature_arrives() -> None:
    async with running() as (_, client):
        await client.signals.WriteSignals(
            sp.WriteSignalsRequest(
                entity="item",
                ids=["a"],
                columns=[
                    sp.SignalColumn(signal="vector", embeddings=sp.EmbeddingValues(dimension=3, values=[2, 0, 0])),
                    sp.SignalColumn(signal="tags", sets=sp.SetValues(values=["x", "y"], lengths=[2])),
                    sp.SignalColumn(signal="listed", timestamps=sp.TimestampValues(unix_millis=[1_000_500])),
                ],
            )
        )
        await client.signals.WriteSignals(
            sp.WriteSignalsRequest(
                entity="user", ids=["u"], columns=[sp.SignalColumn(signal="age", floats=sp.FloatValues(values=[40]))]
            )
        )
        sent = request(["a"], view=pb.VIEW_FEATURES, user=pb.User(visitor_id="u"))
        sent.as_of.seconds = 2_000
        sent.context_features["hour"].number = 7
        sent.context_features["vip"].flag = True
        sent.context_features["since"].timestamp.seconds = 5
        sent.context_features["device"].category = "phone"
        sent.context_features["note"].text = "Hello"
        sent.context_features["likes"].set.values.extend(["x", "never seen"])
        sent.context_features["taste"].vector.values.extend([1, 0, 0])
        answer = await client.ranking.Rank(sent)
    features = {column.name: column.values[0] for column in answer.features}
    assert features["hour"] == 7
    assert features["user_age"] == 40
    assert features["age_s"] == 999.5
    assert features["taste"] == 1
    assert features["liked"] > 0


async def test_score_gives_outputs_in_the_order_sent() -> None:
    async with running() as (_, client):
        await store_prices(client)
        sent = pb.ScoreRequest(profile="search", include_features=True, candidates=pb.Candidates(ids=["c", "b", "a"]))
        answer = await client.ranking.Score(sent)
        assert [(o.name, list(o.values)) for o in answer.outputs] == [("score", [0.0, 20.0, 10.0])]
        assert list(answer.missing_ids) == ["c"]
        assert answer.features[0].name == "price"
        sent.profile = "plain"
        code, reason, _ = await refusal(client.ranking.Score(sent))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_MODEL")


async def test_batch_lists_succeed_and_fail_one_by_one() -> None:
    def one(ids: list[str], **fields: Any) -> pb.BatchRankRequest.List:
        return pb.BatchRankRequest.List(candidates=pb.Candidates(ids=ids), **fields)

    async with running() as (_, client):
        await store_prices(client)
        common = pb.RankRequest(profile="search", request_id="all", page_size=1, view=pb.VIEW_SCORES)
        sent = pb.BatchRankRequest(
            common=common, lists=[one(["a", "b"]), one(["x", "x"], request_id="mine"), one(["b", "a"], page_size=2)]
        )
        answer = await client.ranking.BatchRank(sent)
        alone = await client.ranking.Rank(
            pb.RankRequest(profile="search", page_size=1, view=pb.VIEW_SCORES, candidates=sent.lists[0].candidates)
        )
        first, second, third = answer.results
        assert (list(first.response.ids), list(first.response.scores)) == (list(alone.ids), list(alone.scores))
        assert first.response.request_id == "all-0"
        assert list(third.response.ids) == ["b", "a"]
        assert second.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        info, violations = unpack(second.error)
        assert (info.reason, info.metadata["request_id"]) == ("DUPLICATE_ID", "mine")
        assert violations[0][0] == "lists[1].candidates.ids[1]"

        next_page = one(["a", "b"], page_token=first.response.next_page_token)
        answer = await client.ranking.BatchRank(pb.BatchRankRequest(common=common, lists=[next_page]))
        assert list(answer.results[0].response.ids) == ["a"]

        common.candidates.ids.append("a")
        _, _, violations = await refusal(
            client.ranking.BatchRank(pb.BatchRankRequest(common=common, lists=[next_page]))
        )
        assert violations[0][0] == "common.candidates"


def test_the_documented_default_limits_hold() -> None:
    assert RequestLimits().max_candidates == 10_000
