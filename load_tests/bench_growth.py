"""How a Rank's CPU grows with candidates, signals, trees and workers.

    make bench-growth                              # a table, then one line of JSON; some two minutes
    make bench-growth BENCH_ARGS="--write docs"    # and into docs/performance.md, with the plots
    make bench-growth BENCH_ARGS="--quick"         # little of everything: shows that it works

Every point is the server's CPU per call, the median over rounds in which all points are measured in turns. Workers:
each is given the same load; what a call then costs, beside what it costs with one worker, is how much they are in
each other's way.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes, report, shop
from bench.forest.shapes import Shape
from bench.report import Table
from generator.offer import RANK, Offer, Stream
from generator.process import Generator
from path.callers import Block, GrpcCaller
from rich.console import Console

SIZES = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000)
FORESTS = (Shape(100, 31, 20), Shape(500, 31, 20), Shape(500, 64, 20))
SIGNALS = (5, 10, 20, 50, 100)
TREES = (0, 100, 200, 500, 1_000)
LISTS = (100, 1_000)
"""Candidates where something else grows."""
WORKERS = (1, 2)
WORKER_CANDIDATES = 1_000
NO_MODEL = "no_model"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. `load`: of each worker's core."""

    rounds: int = 9
    block_s: float = 0.1
    items: int = 20_000
    worker_s: float = 5.0
    worker_rounds: int = 3
    load: float = 0.5


QUICK = Effort(rounds=1, block_s=0.005, items=12_000, worker_s=0.3, worker_rounds=1)

Point = tuple[str, str, int]
"""Plot, line, place on the x axis."""


def points() -> dict[Point, tuple[str, int]]:
    """Which profile, with how many candidates, each point is measured by."""
    found = {}
    for shape in FORESTS:
        for size in SIZES:
            found["candidates", f"{shape.trees} × {shape.leaves}", size] = (shop.forest_name(shape), size)
    for size in SIZES:
        found["candidates", "no model", size] = (NO_MODEL, size)
    for size in LISTS:
        for count in SIGNALS:
            found["signals", f"{size:,} candidates", count] = (shop.forest_name(Shape(100, 31, count)), size)
        for trees in TREES:
            name = shop.forest_name(Shape(trees, 31, 20)) if trees else NO_MODEL
            found["trees", f"{size:,} candidates", trees] = (name, size)
    return found


def write_workspace(folder: Path) -> None:
    """All the profiles, over items with as many signals as the widest asks for."""
    shapes = {*FORESTS, *[Shape(100, 31, count) for count in SIGNALS], *[Shape(t, 31, 20) for t in TREES if t]}
    plain = {NO_MODEL: shop.profile(20, None, base="item.s000")}
    shop.write_workspace(folder, sorted(shapes), signals=max(SIGNALS), profiles=plain)


def measure_points(server: processes.Running, effort: Effort) -> dict[Point, float]:
    """Microseconds of CPU a call."""
    caller = GrpcCaller(server, RANK)
    blocks = {}
    for name, size in dict.fromkeys(points().values()):
        lists = [shop.choose_items(effort.items, size, seed) for seed in range(4)]
        blocks[name, size] = Block(caller, [shop.rank_request(name, one) for one in lists], effort.block_s)
    found: dict[tuple[str, int], list[float]] = {key: [] for key in blocks}
    for _ in range(effort.rounds):
        for key in random.sample(list(blocks), len(blocks)):
            found[key].append(blocks[key].measure().cpu_s * 1e6)
    caller.close()
    return {point: statistics.median(found[key]) for point, key in points().items()}


def measure_workers(folder: Path, effort: Effort, call_s: float, say: Callable[[str], None]) -> dict[int, float]:
    """Microseconds of CPU a call, by the number of workers, each at the same load."""
    name = shop.forest_name(FORESTS[1])
    lists = [shop.choose_items(effort.items, WORKER_CANDIDATES, seed) for seed in range(16)]
    requests = [shop.rank_request(name, one, page_size=10) for one in lists]
    found: dict[int, list[float]] = {count: [] for count in WORKERS}
    with Generator() as generator:
        for count in [*WORKERS] * effort.worker_rounds:  # one after another: they share the data directory
            with processes.rankd(folder, workers=count) as server:
                while len(server.find_workers()) < count:  # it serves from the first on
                    time.sleep(0.1)
                stream = Stream("rank", requests)
                asked = Offer(server.target, [stream], 50.0, 0.2, 5.0, channels=8 * count)
                generator.run(asked)  # warms up
                before = server.cpu_s()
                rate = count * effort.load / call_s
                outcome = generator.run(replace(asked, rate=rate, seconds=effort.worker_s))
                if outcome.failed:
                    say(f"  {count} workers: {outcome.statuses()}")
                found[count].append((server.cpu_s() - before) / len(outcome.code) * 1e6)
    return {count: statistics.median(each) for count, each in found.items()}


