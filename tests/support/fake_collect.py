"""A FeedbackService that counts events by their ids, and nothing else."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankd.v1 import feedback_pb2, feedback_pb2_grpc


class FakeCollect(feedback_pb2_grpc.FeedbackServiceServicer, health_pb2_grpc.HealthServicer):
    """`events`: each accepted one as it first came; `counts`: how often each id came. Refuses events of the type
    "refused". `fail_after`: calls that are answered before all others are UNAVAILABLE; `most`: events a call."""

    def __init__(self) -> None:
        self.events: dict[str, feedback_pb2.Event] = {}
        self.counts: Counter[str] = Counter()
        self.call_sizes: list[int] = []
        self.fail_after = 1_000_000
        self.most = 1_000_000
        self.delay_s = 0.0
        self.port = 0
        self._lock = threading.Lock()

    def Collect(self, request: feedback_pb2.CollectRequest, context: Any) -> feedback_pb2.CollectResponse:
        time.sleep(self.delay_s)
        with self._lock:
            if self.fail_after <= 0:
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            if len(request.events) > self.most:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max")
            self.fail_after -= 1
            self.call_sizes.append(len(request.events))
            response = feedback_pb2.CollectResponse()
            for row, event in enumerate(request.events):
                if event.type == "refused":
                    response.rejected.add(row=row, field=f"events[{row}].type", description="expected another")
                    continue
                response.accepted_count += 1
                response.repeated_count += self.counts[event.event_id] > 0
                self.counts[event.event_id] += 1
                self.events.setdefault(event.event_id, event)
            return response

    def Watch(self, request: Any, context: Any) -> Iterator[health_pb2.HealthCheckResponse]:
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait()


@contextmanager
def collecting(port: int = 0) -> Iterator[FakeCollect]:
    fake = FakeCollect()
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    feedback_pb2_grpc.add_FeedbackServiceServicer_to_server(fake, server)
    health_pb2_grpc.add_HealthServicer_to_server(fake, server)
    fake.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()
