"""How fast scores are explained: rankd's TreeSHAP beside those of others, on the same LightGBM models.

    make bench-explain                                        # a table, then one line of JSON
    make bench-explain BENCH_ARGS="--quick"                   # the smallest shape and short runs
    make bench-explain BENCH_ARGS="--write docs/explanations.md"

One process, one thread; the forests and rows of make bench-forest, which share its cache. In each round every
engine explains a batch of rows, in turns, the next rows each time; reported are medians over the rounds and
their ratios. The clock is the CPU time of the process. LightGBM is called through its C API, rankd and the
others through Python. An engine that is not installed or fails is named in the table and under "absent":
shap (its C extension) and fasttreeshap need other versions of libraries that lleaves needs, so they are in
no extra; install them in an environment of their own to have them measured. The exit status is 1 if a value
is further than 1e-10 from LightGBM's.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from bench import report
from bench.forest.cache import Cache, say
from bench.forest.measure import QUICK, Effort, Timing, alternate
from bench.forest.run import default_cache
from bench.forest.shapes import SHAPES, Shape
from numpy.typing import NDArray
from rich.console import Console

from rankd.kernels.shap import Shap, has_tier
from rankd.models import parse_lightgbm

ROOT = Path(__file__).resolve().parents[1]
BATCHES = (10, 50)
TOLERANCE = 1e-10
_CONTRIBUTIONS = 3
_FLOAT32 = 0

Explain = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From rows (rows, features) to contributions (rows, features + 1), the expected value last."""


class Runner:
    """An engine on one batch size: explains the blocks of the rows in turns and keeps what came out."""

    def __init__(self, explain: Explain, blocks: Sequence[NDArray[np.float32]]) -> None:
        self.blocks, self.rows = len(blocks), len(blocks[0])
        self.out = np.zeros(0)
        self.found: dict[int, NDArray[np.float64]] = {}
        self._explain, self._inputs = explain, blocks

    def run(self, first: int, calls: int) -> float:
        """See bench.forest.clock.Runner.run."""
        started = time.process_time()
        for number in range(first, first + calls):
            self.found[number % self.blocks] = self._explain(self._inputs[number % self.blocks])
        return time.process_time() - started


def open_rankd(tier: str) -> Callable[[Path], Explain]:
    """rankd's kernel on one tier; the rows lie feature after feature, as where rankd builds them."""

    def explainer(model: Path) -> Explain:
        if not has_tier(tier):
            raise RuntimeError(f"this processor has no tier {tier}")
        shap = Shap(parse_lightgbm(model.read_bytes()).forest)
        return lambda rows: shap.values(rows.T, tier)[0].T

    return explainer


