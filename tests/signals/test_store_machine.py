"""Random histories of every kind of store beside an oracle. RANKD_FUZZ_SCALE lengthens them."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from signals.backends import TRAITS, Backend
from signals.conformance import Clock
from signals.every_kind import SCHEMA
from signals.machine import StoreMachine

from rankd.signals.backing import TABLES_NAME
from rankd.signals.embedded import EmbeddedStore

SCALE = float(os.environ.get("RANKD_FUZZ_SCALE", "1"))

EXAMPLES = {
    "memory": 20,
    "durable": 8,
    "shared": 6,
    "redis": 8,
    "cluster": 6,
    "replicated": 6,
    "worker-fetched": 6,
}
"""Histories, by backend."""


class Histories:
    """Stores of one backend, each history with one that is empty."""

    def __init__(self, name: str, directory: Path, find: Any) -> None:
        self._name = name
        self._directory = directory
        self._find = find
        self._number = itertools.count()
        self.count = 0
        self._place: Any = None
        if name not in ("memory", "durable", "shared"):
            self._place = find("cluster" if "cluster" in name else "single")

    def machine(self) -> StoreMachine:
        """One history."""
        self.count += 1
        if self._place is not None:
            self._place.wipe()
        self._backend = self._beside()
        return StoreMachine(self._reopen, TRAITS[self._name])

    def _beside(self) -> Backend:
        self._path = self._directory / f"{next(self._number)}"
        return Backend(self._name, self._path, self._find)

    async def _reopen(self, store: Any, clock: Clock, is_killed: bool) -> Any:
        if is_killed and self._name == "durable" and isinstance(store, EmbeddedStore):
            # What the disk would have: all that was written to the files, whoever has them open.
            await asyncio.to_thread(store._backing.wait_for_compaction)
            left, self._backend = self._path, self._beside()
            shutil.copytree(left, self._path)
            if next(self._number) % 2:
                shutil.rmtree(self._path / "data" / TABLES_NAME)
        if store is not None:
            await store.close()
        return await self._backend(SCHEMA, 1_000, clock)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.timeout(7200 if SCALE > 1 else 120)
def test_histories(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    histories = Histories(name, tmp_path, request.getfixturevalue)
    run_state_machine_as_test(
        histories.machine,
        settings=settings(
            max_examples=max(1, round(EXAMPLES[name] * SCALE)),
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert histories.count >= round(EXAMPLES[name] * SCALE)
