"""A server: two ports, two services, health, and an end that loses no call.

    server = Server(settings)
    await server.start_health()         # NOT_SERVING while things load
    await server.start(plans, store)    # SERVING
    await server.drain()                # NOT_SERVING, serve on, finish, stop, close the store

Everything here belongs to the event loop it was made on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from rankd.errors import ConfigError
from rankd.ranking.plan import Plan
from rankd.server.configuration import Configuration
from rankd.server.gate import RANKING_METHODS, Gate, Priority
from rankd.server.health import SERVICE as HEALTH
from rankd.server.health import Health
from rankd.server.ranking_service import RankingService
from rankd.server.rpc import Dispatcher, ServiceHandlers
from rankd.server.signal_service import SignalService
from rankd.signals.store import SignalStore
from rankd.telemetry import names
from rankd.telemetry.tracing import Tracer
from rankd.v1 import ranking_pb2, signals_pb2
from rankd.workspace import Address, ServerSettings, Settings

logger = logging.getLogger("rankd.server")

RANKING: Final = ranking_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name
SIGNALS: Final = signals_pb2.DESCRIPTOR.services_by_name["SignalService"].full_name

LOOK_S: Final = 0.01
"""How often a drain looks whether calls are still in flight."""

STOP_GRACE_S: Final = 0.5
"""For calls that arrive between the last look at the calls in flight and the stop."""


class Server:
    """See the module's docstring."""

    def __init__(self, settings: Settings, tracer: Tracer | None = None) -> None:
        self._settings = settings.server
        self._tracer = tracer
        self._flush_s = settings.tracing.shutdown_flush_ms / 1e3
        self._dispatcher = Dispatcher(tracer, settings.server.default_deadline_ms)
        self._health = Health([RANKING, SIGNALS])
        self._health_server: grpc.aio.Server | None = None
        self._server: grpc.aio.Server | None = None
        self._gate: Gate | None = None
        self._ranking: RankingService | None = None
        self._store: SignalStore | None = None
        self._hurry = asyncio.Event()
        self.port = 0
        self.health_port = 0

    @property
    def address(self) -> str:
        """Where the services listen, for a client; with the port that was bound."""
        return _bound(self._settings.listen_address, self.port)

    @property
    def health_address(self) -> str:
        """Where health (and reflection) listens."""
        return _bound(self._settings.health_listen_address, self.health_port)

    @property
    def in_flight(self) -> int:
        """Calls being worked on; those, too, that nobody waits for any more but whose thread still runs."""
        return self._dispatcher.in_flight + (self._gate.pool.abandoned if self._gate is not None else 0)

    def row_counts(self) -> Mapping[str, int]:
        """Rows per entity of the store being served."""
        return self._store.row_counts() if self._store is not None else {}

    async def start_health(self) -> None:
        """Listens for health checks, which say NOT_SERVING. ConfigError if the port cannot be had."""
        server = _new_server(self._settings, [self._health.handlers(watch_only=False)])
        if self._settings.reflection:
            reflection.enable_server_reflection((RANKING, SIGNALS, HEALTH, reflection.SERVICE_NAME), server)
        self.health_port = _bind(server, self._settings.health_listen_address, "server.health_listen")
        await server.start()
        self._health_server = server

    async def start(self, plans: Mapping[str, Plan], store: SignalStore) -> None:
        """Serves. The store is closed by `drain` or `stop`. ConfigError if the port cannot be had."""
        limits = self._settings.limits
        self._store = store
        self._gate = Gate(self._settings.admission, RANKING_METHODS, len(os.sched_getaffinity(0)))
        self._ranking = RankingService(plans, store, limits, self._dispatcher, self._gate)
        handlers = _handlers(self._dispatcher, self._ranking, SignalService(store, limits), self._gate)
        server = _new_server(self._settings, [*handlers, self._health.handlers(watch_only=True)])
        self.port = _bind(server, self._settings.listen_address, "server.listen")
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
        if self._ranking is not None:
            self._ranking.replace(configuration.plans)

    def hurry(self) -> None:
        """Makes a drain that waits, or begins later, not wait any longer."""
        self._hurry.set()

    async def drain(self) -> None:
        """NOT_SERVING, so that clients move away; serves on for drain_seconds; lets calls finish; stops."""
        self._health.set_serving(False)
        logger.info("draining: health says NOT_SERVING; %d calls in flight", self.in_flight)
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
        if self._health_server is not None:
            await self._health_server.stop(None)
        if self._gate is not None:
            self._gate.close()
        if self._store is not None:
            await self._store.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close, self._flush_s)
        logger.info("stopped%s", f"; {cut_off} calls were cut off" if cut_off else "")


def _bound(address: Address, port: int) -> str:
    return address.target if address.socket_path else replace(address, port=port).target


def _handlers(
    dispatcher: Dispatcher, ranking: RankingService, signals: SignalService, gate: Gate
) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """The two services as generic handlers: bytes in, bytes out."""
    ranked: list[tuple[str, Any, Any]] = [
        ("Rank", ranking_pb2.RankRequest, ranking.rank),
        ("BatchRank", ranking_pb2.BatchRankRequest, ranking.batch_rank),
        ("Score", ranking_pb2.ScoreRequest, ranking.score),
    ]
    written: list[tuple[str, Any, Any]] = [
        ("WriteSignals", signals_pb2.WriteSignalsRequest, signals.write_signals),
        ("GetSignals", signals_pb2.GetSignalsRequest, signals.get_signals),
        ("DeleteSignals", signals_pb2.DeleteSignalsRequest, signals.delete_signals),
        ("DescribeSchema", signals_pb2.DescribeSchemaRequest, signals.describe_schema),
    ]
    return [
        ServiceHandlers(
            RANKING,
            {
                name: {
                    priority: dispatcher.handler(
                        f"{RANKING}/{name}", kind, run, gate, number, priority is Priority.LIVE
                    )
                    for priority in Priority
                }
                for number, (name, kind, run) in enumerate(ranked)
            },
        ),
        ServiceHandlers(
            SIGNALS,
            {name: {Priority.LIVE: dispatcher.handler(f"{SIGNALS}/{name}", kind, run)} for name, kind, run in written},
        ),
    ]


def _new_server(settings: ServerSettings, handlers: list[grpc.GenericRpcHandler[Any, Any]]) -> grpc.aio.Server:
    # Never maximum_concurrent_rpcs: it would refuse health checks, too.
    return grpc.aio.server(
        handlers=handlers,
        options=[
            # On by default: two servers would share a port without a word.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.limits.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            # gRPC's defaults, 1,000 and 3,000, let calls wait until they are worthless.
            ("grpc.server.max_pending_requests", settings.admission.max_pending_calls),
            ("grpc.server.max_pending_requests_hard_limit", 2 * settings.admission.max_pending_calls),
        ],
    )


def _bind(server: grpc.aio.Server, address: Address, setting: str) -> int:
    """The port bound. ConfigError that says why not: gRPC itself only says that it failed."""
    _probe(address, setting)
    try:
        return server.add_insecure_port(address.target)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address.target}", setting) from error


def _probe(address: Address, setting: str) -> None:
    """Binds and lets go, to learn the reason if it fails."""
    if address.socket_path or not address.port:
        return
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else os.strerror(error.errno or 0)
            raise ConfigError(f"address {address.target} {reason}", setting) from None
