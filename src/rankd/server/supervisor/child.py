"""A child process as its supervisor sees it: started by exec, heard over its channel, known by its pid."""

from __future__ import annotations

import asyncio
import enum
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from rankd.server.supervisor.control import MAX_LINE_BYTES, Message, decode, encode


class Role(enum.StrEnum):
    """What a process does."""

    KEEPER = "keeper"
    WORKER = "worker"


class State(enum.StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    BACKING_OFF = "backing off"


Command = Callable[[Role, int], Sequence[str]]
"""The command line of a child of a role that finds its channel at a file descriptor."""

_MODULES: Final = {Role.KEEPER: "rankd.server.keeper", Role.WORKER: "rankd.server.worker"}


def python_command(role: Role, descriptor: int) -> list[str]:
    """`python -P -m rankd.server.worker 5`. -P: the folder it is run in is no place to import from."""
    return [sys.executable, "-P", "-m", _MODULES[role], str(descriptor)]


def _environment() -> dict[str, str]:
    # The child imports what this process does, however that was found.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Child:
    """One process. Times are the supervisor's clock."""

    def __init__(self, role: Role, index: int, command: Command, now_s: float) -> None:
        """Starts it. OSError if it cannot be."""
        self.role = role
        self.index = index
        self.state = State.STARTING
        self.started_s = now_s
        self.heard_s = now_s
        self.exit_by: tuple[float, str] | None = None
        """When its time to exit is over, and what to say then; None: it need not exit."""
        self.kill_reason = ""
        self.wants_replacement = False
        self.beat: Message = {}
        self.failure: Message | None = None
        self.exit_status: int | None = None
        self.ended = asyncio.Event()
        ours, its = socket.socketpair()
        self._socket = ours
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: list[bytes] = []
        try:
            # A process group of its own: Ctrl-C in a terminal reaches the supervisor alone.
            self._process = subprocess.Popen(
                command(role, its.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                process_group=0,
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()

    @property
    def name(self) -> str:
        """For people: keeper, worker 2."""
        return self.role if self.role is Role.KEEPER else f"{self.role} {self.index}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, do: str, **more: Any) -> None:
        """Says something to it; a child that is gone does not hear it."""
        self.send({"do": do, **more})

    def send(self, message: Message) -> None:
        """Like `tell`, of a whole message."""
        line = encode(message)
        if self._writer is None:
            self._unsent.append(line)
        elif not self._writer.is_closing():
            self._writer.write(line)

    async def messages(self) -> AsyncIterator[Message]:
        """What it says, until it is gone. Lines that are no messages are left out."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=MAX_LINE_BYTES)
        for line in self._unsent:
            self._writer.write(line)
        self._unsent.clear()
        # ValueError: a line beyond all bounds; what follows it cannot be trusted.
        with suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                if (message := decode(line)) is not None:
                    yield message
        self._writer.close()

    def reap(self) -> bool:
        """Whether it has ended; then `ended` is set."""
        if self.exit_status is None and (status := self._process.poll()) is not None:
            self.exit_status = status
            self.ended.set()
        return self.exit_status is not None

    def signal(self, number: int) -> None:
        """Sends a signal; never to a process that took over its pid."""
        if self.exit_status is None:
            self._process.send_signal(number)

    @property
    def how_it_ended(self) -> str:
        """For people."""
        status = self.exit_status or 0
        if status >= 0:
            return f"ended with status {status}"
        return f"was killed by {signal.Signals(-status).name if -status in set(signal.Signals) else -status}"

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it (SIGSTOP)."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return text.rpartition(")")[2].split()[:1] == ["T"]


def memory_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process, and how much of it is its own (anonymous: tables that are mapped from
    files, and shared, do not count). Zeros for one that is gone."""
    resident = own = 0
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmRSS:"):
                resident = int(line.split()[1]) * 1024
            elif line.startswith("RssAnon:"):
                own = int(line.split()[1]) * 1024
    return resident, own
