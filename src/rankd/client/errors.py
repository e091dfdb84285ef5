"""What a call to rankd can raise, at one glance.

    rankd.errors.RankdError
    ├── rankd.errors.RequestError     a value cannot be sent at all; found before anything was sent; violations
    └── RankdRpcError                 the call failed: code, reason, violations, request_id, retryable
        ├── InvalidRequestError       INVALID_ARGUMENT     violations say which fields
        ├── NotFoundError             NOT_FOUND            no such profile
        ├── PreconditionError         FAILED_PRECONDITION  the profile has no model
        ├── ExhaustedError            RESOURCE_EXHAUSTED   store full, message too large
        │   └── OverloadedError       … too much to do, and retry_after_s; has been retried if time and budget allowed
        ├── ServerUnavailableError    UNAVAILABLE          retryable; the client has retried already
        ├── DeadlineError             DEADLINE_EXCEEDED    not retryable: the time was the caller's
        ├── CallCancelledError        CANCELLED            by a server that stopped; retryable
        └── ServerFaultError          INTERNAL, UNKNOWN, DATA_LOSS   the cause stands in the server's log

Any other code is a plain RankdRpcError. asyncio.CancelledError is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from rankd.errors import RankdError, Reason

DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""gRPC's own name for when to retry (gRFC A6): milliseconds; anything else, such as -1, means never."""
_RETRYABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED})
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One fault of a request: `field` is a path such as candidates.columns[2].values."""

    field: str
    description: str


class RankdRpcError(RankdError):
    """A call that failed. `code` is gRPC's; the rest comes from the status details, where the server sent any.

    `reason` is a name of rankd.v1.ErrorReason; None: not an error of rankd's own.
    `retry_after_s`: how long the server asks to wait; None: it did not say.
    `retryable`: whether the same call may succeed later, or on another server.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: Reason | None = None,
        violations: Iterable[FieldViolation] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = tuple(violations)
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        super().__init__(self._text())

    @property
    def retryable(self) -> bool:
        return self.code in _RETRYABLE or self.retry_after_s is not None

    def _text(self) -> str:
        kind = f"{self.code.name} ({self.reason.name})" if self.reason else self.code.name
        what = "; ".join(f"{v.field}: {v.description}" for v in self.violations) or self.message or "no message"
        return f"{kind}: {what}" + (f" [request {self.request_id}]" if self.request_id else "")


class InvalidRequestError(RankdRpcError):
    """The request is at fault; nothing was done."""


class NotFoundError(RankdRpcError):
    """No profile of that name."""


class PreconditionError(RankdRpcError):
    """The request is right, but what is configured cannot answer it."""


class ExhaustedError(RankdRpcError):
    """A bound is reached. Retryable only if the server says when."""


class OverloadedError(ExhaustedError):
    """The server has more to do than it can do in time. `retry_after_s`: when to come again."""


class ServerUnavailableError(RankdRpcError):
    """No server could be reached, or it is draining. All attempts of the retry policy were spent."""


class DeadlineError(RankdRpcError):
    """Nothing came within timeout_s."""


class CallCancelledError(RankdRpcError):
    """The server ended the call without an answer, as when it is stopped."""


class ServerFaultError(RankdRpcError):
    """A fault of the server. Its log has the cause under the same request id."""


RankdRpcErrorType: TypeAlias = type[RankdRpcError]

_CLASSES: dict[grpc.StatusCode, RankdRpcErrorType] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.INTERNAL: ServerFaultError,
    grpc.StatusCode.UNKNOWN: ServerFaultError,
    grpc.StatusCode.DATA_LOSS: ServerFaultError,
}


def from_rpc_error(error: Any, request_id: str = "") -> RankdRpcError:
    """The error of a failed call, sync (grpc.Call) or asyncio (AioRpcError): both have the same accessors.

    `request_id` is the one that was sent; one that the server names comes first.
    """
    status = status_pb2.Status()
    pushback: str | None = None
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()  # damaged details: the code and the message still say what happened
        elif key == PUSHBACK_KEY:
            pushback = value
    return _build(error.code(), error.details() or "", status.details, request_id, pushback)


def from_status(status: status_pb2.Status, request_id: str = "") -> RankdRpcError:
    """The error of one list of a BatchRank."""
    return _build(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details, request_id)


def _build(
    code: grpc.StatusCode, message: str, details: Iterable[AnyMessage], request_id: str, pushback: str | None = None
) -> RankdRpcError:
    reason: Reason | None = None
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        origin = error_details_pb2.RequestInfo()
        try:
            if detail.Unpack(info):
                reason = Reason.__members__.get(info.reason) if info.domain == "rankd" else None
                request_id = info.metadata.get("request_id", request_id)
            elif detail.Unpack(bad):
                violations.extend(FieldViolation(v.field, v.description) for v in bad.field_violations)
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
            elif detail.Unpack(origin):
                request_id = origin.request_id or request_id
        except DecodeError:
            continue
    if pushback is not None:
        retry_after_s = int(pushback) / 1000 if pushback.isascii() and pushback.isdigit() else None
    kind = _CLASSES.get(code, RankdRpcError)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and (reason is Reason.OVERLOADED or retry_after_s is not None):
        kind = OverloadedError
    return kind(code, message, reason=reason, violations=violations, request_id=request_id, retry_after_s=retry_after_s)
