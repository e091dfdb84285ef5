"""The keeper: answers health checks for the whole service. Run by the supervisor."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from rankd.server.health import Health, HealthPort
from rankd.server.role import Control, run_role
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import Start
from rankd.signals.embedded import OnProgress
from rankd.workspace import Workspace

logger = logging.getLogger("rankd.server")

PROGRESS_S: Final = 2.0
"""How often a long load says how far it is."""


async def serve(workspace: Workspace, start: Start, control: Control) -> None:
    """Listens, opens the store, serves, and closes it when it is told to."""
    settings = workspace.settings.server
    health = Health()
    port = HealthPort(settings, health, shared_port=start.health_port)
    await port.start()
    control.on_serving = health.set_serving
    try:
        control.ready()
        await control.draining.wait()
    finally:
        health.close()
        await port.stop()


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
