"""Exceptions to google.rpc.Status: the one place that decides what a caller may read.

Expected errors (rankd.errors) carry texts written for the caller. Of anything else the
caller learns only the request id; the log has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from rankd.errors import (
    DeadlinePassedError,
    OverloadedError,
    Reason,
    RequestError,
    StoreError,
    StoreFullError,
    UnavailableError,
)
from rankd.limits import MAX_REQUEST_ID_BYTES

DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
"""When gRPC's own retries may come again (proposal A6, client retries)."""
DOMAIN: Final = "rankd"

# A status travels in HTTP/2 trailers, of which peers take 8 KiB by default: the details as base64
# (4/3), the message percent-encoded (up to three times its bytes).
MAX_MESSAGE_BYTES: Final = 1_000
MAX_FIELD_BYTES: Final = 200
MAX_DESCRIPTION_BYTES: Final = 1_500
MAX_VIOLATIONS_BYTES: Final = 2_800
"""Of all violations together; those that would not fit are left out."""

_CODES: Final = {
    Reason.UNKNOWN_PROFILE: code_pb2.NOT_FOUND,
    Reason.NO_MODEL: code_pb2.FAILED_PRECONDITION,
}


def to_status(error: BaseException, request_id: str) -> tuple[status_pb2.Status, bool]:
    """The status of a failed call, and whether the failure was expected (else it must be logged whole)."""
    if isinstance(error, RequestError):
        code = _CODES.get(error.reason, code_pb2.INVALID_ARGUMENT)
        return _status(code, error.reason, request_text(error), request_id, _bad_request(error)), True
    if isinstance(error, StoreFullError):
        return _status(code_pb2.RESOURCE_EXHAUSTED, Reason.STORE_FULL, str(error), request_id), True
    if isinstance(error, StoreError):
        # Its text is for the operator: paths, errno. Another server may well have a sound store.
        message = f"the signal store cannot do this now; request id {request_id}"
        return _status(code_pb2.UNAVAILABLE, Reason.UNAVAILABLE, message, request_id), False
    if isinstance(error, UnavailableError):
        return _status(code_pb2.UNAVAILABLE, Reason.UNAVAILABLE, str(error), request_id), True
    if isinstance(error, OverloadedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1e3))
        return _status(code_pb2.RESOURCE_EXHAUSTED, Reason.OVERLOADED, str(error), request_id, retry), True
    if isinstance(error, DeadlinePassedError):
        return _status(code_pb2.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, str(error), request_id), True
    message = f"internal error; request id {request_id}"
    return _status(code_pb2.INTERNAL, Reason.INTERNAL, message, request_id), False


class Refused(NamedTuple):
    """A refusal, ready to be sent."""

    code: int
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]
    reason: str = ""


def refused(error: OverloadedError | DeadlinePassedError) -> Refused:
    """The whole answer to a call that is not worked on; it names no request."""
    status, _ = to_status(error, "")
    reason = Reason.OVERLOADED if isinstance(error, OverloadedError) else Reason.DEADLINE_EXCEEDED
    return Refused(status.code, status.message, trailers(status), reason.name)


def trailers(status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a failed call."""
    retry = error_details_pb2.RetryInfo()
    sent: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, status.SerializeToString()),)
    for detail in status.details:
        if detail.Unpack(retry):
            sent += ((PUSHBACK_KEY, str(retry.retry_delay.ToMilliseconds())),)
    return sent


def add_metadata(status: status_pb2.Status, more: Mapping[str, str]) -> None:
    """Adds to what the status's ErrorInfo says. Keep it short: it travels in trailers."""
    info = error_details_pb2.ErrorInfo()
    if status.details and status.details[0].Unpack(info):
        info.metadata.update(more)
        status.details[0].Pack(info)


def request_text(error: RequestError) -> str:
    """The message of a request error, for callers that read no details."""
    if error.reason is Reason.MALFORMED_MESSAGE:
        fault = error.violations[0]
        return f"malformed message: {fault.got}" + (f", in {fault.field}" if fault.field else "")
    return "; ".join(v.description if not v.field else f"{v.field}: {v.description}" for v in error.violations)


def _bad_request(error: RequestError) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    room = MAX_VIOLATIONS_BYTES
    for violation in error.violations:
        told = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field, MAX_FIELD_BYTES),
            description=_cut(violation.description, MAX_DESCRIPTION_BYTES),
            reason=error.reason.name,
        )
        room -= told.ByteSize()
        if room < 0:
            break
        bad.field_violations.append(told)
    return bad


def _cut(text: str, limit: int) -> str:
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"


def _status(code: int, reason: Reason, message: str, request_id: str, *details: Message) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=_cut(message, MAX_MESSAGE_BYTES))
    metadata = {"request_id": _cut(request_id, MAX_REQUEST_ID_BYTES)} if request_id else {}
    info = error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN, metadata=metadata)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
