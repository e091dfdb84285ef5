"""The benchmark runs and writes what it measured: with --quick, which shows that it works and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import ROOT

pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_run(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:readme -->\nold\n<!-- /bench:readme -->\nafter\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "load_tests" / "bench_rank.py"), "--quick", "--write", str(readme)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["bench"] == "rank"
    assert {(r["forest"], r["candidates"]) for r in line["cpu"]} == {
        (forest, size) for forest in ("100 × 31", "500 × 31", "500 × 64") for size in (10, 100, 1_000)
    }
    assert all(r["rankd_us"] > 0 and r["echo_us"] > 0 for r in line["cpu"])
    written = readme.read_text(encoding="utf-8")
    assert "old" not in written
    assert written.startswith("before\n")
    assert "| 500 × 64 |" in written