def contention(by_workers: dict[int, float]) -> float:
    """sigma of the Universal Scalability Law (Gunther 2007), with kappa 0: what a call costs more for each further
    worker, as a share. Two points cannot tell kappa."""
    few, many = min(by_workers), max(by_workers)
    return max(0.0, by_workers[many] / by_workers[few] - 1) / (many - few)


def growth_table(found: dict[Point, float]) -> Table:
    """Microseconds a call where candidates grow."""
    lines = list(dict.fromkeys(line for plot, line, _ in found if plot == "candidates"))
    rows = [[line, *[f"{found['candidates', line, size]:,.0f}" for size in SIZES]] for line in lines]
    return Table("Server CPU per Rank, µs, over 20 stored signals", ["candidates", *[f"{s:,}" for s in SIZES]], rows)


def draw(folder: Path, found: dict[Point, float], by_workers: dict[int, float]) -> None:
    """A plot a question."""
    plt = report.svg_pyplot()
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    for plot in dict.fromkeys(plot for plot, _, _ in found):
        figure, axes = plt.subplots(figsize=(7, 4))
        for line in dict.fromkeys(line for each, line, _ in found if each == plot):
            places = [place for each, other, place in found if (each, other) == (plot, line)]
            axes.plot(places, [found[plot, line, place] for place in places], marker="o", label=line)
        axes.set(xlabel=plot, ylabel="server CPU per call, µs")
        if plot == "candidates":
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(list(SIZES), [f"{size:,}" for size in SIZES])
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        finish(axes, figure, folder / f"growth_{plot}.svg")
    figure, axes = plt.subplots(figsize=(7, 4))
    sigma, one = contention(by_workers), by_workers[min(by_workers)]
    counts = list(range(1, 17))
    law = [count / (one * (1 + sigma * (count - 1))) * 1e6 for count in counts]
    axes.plot(counts, [count / one * 1e6 for count in counts], linestyle=":", label="each as one alone")
    axes.plot(counts, law, linestyle="--", label=f"law, σ = {sigma:.3f}: not measured beyond {max(by_workers)}")
    axes.plot(list(by_workers), [n / us * 1e6 for n, us in by_workers.items()], "o", label="measured")
    axes.set(xlabel="workers, each with a core of its own", ylabel="calls a second of CPU time")
    finish(axes, figure, folder / "growth_workers.svg")


def finish(axes: object, figure: object, file: Path) -> None:
    """Grid, legend, file."""
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main() -> int:
    """Runs it all and prints the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything: only shows that it works")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="FOLDER", help="documents to update")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    console = Console(width=120) if not sys.stdout.isatty() else Console()
    server_core, caller_core = processes.cores()
    with tempfile.TemporaryDirectory(prefix="rankd-growth-") as name:
        workspace = Path(name) / "growth"
        write_workspace(workspace)
        with processes.on_core(caller_core), processes.rankd(workspace, server_core) as server:
            shop.write_items(server.target, shop.item_rows(max(SIGNALS), effort.items))
            found = measure_points(server, effort)
        call_s = found["candidates", "500 × 31", WORKER_CANDIDATES] / 1e6
        by_workers = measure_workers(workspace, effort, call_s, console.print)
    table = growth_table(found)
    table.show(console)
    sigma = contention(by_workers)
    told = ", ".join(f"{us:,.0f} µs with {count}" for count, us in by_workers.items())
    note = f"Workers, each half busy, 500 × 31, {WORKER_CANDIDATES:,} candidates: a call costs {told}: σ = {sigma:.3f}."
    console.print(note)
    for place in arguments.write:
        draw(place, found, by_workers)
        text = "\n\n".join([f"Measured on: {report.machine_line()}.", table.markdown(), note])
        report.write_section(place / "performance.md", "growth", text)
    line = {"bench": "growth", "quick": arguments.quick, "machine": report.machine()}
    line["cpu_us"] = {"/".join(map(str, point)): round(us, 1) for point, us in found.items()}
    line |= {"workers_us": {str(n): round(us, 1) for n, us in by_workers.items()}, "sigma": round(sigma, 4)}
    print(json.dumps(line, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
