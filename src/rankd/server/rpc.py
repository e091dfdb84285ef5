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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from rankd.errors import DeadlinePassedError, Reason, RequestError
from rankd.server.status import DETAILS_KEY, to_status
from rankd.server.wire_fault import find_fault
from rankd.telemetry import names
from rankd.telemetry.logs import Brake
from rankd.telemetry.tracing import Attributes, AttributeValue, RootSpan, Stage, Tracer

logger = logging.getLogger("rankd.server")

_STATUS_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

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
        self.set_default_deadline(default_deadline_ms)
        self._refusals = Brake()
        self._faults = Brake()

    def set_default_deadline(self, default_deadline_ms: float | None) -> None:
        """The deadline of calls that begin from now on without one; None: none."""
        self._default_deadline_s = None if default_deadline_ms is None else default_deadline_ms / 1e3

    def handler(self, method: str, request_type: type[RequestT], run: Run[RequestT]) -> Handler:
        """The handler of `method` ("rankd.v1.RankingService/Rank") for grpc.aio, without (de)serializers."""

        # A plain coroutine function: grpc.aio would put an object with an async __call__ on a thread.
        async def handle(data: bytes, context: Any) -> bytes:
            call = self._begin(method, context)
            self.in_flight += 1
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
                context.set_code(_STATUS_CODES[status.code])
                context.set_details(status.message)
                context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
            self._end(call, "OK" if status is None else code_pb2.Code.Name(status.code), status)
            return answer

        return handle

    def _begin(self, method: str, context: Any) -> Call:
        start_ns = time.perf_counter_ns()
        remaining_s = context.time_remaining()
        timeout_s = self._default_deadline_s if remaining_s is None else None
        limit_s = timeout_s if remaining_s is None else remaining_s
        deadline_ns = None if limit_s is None else start_ns + int(limit_s * 1e9)
        span = None if self.tracer is None else self.tracer.begin(context.invocation_metadata())
        return Call(method, start_ns, deadline_ns, timeout_s, span, f"{random.getrandbits(128):032x}")

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
