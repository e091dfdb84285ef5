"""Exceptions to google.rpc.Status: the one place that decides what a caller may read.

Expected errors (rankd.errors) carry texts written for the caller. Of anything else the
caller learns only the request id; the log has the rest.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from rankd.errors import (
    DeadlinePassedError,
    Reason,
    RequestError,
    StoreError,
    StoreFullError,
    UnavailableError,
    Violation,
)

DETAILS_KEY: Final = "grpc-status-details-bin"
DOMAIN: Final = "rankd"

MAX_VIOLATIONS: Final = 10
MAX_TEXT_CHARS: Final = 500
"""Of a path or a description. All of a status must fit into HTTP/2 trailers (8 KiB by default)."""
MAX_MESSAGE_CHARS: Final = 1_000

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
    if isinstance(error, DeadlinePassedError):
        return _status(code_pb2.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, str(error), request_id), True
    message = f"internal error; request id {request_id}"
    return _status(code_pb2.INTERNAL, Reason.INTERNAL, message, request_id), False


def request_text(error: RequestError) -> str:
    """The message of a request error, for callers that read no details."""
    if error.reason is Reason.MALFORMED_MESSAGE:
        fault = error.violations[0]
        return f"malformed message: {fault.got}" + (f", in {fault.field}" if fault.field else "")
    return "; ".join(_line(violation) for violation in error.violations[:MAX_VIOLATIONS])


def _line(violation: Violation) -> str:
    return f"{violation.field}: {violation.description}" if violation.field else violation.description


def _bad_request(error: RequestError) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=v.field[:MAX_TEXT_CHARS], description=v.description[:MAX_TEXT_CHARS], reason=error.reason.name
            )
            for v in error.violations[:MAX_VIOLATIONS]
        ]
    )


def _status(code: int, reason: Reason, message: str, request_id: str, *details: Message) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message[:MAX_MESSAGE_CHARS])
    info = error_details_pb2.ErrorInfo(reason=reason.name, domain=DOMAIN, metadata={"request_id": request_id[:128]})
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
