"""Hot reload: changed profiles and models are taken over while serving, or refused and the old ones serve on.

    read anew ─ check ─ load what changed ─ compile ─ try ─ swap ─ say what changed
        on a thread: nothing is served yet              │
                                                  on the loop: one reference

A reload is asked for (`request`: SIGHUP) or begins when a file has changed and come to rest. Any problem
refuses the whole of it. Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rankd.errors import ConfigError, Problem, RankdError, WorkspaceError
from rankd.server.configuration import Configuration, inspect_workspace
from rankd.signals.store import Categories
from rankd.types.schema import Schema
from rankd.workspace import ReloadSettings, Workspace, setting_values
from rankd.workspace.watch import FileState, FileWatch, file_state

logger = logging.getLogger("rankd.server")

RELOADABLE: Final = (
    "server.default_deadline_ms",
    "server.drain_seconds",
    "server.shutdown_grace_seconds",
    "server.log.",
    "server.reload.",
)
"""Settings, or the beginnings of their paths, that a reload can change. All others need a restart."""

RETRY_S: Final = (1.0, 60.0)
"""After a failure that is not the workspace's fault: the first and the longest wait before it is tried again."""

SWITCH_S: Final = 0.0001
"""How long the thread that prepares a reload may keep calls from being taken up, where it runs Python. At Python's own
5 ms a call waits so long each time the loop wakes; measured with a forest of 500 trees: 5.3 ms, against 0.35 ms."""

