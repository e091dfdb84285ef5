"""Traces as a real OTLP gRPC receiver gets them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import grpc
import pytest
from support.rankers import hook
from support.serving import running

from rankd.telemetry import names
from rankd.telemetry.receiver import ReceivedSpan, TraceReceiver, format_tree
from rankd.telemetry.tracing import Tracer, start_tracing
from rankd.v1 import ranking_pb2 as pb
from rankd.v1 import signals_pb2 as sp

RANK = "rankd.v1.RankingService/Rank"
REQUEST = pb.RankRequest(
    profile="search",
    surface=pb.SURFACE_SEARCH,
    request_id="req-1",
    labels={"team": "shop"},
    user=pb.User(session_id="s-1"),
    candidates=pb.Candidates(ids=["a", "b", "c"]),
    page_size=2,
)
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as it:
        yield it


def tracer(receiver: TraceReceiver, ratio: float = 1.0) -> Tracer:
    return start_tracing(receiver.endpoint, "rankd-test", "0.1", ratio)


def roots(spans: Sequence[ReceivedSpan]) -> list[ReceivedSpan]:
    return [span for span in spans if span.kind == "SERVER"]


async def gathered(receiver: TraceReceiver, count: int) -> list[ReceivedSpan]:
    """The spans kept, once `count` calls are among them."""
    return await asyncio.to_thread(receiver.wait, lambda spans: len(roots(spans)) >= count)


async def test_one_call_is_one_trace_with_its_stages(receiver: TraceReceiver) -> None:
    before = time.time_ns()
    async with running(tracer=tracer(receiver)) as (server, client):
        answer = await client.ranking.Rank(REQUEST)
        spans = await gathered(receiver, 1)
    root, *_ = roots(spans)
    stages = [span for span in spans if span is not root]
    assert root.name == RANK
    assert (root.parent_id, root.status) == ("", "UNSET")
    assert root.resource[names.SERVICE_NAME] == "rankd-test"
    assert root.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": RANK,
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "session.id": "s-1",
        "rankd.request_id": "req-1",
        "rankd.surface": "search",
        "rankd.label.team": "shop",
        "rankd.profile.name": "search",
        "rankd.profile.version": answer.versions.profile,
        "rankd.model.version": "m@0123456789ab",
        "rankd.schema.version": answer.versions.schema,
        "rankd.candidates": 3,
        "rankd.candidates.missing": 3,
        "rankd.candidates.rescored": 3,
        "rankd.candidates.returned": 2,
    }
    assert [span.name for span in sorted(stages, key=lambda s: s.start_ns)] == [
        "retrieve",
        "features",
        "base",
        "model",
        "page",
    ]
    by_name = {span.name: span for span in stages}
    assert by_name["retrieve"].attributes["rankd.candidates.missing"] == 3
    assert by_name["model"].attributes == {"rankd.candidates": 3, "rankd.model.version": "m@0123456789ab"}
    assert by_name["page"].attributes["rankd.candidates"] == 2
    for span in stages:
        assert (span.trace_id, span.parent_id, span.kind) == (root.trace_id, root.span_id, "INTERNAL")
        assert root.start_ns <= span.start_ns <= span.end_ns <= root.end_ns
    assert before <= root.start_ns <= root.end_ns <= time.time_ns()
    tree = format_tree(spans)
    assert tree.splitlines()[0].startswith(RANK)
    assert tree.splitlines()[-1].startswith("└─ page")
    assert len(tree.splitlines()) == 6


async def test_the_callers_context_is_the_parent(receiver: TraceReceiver) -> None:
    async with running(tracer=tracer(receiver, ratio=0.0)) as (_, client):
        await client.ranking.Rank(
            REQUEST, metadata=(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"), ("tracestate", "shop=1"))
        )
        spans = await gathered(receiver, 1)
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert roots(spans)[0].parent_id == SPAN_ID


async def test_calls_that_are_not_sampled_leave_nothing(receiver: TraceReceiver) -> None:
    async with running(tracer=tracer(receiver, ratio=0.0)) as (_, client):
        await client.ranking.Rank(REQUEST)
        await client.ranking.Rank(REQUEST, metadata=(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"),))
        await client.ranking.Rank(REQUEST, metadata=(("traceparent", "00-zz-01"),))
        # One that is: what came before it would have come with it.
        await client.ranking.Rank(REQUEST, metadata=(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),))
        spans = await gathered(receiver, 1)
    assert len(roots(spans)) == 1


async def test_refused_and_failed_calls(receiver: TraceReceiver) -> None:
    def fail() -> None:
        raise RuntimeError("hunter2")

    async with running(tracer=tracer(receiver)) as (server, client):
        refused = pb.RankRequest(profile="search", candidates=pb.Candidates(ids=["a", "a"]))
        for call in (client.ranking.Rank(refused), client.raw("RankingService/Rank")(b"\xff")):
            with pytest.raises(grpc.RpcError):
                await call
        hook(server, fail)
        with pytest.raises(grpc.RpcError):
            await client.ranking.Rank(REQUEST)
        spans = await gathered(receiver, 3)
    by_reason = {root.attributes["rankd.error.reason"]: root for root in roots(spans)}
    duplicate, internal = by_reason["DUPLICATE_ID"], by_reason["INTERNAL"]
    assert duplicate.attributes["error.type"] == "INVALID_ARGUMENT"
    assert duplicate.attributes["rankd.candidates"] == 2
    assert duplicate.status == "UNSET"  # the caller's fault is not the server's error
    assert by_reason["MALFORMED_MESSAGE"].attributes["error.type"] == "INVALID_ARGUMENT"
    assert internal.attributes["rpc.response.status_code"] == "INTERNAL"
    assert internal.status == "ERROR"
    assert "hunter2" not in str(spans)


async def test_other_methods_are_traced_too(receiver: TraceReceiver) -> None:
    async with running(tracer=tracer(receiver)) as (_, client):
        lists = [pb.BatchRankRequest.List(candidates=pb.Candidates(ids=ids)) for ids in (["a"], ["b", "b"])]
        await client.ranking.BatchRank(pb.BatchRankRequest(common=pb.RankRequest(profile="search"), lists=lists))
        await client.ranking.Score(pb.ScoreRequest(profile="search", candidates=pb.Candidates(ids=["a"])))
        await client.signals.DeleteSignals(sp.DeleteSignalsRequest(entity="item", ids=["a"]))
        spans = await gathered(receiver, 3)
    by_name = {span.name.rsplit("/")[1]: span for span in roots(spans)}
    assert by_name["BatchRank"].attributes["rankd.batch.lists.failed"] == 1
    assert by_name["DeleteSignals"].attributes["rankd.rows"] == 1
    batch = [span for span in spans if span.parent_id == by_name["BatchRank"].span_id]
    assert {span.attributes["rankd.batch.list"] for span in batch} == {0}
    score = {span.name for span in spans if span.parent_id == by_name["Score"].span_id}
    assert score == {"retrieve", "features", "model"}


async def test_a_collector_that_hangs_delays_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, never reads
        hanging = start_tracing(f"http://127.0.0.1:{listener.getsockname()[1]}", "rankd", export_timeout_s=30.0)
        async with running(tracer=hanging) as (server, client):
            for _ in range(300):
                await client.ranking.Rank(REQUEST, timeout=5)
            began = time.monotonic()
            server.hurry()
            await server.stop()
            # The flush is given up after tracing.shutdown_flush_ms, 2 s by default; not after 30.
            assert time.monotonic() - began < 10


async def test_off_means_nothing_is_built() -> None:
    async with running() as (server, client):
        answer = await client.ranking.Rank(REQUEST, metadata=(("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01"),))
    assert answer.total_count == 3
    assert server.in_flight == 0


def test_off_does_not_even_load_the_sdk() -> None:
    code = "import sys, rankd.server.worker; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
