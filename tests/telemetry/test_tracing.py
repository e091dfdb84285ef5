"""Sampling decisions, W3C context, and the spans handed to the SDK."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rankd.telemetry.tracing import Parent, Stage, Tracer, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept:
    """A span processor that keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_end(self, span: Any) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        pass


def tracer(ratio: float = 1.0) -> tuple[Tracer, Kept]:
    kept = Kept()
    return Tracer(kept, Resource({}), InstrumentationScope("test"), ratio), kept


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f"00-{TRACE}-{SPAN}-ff", True)],
)
def test_a_valid_parent(header: str, sampled: bool) -> None:
    assert parse_traceparent(header) == Parent(int(TRACE, 16), int(SPAN, 16), sampled)
    # A later version may say more.
    assert parse_traceparent(f"cc-{header[3:]}-more") == parse_traceparent(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}x-{SPAN}-01",
    ],
)
def test_an_invalid_parent_is_none(header: str) -> None:
    assert parse_traceparent(header) is None


def test_the_parent_decides_and_else_the_ratio() -> None:
    always, _ = tracer(1.0)
    never, _ = tracer(0.0)
    on = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)
    off = (("traceparent", f"00-{TRACE}-{SPAN}-00"),)
    assert always.begin(off) is None
    assert never.begin(None) is None
    assert never.begin((("other", "x"), ("traceparent-bin", b"x"))) is None
    root = never.begin(on)
    assert root is not None
    assert (root.trace_id, root.parent and root.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    mine = always.begin(())
    assert mine is not None
    assert mine.parent is None
    assert mine.trace_id != root.trace_id


def test_the_ratio_is_a_share() -> None:
    some, _ = tracer(0.25)
    share = sum(some.begin(()) is not None for _ in range(20_000)) / 20_000
    assert 0.22 < share < 0.28


def test_spans_hang_together() -> None:
    it, kept = tracer()
    root = it.begin((("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=b")))
    assert root is not None
    it.end(root, "s/M", 1_000, 9_000, {"k": 1}, [Stage("x", 2_000, 3_000, {"n": 2})], "INTERNAL", "why")
    child, top = kept.spans
    assert (top.name, child.name) == ("s/M", "x")
    assert child.parent.span_id == top.context.span_id == root.span_id
    assert top.parent.span_id == int(SPAN, 16)
    assert top.parent.is_remote
    assert top.context.trace_state.get("a") == "b"
    assert top.end_time - top.start_time == 8_000
    assert child.start_time - top.start_time == 1_000
    assert (top.attributes["k"], top.attributes["rpc.response.status_code"]) == (1, "INTERNAL")
    assert (top.status.status_code.name, top.status.description) == ("ERROR", "why")
    it.end(root, "s/M", 1, 2, {}, [], "INVALID_ARGUMENT", "caller's fault")
    assert kept.spans[-1].status.status_code.name == "UNSET"
