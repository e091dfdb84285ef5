"""The one writer: changes queue up, are committed in groups off the event loop, then applied on it.

    submit ─ queue ─┬─ plan (loop) ─ commit (thread, one fsync a group) ─ apply (loop) ─ answer
                    └─ … whatever came meanwhile is the next group

Order is kept: what was submitted first is committed and applied first. A change that was
submitted goes through even if its caller is cancelled; only the caller's answer is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

from rankd.errors import RankdError, StoreError

MAX_GROUP_ROWS = 20_000
"""Bounds a transaction, and so how long the first of a group waits."""


class Change(Protocol):
    """A change on its way."""

    @property
    def row_count(self) -> int: ...

    @property
    def goes_alone(self) -> bool:
        """Whether it must not share a group."""

    def plan(self, group: list[Change]) -> None:
        """On the loop, before the commit, with the planned changes of the group it joins.
        A RankdError refuses this change alone."""

    def apply(self) -> None:
        """On the loop, after the commit; must not fail."""


class CommitQueue:
    """`commit` runs in `executor` with a group of planned changes; a StoreError of it fails the group."""

    def __init__(self, commit: Callable[[list[Change]], None], executor: Executor) -> None:
        self._commit = commit
        self._executor = executor
        self._waiting: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._broken: StoreError | None = None

    async def submit(self, change: Change) -> None:
        """Returns once the change is committed and applied; the StoreError of its plan or commit."""
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
        group: list[tuple[Change, asyncio.Future[None]]] = []
        planned: list[Change] = []
        rows = 0
        while self._waiting:
            change, answer = self._waiting[0]
            if group and (change.goes_alone or planned[0].goes_alone or rows + change.row_count > MAX_GROUP_ROWS):
                break
            self._waiting.popleft()
            try:
                change.plan(planned)
            except RankdError as error:
                answer.set_exception(error)
                continue
            group.append((change, answer))
            planned.append(change)
            rows += change.row_count
        return group

    async def _run_group(self, group: list[tuple[Change, asyncio.Future[None]]]) -> None:
        if not group:
            return
        changes = [change for change, _ in group]
        try:
            try:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._commit, changes)
            except StoreError as error:
                for _, answer in group:
                    answer.set_exception(error)
                return
            for change, answer in group:
                change.apply()
                answer.set_result(None)
        except BaseException as error:
            # Committed or not, memory and disk may differ now: nothing more is written.
            for _, answer in group:
                if not answer.done():
                    answer.set_exception(StoreError(f"the signal store failed: {type(error).__name__}"))
            raise
