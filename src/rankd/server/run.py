"""`rankd serve`: a workspace to a serving process, and a signal to its orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Final

from rankd import __version__
from rankd.errors import ConfigError
from rankd.server.configuration import Configuration, load_configuration
from rankd.server.reload import Reloader
from rankd.server.server import Server
from rankd.signals.embedded import OnProgress, open_embedded
from rankd.telemetry import logs
from rankd.telemetry.tracing import Tracer, start_tracing
from rankd.workspace import TracingSettings, Workspace

logger = logging.getLogger("rankd.server")

PROGRESS_S: Final = 2.0
"""How often a long load says how far it is."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_server(workspace: Workspace) -> int:
    """Serves until SIGTERM or SIGINT, then drains; a second signal hurries it. Returns the exit status: 0.

    Raises ConfigError (a profile, model or address cannot be served) or StoreError (the data
    directory cannot be used) before anything was served.
    """
    settings = workspace.settings.server
    logs.configure(settings.log.format, settings.log.level)
    with asyncio.Runner(loop_factory=loop_factory(settings.event_loop)) as runner:
        runner.run(serve(workspace))
    return 0


def loop_factory(event_loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's if asked for or, with "auto", if it is installed; None: asyncio's own."""
    if event_loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if event_loop == "uvloop":
            raise ConfigError("uvloop is not installed", "server.event_loop") from None
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def serve(workspace: Workspace) -> None:
    """Starts, waits for a signal, drains."""
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    early = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, early.set)  # by default it would end a process that is still loading
    server, reloader = await start_server(workspace)
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            server.hurry()
        stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reloader.request)
    reloader.start()
    if early.is_set():
        reloader.request()
    logger.info(_greeting(server, workspace, time.perf_counter() - started))
    await stopping.wait()
    await reloader.close()
    await server.drain()
    for number in (*_SIGNALS, signal.SIGHUP):
        loop.remove_signal_handler(number)


async def start_server(workspace: Workspace) -> tuple[Server, Reloader]:
    """A serving server, and what reloads it. Health answers NOT_SERVING while models and signals are loaded."""
    server = Server(workspace.settings, tracer_for(workspace.settings.tracing))
    await server.start_health()
    try:
        limits = workspace.settings.server.limits
        store = await open_embedded(
            workspace.schema, workspace.data_dir, limits.max_rows_per_entity, on_progress=progress_log()
        )
        try:
            # Reading and checking a large forest takes a while; health keeps answering.
            configuration = await asyncio.to_thread(load_configuration, workspace, store.categories)
            await server.start(configuration.plans, store)
        except BaseException:
            await store.close()
            raise
    except BaseException:
        server.hurry()
        await server.stop()
        raise

    def swap(to: Configuration) -> None:
        server.replace(to)
        logs.configure(to.workspace.settings.server.log.format, to.workspace.settings.server.log.level)

    return server, Reloader(configuration, store.categories, swap)


def progress_log(clock: Callable[[], float] = time.monotonic) -> OnProgress:
    """Says how far a load of signals is, every PROGRESS_S; a short one says nothing."""
    told_s = clock()

    def report(done: int, total: int) -> None:
        nonlocal told_s
        if clock() - told_s >= PROGRESS_S and done < total:
            told_s = clock()
            logger.info("loading signals: %s of %s rows (%d %%)", f"{done:,}", f"{total:,}", 100 * done // total)

    return report


def tracer_for(settings: TracingSettings) -> Tracer | None:
    """None unless an endpoint is set: tracing is off."""
    if settings.otlp_endpoint is None:
        return None
    return start_tracing(
        settings.otlp_endpoint,
        service_name=settings.service_name,
        service_version=__version__,
        sample_ratio=settings.sample_ratio,
        export_timeout_s=settings.export_timeout_ms / 1e3,
    )


def _greeting(server: Server, workspace: Workspace, seconds: float) -> str:
    profiles = ", ".join(f"{p.name}@{p.version}" for p in workspace.profiles.values()) or "none"
    rows = ", ".join(f"{count:,} {name}" for name, count in server.row_counts().items() if count) or "none"
    return (
        f"rankd {__version__} serving on {server.address}, health on {server.health_address}; "
        f"profiles: {profiles}; rows: {rows}; ready in {seconds:.2f} s"
    )