READ_TRIES: Final = 3
"""How often files are read that change while they are being read."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a reload changed. `path`: profiles.search, models.shop, or a setting's. None: there was or is none."""

    path: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.path} added ({self.new})"
        return f"{self.path} removed" if self.new is None else f"{self.path} {self.old} → {self.new}"


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload ended. `error`: "" or every problem, a line each. `versions`: those that are served now, by path.
    `at_s`: when it ended, seconds since 1970."""

    ok: bool
    changed: tuple[Change, ...]
    error: str
    versions: Mapping[str, str]
    seconds: float
    at_s: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "ok": self.ok,
            "changed": [str(change) for change in self.changed],
            "error": self.error,
            "versions": dict(self.versions),
            "seconds": self.seconds,
            "at": self.at_s,
        }


@dataclass
class _Attempt:
    """A reload that has been prepared, or has failed. `files`: those it looked at, as they were."""

    configuration: Configuration | None = None
    error: str = ""
    is_final: bool = True
    files: dict[Path, FileState | None] = field(default_factory=dict)


class Reloader:
    """See the module's docstring."""

    def __init__(
        self,
        configuration: Configuration,
        categories: Categories,
        swap: Callable[[Configuration], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`configuration`: the one being served. `swap` is called on the event loop with the next one; it exchanges
        references and returns at once, or raises and has changed nothing. `categories` give codes from a thread."""
        self._configuration = configuration
        self._categories = categories
        self._swap = swap
        self._clock = clock
        self._watch = FileWatch(configuration.files)
        self._running: asyncio.Task[ReloadResult] | None = None
        self._waiting: asyncio.Task[ReloadResult] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._retry_s = 0.0
        self._retry_wait_s = 0.0
        self._last: ReloadResult | None = None
        self._done_count = 0
        self._refused_count = 0

    @property
    def configuration(self) -> Configuration:
        """The one being served."""
        return self._configuration

    def start(self) -> None:
        """Begins to watch the files, as server.reload says."""
        self._watching = asyncio.ensure_future(self._watch_files())

    def request(self) -> None:
        """Asks for a reload and does not wait for it: the handler of SIGHUP."""
        self._ask()

    async def reload(self) -> ReloadResult:
        """Reloads. Calls that come while one is running share the next one, which reads the files after they came."""
        return await asyncio.shield(self._ask())

    async def close(self) -> None:
        """Ends the watching; what is being prepared is given up. Before the store is closed."""
        tasks = [task for task in (self._watching, self._waiting, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def state(self) -> dict[str, Any]:
        """For `rankd status`: versions, how many reloads were done and refused, and the last one."""
        return {
            "versions": self._configuration.versions,
            "reloads": self._done_count,
            "refused": self._refused_count,
            "last": self._last.to_dict() if self._last is not None else None,
        }

    @property
    def _settings(self) -> ReloadSettings:
        return self._configuration.workspace.settings.server.reload

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_seconds)
            if self._settings.watch:
                await self.look()

    async def look(self) -> ReloadResult | None:
        """Looks at the files once; reloads if they have changed and are as the last look found them."""
        # On a thread: a file system may be slow to answer.
        if await asyncio.to_thread(self._watch.look) and self._clock() >= self._retry_s:
            return await self.reload()
        return None

    def _ask(self) -> asyncio.Task[ReloadResult]:
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._run_after(self._running))
        return self._waiting

    async def _run_after(self, running: asyncio.Task[ReloadResult] | None) -> ReloadResult:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._waiting = self._waiting, None
        return await self._reload()

    async def _reload(self) -> ReloadResult:
        started_s = time.perf_counter()
        before = self._configuration
        with _yielding():
            attempt = await asyncio.to_thread(_prepare, before, self._categories)
        changed: tuple[Change, ...] = ()
        after = attempt.configuration
        if after is not None:
            try:
                self._swap(after)
            except Exception as error:
                logger.exception("reload failed")
                attempt = _Attempt(error=f"{type(error).__name__}: {error}", is_final=False)
            else:
                changed = changes(before, after)
                self._configuration = after
        ok = attempt.configuration is not None
        seconds = time.perf_counter() - started_s
        self._last = ReloadResult(ok, changed, attempt.error, self._configuration.versions, seconds, time.time())
        self._done_count += ok
        self._refused_count += not ok
        self._note(attempt)
        _log(self._last)
        return self._last

    def _note(self, attempt: _Attempt) -> None:
        """What to watch now, and when to try again by itself."""
        if attempt.is_final:
            # Of a refused one, too: a file that was missing may come.
            served = {} if attempt.configuration is not None else self._configuration.files
            self._watch.have_read({**served, **attempt.files})
            self._retry_s = self._retry_wait_s = 0.0
        else:
            self._retry_wait_s = min(max(RETRY_S[0], 2 * self._retry_wait_s), RETRY_S[1])
            self._retry_s = self._clock() + self._retry_wait_s


@contextlib.contextmanager
def _yielding() -> Iterator[None]:
    """Threads give way to each other after SWITCH_S for a while."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)


def _prepare(before: Configuration, categories: Categories) -> _Attempt:
    """Reads, checks, loads, compiles and tries, on a thread. Never raises: what was wrong is in the attempt."""
    for _ in range(READ_TRIES):
        attempt = _read(before, categories)
        if all(file_state(path) == state for path, state in attempt.files.items()):
            return attempt
        # Half old, half new, whatever came of it.
    return _Attempt(error="expected files at rest, they kept changing while they were being read", is_final=False)


def _read(before: Configuration, categories: Categories) -> _Attempt:
    inputs = before.workspace.inputs
    attempt = _Attempt(files={inputs.file: file_state(inputs.file)})
    try:
        workspace = before.workspace.reread()
        _check_restart(before.workspace, workspace)
        inspection = inspect_workspace(workspace, categories, before)
        attempt.files = inspection.files
        attempt.configuration = inspection.configuration()
    except ConfigError as error:
        attempt.error = str(error)
    except RankdError as error:
        attempt.error, attempt.is_final = str(error), False
    except Exception as error:
        logger.exception("reload failed")
        attempt.error, attempt.is_final = f"{type(error).__name__}: {error}", False
    return attempt


def _check_restart(before: Workspace, after: Workspace) -> None:
    """WorkspaceError that names what has changed and cannot be taken over while serving."""
    problems = []
    old, new = setting_values(before.settings), setting_values(after.settings)
    # By where it leads: relative to the workspace, whose directory may have become another.
    old["server.data_dir"], new["server.data_dir"] = before.data_dir, after.data_dir
    for path in old:
        if old[path] != new[path] and not path.startswith(RELOADABLE):
            message = f"was {_shown(old[path])} at the start and is {_shown(new[path])} now; that needs a restart"
            problems.append(Problem(after.place(path), path, message))
    problems.extend(
        Problem(after.place(f"schema.{path}"), f"schema.{path}", f"{what}; a change of the schema needs a restart")
        for path, what in _schema_changes(before.schema, after.schema)
    )
    if problems:
        raise WorkspaceError(problems)


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _schema_changes(before: Schema, after: Schema) -> list[tuple[str, str]]:
    """(item.price, "was removed") for every entity and signal that is not as it was."""
    old, new = (
        {
            **dict.fromkeys(schema.entities),
            **{f"{entity.name}.{name}": signal for entity in schema.entities.values()
               for name, signal in entity.signals.items()},
        }
        for schema in (before, after)
    )  # fmt: skip
    found = [(path, "was added") for path in new if path not in old]
    found += [(path, "was removed") for path in old if path not in new]
    found += [(path, "was changed") for path in old if path in new and old[path] != new[path]]
    return sorted(found)


def changes(before: Configuration, after: Configuration) -> tuple[Change, ...]:
    """Profiles, models and settings that are not the same, by path."""
    before_settings = setting_values(before.workspace.settings)
    after_settings = setting_values(after.workspace.settings)
    old = {**before.versions, **{path: _shown(value) for path, value in before_settings.items()}}
    new = {**after.versions, **{path: _shown(value) for path, value in after_settings.items()}}
    paths = dict.fromkeys([*old, *new])
    return tuple(Change(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path))


def _log(result: ReloadResult) -> None:
    if result.ok:
        logger.info("reloaded in %.2f s: %s", result.seconds, "; ".join(map(str, result.changed)) or "nothing changed")
    else:
        logger.error("reload refused, what was served is served on: %s", result.error)
