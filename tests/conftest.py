"""Puts tests/ on the path, so that tests share tests/support, and makes hypothesis repeatable."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("rankd", deadline=None, derandomize=True)
settings.load_profile("rankd")
