"""The supervisor: starts the keeper and the workers, hears them, restarts them, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from rankd import __version__
from rankd.server.supervisor.child import Child, Command, Role, State, memory_bytes, python_command
from rankd.server.supervisor.control import Message, Start, failure_error
from rankd.server.supervisor.slot import Slot

logger = logging.getLogger("rankd.supervisor")

KEEPER_STOP_S: Final = 30.0
"""How long the keeper may take to write what it has accepted."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient the supervisor is, in seconds."""

    tick_s: float = 0.25
    """How often it looks."""
    stopped_s: float = 2.0
    """A child that a signal has stopped, and that has been silent for so long, is killed."""
    hung_s: float = 10.0
    """A child that serves, and has been silent for so long, is killed. Longer: a busy machine stops nobody."""
    start_s: float = 60.0
    """The same for a child that is starting: it imports, reads models, maps tables."""
    slack_s: float = 5.0
    """How much longer than its settings say a child may take to end."""
    recycle_age_s: float = 60.0
    """A worker is not recycled before it has served so long."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is to run: how many workers, what children are told, how long they may take to finish, and how
    much memory of its own (bytes; None: any) a worker may have."""

    workers: int
    workspace: str
    start: Callable[[int], Start]
    drain_s: float
    max_own_bytes: int | None = None


