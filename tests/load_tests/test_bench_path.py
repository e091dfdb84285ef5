"""The benchmark of the request path runs and writes what it measured: with --quick, which shows that it works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import ROOT

pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")
sys.path.insert(0, str(ROOT / "load_tests"))

from path.beside_fastapi import check_same
from path.callers import thread_cpu_s

from rankd.v1.ranking_pb2 import RankResponse


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_quick_run(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:readme -->\nold\n<!-- /bench:readme -->\nafter\n", encoding="utf-8")
    (tmp_path / "performance.md").write_text("<!-- bench-path -->\nold\n<!-- /bench-path -->\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "load_tests" / "bench_path.py"), "--quick"]
    command += ["--write", str(readme), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["bench"] == "path"
    assert set(line["echo"]) == {"10", "100", "1000"}
    assert set(line["fastapi"]) == {"100", "1000"}
    assert all(ratio > 0 for ratio in [*line["echo"].values(), *line["fastapi"].values()])
    assert line["lookup_ns"] > 0
    assert line["memory_ratio"] > 1
    assert line["restart_s"] > 0
    assert line["worker_mb"] is not None
    written = readme.read_text(encoding="utf-8")
    assert "old" not in written
    assert written.startswith("before\n")
    assert "a bare gRPC echo" in written
    assert "FastAPI, packed rows" in (tmp_path / "performance.md").read_text(encoding="utf-8")


def same(ids: list[str], scores: list[float], peer_ids: list[str], peer_scores: list[float]) -> None:
    ours = RankResponse(ids=ids, scores=scores).SerializeToString()
    check_same(ours, json.dumps({"ids": peer_ids, "scores": peer_scores}).encode())


def test_equal_rankings_are_the_same() -> None:
    same(["a", "b", "c"], [3.0, 1.0, 1.0], ["a", "c", "b"], [3.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("peer_ids", "peer_scores"),
    [(["a", "b"], [2.0, 1.0]), (["b", "a", "c"], [3.0, 2.0, 1.0]), (["a", "b", "c"], [3.0, 2.0, 1.0000001])],
)
def test_another_ranking_is_not_the_same(peer_ids: list[str], peer_scores: list[float]) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        same(["a", "b", "c"], [3.0, 2.0, 1.0], peer_ids, peer_scores)


def test_time_is_counted_a_piece() -> None:
    numbers = []
    assert 0 < thread_cpu_s(numbers.append, 0.001) < 0.001
    assert numbers == list(range(len(numbers)))
