"""How fast forests are scored: rankd beside the libraries and compilers that score the same models.

    make bench-forest                                         # a table a shape, then one line of JSON
    make bench-forest BENCH_ARGS="--quick"                    # one small shape: shows that it works
    make bench-forest BENCH_ARGS="--shapes 500x64x136 --engines lleaves lightgbm"
    make bench-forest BENCH_ARGS="--write docs"               # and into docs/kernels.md, with the plot

One process, one thread. Every engine is called through a C function in a loop in C
(load_tests/bench/forest/driver.c), CatBoost through Python, as PyPI has no package with its C library. In each
round every engine scores for some 20 ms, in turns; reported are medians over the rounds and their ratios. The
clock is the CPU time of the process, all threads: what else the machine does adds little to it.
The rows are not those of training; a call scores the next ones, so that no branch predictor learns
them by heart. Peers get row-major rows, lleaves already in double; of several settings the fastest counts.

Models, rows and compiled peers are kept in build/bench-forest under names that say versions, data and
processor: the first run trains and compiles for some half an hour, later ones start at once. A peer that
is not installed or fails is named in the table and under "absent". The exit status is 1 if any score of
rankd is not the library's own, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Before any library starts threads of its own.
os.environ["OMP_NUM_THREADS"] = "1"

from bench import report
from bench.forest import tables
from bench.forest.cache import Cache, say
from bench.forest.clock import Clock
from bench.forest.engines import PEERS
from bench.forest.engines.rankd_c import Rankd
from bench.forest.measure import QUICK, Effort
from bench.forest.run import ROWS, Bench, default_cache, loading
from bench.forest.shapes import BATCHES, SHAPES, Shape
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]


def batch_size(text: str) -> int:
    """A number of rows that divides those there are."""
    value = int(text)
    if value < 1 or ROWS % value:
        raise argparse.ArgumentTypeError(f"expected a divisor of {ROWS}, got {value}")
    return value


def arguments() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", type=Shape.parse, metavar="TREESxLEAVESxFEATURES")
    parser.add_argument("--batches", nargs="+", type=batch_size, default=list(BATCHES), metavar="ROWS")
    parser.add_argument("--engines", nargs="+", choices=[peer.name for peer in PEERS], help="peers; all by default")
    parser.add_argument("--quick", action="store_true", help="the smallest shape and short runs: shows that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the line of JSON there, too")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PLACE", help="documents to update")
    parser.add_argument("--cache", type=Path, default=default_cache(ROOT), help="where models are kept")
    return parser.parse_args()


def main() -> int:
    """Runs it all and prints the results."""
    options = arguments()
    shapes = options.shapes or list(SHAPES[:1] if options.quick else SHAPES)
    peers = [peer for peer in PEERS if not options.engines or peer.name in options.engines]
    cache = Cache(options.cache)
    bench = Bench(cache, options.batches, peers, QUICK if options.quick else Effort())
    for shape in shapes:
        bench.shape(shape)
    results = bench.results
    loading(results, cache, max(shapes), peers, Clock(cache))
    console = Console(width=120) if not sys.stdout.isatty() else Console()
    hows = {"rankd": Rankd.how} | {peer.name: peer.how for peer in peers}
    for table in tables.tables(results):
        table.show(console)
    for remark in tables.remarks(results, hows):
        console.print(remark, highlight=False)
    console.print(report.machine_line(), highlight=False)
    tables.write_documents(options.write, results, hows)
    line = results.line(quick=options.quick, cpu=report.machine()["CPU"], machine=report.machine())
    text = json.dumps(line, ensure_ascii=False)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    if not results.exact:
        say(f"not exact: {', '.join(results.inexact) or 'rankd was not measured'}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
