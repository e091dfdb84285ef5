"""The explanation benchmark: its ratios, its table, its line; and that it runs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.repository import ROOT

sys.path.insert(0, str(ROOT / "load_tests"))

from bench.forest.measure import Timing


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """load_tests/bench_explain.py as a module; its setting of threads stays out of this process."""
    before = os.environ.get("OMP_NUM_THREADS")
    spec = importlib.util.spec_from_file_location("bench_explain", ROOT / "load_tests" / "bench_explain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    return module


def test_ratios_and_table(bench: ModuleType) -> None:
    results = bench.Results()
    results.timings = {
        ("5x4x3", 10, "rankd"): Timing(2.0, 0.1), ("5x4x3", 10, "rankd@avx2"): Timing(4.0, 0.1),
        ("5x4x3", 10, "lightgbm"): Timing(80.0, 0.1),
    }  # fmt: skip
    results.differences = {"rankd": 1e-14, "rankd@avx2": 3e-14, "shap": 1.0}
    results.absent = {"shap": "ImportError: no"}
    assert results.ratios() == {"5x4x3/10/lightgbm": 40.0, "5x4x3/10/lightgbm@avx2": 20.0}
    assert results.max_abs_error == 3e-14
    line = results.line()
    assert line["bench"] == "explain"
    assert line["ms"]["5x4x3/10/lightgbm"] == 0.8
    assert line["absent"] == {"shap": "ImportError: no"}
    table = results.table()
    assert ["lightgbm", "0.8 (40×)"] in [list(row) for row in table.rows]
    assert "Not measured: shap: ImportError: no." in table.note


def test_nothing_compared_is_no_error_known(bench: ModuleType) -> None:
    assert bench.Results().max_abs_error is None


def test_a_runner_explains_blocks_in_turns(bench: ModuleType) -> None:
    seen = []

    def explain(rows: np.ndarray) -> np.ndarray:
        seen.append(int(rows[0, 0]))
        return rows.astype(np.float64)

    runner = bench.Runner(explain, [np.full((2, 1), i, np.float32) for i in range(3)])
    assert runner.run(2, 2) >= 0
    assert seen == [2, 0]
    assert sorted(runner.found) == [0, 2]


def test_quick_run(tmp_path: Path) -> None:
    script = ROOT / "load_tests" / "bench_explain.py"
    command = [sys.executable, str(script), "--quick", "--shapes", "6x5x4", "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["max_abs_error"] <= 1e-10
    assert {"6x5x4/10/lightgbm", "6x5x4/50/lightgbm"} <= set(line["ratios"])
