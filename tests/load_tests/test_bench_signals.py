"""The benchmark of the store runs and prints what it measured: with --quick, which shows that it works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import ROOT


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_quick_run(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("<!-- bench-signals -->\nold\n<!-- /bench-signals -->\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "load_tests" / "bench_signals.py"), "--quick", "--write", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["bench"] == "signals"
    assert line["write_rows_per_s"] > 0
    assert line["write_vs_sqlite"] > 0
    assert line["redis_fetch_ratio"] is not None
    assert line["resync_items_per_s"] > 0
    assert line["replica_p99_ms"] > 0
    assert 0 < line["users_gib_per_million"] < 4
    assert line["redis_lost_failed"] == 0
    assert line["redis_back_s"] >= 0
    assert line["details"]["fetch"]["round_trips"] == pytest.approx(1, abs=0.2)
    written = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "old" not in written
    assert "Durable writes" in written
