"""The one writer: changes queue up and go through in groups, off the event loop.

    submit ─ queue ─┬─ plan ─ commit (one fsync a group) ─ publish ─┬─ answer
                    └─ … whatever came meanwhile is the next group ─┘

Order is kept: what was submitted first is committed and published first. A change that was
submitted goes through even if its caller is cancelled; only the caller's answer is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from rankd.errors import RankdError, StoreError

MAX_GROUP_ROWS = 20_000
"""Bounds a transaction, and so how long the first of a group waits."""


class Change(Protocol):
    """A change on its way. Its methods are called in the writer's thread."""

    @property
    def row_count(self) -> int: ...

    @property
    def goes_alone(self) -> bool:
        """Whether it must not share a group."""

    def plan(self) -> None:
        """Before the commit, after those of its group that came earlier. A RankdError refuses this change alone.
        Takes what publishing will need."""

    def drop(self) -> None:
        """Gives back what `plan` took: the commit failed."""

    def publish(self) -> None:
        """After the commit; must not fail."""


AnyChange = TypeVar("AnyChange", bound=Change)


def run_group(changes: Sequence[AnyChange], commit: Callable[[Sequence[AnyChange]], None]) -> list[RankdError | None]:
    """Plans, commits and publishes; what refused each change, or None. StoreError: the commit failed, for all."""
    refusals: list[RankdError | None] = []
    planned: list[AnyChange] = []
    for change in changes:
        try:
            change.plan()
        except RankdError as error:
            refusals.append(error)
        else:
            planned.append(change)
            refusals.append(None)
    if planned:
        try:
            commit(planned)
        except StoreError:
            for change in planned:
                change.drop()
            raise
        for change in planned:
            change.publish()
    return refusals


class CommitQueue:
    """`run` gets a group of changes in `executor` and returns what refused each of them, or None; a StoreError of it
    fails the group, any other exception the queue."""

    def __init__(self, run: Callable[[list[Change]], Sequence[RankdError | None]], executor: Executor) -> None:
        self._run_changes = run
        self._executor = executor
        self._waiting: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._broken: StoreError | None = None

    async def submit(self, change: Change) -> None:
        """Returns once the change is committed and published; the error that refused it or failed its group."""
        if self._broken is not None:
            raise self._broken
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Marks an error as seen even if the caller was cancelled and nobody waits for it any more.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._waiting.append((change, answer))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        await asyncio.shield(answer)

    async def drain(self) -> None:
        """Returns when nothing is on its way."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._run_group(self._next_group())
        except BaseException as error:
            self._broken = StoreError("the signal store stopped after an internal fault; restart rankd")
            self._broken.__cause__ = error
            for _, answer in self._waiting:
                answer.set_exception(self._broken)
            self._waiting.clear()
            raise
        finally:
            self._runner = None

    def _next_group(self) -> list[tuple[Change, asyncio.Future[None]]]:
        group = [self._waiting.popleft()]
        rows = group[0][0].row_count
        while self._waiting and not group[0][0].goes_alone:
            change, _ = self._waiting[0]
            rows += change.row_count
            if change.goes_alone or rows > MAX_GROUP_ROWS:
                break
            group.append(self._waiting.popleft())
        return group

    async def _run_group(self, group: list[tuple[Change, asyncio.Future[None]]]) -> None:
        changes = [change for change, _ in group]
        try:
            try:
                run = asyncio.get_running_loop().run_in_executor(self._executor, self._run_changes, changes)
                refusals = await run
            except StoreError as error:
                for _, answer in group:
                    answer.set_exception(error)
                return
            for (_, answer), refusal in zip(group, refusals, strict=True):
                if refusal is None:
                    answer.set_result(None)
                else:
                    answer.set_exception(refusal)
        except BaseException as error:
            # Committed or not, tables and disk may differ now: nothing more is written.
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(StoreError(f"the signal store failed: {type(error).__name__}"))
            raise
