"""The keeper: the one writer of signals, and the one who answers health checks for the whole service. Run by
the supervisor."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rankd.server.health import Health, HealthPort
from rankd.server.metrics import MetricsPort, SignalMetrics
from rankd.server.role import Control, run_role
from rankd.server.signal_service import ReplicaStatus
from rankd.server.stores import open_keeper_store, replica_status
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import Message, Start
from rankd.signals.embedded import EmbeddedStore, OnProgress
from rankd.signals.keeper import SignalKeeper
from rankd.workspace import Workspace

if TYPE_CHECKING:
    from rankd.signals.redis.replicated import ReplicatedStore

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
        store = await control.unless_draining(open_keeper_store(workspace, progress_log()))
        if store is None:
            return
        try:
            await _keep(store, workspace, start, control)
        finally:
            await store.close()
    finally:
        health.close()
        await port.stop()


async def _keep(store: EmbeddedStore | ReplicatedStore, workspace: Workspace, start: Start, control: Control) -> None:
    """Takes writes until it is told to end or, if the supervisor is gone, until no worker is left."""
    keeper = SignalKeeper(store, Path(start.keeper_socket))
    await keeper.start()
    settings = workspace.settings
    control.on_rejected = keeper.counts.add_rejected
    replica = replica_status(store)
    metrics = SignalMetrics(store, keeper.counts.totals, replica, workspace.data_dir)
    port = MetricsPort(settings.server, metrics)
    try:
        await port.start()
        control.report = lambda: _report(store, replica)
        control.ready()
        await control.draining.wait()
        patience_s = settings.server.drain_seconds + settings.server.shutdown_grace_seconds + ORPHAN_SLACK_S
        give_up_s = time.monotonic() + patience_s + settings.tracing.shutdown_flush_ms / 1e3
        while control.orphaned and keeper.client_count and time.monotonic() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(ORPHAN_LOOK_S)
    finally:
        await port.stop()
        await keeper.close()


def _report(store: EmbeddedStore | ReplicatedStore, replica: ReplicaStatus | None) -> Message:
    report: Message = {"rows": dict(store.row_counts())}
    if replica is not None and (state := replica()) is not None:
        report["replica"] = {"in_step": state.in_step, "lag_s": None if math.isinf(state.lag_s) else state.lag_s}
    return report


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
