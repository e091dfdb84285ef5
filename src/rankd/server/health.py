"""grpc.health.v1: the same statuses on the health port and, as Watch only, on the serving port.

Our own few lines instead of grpcio-health-checking's servicer, because its Watch never ends:
a server that waits for its calls to finish would wait for every watching client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2

from rankd.server.listen import bind, bound_target, new_server
from rankd.v1 import feedback_pb2, ranking_pb2, signals_pb2
from rankd.workspace import ServerSettings

SERVICE: Final = "grpc.health.v1.Health"
RANKING: Final = ranking_pb2.DESCRIPTOR.services_by_name["RankingService"].full_name
FEEDBACK: Final = feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name
SIGNALS: Final = signals_pb2.DESCRIPTOR.services_by_name["SignalService"].full_name


class Health:
    """Statuses by service name; NOT_SERVING until `set_serving(True)`. Belongs to one event loop."""

    def __init__(self) -> None:
        self._services = frozenset({"", FEEDBACK, RANKING, SIGNALS})
        self._serving = False
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    def set_serving(self, serving: bool) -> None:
        """All services at once: they share one process and one store."""
        self._serving = serving
        self._wake()

    def close(self) -> None:
        """Ends all watches."""
        self._serving, self._closed = False, True
        self._wake()

    def _wake(self) -> None:
        # Every watcher waits on the event of the state it has told; a new state gets a new event.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> int:
        codes = health_pb2.HealthCheckResponse
        if service not in self._services:
            return int(codes.SERVICE_UNKNOWN)
        return int(codes.SERVING if self._serving else codes.NOT_SERVING)

    async def check(self, request: Any, context: Any) -> Any:
        """Check: NOT_FOUND for a service there is not."""
        if request.service not in self._services:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("no such service")
            return health_pb2.HealthCheckResponse()
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Watch: the status now, and every change."""
        told = None
        while not self._closed:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()

    def handlers(self, watch_only: bool) -> grpc.GenericRpcHandler[Any, Any]:
        """For a server. `watch_only`: what client-side health checking needs on the serving port."""
        codec = {
            "request_deserializer": health_pb2.HealthCheckRequest.FromString,
            "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
        }
        methods = {"Watch": grpc.unary_stream_rpc_method_handler(self.watch, **codec)}
        if not watch_only:
            methods["Check"] = grpc.unary_unary_rpc_method_handler(self.check, **codec)
        return grpc.method_handlers_generic_handler(SERVICE, methods)


class HealthPort:
    """Where probes ask, apart from where calls come in; with reflection if it is wanted."""

    def __init__(self, settings: ServerSettings, health: Health, *, shared_port: int = 0) -> None:
        self._settings = settings
        self._health = health
        self._shared_port = shared_port
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """For a client; with the port that was bound."""
        return bound_target(self._settings.health_listen_address, self.port)

    async def start(self) -> None:
        """Listens. ConfigError if the port cannot be had."""
        server = new_server(self._settings, [self._health.handlers(watch_only=False)], self._shared_port)
        if self._settings.reflection:
            _add_reflection(server)
        self.port = bind(server, self._settings.health_listen_address, "server.health_listen", self._shared_port)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Stops at once."""
        if self._server is not None:
            await self._server.stop(None)


def _add_reflection(server: grpc.aio.Server) -> None:
    # Imported where it is wanted: every process that has it takes memory for it.
    from grpc_reflection.v1alpha import reflection

    reflection.enable_server_reflection((FEEDBACK, RANKING, SIGNALS, SERVICE, reflection.SERVICE_NAME), server)
