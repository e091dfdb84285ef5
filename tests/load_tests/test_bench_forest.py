"""The forest benchmark: its ratios, its line, its cache; and that it runs whichever peers are installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.repository import ROOT

sys.path.insert(0, str(ROOT / "load_tests"))

from bench.forest import measure, tables
from bench.forest.cache import Cache, file_name
from bench.forest.clock import PythonRunner, block_addresses
from bench.forest.engines import PEERS, Job, Peer
from bench.forest.measure import Effort, Timing
from bench.forest.results import AVX2, Case, Results
from bench.forest.run import Bench
from bench.forest.shapes import SHAPES, Shape, make_rows, make_training_set

ENGINES = {"lleaves", "lightgbm", "tl2cgen", "xgboost", "catboost", "onnxruntime"}


def test_shapes_are_written_as_they_are_read() -> None:
    assert [str(shape) for shape in SHAPES] == ["100x31x50", "500x31x100", "500x64x136", "1000x64x136"]
    assert [Shape.parse(str(shape)) for shape in SHAPES] == list(SHAPES)


@pytest.mark.parametrize("text", ["", "500", "500x31", "500x31x0", "0x31x5", "-5x31x5", "5x31x5x", "5 x31x5", "axbxc"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected TREESxLEAVESxFEATURES"):
        Shape.parse(text)


def test_rows_are_the_same_every_time_and_some_are_missing() -> None:
    rows = make_rows(16, 2_000, seed=2)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, make_rows(16, 2_000, seed=2), equal_nan=True)
    missing = np.isnan(rows).mean(axis=0)
    assert (missing > 0.03).all()
    assert (missing < 0.12).all()
    training = make_training_set(16, 2_000)
    assert training.group_sizes.sum() == len(training.rows) == len(training.grades) == len(training.group_ids)
    assert not np.array_equal(rows[0], training.rows[0])
    assert set(training.grades) == {0, 1, 2, 3, 4}


def test_a_file_name_says_what_the_file_depends_on() -> None:
    names = {
        file_name(*arguments)
        for arguments in [
            ("lightgbm", ["4.6.0"], "5x4x6", "txt"),
            ("lightgbm", ["4.7.0"], "5x4x6", "txt"),
            ("lightgbm", ["4.7.0"], "5x4x7", "txt"),
            ("lleaves", ["1.3.0", "llvmlite0.44.0", "0123abcd"], "5x4x6", "o", "b34-inline-large"),
            ("lleaves", ["1.3.0", "llvmlite0.44.0", "0123abcd"], "5x4x6", "o", "b10-inline-large"),
            ("lleaves", ["1.3.0", "llvmlite0.44.0", "4567abcd"], "5x4x6", "o", "b10-inline-large"),
        ]
    }
    assert len(names) == 6
    assert file_name("lightgbm", ["4.7.0"], "5x4x6", "txt") == "lightgbm-4.7.0-d1-5x4x6.txt"


def test_the_cache_makes_a_file_once(tmp_path: Path) -> None:
    cache, calls = Cache(tmp_path / "cache"), []

    def make(path: Path) -> None:
        calls.append(path)
        path.write_text("made", encoding="utf-8")

    first, second = cache.made("a.txt", make), cache.made("a.txt", make)
    assert first == second == tmp_path / "cache" / "a.txt"
    assert first.read_text(encoding="utf-8") == "made"
    assert len(calls) == 1
    seconds = cache.seconds("a.txt")
    assert seconds is not None
    assert seconds >= 0
    assert cache.seconds("b.txt") is None


def test_half_a_file_is_not_left_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise RuntimeError("the compiler died")

    with pytest.raises(RuntimeError, match="the compiler died"):
        cache.made("a.txt", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_summary_is_the_median_and_the_quartiles() -> None:
    assert measure.summary([1.0, 2.0, 3.0, 4.0, 100.0]) == Timing(3.0, (4.0 - 2.0) / 3.0)


class Metronome:
    """Scores blocks of 10 rows; a call takes exactly so long."""

    blocks, rows = 4, 10

    def __init__(self, call_s: float, log: list[str], name: str) -> None:
        self.out = np.zeros(40)
        self.call_s, self.log, self.name = call_s, log, name

    def run(self, first: int, calls: int) -> float:
        assert 0 <= first < self.blocks
        self.log.append(self.name)
        return self.call_s * calls


def test_engines_take_turns() -> None:
    log: list[str] = []
    runners = {("a", ""): Metronome(1e-3, log, "a"), ("b", "x"): Metronome(4e-3, log, "b")}
    timings = measure.alternate(runners, Effort(rounds=4, run_s=1e-3))
    assert timings[("a", "")].us_per_row == pytest.approx(100)
    assert timings[("b", "x")].us_per_row == pytest.approx(400)
    assert log[-8:] == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_run_is_as_long_as_asked() -> None:
    assert measure.calls_for(Metronome(1e-3, [], ""), 0.02) == 20
    assert measure.calls_for(Metronome(1.0, [], ""), 0.02) == 1


def test_scores_are_kept_block_by_block() -> None:
    runner = PythonRunner(lambda block: np.full(5, float(block)), blocks=3, rows=5)
    runner.run(2, 2)
    assert np.array_equal(runner.out[:5], np.zeros(5))
    assert np.isnan(runner.out[5:10]).all()
    assert np.array_equal(runner.out[10:], np.full(5, 2.0))


def test_blocks_lie_one_after_the_other() -> None:
    rows = np.zeros((12, 3), dtype=np.float32)
    assert np.diff(block_addresses(rows, 4)).tolist() == [36, 36, 36]
    with pytest.raises(ValueError, match="into 5 blocks"):
        block_addresses(rows, 5)
    with pytest.raises(ValueError, match="cannot cut"):
        block_addresses(np.asfortranarray(rows), 4)


def test_bits_are_compared_not_values() -> None:
    zero = np.zeros(3)
    assert measure.same_bits(zero, np.zeros(3))
    assert not measure.same_bits(zero, -zero)
    assert not measure.same_bits(zero, np.zeros(4))
    nan = np.full(3, np.nan)
    assert measure.same_bits(nan, nan.copy())


def example() -> Results:
    results = Results({"lleaves": "lightgbm", "catboost": "catboost", "xgboost": "xgboost"})
    results.add("5x4x6", 100, "rankd", {"": Timing(2.0, 0.1)})
    results.add("5x4x6", 100, "rankd" + AVX2, {"": Timing(4.0, 0.1)})
    results.add("5x4x6", 100, "lleaves", {"slow": Timing(30.0, 0.1), "fast": Timing(20.0, 0.2)})
    results.add("5x4x6", 100, "rankd:catboost", {"": Timing(0.5, 0.1)})
    results.add("5x4x6", 100, "catboost", {"": Timing(6.0, 0.1)})
    results.add("5x4x6", 100, "xgboost", {"": Timing(9.0, 0.1)})
    results.tiers |= {"5x4x6/100": "avx512", "5x4x6/1": "walk"}
    return results


def test_ratios_are_of_the_same_model_and_the_best_setting() -> None:
    results = example()
    assert results.ratios() == {
        "5x4x6/100/lleaves": 10.0,
        "5x4x6/100/lleaves@avx2": 5.0,
        "5x4x6/100/catboost": 12.0,
    }
    assert results.timings[Case("5x4x6", 100, "lleaves")] == Timing(20.0, 0.2)
    assert results.settings == {"5x4x6/100/lleaves": {"slow": 30.0, "fast": 20.0}}


def test_columns_are_compared_with_columns() -> None:
    results = example()
    results.add("5x4x6", 100, "rankd@columns", {"": Timing(1.0, 0.1)})
    results.add("5x4x6", 100, "rankd:catboost@columns", {"": Timing(0.4, 0.1)})
    results.add("5x4x6", 100, "catboost", {"rows": Timing(8.0, 0.1), "pool": Timing(6.0, 0.1)})
    ratios = results.ratios()
    assert ratios["5x4x6/100/catboost"] == 16.0
    assert ratios["5x4x6/100/catboost@columns"] == 15.0
    assert ratios["5x4x6/100/lleaves@columns"] == 20.0
    cells = dict(tables.tables(results)[0].rows)
    assert cells["catboost"] == "8.00 (16.0×)"
    assert cells["catboost, by columns"] == "6.00 (15.0×)"


def test_the_line_says_what_ran_and_what_did_not() -> None:
    results = example()
    results.miss("xgboost", ValueError("no such\n  format"))
    results.miss("xgboost", "a second reason")
    line = json.loads(json.dumps(results.line(cpu="a processor")))
    assert line["bench"] == "forest"
    assert line["exact"] is True
    assert line["tier"] == "avx512"
    assert line["us_per_row"]["5x4x6/100/catboost"] == 6.0
    assert line["absent"] == {"xgboost": "ValueError: no such format"}
    assert line["cpu"] == "a processor"


def test_a_score_that_differs_is_named() -> None:
    results = example()
    results.inexact.append("5x4x6/lightgbm")
    assert not results.exact
    assert results.line()["inexact"] == ["5x4x6/lightgbm"]
    assert any("NOT EXACT: 5x4x6/lightgbm" in remark for remark in tables.remarks(results, {}))


def test_nothing_measured_is_not_exact() -> None:
    assert not Results({"lleaves": "lightgbm"}).exact


def test_tables_have_a_row_for_every_engine(tmp_path: Path) -> None:
    results = example()
    (table,) = tables.tables(results)
    assert [row[0] for row in table.rows] == [
        "rankd", "rankd, AVX2 tier", "lleaves", "rankd on CatBoost's model", "catboost", "xgboost",
    ]  # fmt: skip
    assert [row[1] for row in table.rows] == ["2.00", "4.00", "20.0 (10.0×)", "0.500", "6.00 (12.0×)", "9.00"]
    document = tmp_path / "kernels.md"
    document.write_text("before\n<!-- bench-forest -->\nold\n<!-- /bench-forest -->\nafter\n", encoding="utf-8")
    results.miss("tl2cgen", ImportError("No module named 'tl2cgen'"))
    tables.write_documents([document], results, {"lleaves": "its C entry"})
    written = document.read_text(encoding="utf-8")
    assert "old" not in written
    assert "| lleaves | 20.0 (10.0×) |" in written
    assert "- Not measured: tl2cgen: ImportError: No module named 'tl2cgen'" in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")


def test_a_folder_gets_the_section_and_the_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot is drawn by matplotlib, which make bench-forest installs")
    (tmp_path / "kernels.md").write_text("<!-- bench-forest -->\n<!-- /bench-forest -->\n", encoding="utf-8")
    tables.write_documents([tmp_path], example(), {})
    assert "avx512 at 100" in (tmp_path / "kernels.md").read_text(encoding="utf-8")
    plot = (tmp_path / "forest_us_per_row.svg").read_text(encoding="utf-8")
    assert "5 trees × 4 leaves × 6 features" in plot
    assert all(name in plot for name in ("lleaves", "rankd on CatBoost's model", "AVX2 tier"))


class Broken(Peer):
    """Not installed."""

    name, library, how = "lleaves", "lightgbm", "not at all"

    def __init__(self, job: Job) -> None:
        raise ImportError("No module named 'lleaves'")

    def runners(self, batch: int) -> dict[str, measure.Runner]:
        """Never asked."""
        return {}


def test_a_peer_that_cannot_be_opened_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")
    others = [peer for peer in PEERS if peer.name == "lightgbm"]
    bench = Bench(Cache(tmp_path), [10], [Broken, *others], Effort(rounds=2, run_s=1e-4))
    bench.shape(Shape(3, 4, 5))
    assert bench.results.absent == {"lleaves": "ImportError: No module named 'lleaves'"}
    assert set(bench.results.ratios()) >= {"3x4x5/10/lightgbm"}
    assert bench.results.exact


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_quick_run(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm", reason="the forests are trained by LightGBM")
    command = [sys.executable, str(ROOT / "load_tests" / "bench_forest.py"), "--quick", "--shapes", "4x5x8"]
    command += ["--batches", "1", "100", "--cache", str(tmp_path), "--json", str(tmp_path / "line.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert line == json.loads((tmp_path / "line.json").read_text(encoding="utf-8"))
    assert line["exact"] is True
    assert {"4x5x8/1/lightgbm", "4x5x8/100/lightgbm"} <= set(line["ratios"])
    measured = {name.split("/")[2].partition("@")[0] for name in line["ratios"]}
    assert measured | set(line["absent"]) == ENGINES, "an engine was dropped without a word"
    assert all(reason for reason in line["absent"].values())
    for engine in line["absent"]:
        assert f"{engine}: " in done.stdout