def open_lightgbm(model: Path) -> Explain:
    """LGBM_BoosterPredictForMat with C_API_PREDICT_CONTRIB, num_threads=1, row-major rows."""
    import lightgbm

    c = ctypes.CDLL(str(Path(lightgbm.__file__).parent / "lib" / "lib_lightgbm.so"))
    booster, trees = ctypes.c_void_p(), ctypes.c_int()
    if c.LGBM_BoosterCreateFromModelfile(str(model).encode(), ctypes.byref(trees), ctypes.byref(booster)):
        raise RuntimeError("LightGBM does not read its model")

    def explain(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        n, features = rows.shape
        rows = np.ascontiguousarray(rows)
        out, length = np.empty((n, features + 1)), ctypes.c_int64()
        if c.LGBM_BoosterPredictForMat(
            booster, rows.ctypes.data_as(ctypes.c_void_p), _FLOAT32, ctypes.c_int32(n), ctypes.c_int32(features), 1,
            _CONTRIBUTIONS, 0, -1, b"num_threads=1", ctypes.byref(length), out.ctypes.data_as(ctypes.c_void_p),
        ):  # fmt: skip
            raise RuntimeError("LightGBM does not explain its model")
        return out

    return explain


def open_shap(model: Path) -> Explain:
    """shap's C extension: told that the model is its own, it does not hand it back to LightGBM."""
    import lightgbm
    import shap

    explainer = shap.TreeExplainer(lightgbm.Booster(model_file=model), feature_perturbation="tree_path_dependent")
    explainer.model.model_type = "internal"
    return _with_expected(explainer, lambda rows: explainer.shap_values(rows, check_additivity=False))


def open_fasttreeshap(model: Path) -> Explain:
    """FastTreeSHAP, algorithm v1."""
    import fasttreeshap
    import lightgbm

    explainer = fasttreeshap.TreeExplainer(lightgbm.Booster(model_file=model), algorithm="v1", n_jobs=1)
    return _with_expected(explainer, lambda rows: explainer.shap_values(rows, check_additivity=False))


def _with_expected(explainer: Any, values: Callable[[NDArray[np.float32]], Any]) -> Explain:
    """NaN where the library does not say what it expects."""
    expected = np.nan if explainer.expected_value is None else float(np.ravel(explainer.expected_value)[-1])

    def explain(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.asarray(values(rows), np.float64)
        return np.column_stack([found, np.full(len(found), expected)])

    return explain


RANKD = {"rankd": open_rankd("auto"), "rankd@avx2": open_rankd("avx2"), "rankd@plain": open_rankd("plain")}
PEERS = {"lightgbm": open_lightgbm, "shap": open_shap, "fasttreeshap": open_fasttreeshap}


class Results:
    """Of a whole run."""

    def __init__(self) -> None:
        self.timings: dict[tuple[str, int, str], Timing] = {}
        self.differences: dict[str, float] = {}
        self.absent: dict[str, str] = {}

    def measure(self, shape: Shape, cache: Cache, effort: Effort) -> None:
        """All engines on one shape."""
        model = cache.model("lightgbm", shape)
        table = cache.rows(shape.features)
        engines: dict[str, Explain] = {}
        for name, opened in (RANKD | PEERS).items():
            try:
                engines[name] = opened(model)
                engines[name](table[:2])
            except Exception as error:  # whatever a peer throws, the others go on and it is named
                engines.pop(name, None)
                self.absent.setdefault(name, f"{type(error).__name__}: {error}"[:200])
        for batch in BATCHES:
            ends = range(batch, len(table) + 1, batch)
            plain = [np.ascontiguousarray(table[end - batch : end]) for end in ends]
            ours = [np.asfortranarray(rows) for rows in plain]
            runners = {(name, ""): Runner(e, ours if name in RANKD else plain) for name, e in engines.items()}
            for (name, _), timing in alternate(runners, effort).items():
                self.timings[str(shape), batch, name] = timing
            self._compare(engines, runners, plain)
            say(f"{shape}, {batch} rows: done")

    def _compare(self, engines: dict[str, Explain], runners: Any, blocks: Sequence[NDArray[np.float32]]) -> None:
        """Every engine's values against LightGBM's, on all blocks that LightGBM explained."""
        if ("lightgbm", "") not in runners:
            return
        for block, expected in runners["lightgbm", ""].found.items():
            for name, explain in engines.items():
                if name != "lightgbm":
                    found = runners[name, ""].found.get(block)
                    off = float(np.nanmax(np.abs((explain(blocks[block]) if found is None else found) - expected)))
                    self.differences[name] = max(off, self.differences.get(name, 0.0))

    @property
    def max_abs_error(self) -> float | None:
        """rankd's greatest distance from LightGBM, on any tier; None if they did not both run."""
        found = [off for name, off in self.differences.items() if name in RANKD]
        return max(found, default=None)

    def ratios(self) -> dict[str, float]:
        """SHAPE/ROWS/PEER: how many times faster rankd is; with @avx2 and @plain, rankd held to that tier."""
        found = {}
        for (shape, batch, name), timing in self.timings.items():
            for ours in RANKD if name in PEERS else ():
                if mine := self.timings.get((shape, batch, ours)):
                    ratio = timing.us_per_row / mine.us_per_row
                    found[f"{shape}/{batch}/{name}{ours.removeprefix('rankd')}"] = round(ratio, 1)
        return found

    def ms(self) -> dict[str, float]:
        """SHAPE/ROWS/ENGINE: milliseconds a call."""
        return {f"{s}/{b}/{n}": round(t.us_per_row * b / 1000, 3) for (s, b, n), t in self.timings.items()}

    def table(self) -> report.Table:
        """Milliseconds a call and, in brackets, how many times faster rankd is."""
        ms, ratios = self.ms(), self.ratios()
        shapes = list(dict.fromkeys(shape for shape, _, _ in self.timings))
        rows = []
        for name in RANKD | PEERS:
            cells = []
            for shape in shapes:
                found = [f"{shape}/{batch}/{name}" for batch in BATCHES]
                shown = [
                    f"{ms[key]:.3g}" + (f" ({ratios[key]:.0f}×)" if key in ratios else "") for key in found if key in ms
                ]
                cells.append(" / ".join(shown) or "–")
            rows.append([name.replace("@", ", tier "), *cells])
        note = [f"Greatest distance from LightGBM's values: {self.max_abs_error:.1g}." if self.max_abs_error else ""]
        note += [f"Not measured: {name}: {reason}." for name, reason in self.absent.items()]
        title = f"ms to explain {' / '.join(map(str, BATCHES))} rows (times rankd's)"
        return report.Table(title, ["trees x leaves x features", *shapes], rows, " ".join(note).strip())

    def line(self, **more: Any) -> dict[str, Any]:
        """The last line of the run."""
        tier = next(t for t in ("avx512", "avx2", "plain") if has_tier(t))
        spread = {"/".join(map(str, key)): round(timing.spread, 3) for key, timing in self.timings.items()}
        return {
            "bench": "explain", "ratios": self.ratios(), "max_abs_error": self.max_abs_error, "ms": self.ms(),
            "tier": tier, "absent": self.absent, "differences": self.differences, "spread": spread, **more,
        }  # fmt: skip


def arguments() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", type=Shape.parse, metavar="TREESxLEAVESxFEATURES")
    parser.add_argument("--quick", action="store_true", help="the smallest shape and short runs: shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the line of JSON there, too")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PATH", help="documents, or their folder")
    parser.add_argument("--cache", type=Path, default=default_cache(ROOT), help="where models are kept")
    return parser.parse_args()


def main() -> int:
    """Runs it all and prints the results."""
    options = arguments()
    results = Results()
    for shape in options.shapes or list(SHAPES[:1] if options.quick else SHAPES):
        results.measure(shape, Cache(options.cache), QUICK if options.quick else Effort())
    console = Console(width=120) if not sys.stdout.isatty() else Console()
    results.table().show(console)
    console.print(report.machine_line(), highlight=False)
    for path in options.write:
        document = path / "explanations.md" if path.is_dir() else path
        text = f"Measured on: {report.machine_line()}.\n\n{results.table().markdown()}"
        if not report.write_section(document, "bench-explain", text):
            say(f"no section <!-- bench-explain --> in {document}: nothing written there")
    text = json.dumps(results.line(quick=options.quick, machine=report.machine()), ensure_ascii=False)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    error = results.max_abs_error
    return 1 if error is None or error > TOLERANCE else 0


if __name__ == "__main__":
    raise SystemExit(main())
