"""FeedbackService: Collect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from rankd.errors import Reason, RequestError
from rankd.events.model import EventFault, from_messages
from rankd.events.stream import EventWriter
from rankd.limits import RequestLimits
from rankd.server.rpc import Call
from rankd.signals.store import SignalStore
from rankd.telemetry import names
from rankd.v1 import feedback_pb2 as pb

SLICE_EVENTS: Final = 500
"""Events worked on at a time: some milliseconds, in which calls to rank wait."""


class FeedbackService:
    """The methods of rankd.v1.FeedbackService over a store."""

    def __init__(self, store: SignalStore, limits: RequestLimits, clock: Callable[[], float] = time.time) -> None:
        """ExpressionError if a source of the store's schema is faulty."""
        self._writer = EventWriter(store)
        self._limits = limits
        self._clock = clock

    async def collect(self, request: pb.CollectRequest, call: Call) -> pb.CollectResponse:
        """Collect. Events with a fault are refused one by one, the others are taken."""
        count = len(request.events)
        if call.span is not None:
            call.attributes[names.ROWS] = count
        if not 1 <= count <= self._limits.max_write_rows:
            reason = Reason.LIMIT_EXCEEDED if count else Reason.INVALID_FIELD
            raise RequestError.one(reason, "events", f"1 to {self._limits.max_write_rows} events", f"{count}")
        response = pb.CollectResponse()
        for start in range(0, count, SLICE_EVENTS):
            if start:
                await asyncio.sleep(0)
                call.check_deadline()
            faults, repeated_count = await self._take(request, start)
            response.repeated_count += repeated_count
            for fault in faults:
                row = start + fault.position
                field = f"events[{row}]" + (f".{fault.field}" if fault.field else "")
                response.rejected.add(row=row, field=field, description=fault.description)
        response.accepted_count = count - len(response.rejected)
        if call.span is not None:
            call.attributes[names.ROWS_REJECTED] = len(response.rejected)
        return response

    async def _take(self, request: pb.CollectRequest, start: int) -> tuple[list[EventFault], int]:
        """The faults, by position in the slice, and how many of the other events had come before."""
        now_s = self._clock()
        events = request.events[start : start + SLICE_EVENTS]
        batch, faults, repeated_count = from_messages(events, round(now_s * 1000), self._limits.max_id_bytes)
        applied = await self._writer.apply(batch, now_s)
        faults = sorted([*faults, *applied.faults], key=lambda fault: fault.position)
        return faults, repeated_count + applied.repeated_count
