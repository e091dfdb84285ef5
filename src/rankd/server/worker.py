"""A worker: answers calls on the port that all workers share. Run by the supervisor."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from pathlib import Path

from rankd import __version__
from rankd.server.configuration import Configuration, load_configuration
from rankd.server.reload import Reloader
from rankd.server.role import Control, run_role
from rankd.server.server import Server
from rankd.server.stores import open_worker_store, replica_status
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import Message, Start
from rankd.signals.store import SignalStore
from rankd.telemetry import logs
from rankd.telemetry.tracing import Tracer, start_tracing
from rankd.workspace import TracingSettings, Workspace


async def serve(workspace: Workspace, start: Start, control: Control) -> None:
    """Loads, serves, drains."""
    loaded = await control.unless_draining(_load(workspace, start, control))
    if loaded is None:
        return
    store, configuration = loaded
    settings = workspace.settings
    server = Server(
        settings, tracer_for(settings.tracing), shared_port=start.port, cpus=start.cpus, replica=replica_status(store)
    )
    try:
        await server.start(configuration.plans, store)
    except BaseException:
        server.hurry()
        await server.stop()
        raise

    def swap(to: Configuration) -> None:
        server.replace(to)
        log = to.workspace.settings.server.log
        logs.configure(log.format, log.level, process=control.name)

    reloader = Reloader(configuration, store.categories, swap)

    told_rejected: Counter[str] = Counter()

    def report() -> Message:
        state = reloader.state()
        rejected = Counter(server.rejected_counts()) - told_rejected
        told_rejected.update(rejected)
        return {
            "in_flight": server.in_flight,
            "calls": server.call_count,
            "rows": dict(server.row_counts()),
            "rejected": dict(rejected),
            "versions": state["versions"],
            "reload": state["last"],
            "drain_s": server.drain_limit_s,
        }

    control.report = report
    reloader.start()
    control.on_reload(reloader.request)
    # What was loaded stays: a full collection need not go over it while calls wait.
    gc.collect()
    gc.freeze()
    control.ready()
    await control.draining.wait()
    await reloader.close()
    hurrying = asyncio.ensure_future(_hurry(control, server))
    await server.drain(announce=control.announce)
    hurrying.cancel()


async def _load(workspace: Workspace, start: Start, control: Control) -> tuple[SignalStore, Configuration]:
    await control.keeper_ready.wait()
    store = await open_worker_store(workspace, Path(start.keeper_socket), control.ask_for_replacement)
    try:
        # Reading and checking a large forest takes a while; heartbeats go on.
        return store, await asyncio.to_thread(load_configuration, workspace, store.categories)
    except BaseException:
        await store.close()
        raise


async def _hurry(control: Control, server: Server) -> None:
    await control.hurrying.wait()
    server.hurry()


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


if __name__ == "__main__":
    sys.exit(run_role(Role.WORKER, serve))
