"""The backends under random histories. RANKD_FUZZ_SCALE lengthens it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from signals.conformance import SCHEMA, Clock
from signals.keeper_host import KeeperHost, open_hosted
from signals.machine import StoreMachine

from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))


class MemoryMachine(StoreMachine):
    async def open_store(self, clock: Clock) -> SignalStore:
        return await open_embedded(SCHEMA, None, 1000, clock=clock)


class DurableMachine(StoreMachine):
    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="rankd-store-"))

    async def open_store(self, clock: Clock) -> SignalStore:
        return await open_embedded(SCHEMA, self.directory, 1000, clock=clock)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.directory)


class SharedMachine(StoreMachine):
    """Through a keeper in another process; each history has a keeper of its own."""

    host: KeeperHost | None = None

    async def open_store(self, clock: Clock) -> SignalStore:
        if SharedMachine.host is None:
            SharedMachine.host = KeeperHost(Path(tempfile.mkdtemp(prefix="rankd-keeper-")))
        return await open_hosted(SharedMachine.host, clock=clock)


@pytest.fixture(scope="module", autouse=True)
def close_host() -> Iterator[None]:
    yield
    if SharedMachine.host is not None:
        SharedMachine.host.close()
        shutil.rmtree(SharedMachine.host.directory)


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=25 * SCALE, stateful_step_count=25)
TestDurable = DurableMachine.TestCase
TestDurable.settings = settings(max_examples=20 * SCALE, stateful_step_count=20)
TestShared = SharedMachine.TestCase
TestShared.settings = settings(max_examples=15 * SCALE, stateful_step_count=20)
