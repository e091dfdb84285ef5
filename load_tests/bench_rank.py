"""What a Rank costs, how fast rankd starts, how much memory items take.

    make bench                                            # tables, then one line of JSON
    make bench BENCH_ARGS="--write docs README.md"        # and into docs/performance.md and the README
    make bench BENCH_ARGS="--quick"                       # few calls: shows that it works, not how fast

CPU: each Rank is measured beside a bare grpc.aio server that answers the very same request with the very
same response bytes, in turns, in one run; the server's CPU time is the kernel's account of the server
process, the caller sits on another core and sends one call at a time. Reported are medians over the
rounds, and the median of the rounds' ratios.

Start-up: from spawning `rankd serve` to the first SERVING that its health service answers.

Memory: the resident memory of a server with 100,000 items less that of one with none, both freshly
started from disk, and of the server that has just written them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
from bench import processes, report, shop
from bench.processes import Running
from bench.report import Table
from bench.shop import Shape
from rich.console import Console

from rankd.v1 import ranking_pb2

SIZES = (10, 100, 1_000)
SHAPES = (Shape(100, 31), Shape(500, 31), Shape(500, 64))
STORED_ITEMS = 10_000
MEMORY_ITEMS = 100_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int = 9
    round_s: float = 0.4
    starts: int = 5
    memory_items: int = MEMORY_ITEMS


QUICK = Effort(rounds=2, round_s=0.02, starts=1, memory_items=2_000)


@dataclass(frozen=True, slots=True)
class CpuResult:
    """Server CPU of one scenario, in microseconds per call."""

    forest: str
    candidates: int
    request_bytes: int
    response_bytes: int
    rankd_us: float
    echo_us: float
    ratio: float
    wall_us: float
    """The caller's wait for a Rank, from call to answer."""


def request_for(profile: str, size: int, seed: int) -> bytes:
    """A RankRequest of random stored ids and the two request columns, serialized."""
    generator = np.random.default_rng(seed)
    ids = [shop.item_id(number) for number in generator.choice(STORED_ITEMS, size, replace=False)]
    columns = [
        ranking_pb2.Column(name=name, values=generator.normal(size=size).astype(np.float32)) for name in shop.COLUMNS
    ]
    candidates = ranking_pb2.Candidates(ids=ids, columns=columns)
    message = ranking_pb2.RankRequest(profile=profile, request_id="bench", candidates=candidates)
    message.as_of.FromJsonString("2026-10-01T00:00:00Z")
    return message.SerializeToString()


class Caller:
    """Bytes to a method and back, over one connection."""

    def __init__(self, server: Running, method: str) -> None:
        self.server = server
        self._channel = grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)])
        self.call = self._channel.unary_unary(method)

    def measure(self, request: bytes, calls: int) -> tuple[float, float]:
        """(server CPU, wall time) per call in seconds."""
        cpu, wall = self.server.cpu_s(), time.perf_counter()
        for _ in range(calls):
            self.call(request)
        return (self.server.cpu_s() - cpu) / calls, (time.perf_counter() - wall) / calls

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def measure_scenario(rank: Caller, echo: Caller, request: bytes, effort: Effort) -> tuple[float, float, float, float]:
    """(rankd s, echo s, ratio, wall s) per call: medians over rounds that alternate between the two."""
    rank.measure(request, 3), echo.measure(request, 3)
    calls = [max(3, int(effort.round_s / caller.measure(request, 5)[1])) for caller in (rank, echo)]
    rounds = [(*rank.measure(request, calls[0]), echo.measure(request, calls[1])[0]) for _ in range(effort.rounds)]
    return (
        statistics.median(r for r, _, _ in rounds),
        statistics.median(e for _, _, e in rounds),
        statistics.median(r / e for r, _, e in rounds),
        statistics.median(w for _, w, _ in rounds),
    )


def bench_cpu(folder: Path, effort: Effort, server_core: int | None, console: Console) -> list[CpuResult]:
    """Every forest with every number of candidates."""
    console.print("training forests …")
    shop.write_ranking_workspace(folder / "shop", list(SHAPES))
    responses = folder / "responses"
    responses.mkdir()
    requests = {(s, n): request_for(s.name, n, n) for s in SHAPES for n in SIZES}
    results = []
    with processes.rankd(folder / "shop", server_core) as server:
        shop.load(server.target, shop.NUMBERS, STORED_ITEMS)
        rank = Caller(server, "/rankd.v1.RankingService/Rank")
        answers = {key: rank.call(request) for key, request in requests.items()}
        for (shape, size), answer in answers.items():
            if len(ranking_pb2.RankResponse.FromString(answer).ids) != size:
                raise RuntimeError(f"{shape.name} answered too few of {size} candidates")
            (responses / f"{shape.name}_{size}").write_bytes(answer)
        with processes.echo(responses, server_core) as bare:
            for (shape, size), request in requests.items():
                echo = Caller(bare, f"/bare.Echo/{shape.name}_{size}")
                assert echo.call(request) == answers[shape, size]
                rankd_s, echo_s, ratio, wall_s = measure_scenario(rank, echo, request, effort)
                echo.close()
                figures = (rankd_s * 1e6, echo_s * 1e6, ratio, wall_s * 1e6)
                results.append(CpuResult(str(shape), size, len(request), len(answers[shape, size]), *figures))
                console.print(f"  {shape}, {size:,} candidates: {rankd_s * 1e6:,.0f} µs, echo {echo_s * 1e6:,.0f} µs")
        rank.close()
    return results


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What a schema's items cost."""

    schema: str
    items: int
    empty_start_s: float
    full_start_s: float
    loaded_mb: float
    """More resident memory than an empty server, started from disk."""
    written_mb: float
    """The same of the process that has just written them."""
    row_bytes: float
    """loaded_mb per item."""


