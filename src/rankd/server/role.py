"""What keeper and workers have in common: they are told what to do by their supervisor, say that they
live, and end when it asks them to, or is gone.

    async def serve(workspace, start, control): …
    sys.exit(run_role(Role.WORKER, serve))
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from rankd.errors import ConfigError, RankdError
from rankd.server.supervisor.child import Role
from rankd.server.supervisor.control import (
    BEAT_S,
    MAX_LINE_BYTES,
    Message,
    Start,
    decode,
    encode,
    failure_message,
)
from rankd.server.supervisor.runtime import join_service
from rankd.telemetry import logs
from rankd.workspace import Workspace, load_workspace

logger = logging.getLogger("rankd.server")

Result = TypeVar("Result")

FAILED: Final = 1
"""The exit status of a child that could not start; the supervisor knows why, and who started it learns that."""

_MAX_UNSENT_BYTES: Final = 256 * 1024
"""A supervisor that hears nothing is not told more."""


class Control:
    """A child's end of the channel. `name` is the process's, as in the log. `report` gives what each
    heartbeat carries; `on_serving` hears what health is to say, `on_rejected` how many
    rows of which entities workers turned away."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self._reader = reader
        self._writer = writer
        self.draining = asyncio.Event()
        self.hurrying = asyncio.Event()
        self.keeper_ready = asyncio.Event()
        self.announce = True
        """Whether clients are to learn by health that this process drains."""
        self.orphaned = False
        """Whether the supervisor is gone."""
        self.report: Callable[[], Message] = dict
        self._reload: Callable[[], None] | None = None
        self._reload_asked = False
        self.on_serving: Callable[[bool], None] = lambda _: None
        self.on_rejected: Callable[[dict[str, int]], None] = lambda _: None

    def say(self, what: str, **more: Any) -> None:
        """Tells the supervisor something."""
        self.send({"say": what, **more})

    def send(self, message: Message) -> None:
        """Like `say`, of a whole message."""
        if self._writer.transport.get_write_buffer_size() < _MAX_UNSENT_BYTES:
            self._writer.write(encode(message))

    def ready(self) -> None:
        """It serves from now on."""
        self.say("ready", **self.report())

    def ask_for_replacement(self) -> None:
        """Another process like this one is to take over, and this one to end then."""
        self.say("replace")

    def drain(self) -> None:
        """Begins the end; called again, hurries it."""
        if self.draining.is_set():
            self.hurrying.set()
        else:
            self.draining.set()
            self.say("draining")

    async def unless_draining(self, work: Coroutine[Any, Any, Result]) -> Result | None:
        """The work's result, or None, the work being cancelled, if the process is to end first."""
        task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(self.draining.wait())
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return None
        finally:
            waiting.cancel()

    async def beat(self) -> None:
        """Says that it lives, for ever."""
        while True:
            self.say("beat", **self.report())
            await asyncio.sleep(BEAT_S)

    async def hear(self) -> None:
        """Does what it is told, until the supervisor is gone."""
        with suppress(ConnectionError, ValueError):
            while line := await self._reader.readline():
                if (message := decode(line)) is not None:
                    self._heed(message)
        self.orphaned = True
        logger.warning("the supervisor is gone")
        if not self.draining.is_set():
            self.drain()

    def _heed(self, message: Message) -> None:
        match message.get("do"):
            case "drain":
                if not self.draining.is_set():
                    self.announce = bool(message.get("announce", True))
                    self.drain()
            case "hurry":
                self.draining.set()
                self.hurrying.set()
            case "serving":
                self.on_serving(bool(message.get("serving")))
            case "keeper":
                self.keeper_ready.set()
            case "rejected":
                self.on_rejected(message.get("rows") or {})
            case "reload":
                self.reload()

    def reload(self) -> None:
        """Has the workspace read again: now, or when it has been read for the first time."""
        if self._reload is not None:
            self._reload()
        self._reload_asked = self._reload is None

    def on_reload(self, request: Callable[[], None]) -> None:
        """From now on a reload calls this; one that was asked for earlier does so at once."""
        self._reload = request
        if self._reload_asked:
            request()

    async def close(self) -> None:
        """Sends what is still to be sent."""
        with suppress(ConnectionError, TimeoutError):
            await asyncio.wait_for(self._writer.drain(), 1.0)
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), 1.0)


Serve = Callable[[Workspace, Start, Control], Awaitable[None]]


def run_role(role: Role, serve: Serve) -> int:
    """Runs a child of the supervisor; its channel is the file descriptor that the command line names."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    line = b""
    while not line.endswith(b"\n"):
        piece = channel.recv(1)
        if not piece:
            return FAILED
        line += piece
    start = Start.from_message(decode(line) or {})
    join_service(Path(start.keeper_socket).parent)
    try:
        workspace = load_workspace(Path(start.workspace), os.environ, start.overrides)
        factory = loop_factory(workspace.settings.server.event_loop)
    except RankdError as error:
        channel.sendall(encode(failure_message(error)))
        return FAILED
    log = workspace.settings.server.log
    name = role if role is Role.KEEPER else f"{role} {start.index}"
    logs.configure(log.format, log.level, process=name)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_live(channel, workspace, start, serve, name))


async def _live(channel: socket.socket, workspace: Workspace, start: Start, serve: Serve, name: str) -> int:
    control = Control(name, *await asyncio.open_unix_connection(sock=channel, limit=MAX_LINE_BYTES))
    tasks = [asyncio.ensure_future(control.beat()), asyncio.ensure_future(control.hear())]

    def asked_by_signal() -> None:
        # Managers of processes signal all of a service's: the keeper must outlive the workers' last writes.
        if name != Role.KEEPER or control.orphaned:
            control.drain()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_by_signal)
    loop.add_signal_handler(signal.SIGHUP, control.reload)
    status = 0
    try:
        await serve(workspace, start, control)
    except Exception as error:
        message = failure_message(error)
        if message["kind"] == "fault":
            logger.exception("it failed")
        control.send(message)
        status = FAILED
    finally:
        for task in tasks:
            task.cancel()
        await control.close()
    if control.draining.is_set():
        # A thread that still reads a model would hold up the end; everything else has been closed.
        logging.shutdown()
        os._exit(status)
    return status


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
