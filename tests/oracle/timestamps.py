"""google.protobuf.Timestamp to seconds since 1970, checked."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from rankd.errors import Reason, RequestError

MIN_S: Final = -62_135_596_800
MAX_S: Final = 253_402_300_799
"""Years 1 to 9999, as the message's own definition has it."""


def timestamp_seconds(stamp: Timestamp, field: str) -> float:
    """Seconds since 1970. RequestError (INVALID_FIELD) unless it is a timestamp."""
    if not MIN_S <= stamp.seconds <= MAX_S:
        raise RequestError.one(
            Reason.INVALID_FIELD, f"{field}.seconds", "a time of the years 1 to 9999", f"{stamp.seconds}"
        )
    if not 0 <= stamp.nanos <= 999_999_999:
        raise RequestError.one(Reason.INVALID_FIELD, f"{field}.nanos", "0 to 999999999", f"{stamp.nanos}")
    return stamp.seconds + stamp.nanos / 1e9