def bench_store(folder: Path, schema: str, signals: dict[str, str], effort: Effort) -> StoreResult:
    """Start-up and memory with none and with many items on disk."""
    empty, full = folder / "empty", folder / "full"
    for workspace in (empty, full):
        shop.write_store_workspace(workspace, signals)
    with processes.rankd(full) as server:
        before = server.rss_bytes()
        shop.load(server.target, signals, effort.memory_items)
        written = server.rss_bytes() - before
    starts: dict[Path, list[float]] = {empty: [], full: []}
    rss: dict[Path, list[int]] = {empty: [], full: []}
    for _ in range(effort.starts):
        for workspace in (empty, full):
            with processes.rankd(workspace) as server:
                starts[workspace].append(server.ready_s)
                rss[workspace].append(server.rss_bytes())
    loaded = statistics.median(rss[full]) - statistics.median(rss[empty])
    return StoreResult(
        schema, effort.memory_items, statistics.median(starts[empty]), statistics.median(starts[full]),
        loaded / 1e6, written / 1e6, loaded / effort.memory_items,
    )  # fmt: skip


def cpu_table(results: list[CpuResult]) -> Table:
    """For the terminal and docs/performance.md."""
    head = ["forest (trees × leaves)", "candidates", "request", "response", "rankd", "bare echo", "ratio", "wait"]
    rows = [
        [
            r.forest, f"{r.candidates:,}", f"{r.request_bytes:,} B", f"{r.response_bytes:,} B",
            f"{r.rankd_us:,.0f} µs", f"{r.echo_us:,.0f} µs", f"{r.ratio:.1f}", f"{r.wall_us:,.0f} µs",
        ]
        for r in results
    ]  # fmt: skip
    return Table("Server CPU per Rank, 50 features", head, rows)


def readme_table(results: list[CpuResult]) -> Table:
    """The short one: a row per forest."""
    forests = dict.fromkeys(r.forest for r in results)
    rows = [[forest, *[f"{r.rankd_us:,.0f} µs" for r in results if r.forest == forest]] for forest in forests]
    first = results[0].forest
    rows.append(["a bare gRPC echo of the same bytes", *[f"{r.echo_us:,.0f} µs" for r in results if r.forest == first]])
    head = ["server CPU per Rank: forest (trees × leaves)"]
    return Table("", [*head, *[f"{r.candidates:,} candidates" for r in results if r.forest == first]], rows)


def store_table(results: list[StoreResult]) -> Table:
    """Start-up and memory."""
    head = ["items", "start, none", "start, all on disk", "memory", "after writing", "bytes per item"]
    rows = [
        [
            f"{r.items:,} × {r.schema}", f"{r.empty_start_s:.2f} s", f"{r.full_start_s:.2f} s",
            f"{r.loaded_mb:,.0f} MB", f"{r.written_mb:,.0f} MB", f"{r.row_bytes:,.0f}",
        ]
        for r in results
    ]  # fmt: skip
    return Table("Start-up and memory", head, rows)


def write_documents(places: list[Path], cpu: list[CpuResult], store: list[StoreResult]) -> None:
    """Fills the marked sections; a folder stands for its performance.md and the plot beside it."""
    measured = f"Measured on: {report.machine_line()}."
    for place in places:
        if not place.is_dir():
            table = readme_table(cpu).markdown().split("\n", 2)[2]
            report.write_section(place, "bench:readme", table + f"\n\n{measured}")
            continue
        tables = "\n\n".join([measured, cpu_table(cpu).markdown(), store_table(store).markdown()])
        report.write_section(place / "performance.md", "bench", tables)
        lines = {
            f"forest {f}": [r.rankd_us for r in cpu if r.forest == f] for f in dict.fromkeys(r.forest for r in cpu)
        }
        lines["bare echo"] = [r.echo_us for r in cpu if r.forest == cpu[0].forest]
        report.plot_cpu(place / "cpu_per_rank.svg", SIZES, lines)


def main() -> int:
    """Runs it all and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few calls and items: only shows that it works")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PLACE", help="documents to update")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    console = Console(width=120) if not sys.stdout.isatty() else Console()
    cores = sorted(os.sched_getaffinity(0))
    server_core = None
    if len(cores) > 1:
        server_core = cores[0]
        processes.pin(os.getpid(), cores[-1])
    with tempfile.TemporaryDirectory(prefix="rankd-bench-") as name:
        cpu = bench_cpu(Path(name), effort, server_core, console)
        # Start-up may use every core, as it would in production.
        os.sched_setaffinity(0, set(cores))
        kinds = {"50 numbers": shop.NUMBERS | {f"n{i}": "f32" for i in range(3)}, "products": shop.CATALOGUE}
        store = [bench_store(Path(name, key.replace(" ", "_")), key, kinds[key], effort) for key in kinds]
    for table in (cpu_table(cpu), store_table(store)):
        table.show(console)
    console.print(report.machine_line())
    write_documents(arguments.write, cpu, store)
    line = {"bench": "rank", "quick": arguments.quick, "machine": report.machine()}
    line |= {"cpu": [asdict(r) for r in cpu], "store": [asdict(r) for r in store]}
    print(json.dumps(line, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
