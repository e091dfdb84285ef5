"""One way to serve a method, whatever its service: bytes in, bytes out.

A handler made here decodes, watches the deadline, turns every failure into a google.rpc.Status,
traces and counts. Failures are set on the context, not raised through gRPC: gRPC would send an
exception's text to the client, and log a traceback for what the caller did wrong.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from rankd.errors import DeadlinePassedError, Reason, RequestError
from rankd.server.gate import Priority
from rankd.server.status import Refused, add_metadata, to_status, trailers
from rankd.server.wire_fault import find_fault
from rankd.telemetry import names
from rankd.telemetry.logs import Brake
from rankd.telemetry.tracing import Attributes, AttributeValue, RootSpan, Stage, Tracer

logger = logging.getLogger("rankd.server")

_STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_BATCH: Final = ("rankd-priority", Priority.BATCH.value)

RequestT = TypeVar("RequestT", bound=Message)


@dataclass(slots=True)
class Call:
    """A call while it runs. Times are perf_counter_ns. `timeout_s` is the server's default, for a call
    that came without a deadline. `span` is None unless the call is sampled: then nothing need be put
    into `attributes` and `stages`."""

    method: str
    start_ns: int
    deadline_ns: int | None
    timeout_s: float | None
    span: RootSpan | None
    request_id: str = ""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    error_metadata: dict[str, str] = field(default_factory=dict)
    """What the ErrorInfo of a failure says besides the request id: how far a stream came."""

    def check_deadline(self) -> None:
        """DeadlinePassedError if the time is over. Called before every piece of work."""
        if self.deadline_ns is not None and time.perf_counter_ns() >= self.deadline_ns:
            raise DeadlinePassedError("the deadline passed before the work was done")

    def log_context(self) -> dict[str, str]:
        """For `extra=` of log lines."""
        return {"request_id": self.request_id, **(self.span.ids if self.span else {})}


Run = Callable[[RequestT, Call], Awaitable[Message]]
Handler = Callable[[bytes, Any], Awaitable[bytes]]
Stream = Callable[[Any, Any, Call], Awaitable[None]]
"""Serves a streaming method: gets gRPC's request (bytes; of a client stream an iterator to leave alone), the context
to read from and write to, and the call."""
StreamHandler = Callable[[Any, Any], Awaitable[None]]


class Dispatcher:
    """What the methods of one server share: tracer, default deadline, log brakes, calls in flight."""

    def __init__(self, tracer: Tracer | None = None, default_deadline_ms: float | None = None) -> None:
        self.tracer = tracer
        self.root_attributes: Attributes = {}
        self.in_flight = 0
        self.call_count = 0
        self.draining = asyncio.Event()
        """Set when the server begins to end: streams finish what they have read, and end."""
        self.set_default_deadline(default_deadline_ms)
        self._refusals = Brake()
        self._faults = Brake()

    def set_default_deadline(self, default_deadline_ms: float | None) -> None:
        """The deadline of calls that begin from now on without one; None: none."""
        self._default_deadline_ns = None if default_deadline_ms is None else int(default_deadline_ms * 1e6)

    @property
    def default_deadline_ns(self) -> int | None:
        """What `set_default_deadline` has set."""
        return self._default_deadline_ns

    def handler(self, method: str, request_type: type[RequestT], run: Run[RequestT]) -> Handler:
        """The handler of `method` ("rankd.v1.SignalService/GetSignals") for grpc.aio, without (de)serializers."""

        # A plain coroutine function: grpc.aio would put an object with an async __call__ on a thread.
        async def handle(data: bytes, context: Any) -> bytes:
            call = self._begin(method, context)
            self.call_count += 1
            self.in_flight += 1
            try:
                answer = await self._answer(call, request_type, data, run)
            except asyncio.CancelledError as error:
                if was_cancelled():
                    self.end(call, "CANCELLED")
                    raise
                return self.fail(call, context, error)
            except Exception as error:
                return self.fail(call, context, error)
            finally:
                self.in_flight -= 1
            self.end(call, "OK")
            return answer

        return handle

    def stream_handler(self, method: str, serve: Stream) -> StreamHandler:
        """The same for a streaming method. A stream may last: the server's default deadline is not for it."""

        async def handle(request: Any, context: Any) -> None:
            call = self._begin(method, context, has_default_deadline=False)
            self.call_count += 1
            self.in_flight += 1
            try:
                await serve(request, context, call)
            except asyncio.CancelledError as error:
                if was_cancelled():
                    self.end(call, "CANCELLED")
                    raise
                self.fail(call, context, error)
            except Exception as error:
                self.fail(call, context, error)
            else:
                self.end(call, "OK")
            finally:
                self.in_flight -= 1

        return handle

    def fail(self, call: Call, context: Any, error: BaseException) -> bytes:
        """Answers a call with an error: a status, no text of the inside. Returns what the handler then returns."""
        status = self.explain(call, error, call.request_id)
        if call.error_metadata:
            add_metadata(status, call.error_metadata)
        self._send(context, Refused(status.code, status.message, trailers(status)))
        self.end(call, code_pb2.Code.Name(status.code), status.message)
        return b""

    def refuse(self, call: Call, context: Any, refused: Refused) -> bytes:
        """Answers a call that nothing was read of: all is at hand."""
        self._send(context, refused)
        held = self._refusals.admit()
        name = code_pb2.Code.Name(refused.code)
        if held is not None:
            logger.info("%s refused: %s: %s%s", call.method, name, refused.message, held, extra=call.log_context())
        if call.span is not None:
            call.attributes[names.ERROR_REASON] = refused.reason
            self.end(call, name, refused.message)
        return b""

    @staticmethod
    def _send(context: Any, refused: Refused) -> None:
        context.set_code(_STATUS_CODES[refused.code])
        context.set_details(refused.message)
        context.set_trailing_metadata(refused.trailers)

    def _begin(self, method: str, context: Any, has_default_deadline: bool = True) -> Call:
        start_ns = time.perf_counter_ns()
        remaining_s = context.time_remaining()
        default_ns = self._default_deadline_ns if has_default_deadline else None
        span = None if self.tracer is None else self.tracer.begin(context.invocation_metadata())
        request_id = f"{random.getrandbits(128):032x}"
        if remaining_s is not None:
            return Call(method, start_ns, start_ns + int(remaining_s * 1e9), None, span, request_id)
        if default_ns is not None:
            return Call(method, start_ns, start_ns + default_ns, default_ns / 1e9, span, request_id)
        return Call(method, start_ns, None, None, span, request_id)

    async def _answer(self, call: Call, request_type: type[RequestT], data: bytes, run: Run[RequestT]) -> bytes:
        call.check_deadline()
        request = parse(request_type, data)
        # gRPC cancels a call whose own deadline passes; the server's default is for us to keep.
        if call.timeout_s is None:
            return (await run(request, call)).SerializeToString()
        try:
            async with asyncio.timeout(call.timeout_s) as scope:
                return (await run(request, call)).SerializeToString()
        except TimeoutError:
            if scope.expired():
                raise DeadlinePassedError("the deadline passed before the work was done") from None
            raise

    def explain(self, call: Call, error: BaseException, request_id: str) -> status_pb2.Status:
        """The status of a failed call, or of one list of a batch. Logs what an operator needs, at most
        ten lines a second of each sort."""
        status, expected = to_status(error, request_id)
        brake = self._refusals if expected else self._faults
        held = brake.admit()
        if held is not None:
            extra = {**call.log_context(), "request_id": request_id}
            if expected:
                name = code_pb2.Code.Name(status.code)
                logger.info("%s refused: %s: %s%s", call.method, name, status.message, held, extra=extra)
            else:
                logger.error("%s failed%s", call.method, held, exc_info=error, extra=extra)
        if call.span is not None and not call.attributes.get(names.ERROR_REASON):
            call.attributes[names.ERROR_REASON] = reason_of(status)
        return status

    def end(self, call: Call, code: str, message: str = "") -> None:
        """Queues the span of a sampled call."""
        if call.span is None or self.tracer is None:
            return
        attributes: dict[str, AttributeValue] = {
            **self.root_attributes,
            names.REQUEST_ID: call.request_id,
            **call.attributes,
        }
        if code != "OK":
            attributes[names.ERROR_TYPE] = code
        end_ns = time.perf_counter_ns()
        self.tracer.end(call.span, call.method, call.start_ns, end_ns, attributes, call.stages, code, message)


