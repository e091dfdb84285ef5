"""Spans made by hand: nothing is built unless the call is sampled, and then once, at its end.

The SDK's tracer costs about 40 µs a span, because it must cope with code that adds to a span
as it goes. A server knows the whole tree when the call ends, so `Tracer.end` makes the
finished spans directly and hands them to the SDK's batch processor, which owns the queue, the
export thread and the protocol. The processor never blocks: a full queue drops spans.

Where tracing is off there is no Tracer at all: `start_tracing` is not called, the SDK is not
imported, and a call pays one comparison with None.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rankd.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]

MAX_QUEUED_SPANS: Final = 8_192
EXPORT_BATCH_SPANS: Final = 512
EXPORT_INTERVAL_MS: Final = 1_000

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

# gRPC codes that are the server's own fault; the others leave a server span's status unset
# (semantic conventions for gRPC, "Server").
_SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span, from a W3C traceparent (https://www.w3.org/TR/trace-context/)."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""


@dataclass(frozen=True, slots=True)
class RootSpan:
    """The identity of a sampled call's span while the call runs."""

    trace_id: int
    span_id: int
    parent: Parent | None

    @property
    def ids(self) -> dict[str, str]:
        """For log lines."""
        return {"trace_id": f"{self.trace_id:032x}", "span_id": f"{self.span_id:016x}"}


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage did: times are perf_counter_ns."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes


def parse_traceparent(text: str, state: str = "") -> Parent | None:
    """The caller's span, or None if the header is not valid: then the call starts a trace of its own."""
    match = _TRACEPARENT.fullmatch(text.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # Version ff is forbidden; version 00 has no further parts; later ones may.
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1), state)


def _parent_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Parent | None:
    header = state = ""
    for key, value in metadata or ():
        if key == "traceparent" and isinstance(value, str):
            header = value
        elif key == "tracestate" and isinstance(value, str):
            state = value
    return parse_traceparent(header, state) if header else None


class Tracer:
    """Samples calls, makes their spans and queues them for export. Safe to use from one thread at a time."""

    def __init__(self, processor: Any, resource: Any, scope: Any, sample_ratio: float = 1.0) -> None:
        """`processor` is an OpenTelemetry SpanProcessor; `sample_ratio` is for calls without a parent."""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan

        self._processor = processor
        self._resource = resource
        self._scope = scope
        self._ratio = sample_ratio
        self._random = random.Random()  # not os.urandom: ids need to be distinct, not secret
        self._span: type[ReadableSpan] = ReadableSpan
        self._api = trace
        self._flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)

    def begin(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> RootSpan | None:
        """Decides by the parent's flag, or else by the ratio. None: the call is not recorded."""
        parent = _parent_of(metadata)
        if not (parent.sampled if parent else self._random.random() < self._ratio):
            return None
        trace_id = parent.trace_id if parent else self._new_id(128)
        return RootSpan(trace_id, self._new_id(64), parent)

    def _new_id(self, bits: int) -> int:
        return self._random.getrandbits(bits) or 1

    def end(
        self,
        root: RootSpan,
        name: str,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        stages: Sequence[Stage],
        status_code: str = "OK",
        message: str = "",
    ) -> None:
        """Queues the call's span and one child per stage. Times are perf_counter_ns.

        `status_code` is the gRPC code's name; `message` says why, for server faults.
        """
        api = self._api
        offset_ns = time.time_ns() - time.perf_counter_ns()
        state = api.TraceState.from_header([root.parent.state]) if root.parent and root.parent.state else None
        context = api.SpanContext(root.trace_id, root.span_id, False, self._flags, state)
        parent = root.parent and api.SpanContext(root.trace_id, root.parent.span_id, True, self._flags, state)
        for stage in stages:
            self._emit(
                stage.name,
                api.SpanContext(root.trace_id, self._new_id(64), False, self._flags, state),
                context,
                stage.attributes,
                api.SpanKind.INTERNAL,
                stage.start_ns + offset_ns,
                stage.end_ns + offset_ns,
                api.Status(),
            )
        status = api.Status(api.StatusCode.ERROR, message) if status_code in _SERVER_FAULTS else api.Status()
        self._emit(
            name,
            context,
            parent,
            {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: name, names.RPC_STATUS_CODE: status_code, **attributes},
            api.SpanKind.SERVER,
            start_ns + offset_ns,
            end_ns + offset_ns,
            status,
        )

    def _emit(
        self,
        name: str,
        context: Any,
        parent: Any,
        attributes: Attributes,
        kind: Any,
        start_ns: int,
        end_ns: int,
        status: Any,
    ) -> None:
        self._processor.on_end(
            self._span(
                name,
                context=context,
                parent=parent,
                resource=self._resource,
                attributes=attributes,
                kind=kind,
                status=status,
                start_time=start_ns,
                end_time=end_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self, timeout_s: float) -> bool:
        """Flushes what is queued; gives up after `timeout_s`. False: spans may be lost."""
        # The SDK's own shutdown can wait 30 s for a collector that hangs.
        thread = threading.Thread(target=self._processor.shutdown, name="rankd-trace-flush", daemon=True)
        thread.start()
        thread.join(timeout_s)
        return not thread.is_alive()


def start_tracing(
    otlp_endpoint: str,
    service_name: str = "rankd",
    service_version: str = "",
    sample_ratio: float = 1.0,
    export_timeout_s: float = 10.0,
) -> Tracer:
    """A Tracer that exports by OTLP over gRPC to `otlp_endpoint` (http:// is plain text, https:// is TLS).

    Headers and certificates come from the standard OTEL_EXPORTER_OTLP_* variables. Nothing
    waits for the collector, now or later: spans it does not take in time are dropped.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    endpoint = otlp_endpoint if "://" in otlp_endpoint else f"http://{otlp_endpoint}"
    processor = BatchSpanProcessor(
        OTLPSpanExporter(endpoint=endpoint, timeout=export_timeout_s),
        max_queue_size=MAX_QUEUED_SPANS,
        schedule_delay_millis=EXPORT_INTERVAL_MS,
        max_export_batch_size=EXPORT_BATCH_SPANS,
    )
    resource = Resource.create(
        {
            names.SERVICE_NAME: service_name,
            names.SERVICE_VERSION: service_version,
        }
    )
    return Tracer(processor, resource, InstrumentationScope("rankd", service_version), sample_ratio)
