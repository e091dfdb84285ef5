"""What callers may read of an error."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2
from support.serving import unpack

from rankd.errors import DeadlinePassedError, Reason, RequestError, Violation
from rankd.ranking.wording import check_bytes, one_of, quoted, unknown_name
from rankd.server.status import to_status
from rankd.v1 import error_reason_pb2


def test_every_reason_is_in_the_contract() -> None:
    names = {name.removeprefix("ERROR_REASON_"): number for name, number in error_reason_pb2.ErrorReason.items()}
    assert {reason.name: reason.value for reason in Reason} == {k: v for k, v in names.items() if k != "UNSPECIFIED"}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.UNKNOWN_PROFILE, code_pb2.NOT_FOUND),
        (Reason.NO_MODEL, code_pb2.FAILED_PRECONDITION),
        (Reason.DUPLICATE_ID, code_pb2.INVALID_ARGUMENT),
    ],
)
def test_codes(reason: Reason, code: int) -> None:
    status, expected = to_status(RequestError.one(reason, "f", "x", "y"), "r")
    assert (status.code, expected) == (code, True)
    assert status.message == "f: expected x, got y"
    assert unpack(status)[1] == [("f", "expected x, got y")]


def test_deadlines() -> None:
    status, expected = to_status(DeadlinePassedError("late"), "r")
    assert (status.code, status.message, expected) == (code_pb2.DEADLINE_EXCEEDED, "late", True)


def test_a_status_fits_into_trailers_whatever_is_in_it() -> None:
    huge = [Violation("f" * 5_000, "é" * 5_000, "ü" * 5_000) for _ in range(1_000)]
    status, _ = to_status(RequestError(Reason.INVALID_FIELD, huge), "r" * 128)
    assert len(unpack(status)[1]) == 1
    # Base64 for the details, percent-encoding for the message: 8 KiB is what HTTP/2 peers take by default.
    assert status.ByteSize() * 4 / 3 + 3 * len(status.message.encode()) < 8_192


def test_wording() -> None:
    assert quoted('a"\n') == '"a\\"\\n"'
    assert quoted("x" * 65) == '"' + "x" * 64 + '"… (65 characters)'
    assert one_of([]) == "none (none is declared)"
    assert one_of(["b", "a"]) == "one of a, b"
    assert one_of(str(i) for i in range(100)).endswith("… (100 in all)")
    assert "did you mean" not in str(unknown_name(Reason.UNKNOWN_NAME, "f", ["abc"], "z" * 1_000_000))
    check_bytes("é" * 4, "f", 8)
    with pytest.raises(RequestError, match="f: expected at most 8 bytes, got 10"):
        check_bytes("é" * 5, "f", 8)