class Supervisor:
    """Belongs to one event loop; `run` does it all. `on_ready` is called once, when the service first serves."""

    def __init__(
        self,
        service: Service,
        on_ready: Callable[[Supervisor], None] = lambda _: None,
        *,
        command: Command = python_command,
        timing: Timing = Timing(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._on_ready = on_ready
        self._command = command
        self._timing = timing
        self._clock = clock
        self._keeper = Slot(Role.KEEPER, 0)
        self._workers = [Slot(Role.WORKER, index) for index in range(1, service.workers + 1)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._failure: Exception | None = None
        self._greeted = False
        self._stopping = False
        self._hurrying = False
        self._told_serving: bool | None = None
        self._looked_s = clock()
        self.started_s = clock()

    @property
    def _slots(self) -> list[Slot]:
        return [self._keeper, *self._workers]

    @property
    def ready_reports(self) -> Sequence[Message]:
        """What those who serve said last, the keeper's first."""
        return [slot.current.beat for slot in self._slots if slot.current is not None and slot.is_ready]

    async def run(self) -> None:
        """Serves until `stop`. Raises what kept the service from starting, if it never served."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        try:
            for slot in self._slots:
                self._fill(slot)
            looking = loop.create_task(self._look())
            await self._ended.wait()
            looking.cancel()
            await asyncio.gather(looking, *self._tasks, return_exceptions=True)
        finally:
            loop.remove_signal_handler(signal.SIGCHLD)
            for child in self._children():
                child.signal(signal.SIGKILL)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Health says NOT_SERVING, workers drain, the keeper ends last. Again: nobody waits any longer."""
        if self._stopping:
            self._hurrying = True
        else:
            self._stopping = True
            if self._greeted:
                in_flight = sum(report.get("in_flight") or 0 for report in self.ready_reports)
                logger.info("draining: health says NOT_SERVING; %d calls in flight", in_flight)
            self._tell_serving()
        for slot in self._workers:
            for child in slot.children:
                self._end(child)
        self._end_keeper_if_last()

    def reload(self) -> None:
        """Workers read the workspace again; each says in the log, and in its status, what came of it."""
        logger.info("reloading")
        for slot in self._workers:
            for child in (slot.current, slot.replacement):
                if child is not None:
                    child.tell("reload")

    def status(self) -> dict[str, Any]:
        """The document of `rankd status`."""
        now_s = self._clock()
        serving = bool(self._told_serving)
        resident, own = memory_bytes(os.getpid())
        return {
            "version": __version__,
            "pid": os.getpid(),
            "workspace": self._service.workspace,
            "state": (State.DRAINING if self._stopping else State.SERVING if serving else State.STARTING).value,
            "uptime_s": round(now_s - self.started_s, 3),
            "resident_bytes": resident,
            "own_bytes": own,
            "processes": [row for slot in self._slots for row in slot.report(now_s)],
        }

    # What children do.

    def _fill(self, slot: Slot, as_replacement: bool = False) -> None:
        """Starts a child in a place."""
        now_s = self._clock()
        try:
            child = Child(slot.role, slot.index, self._command, now_s)
        except OSError as error:
            logger.error("%s cannot be started: %s", slot.role, error)
            slot.last_end = str(error)
            slot.start_at_s = now_s + max(1.0, slot.breaker.died(0.0))
            return
        if as_replacement:
            slot.replacement = child
        else:
            slot.current = child
        child.send(self._service.start(slot.index).to_message())
        if self._keeper.is_ready:
            child.tell("keeper")
        task = asyncio.get_running_loop().create_task(self._attend(slot, child))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, slot: Slot, child: Child) -> None:
        async for message in child.messages():
            child.heard_s = self._clock()
            self._heard(slot, child, message)
        # It has closed its end. It exits, or hangs.
        self._give_until(child, self._timing.slack_s, "it closed its channel and did not exit")
        await child.ended.wait()
        self._gone(slot, child)

    def _heard(self, slot: Slot, child: Child, message: Message) -> None:
        match message.get("say"):
            case "beat":
                child.beat = message
                if message.get("rejected") and self._keeper.current is not None:
                    # The keeper has the metrics; it does not see what workers turn away.
                    self._keeper.current.tell("rejected", rows=message["rejected"])
            case "ready":
                child.beat = message
                self._is_ready(slot, child)
            case "draining":
                child.state = State.DRAINING
                self._give_until(child, self._drain_s(child), "it did not finish draining")
                self._tell_serving()
            case "replace":
                child.wants_replacement = True
            case "failed":
                child.failure = message
            case _:
                logger.warning("%s said something without a meaning", child.name)

    def _is_ready(self, slot: Slot, child: Child) -> None:
        if child.state is State.DRAINING or self._stopping:
            return
        child.state = State.SERVING
        took_s = self._clock() - child.started_s
        if self._greeted:
            logger.info("%s (pid %d) is ready after %.2f s", child.name, child.pid, took_s)
        if slot is self._keeper:
            self._told_serving = None
            for other in self._workers:
                for worker in other.children:
                    worker.tell("keeper")
        elif child is slot.replacement:
            slot.recycled += 1
            old = slot.promote()
            if old is not None:
                self._end(old, announce=False)
        self._tell_serving()
        self._greet()

    def _greet(self) -> None:
        """Once: the keeper serves, and every worker does or has had its try."""
        tried = all(slot.is_ready or slot.last_end for slot in self._workers)
        if not self._greeted and self._told_serving and tried:
            self._greeted = True
            self._on_ready(self)

    def _gone(self, slot: Slot, child: Child) -> None:
        """A child has ended: expected, for good, or to be replaced."""
        slot.drop(child)
        now_s = self._clock()
        self._tell_serving()
        drained = child.state is State.DRAINING and child.exit_status == 0
        if not (drained or self._stopping):
            self._died(slot, child, now_s)
            if self._failure is None and slot.is_due(now_s):
                self._fill(slot)
        elif slot.current is None and not self._stopping:
            logger.info("%s (pid %d) has drained; starting it again", child.name, child.pid)
            self._fill(slot)
        self._end_keeper_if_last()

    def _died(self, slot: Slot, child: Child, now_s: float) -> None:
        how = f"was killed, as {child.kill_reason}," if child.kill_reason else child.how_it_ended
        if child.failure is not None:
            how = f"could not start: {failure_error(child.failure)};"
            if not self._greeted:
                # Nobody was served yet: what is wrong is told to who started it, and there it ends.
                self._failure = self._failure or failure_error(child.failure)
                self._hurrying = True
                self.stop()
                return
        slot.last_end = how.rstrip(",;")
        lived_s = now_s - child.started_s
        delay_s = slot.breaker.died(lived_s)
        if slot.current is not None:
            slot.recycle_at_s = now_s + max(delay_s, self._timing.recycle_age_s)
            logger.error("%s: the replacement (pid %d) %s; the old one serves on", child.name, child.pid, how)
            return
        slot.restarts += 1
        slot.start_at_s = now_s + delay_s
        then = "starting it again"
        if delay_s:
            then = f"{slot.breaker.early_deaths} times in a row soon after its start: next start in {delay_s:g} s"
        logger.error("%s (pid %d) %s after %.1f s; %s", child.name, child.pid, how, lived_s, then)
        self._greet()

    # What the clock does.

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._timing.tick_s)
            self._reap()
            self.look()

    def look(self) -> None:
        """Starts who is due, kills who is silent or late, recycles who is too large."""
        now_s = self._clock()
        late = now_s - self._looked_s > max(1.0, 4 * self._timing.tick_s)
        self._looked_s = now_s
        for child in self._children():
            if late:
                # It was this process that slept: what children said meanwhile is still to be read.
                child.heard_s = now_s
            reason = self._why_kill(child, now_s)
            if reason and not child.kill_reason:
                child.kill_reason = reason
                logger.error("%s (pid %d): %s; killing it", child.name, child.pid, reason)
                child.signal(signal.SIGKILL)
        if self._stopping:
            self._end_keeper_if_last()
            return
        for slot in self._slots:
            if slot.is_due(now_s):
                self._fill(slot)
            elif slot.current is not None:
                slot.breaker.lived(now_s - slot.current.started_s)
        self._recycle(now_s)

    def _why_kill(self, child: Child, now_s: float) -> str:
        silent_s = now_s - child.heard_s
        if child.exit_by is not None and now_s >= child.exit_by[0]:
            return child.exit_by[1]
        if silent_s >= self._timing.stopped_s and child.is_stopped:
            return f"it was stopped by a signal and silent for {silent_s:.1f} s"
        limit_s = self._timing.hung_s if child.state is not State.STARTING else self._timing.start_s
        return f"it was silent for {silent_s:.1f} s" if silent_s >= limit_s else ""

    def _recycle(self, now_s: float) -> None:
        """Starts a replacement of a worker that has asked for one, or has too much memory; one at a time."""
        if not self._keeper.is_ready or any(slot.replacement or slot.leaving for slot in self._workers):
            return
        for slot in self._workers:
            child = slot.current
            if child is None or not slot.is_ready or now_s < slot.recycle_at_s:
                continue
            if child.wants_replacement:
                logger.info(
                    "%s (pid %d) asks to be replaced: the signals' tables were made anew", child.name, child.pid
                )
            elif not self._is_too_large(child, now_s):
                continue
            self._fill(slot, as_replacement=True)
            return

    def _is_too_large(self, child: Child, now_s: float) -> bool:
        limit = self._service.max_own_bytes
        if limit is None or now_s - child.started_s < self._timing.recycle_age_s:
            return False
        own = memory_bytes(child.pid)[1]
        if own > limit:
            logger.warning(
                "%s (pid %d) has %d MiB of its own, more than %d: replacing it",
                child.name, child.pid, own // 2**20, limit // 2**20,
            )  # fmt: skip
        return own > limit

    # Ends.

    def _end(self, child: Child, announce: bool = True) -> None:
        """Has a worker finish its calls and exit. `announce`: its clients learn by health that it does."""
        was, child.state = child.state, State.DRAINING
        if was is State.STARTING:
            child.signal(signal.SIGTERM)
            self._give_until(child, self._timing.slack_s, "it did not end")
        elif was is State.SERVING:
            child.tell("drain", announce=announce)
            self._give_until(child, self._drain_s(child), "it did not finish draining")
        if self._hurrying:
            child.tell("hurry")
            self._give_until(child, self._timing.slack_s, "it did not hurry")

    def _drain_s(self, child: Child) -> float:
        """How long it may take to finish: as it said, since a reload may have changed it."""
        said = child.beat.get("drain_s")
        return (said if isinstance(said, int | float) else self._service.drain_s) + self._timing.slack_s

    def _end_keeper_if_last(self) -> None:
        """The keeper takes writes until no worker is left; without it, this is the end."""
        if not self._stopping or any(slot.children for slot in self._workers):
            return
        keeper = self._keeper.current
        if keeper is None:
            self._ended.set()
        elif keeper.state is not State.DRAINING:
            keeper.state = State.DRAINING
            keeper.tell("drain")
            self._give_until(keeper, KEEPER_STOP_S, "it did not end")

    def _give_until(self, child: Child, seconds: float, otherwise: str) -> None:
        """The child must have exited in so many seconds, or is killed."""
        until_s = self._clock() + seconds
        if child.exit_by is None or until_s < child.exit_by[0]:
            child.exit_by = (until_s, otherwise)

    def _reap(self) -> None:
        """Takes the exit status of every child that has ended; as process 1, of orphans, too."""
        children = self._children()
        for child in children:
            child.reap()
        if os.getpid() != 1:
            return
        own = {child.pid for child in children}
        with suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid not in own:
                os.waitpid(found.si_pid, os.WNOHANG)

    def _children(self) -> list[Child]:
        return [child for slot in self._slots for child in slot.children]

    def _tell_serving(self) -> None:
        """Health says SERVING while the keeper and at least one worker serve, and nobody asked for the end."""
        keeper = self._keeper.current
        if keeper is None or not self._keeper.is_ready:
            self._told_serving = None
            return
        serving = not self._stopping and any(slot.is_ready for slot in self._workers)
        if serving != self._told_serving:
            self._told_serving = serving
            keeper.tell("serving", serving=serving)
