"""A gRPC server with rankd's services and none of its insides, for tests of the client."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rankd.v1 import ranking_pb2, ranking_pb2_grpc, signals_pb2, signals_pb2_grpc


def status(code: grpc.StatusCode, message: str, *details) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def error_info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(domain="rankd", reason=reason, metadata=metadata)


def bad_request(*violations: tuple[str, str]) -> error_details_pb2.BadRequest:
    made = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
    return error_details_pb2.BadRequest(field_violations=made)


class FakeRankd(ranking_pb2_grpc.RankingServiceServicer, signals_pb2_grpc.SignalServiceServicer):
    """Ranks by base score. `failures`: statuses of the next calls; `calls`: (method, request) as they
    came; of batches of streams those that were applied."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.failures: list[status_pb2.Status] = []
        self.calls: list[tuple[str, object]] = []
        self.fail_writes: list[status_pb2.Status] = []
        self.pushbacks: list[str] = []
        self.degradation: ranking_pb2.Degradation | None = None
        self.limit_rows = 1_000_000
        self.metadata: list[dict[str, str | bytes]] = []
        self.delay_s = 0.0
        self.port = 0
        self.drops: list[int] = []
        """After how many answers of a stream or scan each of the next is cut off; what came is applied by then."""
        self.applied: list[str] = []
        self.stream_count = 0
        self.late_count = 0
        self.scan_pages = 5
        self.reject = lambda request: []
        self.schema = signals_pb2.DescribeSchemaResponse(
            version="0123456789ab",
            entities=[
                signals_pb2.EntityDescription(
                    name="item",
                    row_count=3,
                    signals=[
                        signals_pb2.SignalDescription(name="price", type="f32", default_value=1.5, ttl_seconds=60),
                        signals_pb2.SignalDescription(name="stock", type="i64"),
                        signals_pb2.SignalDescription(name="new", type="bool"),
                        signals_pb2.SignalDescription(name="brand", type="category"),
                        signals_pb2.SignalDescription(name="title", type="string"),
                        signals_pb2.SignalDescription(name="released", type="timestamp"),
                        signals_pb2.SignalDescription(name="vector", type="embedding[2]"),
                        signals_pb2.SignalDescription(name="tags", type="set"),
                        signals_pb2.SignalDescription(name="taste", type="map"),
                        signals_pb2.SignalDescription(name="later", type="hyperloglog"),
                    ],
                )
            ],
        )

    def _arrive(self, method: str, request, context) -> None:
        self.calls.append((method, request))
        self.metadata.append({m.key: m.value for m in context.invocation_metadata()})
        if self.delay_s:
            time.sleep(self.delay_s)
        planned = self.fail_writes if method == "WriteSignals" and self.fail_writes else self.failures
        if planned:
            failure = planned.pop(0)
            trailers = [("grpc-status-details-bin", failure.SerializeToString())]
            if self.pushbacks:
                trailers.append(("grpc-retry-pushback-ms", self.pushbacks.pop(0)))
            context.set_trailing_metadata(tuple(trailers))
            codes = {c.value[0]: c for c in grpc.StatusCode}
            context.abort(codes[failure.code], failure.message)

    def Rank(self, request, context):
        self._arrive("Rank", request, context)
        return self._rank(request)

    def _rank(self, request):
        ids, base = list(request.candidates.ids), list(request.candidates.base_scores)
        order = sorted(range(len(ids)), key=lambda i: -base[i]) if base else list(range(len(ids)))
        start = int(request.page_token or 0)
        end = start + (request.page_size if request.HasField("page_size") else len(ids))
        page = order[start:end]
        response = ranking_pb2.RankResponse(
            request_id=request.request_id or "made",
            versions=ranking_pb2.Versions(profile="p1", model=self.name),
            ids=[ids[i] for i in page],
            ranks=range(start + 1, start + 1 + len(page)),
            indexes=page,
            total_count=len(ids),
            rescored_count=len(ids),
            missing_ids=[i for i in ids if i.startswith("unknown")],
            next_page_token=str(end) if end < len(ids) else "",
        )
        if self.degradation is not None:
            response.degradation.CopyFrom(self.degradation)
        if request.view >= ranking_pb2.VIEW_SCORES and base:
            response.scores.extend(2 * base[i] for i in page)
            response.base_scores.extend(base[i] for i in page)
        if request.view == ranking_pb2.VIEW_FEATURES:
            for column in request.candidates.columns:
                response.features.add(name=column.name, values=[column.values[i] for i in page])
        if request.include_timings:
            response.timings.add(stage="base", microseconds=12.5)
        return response

    def BatchRank(self, request, context):
        self._arrive("BatchRank", request, context)
        response = ranking_pb2.BatchRankResponse()
        for one in request.lists:
            if "bad" in one.candidates.ids:
                violation = bad_request(("candidates.ids[0]", "expected good ids, got bad"))
                error = status(grpc.StatusCode.INVALID_ARGUMENT, "bad", error_info("INVALID_FIELD"), violation)
                response.results.add(error=error)
            else:
                single = ranking_pb2.RankRequest()
                single.CopyFrom(request.common)
                single.candidates.CopyFrom(one.candidates)
                single.request_id = one.request_id
                response.results.add(response=self._rank(single))
        return response

    def Score(self, request, context):
        self._arrive("Score", request, context)
        ids = request.candidates.ids
        response = ranking_pb2.ScoreResponse(request_id=request.request_id, missing_ids=[ids[0]])
        response.outputs.add(name="score", values=[float(len(i)) for i in ids])
        if request.include_features:
            for column in request.candidates.columns:
                response.features.add(name=column.name, values=column.values)
        return response

    def DescribeSchema(self, request, context):
        self._arrive("DescribeSchema", request, context)
        return self.schema

    def WriteSignals(self, request, context):
        self._arrive("WriteSignals", request, context)
        if len(request.ids) > self.limit_rows:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (9 vs. 5)")
        rejected = self.reject(request)
        return signals_pb2.WriteSignalsResponse(
            written_count=len(request.ids) - len(rejected), rejected=rejected, late_count=self.late_count
        )

    def GetSignals(self, request, context):
        self._arrive("GetSignals", request, context)
        columns = [
            signals_pb2.SignalColumn(signal="price", floats=signals_pb2.FloatValues(values=[2.5])),
            signals_pb2.SignalColumn(signal="brand", clear_rows=[0]),
            signals_pb2.SignalColumn(signal="released", timestamps=signals_pb2.TimestampValues(unix_millis=[1000])),
        ]
        return signals_pb2.GetSignalsResponse(
            ids=request.ids[:1], missing_ids=request.ids[1:], columns=columns, written_unix_millis=[86_400_000]
        )

    def DeleteSignals(self, request, context):
        self._arrive("DeleteSignals", request, context)
        return signals_pb2.DeleteSignalsResponse(deleted_count=len(request.ids))

    def StreamSignals(self, requests, context):
        self.stream_count += 1
        for answered, request in enumerate(requests):
            if request.batch.write_id not in self.applied:
                self.applied.append(request.batch.write_id)
                self.calls.append(("StreamSignals", request))
            if self.drops and answered >= self.drops[0]:
                self.drops.pop(0)
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            written = signals_pb2.WriteSignalsResponse(written_count=len(request.batch.ids), late_count=1)
            yield signals_pb2.StreamSignalsResponse(cursor=request.cursor, response=written)

    def ScanSignals(self, request, context):
        self._arrive("ScanSignals", request, context)
        start = int(request.cursor or 0)
        for page in range(start, self.scan_pages):
            if self.drops and page - start >= self.drops[0]:
                self.drops.pop(0)
                context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            column = signals_pb2.SignalColumn(
                signal="price", rows=[0], clear_rows=[1], floats=signals_pb2.FloatValues(values=[page])
            )
            rows = signals_pb2.GetSignalsResponse(
                ids=[f"{page}-a", f"{page}-b"], columns=[column], written_unix_millis=[1_000 * page, 0]
            )
            cursor = "" if page == self.scan_pages - 1 else str(page + 1)
            yield signals_pb2.ScanSignalsResponse(rows=rows, cursor=cursor)

    def ForgetUser(self, request, context):
        self._arrive("ForgetUser", request, context)
        return signals_pb2.ForgetUserResponse(deleted_counts={"user": 1, "user_category": 7})

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def requests(self, method: str) -> list:
        return [request for name, request in self.calls if name == method]


