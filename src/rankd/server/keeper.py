"""The keeper: the one writer of signals, and the one who answers health checks for the whole service. Run by
the supervisor."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rankd.server.health import Health, HealthPort
from rankd.server.metrics import MetricsPort, SignalMetrics
from rankd.server.role import Control, run_role
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import Start
from rankd.signals.embedded import EmbeddedStore, OnProgress, open_embedded
from rankd.signals.keeper import SignalKeeper
from rankd.workspace import Workspace

logger = logging.getLogger("rankd.server")

PROGRESS_S: Final = 2.0
"""How often a long load says how far it is."""

ORPHAN_LOOK_S: Final = 0.1
ORPHAN_SLACK_S: Final = 5.0
"""Without a supervisor, the keeper gives workers so much longer than their settings say."""


async def serve(workspace: Workspace, start: Start, control: Control) -> None:
    """Listens, opens the store, serves, and closes it when it is told to."""
    settings = workspace.settings.server
    health = Health()
    port = HealthPort(settings, health, shared_port=start.health_port)
    # Probes are answered, with NOT_SERVING, while signals are loaded.
    await port.start()
    control.on_serving = health.set_serving
    try:
        store = await control.unless_draining(_open(workspace))
        if store is None:
            return
        try:
            await _keep(store, workspace, start, control)
        finally:
            await store.close()
    finally:
        health.close()
        await port.stop()


async def _open(workspace: Workspace) -> EmbeddedStore:
    limits = workspace.settings.server.limits
    return await open_embedded(
        workspace.schema,
        workspace.data_dir,
        limits.max_rows_per_entity,
        max_bytes_per_entity=limits.max_bytes_per_entity,
        on_progress=progress_log(),
    )


async def _keep(store: EmbeddedStore, workspace: Workspace, start: Start, control: Control) -> None:
    """Takes writes until it is told to end or, if the supervisor is gone, until no worker is left."""
    keeper = SignalKeeper(store, Path(start.keeper_socket))
    await keeper.start()
    settings = workspace.settings
    control.on_rejected = keeper.counts.add_rejected
    metrics = SignalMetrics(store, keeper.counts.totals, data_dir=workspace.data_dir)
    port = MetricsPort(settings.server, metrics)
    try:
        await port.start()
        control.report = lambda: {"rows": dict(store.row_counts())}
        control.ready()
        await control.draining.wait()
        patience_s = settings.server.drain_seconds + settings.server.shutdown_grace_seconds + ORPHAN_SLACK_S
        give_up_s = time.monotonic() + patience_s + settings.tracing.shutdown_flush_ms / 1e3
        while control.orphaned and keeper.client_count and time.monotonic() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(ORPHAN_LOOK_S)
    finally:
        await port.stop()
        await keeper.close()


def progress_log(clock: Callable[[], float] = time.monotonic) -> OnProgress:
    """Says how far a load of signals is, every PROGRESS_S; a short one says nothing."""
    told_s = clock()

    def report(done: int, total: int) -> None:
        nonlocal told_s
        if clock() - told_s >= PROGRESS_S and done < total:
            told_s = clock()
            logger.info("loading signals: %s of %s rows (%d %%)", f"{done:,}", f"{total:,}", 100 * done // total)

    return report


if __name__ == "__main__":
    sys.exit(run_role(Role.KEEPER, serve))