def was_cancelled() -> bool:
    """Whether a CancelledError is the call's own: then gRPC must see it again (it leaks where it does not).
    Otherwise something inside was cancelled, and gRPC would leave the caller waiting."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def parse(request_type: type[RequestT], data: bytes) -> RequestT:
    """Decodes; RequestError (MALFORMED_MESSAGE) with the place of the first fault."""
    try:
        return request_type.FromString(data)
    except DecodeError:
        raise malformed(data, request_type) from None


def malformed(data: bytes, request_type: type[Message]) -> RequestError:
    """The error for bytes that are no message of the type."""
    fault = find_fault(data, request_type.DESCRIPTOR)
    name = request_type.DESCRIPTOR.full_name
    return RequestError.one(Reason.MALFORMED_MESSAGE, fault.field, f"a {name}", fault.problem)


def reason_of(status: status_pb2.Status) -> str:
    """The ErrorInfo's reason."""
    info = error_details_pb2.ErrorInfo()
    return info.reason if status.details and status.details[0].Unpack(info) else ""


if TYPE_CHECKING:
    _GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:  # generic in its stubs only
    _GenericHandler = grpc.GenericRpcHandler


class ServiceHandlers(_GenericHandler):
    """The methods of a service, each with a handler for live and one for batch calls; streaming ones with one for both.

    gRPC asks `service` for every call and has its metadata at hand then; asking the call for it later
    would build it again. A priority that is not known is live.
    """

    def __init__(
        self,
        service: str,
        methods: Mapping[str, Mapping[Priority, Handler]],
        streams: Mapping[str, grpc.RpcMethodHandler[Any, Any]] | None = None,
    ) -> None:
        made = {
            f"/{service}/{name}": {p: grpc.unary_unary_rpc_method_handler(handler) for p, handler in handlers.items()}
            for name, handlers in methods.items()
        }
        both = {f"/{service}/{name}": handler for name, handler in (streams or {}).items()}
        self._live = {path: handlers[Priority.LIVE] for path, handlers in made.items()} | both
        self._batch = {
            path: handlers.get(Priority.BATCH, handlers[Priority.LIVE]) for path, handlers in made.items()
        } | both

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, or None: not a method of this service."""
        if _BATCH in handler_call_details.invocation_metadata:
            return self._batch.get(handler_call_details.method)
        return self._live.get(handler_call_details.method)
