"""The file that a machine's processes share beside the tables: counters of writes, and how the tables follow."""

from __future__ import annotations

import math
import time
from pathlib import Path

from rankd.signals.redis.slots import Slots


def test_a_new_writer_keeps_counters_and_has_not_followed_yet(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    before = Slots(path, ["user"], is_writer=True)
    before.bump("user", ["ann"])
    before.tell(time.monotonic(), True)
    reader = Slots(path, ["user"], is_writer=False)
    assert reader.following[0]
    assert reader.counters[reader.slot("user", "ann")] == 1
    before.close()
    after = Slots(path, ["user"], is_writer=True)
    assert reader.following == after.following == (False, math.inf)
    assert reader.counters[reader.slot("user", "ann")] == 1
    after.close()
    reader.close()
