"""The overload scenarios run, with --quick, which shows that they work; what counts as an answer of two versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.repository import ROOT

pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")
sys.path.insert(0, str(ROOT / "load_tests"))

from generator.offer import Offer, Outcome, Stream
from overload.reloading import Versions, count_mixed

OLD, NEW = ("p1", "m1"), ("p2", "m2")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_quick_run(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("<!-- overload -->\nold\n<!-- /overload -->\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "load_tests" / "bench_overload.py"), "--quick", "--write", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["bench"] == "overload"
    assert line["goodput"]["2"] >= 0
    assert line["drain_failed"] == 0
    assert line["kill_failed"] == 0
    assert line["reload_failed"] == 0
    assert line["calls"] >= 1_000
    assert "Restarts, kills and reloads" in (tmp_path / "performance.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    return Versions(tmp_path_factory.mktemp("versions") / "shop")


def outcome(results: list[tuple[tuple[str, str], int]], versions: Versions, calls: list[int]) -> Outcome:
    """A call answered by lists of the versions given: (what it names, whose scores they are)."""
    ids = ("sku-00000003", "sku-00000001")
    told = [tuple((names, ids, tuple(versions.scores[version][[3, 1]])) for names, version in results)]
    ok = [((OLD, ids, tuple(versions.scores[0][[3, 1]])),), ((NEW, ids, tuple(versions.scores[1][[3, 1]])),)]
    answers = [(0, 0, answer) for answer in [*ok, *told]]
    count = len(calls)
    zeros = np.zeros(count)
    return Outcome(
        Offer("", [Stream("rank", [b""])], 1.0, 1.0), zeros, zeros, zeros, zeros.astype(np.int16),
        zeros.astype(np.intp), zeros.astype(np.int8), np.array(calls, np.int32), answers,
    )  # fmt: skip


def test_answers_of_one_version_each_are_right(versions: Versions) -> None:
    assert count_mixed(versions, outcome([(OLD, 0), (OLD, 0)], versions, [0, 1, 2, 2])) == 0


def test_answers_of_two_versions_are_found(versions: Versions) -> None:
    assert count_mixed(versions, outcome([(OLD, 0), (NEW, 1)], versions, [0, 1, 2, 2])) == 2


def test_scores_of_another_version_than_named_are_found(versions: Versions) -> None:
    assert count_mixed(versions, outcome([(NEW, 0)], versions, [0, 1, 2])) == 1


def test_scores_of_no_version_are_found(versions: Versions) -> None:
    found = outcome([(OLD, 0)], versions, [0, 1, 2])
    stream, request, ((names, ids, scores),) = found.answers[2]
    found.answers[2] = stream, request, ((names, ids, (scores[0], scores[1] + 1e-12)),)
    assert count_mixed(versions, found) == 1
