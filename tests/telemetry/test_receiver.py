"""The tree of a trace, and a receiver that forgets the oldest."""

from __future__ import annotations

import pytest

from rankd.telemetry.receiver import ReceivedSpan, TraceReceiver, format_tree
from rankd.telemetry.tracing import start_tracing


def span(name: str, identity: str, parent: str, start_ns: int, **attributes: object) -> ReceivedSpan:
    return ReceivedSpan(
        name, "t", identity, parent, "INTERNAL", start_ns, start_ns + 1_500_000, dict(attributes), "UNSET", "", {}
    )


def test_format_tree() -> None:
    spans = [
        span("model", "3", "1", 30, **{"rankd.candidates": 7, "other": 1}),
        span("retrieve", "2", "1", 20),
        span("lookup", "4", "2", 21),
        span("s/Rank", "1", "callers", 10, **{"rankd.profile.name": "search"}),
    ]
    assert [line[:20].rstrip() for line in format_tree(spans).splitlines()] == [
        "s/Rank",
        "├─ retrieve",
        "│  └─ lookup",
        "└─ model",
    ]
    assert "1.500 ms" in format_tree(spans)
    assert "candidates 7" in format_tree(spans)
    assert "other" not in format_tree(spans)
    assert format_tree([]) == ""


def test_it_keeps_the_last_spans_and_gives_up_waiting() -> None:
    with TraceReceiver(keep=3) as receiver:
        tracer = start_tracing(receiver.endpoint, "svc")
        for i in range(5):
            root = tracer.begin(())
            assert root is not None
            tracer.end(root, f"call-{i}", 0, 1, {"list": ["a", "b"]}, [])
        assert tracer.close(10.0)
        kept = receiver.spans()
        assert [s.name for s in kept] == ["call-2", "call-3", "call-4"]
        assert kept[0].attributes["list"] == ["a", "b"]
        assert receiver.spans(kept[1].trace_id) == [kept[1]]
        with pytest.raises(TimeoutError):
            receiver.wait(lambda spans: len(spans) > 3, timeout_s=0.05)
