"""The embedded store without a data directory."""

from __future__ import annotations

from typing import Any

import pytest
from signals.conformance import SCHEMA, Clock, OpenStore, StoreConformance
from signals.conformance_time import TimeConformance

from rankd.signals.embedded import open_embedded
from rankd.signals.store import SignalStore
from rankd.types.schema import Schema


class TestEmbeddedMemory(StoreConformance, TimeConformance):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        async def open_(schema: Schema = SCHEMA, max_rows: int = 1000, clock: Any = None) -> SignalStore:
            return await open_embedded(schema, None, max_rows, clock=clock or Clock())

        return open_
