"""A small OTLP trace receiver: a real gRPC collector in memory, for the demo and for tests.

It keeps the last spans it was sent, and prints a trace as a tree. It is not a backend.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from rankd.telemetry import names

KEEP_SPANS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived. Ids are hex; `parent_id` is "" for a trace's first span; times are ns since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: str
    status_message: str
    resource: dict[str, Any]

    @property
    def milliseconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e6


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


class TraceReceiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on 127.0.0.1 (`port` 0: any free one) until closed; also a context manager."""

    def __init__(self, port: int = 0, keep: int = KEEP_SPANS) -> None:
        self._spans: deque[ReceivedSpan] = deque(maxlen=keep)
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    @property
    def endpoint(self) -> str:
        """For `otlp_endpoint`."""
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: Any) -> Any:
        """The OTLP call."""
        spans = [
            ReceivedSpan(
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                start_ns=span.start_time_unix_nano,
                end_ns=span.end_time_unix_nano,
                attributes=_attributes(span.attributes),
                status=span.status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
                status_message=span.status.message,
                resource=_attributes(group.resource.attributes),
            )
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self._spans.extend(spans)
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace_id: str = "") -> list[ReceivedSpan]:
        """What is kept, oldest first; of one trace if given."""
        with self._arrived:
            return [span for span in self._spans if not trace_id or span.trace_id == trace_id]

    def wait(self, enough: Callable[[Sequence[ReceivedSpan]], bool], timeout_s: float = 10.0) -> list[ReceivedSpan]:
        """The kept spans, as soon as `enough` of them says so. TimeoutError after `timeout_s`."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: enough(self._spans), timeout_s):
                raise TimeoutError(f"{len(self._spans)} spans after {timeout_s} s, and they are not enough")
            return list(self._spans)

    def close(self) -> None:
        self._server.stop(None)

    def __enter__(self) -> TraceReceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_SHOWN: Final = {
    names.PROFILE: "profile",
    names.PROFILE_VERSION: "profile version",
    names.MODEL_VERSION: "model",
    names.CANDIDATES: "candidates",
    names.MISSING: "missing",
    names.RESCORED: "re-scored",
    names.RETURNED: "returned",
    names.LISTS: "lists",
    names.ENTITY: "entity",
    names.ROWS: "rows",
    names.RPC_STATUS_CODE: "status",
}


def format_tree(spans: Sequence[ReceivedSpan]) -> str:
    """One trace as lines: name, milliseconds and the attributes worth reading, children under parents.

    Spans whose parent is not among `spans` (the caller's) stand at the top.
    """
    known = {span.span_id for span in spans}
    children: dict[str, list[ReceivedSpan]] = {}
    for span in sorted(spans, key=lambda s: (s.start_ns, s.name)):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    lines: list[str] = []

    def walk(span: ReceivedSpan, lead: str, branch: str) -> None:
        shown = "  ".join(f"{label} {span.attributes[key]}" for key, label in _SHOWN.items() if key in span.attributes)
        label = f"{lead}{branch}{span.name}"
        lines.append(f"{label:<36} {span.milliseconds:>9.3f} ms  {shown}".rstrip())
        below = children.get(span.span_id, [])
        inner = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for child in below:
            walk(child, inner, "└─ " if child is below[-1] else "├─ ")

    for top in children.get("", []):
        walk(top, "", "")
    return "\n".join(lines)
