"""Puts tests/ on the path, so that tests share tests/support, and makes hypothesis repeatable."""

import gc
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("rankd", deadline=None, derandomize=True)
settings.load_profile("rankd")


MOST_MAPPED_BYTES = 16 << 40


def pytest_runtest_logfinish() -> None:
    """Tables that nobody can reach any more are unmapped by the collector. Each takes 64 GiB of a process's addresses,
    of which there are 128 TiB; a server has one store, here thousands come after each other."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    if pages * 4096 > MOST_MAPPED_BYTES:
        gc.collect()
