"""How a call's time grows, and the flame graph: that they run, and what they make of what they saw."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import ROOT

pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")
sys.path.insert(0, str(ROOT / "load_tests"))

import bench_growth
import flamegraph


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_quick_run() -> None:
    command = [sys.executable, str(ROOT / "load_tests" / "bench_growth.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=190)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert len(line["cpu_us"]) == len(bench_growth.points())
    assert set(line["workers_us"]) == {"1", "2"}


def test_contention_is_what_a_further_worker_makes_a_call_cost_more() -> None:
    assert bench_growth.contention({1: 100.0, 2: 110.0}) == pytest.approx(0.1)
    assert bench_growth.contention({1: 100.0, 3: 110.0}) == pytest.approx(0.05)
    assert bench_growth.contention({1: 100.0, 2: 95.0}) == 0


RAW = """\
<module> (rankd/server/worker.py);Handle__run (loop.c);task_step (_asynciomodule.c);0x7f01 (grpc/_cython/cygrpc.so) 4
<module> (rankd/server/worker.py);Handle__run (loop.c);0x7f01 (grpc/cygrpc.so);0x7f02 (grpc/cygrpc.so);rk_rank_list (rk_rank.c) 3
<module> (rankd/server/worker.py);Handle__run (loop.c);handle (rankd/server/rpc.py);sendmsg (libc.so.6) 2
<module> (rankd/server/worker.py);epoll_pwait (libc.so.6) 100
clone (libc.so.6);0x7f03 (libc.so.6) 100
"""  # noqa: E501


def test_samples_are_folded_by_whose_code_ran_and_waiting_is_left_out() -> None:
    root = flamegraph.fold(RAW)
    assert root.count == 9
    shares = flamegraph.shares(root)
    assert shares == {
        "csrc": pytest.approx(3 / 9, abs=1e-3), "grpc": pytest.approx(4 / 9, abs=1e-3), "python": 0, "rankd": 0,
        "system": pytest.approx(2 / 9, abs=1e-3),
    }  # fmt: skip


def test_functions_without_names_are_one_frame() -> None:
    assert flamegraph.readable(RAW.splitlines()[1].rpartition(" ")[0]) == [
        "event loop (uvloop)", "cygrpc (grpc/cygrpc.so)", "rk_rank_list (rk_rank.c)",
    ]  # fmt: skip


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    picture = flamegraph.draw(flamegraph.fold(RAW), "a < b")
    assert picture.startswith("<svg ")
    assert "a &lt; b" in picture
    assert "rk_rank_list (rk_rank.c): 33.3%" in picture
