"""Streams of batches and scans that go on by themselves after a lost connection: what is common to both clients.

What was sent and not answered is kept, within bounds, and sent again on the next connection, in the same order. Every
batch has a write id, so that one that was written before the connection was lost is not written again.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

import grpc

from rankd.client.errors import DeadlineError, RankdRpcError, ServerFaultError
from rankd.client.signals import Acknowledged, WriteResult
from rankd.v1.signals_pb2 import StreamSignalsRequest, StreamSignalsResponse

MAX_UNANSWERED: Final = 8
"""Batches sent and not answered: what the server reads ahead, and what is on the way."""
MAX_UNANSWERED_BYTES: Final = 32 * 1024 * 1024

PATIENCE_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.02
MAX_PAUSE_S: Final = 1.0

_GOES_ON: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED})


class Patience:
    """Whether to try again, and after which pause: as long as something has come within `patience_s`."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._failures = 0
        self._since_s = clock()

    @property
    def left_s(self) -> float:
        """How long it may still take until something comes."""
        return max(0.0, self._since_s + self._patience_s - self._clock())

    def progressed(self) -> None:
        """Something came."""
        self._failures = 0
        self._since_s = self._clock()

    def pause_s(self, error: RankdRpcError) -> float:
        """Seconds to wait before the next attempt. Raises the error if there is to be none."""
        if error.code not in _GOES_ON and error.retry_after_s is None:
            raise error
        pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 16)) * random.uniform(0.8, 1.2)
        pause_s = max(pause_s, error.retry_after_s or 0.0)
        self._failures += 1
        if pause_s >= self.left_s:
            raise error
        return pause_s

    def too_late(self) -> DeadlineError:
        """The error when nothing came in time."""
        text = f"nothing came within {self._patience_s:g} s"
        return DeadlineError(grpc.StatusCode.DEADLINE_EXCEEDED, text)


class Unanswered:
    """The batches of one stream that were taken up and not answered, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[StreamSignalsRequest] = deque()
        self._bytes = 0
        self._taken = 0
        self._answered = 0
        self._stream_id = uuid.uuid4().hex

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether another batch may be taken up."""
        return not self._waiting or (len(self._waiting) < MAX_UNANSWERED and self._bytes < MAX_UNANSWERED_BYTES)

    def add(self, request: StreamSignalsRequest) -> StreamSignalsRequest:
        """A batch to be sent; gives it a write id if it has none."""
        if not request.batch.write_id:
            request.batch.write_id = f"{self._stream_id}/{self._taken}"
        self._taken += 1
        self._waiting.append(request)
        self._bytes += request.ByteSize()
        return request

    def all(self) -> list[StreamSignalsRequest]:
        """What is to be sent again on another connection."""
        return list(self._waiting)

    def answered(self, response: StreamSignalsResponse) -> Acknowledged:
        """The oldest is written. ServerFaultError if that is not what the server says."""
        if not self._waiting or self._waiting[0].cursor != response.cursor:
            text = (
                f"expected the answer to cursor {self._waiting[0].cursor!r}" if self._waiting else "expected no answer"
            )
            raise ServerFaultError(grpc.StatusCode.INTERNAL, f"{text}, got that to {response.cursor!r}")
        self._bytes -= self._waiting.popleft().ByteSize()
        number, self._answered = self._answered, self._answered + 1
        return Acknowledged(number, response.cursor, WriteResult.of(response.response))
