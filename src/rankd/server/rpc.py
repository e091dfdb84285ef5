"""One way to serve a unary method, whatever its service: bytes in, bytes out.

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
from rankd.server.admission import RUNG_BITS, CostClass, Refusal
from rankd.server.gate import Gate, Priority
from rankd.server.status import Refused, to_status, trailers
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
    into `attributes` and `stages`. `known`: what admission knows of its like; `waited_ns`: for a thread."""

    method: str
    start_ns: int
    deadline_ns: int | None
    timeout_s: float | None
    span: RootSpan | None
    request_id: str = ""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    live: bool = True
    known: CostClass | None = None
    waited_ns: int = 0

    def name_request(self, request_id: str) -> str:
        """Takes the caller's id of the call, or makes one: 32 hex digits."""
        if request_id:
            self.request_id = request_id
        return self.request_id

    def check_deadline(self) -> None:
        """DeadlinePassedError if the time is over. Called before every piece of work."""
        if self.deadline_ns is not None and time.perf_counter_ns() >= self.deadline_ns:
            raise DeadlinePassedError("the deadline passed before the work was done")

    def log_context(self) -> dict[str, str]:
        """For `extra=` of log lines."""
        return {"request_id": self.request_id, **(self.span.ids if self.span else {})}


Run = Callable[[RequestT, Call], Awaitable[Message]]
Handler = Callable[[bytes, Any], Awaitable[bytes]]


class Dispatcher:
    """What the methods of one server share: tracer, default deadline, log brakes, calls in flight."""

    def __init__(self, tracer: Tracer | None = None, default_deadline_ms: float | None = None) -> None:
        self.tracer = tracer
        self.root_attributes: Attributes = {}
        self.in_flight = 0
        self.call_count = 0
        self.set_default_deadline(default_deadline_ms)
        self._refusals = Brake()
        self._faults = Brake()

    def set_default_deadline(self, default_deadline_ms: float | None) -> None:
        """The deadline of calls that begin from now on without one; None: none."""
        self._default_deadline_ns = None if default_deadline_ms is None else int(default_deadline_ms * 1e6)

    def handler(
        self,
        method: str,
        request_type: type[RequestT],
        run: Run[RequestT],
        gate: Gate | None = None,
        number: int = 0,
        live: bool = True,
    ) -> Handler:
        """The handler of `method` ("rankd.v1.RankingService/Rank") for grpc.aio, without (de)serializers.

        `number`: of the method at the gate; without a gate every call is taken.
        """

        # A plain coroutine function: grpc.aio would put an object with an async __call__ on a thread.
        async def handle(data: bytes, context: Any) -> bytes:
            call = self._begin(method, context)
            self.call_count += 1
            decision = 0
            if gate is not None:
                call.live = live
                call.known = gate.admission.cost_class(number, len(data))
                left_ns = None if call.deadline_ns is None else call.deadline_ns - call.start_ns
                decision = gate.admit(call.known, live, False, left_ns, call.start_ns)
                if decision < 0:
                    return self._refuse(call, context, gate.refusal(Refusal(decision)))
            self.in_flight += 1
            self.call_count += 1
            status: status_pb2.Status | None = None
            answer = b""
            try:
                answer = await self._answer(call, request_type, data, run)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    self._end(call, "CANCELLED", None)
                    raise
                # Something inside was cancelled, not the call: gRPC would leave the caller waiting.
                status = self.explain(call, error, call.request_id)
            except Exception as error:
                status = self.explain(call, error, call.request_id)
            finally:
                self.in_flight -= 1
            if status is not None:
                _send(context, Refused(status.code, status.message, trailers(status)))
            elif call.known is not None:
                took_ns = time.perf_counter_ns() - call.start_ns - call.waited_ns
                call.known.note(decision & RUNG_BITS, took_ns, 0)
            self._end(call, "OK" if status is None else code_pb2.Code.Name(status.code), status)
            return answer

        return handle

    def _refuse(self, call: Call, context: Any, refused: Refused) -> bytes:
        """Nothing is read, nothing made: the answer is at hand."""
        _send(context, refused)
        held = self._refusals.admit()
        name = code_pb2.Code.Name(refused.code)
        if held is not None:
            logger.info("%s refused: %s: %s%s", call.method, name, refused.message, held, extra=call.log_context())
        if call.span is not None:
            call.attributes[names.ERROR_REASON] = (
                "OVERLOADED" if refused.code == code_pb2.RESOURCE_EXHAUSTED else "DEADLINE_EXCEEDED"
            )
            self._end(call, name, None)
        return b""

    def _begin(self, method: str, context: Any) -> Call:
        start_ns = time.perf_counter_ns()
        remaining_s = context.time_remaining()
        default_ns = self._default_deadline_ns
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

    def _end(self, call: Call, code: str, status: status_pb2.Status | None) -> None:
        if call.span is None or self.tracer is None:
            return
        attributes: dict[str, AttributeValue] = {
            **self.root_attributes,
            names.REQUEST_ID: call.request_id,
            **call.attributes,
        }
        if code != "OK":
            attributes[names.ERROR_TYPE] = code
        self.tracer.end(
            call.span,
            call.method,
            call.start_ns,
            time.perf_counter_ns(),
            attributes,
            call.stages,
            code,
            status.message if status is not None else "",
        )


def parse(request_type: type[RequestT], data: bytes) -> RequestT:
    """Decodes; RequestError (MALFORMED_MESSAGE) with the place of the first fault."""
    try:
        return request_type.FromString(data)
    except DecodeError:
        fault = find_fault(data, request_type.DESCRIPTOR)
        name = request_type.DESCRIPTOR.full_name
        raise RequestError.one(Reason.MALFORMED_MESSAGE, fault.field, f"a {name}", fault.problem) from None


def reason_of(status: status_pb2.Status) -> str:
    """The ErrorInfo's reason."""
    info = error_details_pb2.ErrorInfo()
    return info.reason if status.details and status.details[0].Unpack(info) else ""


def _send(context: Any, refused: Refused) -> None:
    context.set_code(_STATUS_CODES[refused.code])
    context.set_details(refused.message)
    context.set_trailing_metadata(refused.trailers)


if TYPE_CHECKING:
    _GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:  # generic in its stubs only
    _GenericHandler = grpc.GenericRpcHandler


class ServiceHandlers(_GenericHandler):
    """The methods of a service, each with a handler for live and one for batch calls.

    gRPC asks `service` for every call and has its metadata at hand then; asking the call for it later
    would build it again. A priority that is not known is live.
    """

    def __init__(self, service: str, methods: Mapping[str, Mapping[Priority, Handler]]) -> None:
        made = {
            f"/{service}/{name}": {p: grpc.unary_unary_rpc_method_handler(handler) for p, handler in handlers.items()}
            for name, handlers in methods.items()
        }
        self._live = {path: handlers[Priority.LIVE] for path, handlers in made.items()}
        self._batch = {path: handlers.get(Priority.BATCH, handlers[Priority.LIVE]) for path, handlers in made.items()}

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, or None: not a method of this service."""
        if _BATCH in handler_call_details.invocation_metadata:
            return self._batch.get(handler_call_details.method)
        return self._live.get(handler_call_details.method)
