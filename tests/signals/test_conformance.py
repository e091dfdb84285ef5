"""The conformance suite on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from signals.backends import BACKENDS, Backend
from signals.conformance import StoreConformance
from signals.conformance_many import ManyConformance
from signals.conformance_time import KindConformance, TimeConformance


@pytest_asyncio.fixture(params=BACKENDS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    backend = Backend(request.param, tmp_path, request.getfixturevalue)
    yield backend
    await backend.end()


class TestConformance(StoreConformance, TimeConformance, KindConformance, ManyConformance):
    """See signals.backends for what these are."""
