"""The backends under random histories. RANKD_FUZZ_SCALE lengthens it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from signals.conformance import SCHEMA, Clock
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


TestMemory = MemoryMachine.TestCase
TestMemory.settings = settings(max_examples=25 * SCALE, stateful_step_count=25)
TestDurable = DurableMachine.TestCase
TestDurable.settings = settings(max_examples=20 * SCALE, stateful_step_count=20)
