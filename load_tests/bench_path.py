"""What a call costs on its way from bytes to bytes, what stored items cost, and how fast rankd is back.

    make bench-path                                          # tables, then one line of JSON; some five minutes
    make bench-path BENCH_ARGS="--quick"                     # little of everything: shows that it works
    make bench-path BENCH_ARGS="--write docs README.md"      # and into the documents

Whatever is compared is asked in turns, round by round, in one run: by one caller that sends one call at a time and
sits on another core than the servers. CPU is the kernel's account of the processes. Reported are medians over the
rounds, and medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import processes, report
from bench.report import Table
from path import beside_echo, beside_fastapi, restart, stored
from path.beside_echo import EchoResult
from path.beside_fastapi import FastapiResult
from path.effort import QUICK, Effort
from path.restart import RestartResult
from path.stored import StoredResult
from rich.console import Console

PARTS = ("echo", "fastapi", "stored", "restart")


def echo_table(results: list[EchoResult], effort: Effort) -> Table:
    """Beside the bare echo."""
    head = ["candidates", "request", "response", "Rank", "of it the forest", "bare echo", "ratio without forest",
            "all processes", "wait"]  # fmt: skip
    rows = [
        [
            f"{r.candidates:,}", f"{r.request_bytes:,} B", f"{r.response_bytes:,} B", f"{r.rank_us:,.0f} µs",
            f"{r.forest_us:,.0f} µs", f"{r.echo_us:,.0f} µs", f"{r.ratio:.2f}", f"{r.all_us:,.0f} µs",
            f"{r.wait_us:,.0f} µs",
        ]
        for r in results
    ]  # fmt: skip
    title = f"Server CPU per Rank, {beside_echo.shape_line(effort.echo_shape)}"
    return Table(title, head, rows)


def fastapi_table(results: list[FastapiResult], effort: Effort) -> Table:
    """Beside the service that a team writes first."""
    head = ["candidates", "rankd"]
    for kind in results[0].peer_us:
        head += [f"FastAPI, {kind} rows", "times rankd's", "its Redis"]
    rows = []
    for r in results:
        row = [f"{r.candidates:,}", f"{r.rank_us:,.0f} µs"]
        for kind, us in r.peer_us.items():
            row += [f"{us:,.0f} µs", f"{r.ratio[kind]:.1f}", f"{r.redis_us[kind]:,.0f} µs"]
        rows.append(row)
    title = f"Server CPU per list, {beside_echo.shape_line(effort.peer_shape)}"
    return Table(title, head, rows, "Redis is a process of its own and not counted in the ratio.")


def stored_table(results: list[StoredResult]) -> Table:
    """Bytes and lookups."""
    head = ["items", "values", "ids", "files", "of values and ids", "lookup of a random id"]
    rows = [
        [
            f"{r.items:,} × {r.signals} f32", f"{r.payload_bytes / 1e6:,.0f} MB", f"{r.id_bytes / 1e6:,.0f} MB",
            f"{r.file_bytes / 1e6:,.0f} MB", f"{r.ratio:.2f}", f"{r.lookup_ns:,.0f} ns",
        ]
        for r in results
    ]  # fmt: skip
    note = f"Lookups: CPU, {stored.BATCH_IDS:,} ids at once, all signals gathered."
    return Table("Stored items", head, rows, note)


def restart_table(result: RestartResult) -> Table:
    """Back after an end, and what a worker adds."""
    head = ["items", "written in", "first start", "after SIGTERM", "after kill -9", "a worker more"]
    times = (result.write_s, result.first_s, result.orderly_s, result.killed_s)
    row = [f"{result.items:,} × {restart.SIGNALS} f32", *[f"{s:.2f} s" for s in times], f"{result.worker_mb:.0f} MB"]
    return Table("From spawning `rankd serve` to SERVING, with items on disk", head, [row])


def readme_table(echo: list[EchoResult], fastapi: list[FastapiResult]) -> Table:
    """The short one."""
    head = ["server CPU per call", *[f"{r.candidates:,} candidates" for r in echo]]
    rows = [
        ["Rank: 20 stored signals, forest of 500 trees × 31 leaves", *[f"{r.rank_us:,.0f} µs" for r in echo]],
        ["of it the forest's own", *[f"{r.forest_us:,.0f} µs" for r in echo]],
        ["a bare gRPC echo of the same bytes", *[f"{r.echo_us:,.0f} µs" for r in echo]],
    ]
    if fastapi:
        found = {r.candidates: r for r in fastapi}
        for name, figure in (
            ("Rank: 100 stored signals, 500 × 31", lambda r: r.rank_us),
            ("the same by FastAPI, Redis and LightGBM", lambda r: min(r.peer_us.values())),
        ):
            cells = [f"{figure(found[r.candidates]):,.0f} µs" if r.candidates in found else "" for r in echo]
            rows.append([name, *cells])
    return Table("", head, rows)


def line(
    quick: bool,
    echo: list[EchoResult],
    fastapi: list[FastapiResult],
    stores: list[StoredResult],
    back: RestartResult | None,
) -> dict[str, object]:
    """The last line. What was not run is null."""
    result: dict[str, object] = {"bench": "path"}
    result["echo"] = {str(r.candidates): round(r.ratio, 3) for r in echo} or None
    # The cheaper of the two services counts.
    result["fastapi"] = {str(r.candidates): round(min(r.ratio.values()), 2) for r in fastapi} or None
    # Lookups as in the profile above, of 20 signals; memory: the worse of the tables.
    result["lookup_ns"] = round(stores[0].lookup_ns, 1) if stores else None
    result["memory_ratio"] = round(max(r.ratio for r in stores), 3) if stores else None
    result["worker_mb"] = None if back is None else round(back.worker_mb, 1)
    result["restart_s"] = None if back is None else round(back.restart_s, 3)
    result |= {"quick": quick, "machine": report.machine()}
    result["details"] = {"echo": [asdict(r) for r in echo], "fastapi": [asdict(r) for r in fastapi]}
    result["details"] |= {"stored": [asdict(r) for r in stores], "restart": None if back is None else asdict(back)}
    return result


def write_documents(
    places: list[Path], tables: list[Table], echo: list[EchoResult], fastapi: list[FastapiResult]
) -> None:
    """Fills the marked sections; a folder stands for its performance.md."""
    measured = f"Measured on: {report.machine_line()}."
    for place in places:
        if place.is_dir():
            text = "\n\n".join([measured, *[table.markdown() for table in tables]])
            report.write_section(place / "performance.md", "bench-path", text)
        elif echo:
            table = readme_table(echo, fastapi).markdown().split("\n", 2)[2]
            report.write_section(place, "bench:readme", f"{table}\n\n{measured}")


def main() -> int:
    """Runs it all and prints the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything: only shows that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="PLACE", help="documents to update")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    console = Console(width=140) if not sys.stdout.isatty() else Console()
    server_core, caller_core = processes.cores()
    echo: list[EchoResult] = []
    fastapi: list[FastapiResult] = []
    stores: list[StoredResult] = []
    back: RestartResult | None = None
    tables = []
    with tempfile.TemporaryDirectory(prefix="rankd-path-") as name:
        folder = Path(name)
        with processes.on_core(caller_core):
            if "echo" in arguments.only:
                echo = beside_echo.measure(folder, effort, server_core, console.print)
                tables.append(echo_table(echo, effort))
            if "fastapi" in arguments.only:
                fastapi = beside_fastapi.measure(folder, effort, server_core, console.print)
                tables.append(fastapi_table(fastapi, effort))
            if "stored" in arguments.only:
                stores = stored.measure(folder, effort, server_core, console.print)
                tables.append(stored_table(stores))
        if "restart" in arguments.only:
            back = restart.measure(folder, effort, console.print)
            tables.append(restart_table(back))
    for table in tables:
        table.show(console)
    console.print(report.machine_line())
    write_documents(arguments.write, tables, echo, fastapi)
    print(json.dumps(line(arguments.quick, echo, fastapi, stores, back), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
