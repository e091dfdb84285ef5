"""A server: two ports, the services, health, and an end that loses no call.

    server = Server(settings)
    await server.start_health()         # NOT_SERVING while things load
    await server.start(plans, store)    # SERVING
    await server.drain()                # NOT_SERVING, serve on, finish, stop, close the store

Everything here belongs to the event loop it was made on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import grpc

from rankd.ranking.plan import Plan
from rankd.ranking.ranker import Ranker
from rankd.server.configuration import Configuration
from rankd.server.feedback_service import FeedbackService
from rankd.server.gate import RANKING_METHODS, Gate, Priority
from rankd.server.health import FEEDBACK, RANKING, SIGNALS, Health, HealthPort
from rankd.server.listen import bind, bound_target, new_server
from rankd.server.metrics import MetricsPort, SignalMetrics
from rankd.server.ranking_service import RankingService
from rankd.server.rpc import Dispatcher, ServiceHandlers
from rankd.server.signal_service import ReplicaStatus, SignalService
from rankd.server.signal_streams import SignalStreams
from rankd.signals.store import SignalStore
from rankd.telemetry import names
from rankd.telemetry.tracing import Tracer
from rankd.v1 import feedback_pb2, signals_pb2
from rankd.workspace import Settings

logger = logging.getLogger("rankd.server")

LOOK_S: Final = 0.01
"""How often a drain looks whether calls are still in flight."""

STOP_GRACE_S: Final = 0.5
"""For calls that arrive between the last look at the calls in flight and the stop."""


class Server:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        tracer: Tracer | None = None,
        *,
        shared_port: int = 0,
        cpus: int | None = None,
        replica: ReplicaStatus | None = None,
        with_metrics: bool = False,
    ) -> None:
        """`shared_port`: the port to listen on together with others, for whom the supervisor holds it. `cpus`:
        how many may be used; None: all. `replica`: how the store follows a shared one. `with_metrics`: serve them,
        too, where that is set; of a service the keeper does."""
        self._replica = replica
        self._with_metrics = with_metrics
        self._metrics: MetricsPort | None = None
        self._signals: SignalService | None = None
        self._shared_port = shared_port
        self._cpus = cpus or len(os.sched_getaffinity(0))
        self._settings = settings.server
        self._tracer = tracer
        self._flush_s = settings.tracing.shutdown_flush_ms / 1e3
        self._dispatcher = Dispatcher(tracer, settings.server.default_deadline_ms)
        self._health = Health()
        self._health_port = HealthPort(settings.server, self._health)
        self._server: grpc.aio.Server | None = None
        self._gate: Gate | None = None
        self._ranking: RankingService | None = None
        self._store: SignalStore | None = None
        self._hurry = asyncio.Event()
        self.port = 0

    @property
    def address(self) -> str:
        """Where the services listen, for a client; with the port that was bound."""
        return bound_target(self._settings.listen_address, self.port)

    @property
    def health_address(self) -> str:
        """Where health (and reflection) listens."""
        return self._health_port.address

    @property
    def in_flight(self) -> int:
        """Calls being worked on; those, too, that nobody waits for any more but whose thread still runs."""
        return self._dispatcher.in_flight + (self._gate.pool.abandoned if self._gate is not None else 0)

    @property
    def health_port(self) -> int:
        """The port bound for health; 0: none."""
        return self._health_port.port

    @property
    def call_count(self) -> int:
        """Calls that came so far."""
        return self._dispatcher.call_count

    @property
    def drain_limit_s(self) -> float:
        """How long `drain` may take."""
        return self._settings.drain_seconds + self._settings.shutdown_grace_seconds + STOP_GRACE_S + self._flush_s

    def row_counts(self) -> Mapping[str, int]:
        """Rows per entity of the store being served."""
        return self._store.row_counts() if self._store is not None else {}

    @property
    def metrics_port(self) -> int:
        """The port bound for metrics; 0: none."""
        return self._metrics.port if self._metrics is not None else 0

    def rejected_counts(self) -> Mapping[str, int]:
        """Rows turned away so far, by entity."""
        totals = self._signals.counts.totals() if self._signals is not None else {}
        return {entity: counts["rejected"] for entity, counts in totals.items() if counts.get("rejected")}

    async def start_health(self) -> None:
        """Listens for health checks, which say NOT_SERVING. ConfigError if the port cannot be had."""
        await self._health_port.start()

    async def start(self, plans: Mapping[str, Plan], store: SignalStore) -> None:
        """Serves. The store is closed by `drain` or `stop`. ConfigError if the port cannot be had."""
        limits = self._settings.limits
        self._store = store
        self._gate = Gate(self._settings.admission, RANKING_METHODS, self._cpus)
        self._ranking = RankingService(Ranker(plans, store, limits), self._dispatcher, self._gate, store.fetch)
        self._signals = SignalService(store, limits, self._replica)
        if self._with_metrics:
            self._metrics = MetricsPort(
                self._settings, SignalMetrics(store, self._signals.counts.totals, self._replica)
            )
            await self._metrics.start()
        handlers = _handlers(self._dispatcher, self._ranking, self._signals, FeedbackService(store, limits))
        server = new_server(self._settings, [*handlers, self._health.handlers(watch_only=True)], self._shared_port)
        self.port = bind(server, self._settings.listen_address, "server.listen", self._shared_port)
        address = self._settings.listen_address
        self._dispatcher.root_attributes = {
            names.SERVER_ADDRESS: address.socket_path or address.host,
            **({} if address.socket_path else {names.SERVER_PORT: self.port}),
        }
        await server.start()
        self._server = server
        self._health.set_serving(True)

    def replace(self, configuration: Configuration) -> None:
        """Calls that begin from now on are answered by another configuration; those in flight end with theirs."""
        self._settings = configuration.workspace.settings.server
        self._dispatcher.set_default_deadline(self._settings.default_deadline_ms)
        if self._ranking is not None and self._store is not None:
            self._ranking.replace(Ranker(configuration.plans, self._store, self._settings.limits))

    def hurry(self) -> None:
        """Makes a drain that waits, or begins later, not wait any longer."""
        self._hurry.set()

    async def drain(self, announce: bool = True) -> None:
        """NOT_SERVING, so that clients move away; serves on for drain_seconds; lets calls finish; stops.

        Without `announce` health says nothing: others serve on the same port, and clients that connect
        again find them."""
        if announce:
            self._health.set_serving(False)
        logger.info("draining: %d calls in flight", self.in_flight)
        self._dispatcher.draining.set()
        await self._wait_hurry(self._settings.drain_seconds)
        # Not server.stop(grace): under load it cancels what is in flight within milliseconds (grpc #41785).
        patience = time.monotonic() + self._settings.shutdown_grace_seconds
        while self.in_flight and time.monotonic() < patience and not self._hurry.is_set():
            await self._wait_hurry(LOOK_S)
        await self.stop()

    async def _wait_hurry(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def stop(self) -> None:
        """Stops now: calls in flight are cancelled. Closes the store; flushes traces within their time."""
        cut_off = self.in_flight
        self._health.close()
        if self._server is not None:
            await self._server.stop(None if self._hurry.is_set() else STOP_GRACE_S)
        await self._health_port.stop()
        if self._gate is not None:
            self._gate.close()
        if self._metrics is not None:
            await self._metrics.stop()
        if self._store is not None:
            await self._store.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close, self._flush_s)
        logger.info("stopped%s", f"; {cut_off} calls were cut off" if cut_off else "")


def _handlers(
    dispatcher: Dispatcher, ranking: RankingService, signals: SignalService, feedback: FeedbackService
) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """The services as generic handlers: bytes in, bytes out."""
    written: list[tuple[str, Any, Any]] = [
        ("WriteSignals", signals_pb2.WriteSignalsRequest, signals.write_signals),
        ("GetSignals", signals_pb2.GetSignalsRequest, signals.get_signals),
        ("DeleteSignals", signals_pb2.DeleteSignalsRequest, signals.delete_signals),
        ("DescribeSchema", signals_pb2.DescribeSchemaRequest, signals.describe_schema),
        ("ForgetUser", signals_pb2.ForgetUserRequest, signals.forget_user),
    ]
    streams = SignalStreams(signals, dispatcher.draining)
    streaming = {
        "StreamSignals": grpc.stream_stream_rpc_method_handler(
            dispatcher.stream_handler(f"{SIGNALS}/StreamSignals", streams.stream_signals)
        ),
        "ScanSignals": grpc.unary_stream_rpc_method_handler(
            dispatcher.stream_handler(f"{SIGNALS}/ScanSignals", streams.scan_signals)
        ),
    }
    collect = dispatcher.handler(f"{FEEDBACK}/Collect", feedback_pb2.CollectRequest, feedback.collect)
    by_name = {name: {Priority.LIVE: dispatcher.handler(f"{SIGNALS}/{name}", kind, run)} for name, kind, run in written}
    return [
        ServiceHandlers(RANKING, ranking.handlers()),
        ServiceHandlers(SIGNALS, by_name, streaming),
        ServiceHandlers(FEEDBACK, {"Collect": {Priority.LIVE: collect}}),
    ]
