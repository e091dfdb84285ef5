"""`rankd serve`: reserves the ports, runs the supervisor, says when it serves."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from rankd import __version__
from rankd.errors import ConfigError
from rankd.server.supervisor.control import Start
from rankd.server.supervisor.cpus import granted_cpus
from rankd.server.supervisor.ports import Reservation
from rankd.server.supervisor.runtime import NOTE_NAME, RuntimeDirectory, note_of, wait_for_orphans
from rankd.server.supervisor.status_socket import StatusSocket
from rankd.server.supervisor.supervisor import Service, Supervisor
from rankd.telemetry import logs
from rankd.workspace import Address, Override, ServerSettings, Workspace

logger = logging.getLogger("rankd.supervisor")

ORPHAN_PATIENCE_S: Final = 60.0
"""How long a start waits for what a killed supervisor has left; then it fails by what is in use."""


def run_service(workspace: Workspace, overrides: Sequence[Override] = ()) -> int:
    """Serves until SIGTERM or SIGINT, then drains; a second signal hurries it. Returns the exit status: 0.

    `overrides` are the settings of the command line, with which children read the workspace again.
    Raises ConfigError (a profile, model or address cannot be served) or StoreError (the data
    directory cannot be used) before anything was served.
    """
    settings = workspace.settings.server
    logs.configure(settings.log.format, settings.log.level)
    workers = worker_count(settings)
    wait_for_orphans(
        note_of(workspace.path),
        ORPHAN_PATIENCE_S,
        lambda: logger.warning("waiting for the processes of a service that was killed"),
    )
    with ExitStack() as stack:
        ports = [
            stack.enter_context(Reservation(address, setting))
            for address, setting in (
                (settings.listen_address, "server.listen"),
                (settings.health_listen_address, "server.health_listen"),
            )
        ]
        directory = stack.enter_context(RuntimeDirectory())
        running = _Running(workspace, overrides, workers, ports[0].address, ports[1].address, directory)
        asyncio.run(running.run())
    return 0


def worker_count(settings: ServerSettings) -> int:
    """How many workers to run. ConfigError if so many cannot share the address."""
    if settings.listen_address.socket_path:
        if (settings.workers or 1) > 1:
            raise ConfigError(
                f"expected 1, as a Unix socket (server.listen) cannot be shared, got {settings.workers}",
                "server.workers",
            )
        return 1
    return settings.workers or granted_cpus()


@dataclass(frozen=True)
class _Running:
    workspace: Workspace
    overrides: Sequence[Override]
    workers: int
    address: Address
    health_address: Address
    directory: RuntimeDirectory

    async def run(self) -> None:
        settings = self.workspace.settings.server
        flush_s = self.workspace.settings.tracing.shutdown_flush_ms / 1e3
        limit_mb = settings.worker_max_rss_mb
        service = Service(
            workers=self.workers,
            workspace=str(self.workspace.path),
            start=self._start,
            drain_s=settings.drain_seconds + settings.shutdown_grace_seconds + flush_s,
            max_own_bytes=None if limit_mb is None else limit_mb * 2**20,
        )
        supervisor = Supervisor(service, self._serves)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
        status = StatusSocket(self.directory.status_socket, lambda: self._status(supervisor))
        await status.start()
        self._leave_notes(first=True)
        try:
            await supervisor.run()
        finally:
            await status.close()
        logger.info("stopped")

    def _start(self, index: int) -> Start:
        return Start(
            workspace=str(self.workspace.path),
            overrides=self.overrides,
            index=index,
            port=self.address.port,
            health_port=self.health_address.port,
            keeper_socket=str(self.directory.keeper_socket),
            cpus=max(1, granted_cpus() // self.workers),
        )

    def _status(self, supervisor: Supervisor) -> dict[str, Any]:
        return {
            "address": self.address.target,
            "health_address": self.health_address.target,
            **supervisor.status(),
        }

    def _leave_notes(self, first: bool) -> None:
        """For `rankd status`: by the workspace from the start, in the data directory once the keeper has it."""
        data_dir = self.workspace.data_dir
        file = note_of(self.workspace.path) if first else None if data_dir is None else data_dir / NOTE_NAME
        if file is None:
            return
        try:
            self.directory.leave_note(file)
        except OSError as error:
            logger.warning("%s cannot be written: %s", file, error.strerror)

    def _serves(self, supervisor: Supervisor) -> None:
        self._leave_notes(first=False)
        profiles = ", ".join(f"{p.name}@{p.version}" for p in self.workspace.profiles.values()) or "none"
        counts: dict[str, int] = {}
        for report in supervisor.ready_reports:
            counts.update(report.get("rows") or {})
        rows = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
        took_s = supervisor.status()["uptime_s"]
        logger.info(
            "rankd %s serving on %s, health on %s; profiles: %s; rows: %s; %d %s; ready in %.2f s",
            __version__, self.address.target, self.health_address.target, profiles, rows,
            self.workers, "worker" if self.workers == 1 else "workers", took_s,
        )  # fmt: skip