class FakeHealth(health_pb2_grpc.HealthServicer):
    """Watch only, as on rankd's serving port. (The servicer of grpcio-health-checking can deadlock in `set`
    when a watcher leaves at that moment.)"""

    def __init__(self) -> None:
        self.status: int | None = health_pb2.HealthCheckResponse.SERVING
        self.changed = threading.Condition()

    def set(self, status: int | None) -> None:
        """None ends all watches."""
        with self.changed:
            self.status = status
            self.changed.notify_all()

    def Watch(self, request, context):
        told = None
        while context.is_active() and self.status is not None:
            if self.status != told:
                told = self.status
                yield health_pb2.HealthCheckResponse(status=told)
            with self.changed:
                self.changed.wait_for(lambda told=told: self.status != told, 0.2)


@contextmanager
def running(fake: FakeRankd, *, with_health: bool = True, port: int = 0):
    """Serves `fake` on a port of loopback, by default a free one; sets its `port` and `health`."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    ranking_pb2_grpc.add_RankingServiceServicer_to_server(fake, server)
    signals_pb2_grpc.add_SignalServiceServicer_to_server(fake, server)
    if with_health:
        fake.health = FakeHealth()
        health_pb2_grpc.add_HealthServicer_to_server(fake.health, server)
    fake.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield fake
    finally:
        if with_health:
            fake.health.set(None)
        server.stop(0).wait(5)
