"""What the store of signals does in a second, and what sharing it through Redis costs.

    make bench-signals                                        # tables, then one line of JSON; some ten minutes
    make bench-signals BENCH_ARGS="--quick"                   # little of everything: shows that it works
    make bench-signals BENCH_ARGS="--only writes"             # one part
    make bench-signals BENCH_ARGS="--write docs"              # and into the documents

Whatever is compared runs in turns, round by round, in one run; reported are medians over the rounds, and medians of the
rounds' ratios. Files are in the folder for temporary files: TMPDIR says which disk is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import processes, report
from bench.report import Table
from rich.console import Console
from store import fetch, lost, resync, writes
from store.effort import QUICK, Effort
from store.fetch import FetchResult
from store.lost import LostResult
from store.resync import LagResult, MemoryResult, ResyncResult
from store.writes import WriteResult

PARTS = ("writes", "fetch", "resync", "memory", "lag", "lost")


class Results:
    """What was measured; None or empty: that part was not run."""

    def __init__(self) -> None:
        self.writes: list[WriteResult] = []
        self.fetch: FetchResult | None = None
        self.resync: ResyncResult | None = None
        self.memory: MemoryResult | None = None
        self.lag: LagResult | None = None
        self.lost: list[LostResult] = []

    def tables(self) -> list[Table]:
        """One of each part that was run."""
        found = []
        if self.writes:
            found.append(writes_table(self.writes))
        if self.fetch is not None:
            found.append(fetch_table(self.fetch))
        if self.resync is not None or self.memory is not None or self.lag is not None:
            found.append(shared_table(self.resync, self.memory, self.lag))
        if self.lost:
            found.append(lost_table(self.lost))
        return found

    def line(self, quick: bool) -> dict[str, object]:
        """The last line. What was not run is null."""
        best = max(self.writes, key=lambda r: r.rankd) if self.writes else None
        found: dict[str, object] = {
            "bench": "signals",
            "write_rows_per_s": best and round(best.rankd),
            "write_vs_sqlite": best and round(best.over_sqlite, 2),
            "write_vs_lmdb": best and round(best.over_lmdb, 2),
            "redis_fetch_ratio": self.fetch and round(self.fetch.ratio, 2),
            "redis_fetch_tight_ratio": self.fetch and round(self.fetch.tight_ratio, 2),
            "resync_items_per_s": self.resync and round(self.resync.items_per_s),
            "replica_p99_ms": self.lag and round(self.lag.p99_ms, 1),
            "users_gib_per_million": self.memory and round(self.memory.gib_per_million, 3),
            "redis_lost_failed": sum(r.failed for r in self.lost) if self.lost else None,
            "redis_back_s": round(max(r.back_s for r in self.lost), 2) if self.lost else None,
            "quick": quick,
            "machine": report.machine(),
        }
        parts = {name: getattr(self, name) for name in PARTS}
        found["details"] = {
            name: [asdict(one) for one in part] if isinstance(part, list) else part and asdict(part)
            for name, part in parts.items()
        }
        return found


def writes_table(results: list[WriteResult]) -> Table:
    """rankd beside SQLite and LMDB."""
    head = ["batches on their way", "rankd", "SQLite", "times SQLite", "LMDB", "times LMDB", "the bytes alone"]
    rows = [
        [
            str(r.in_flight), f"{r.rankd:,.0f} rows/s", f"{r.sqlite:,.0f}", f"{r.over_sqlite:.2f}", f"{r.lmdb:,.0f}",
            f"{r.over_lmdb:.2f}", f"{r.raw_file:,.0f}",
        ]
        for r in results
    ]  # fmt: skip
    title = f"Durable writes, batches of {writes.BATCH_ROWS:,} rows × {writes.SIGNALS} f32"
    note = (
        "SQLite: a column a signal, upserts of Python tuples, WAL, synchronous=FULL. LMDB: a packed value a row, put "
        "as it is. Both commit as many rows at once as are on their way. The bytes alone: a file and its fdatasync."
    )
    return Table(title, head, rows, note)


def fetch_table(r: FetchResult) -> Table:
    """A Rank with and without the fetch."""
    head = [
        "Rank, user fetched",
        "user in tables",
        "added",
        "bare GET between Ranks",
        "ratio",
        "bare GET back to back",
        "ratio",
        "added CPU",
        "commands a Rank",
    ]
    row = [
        f"{r.with_fetch_us:,.0f} µs", f"{r.without_us:,.0f} µs", f"{r.added_us:,.0f} µs",
        f"{r.bare_us:,.0f} µs", f"{r.ratio:.2f}", f"{r.tight_us:,.0f} µs", f"{r.tight_ratio:.2f}",
        f"{r.added_cpu_us:,.0f} µs", f"{r.round_trips:.2f}",
    ]  # fmt: skip
    note = f"{fetch.CANDIDATES} candidates; the user's value has {r.value_bytes} bytes; no cache; one caller."
    return Table("What fetching a user from Redis adds to a Rank's wait", head, [row], note)


def shared_table(full: ResyncResult | None, memory: MemoryResult | None, lag: LagResult | None) -> Table:
    """Resync, memory and lag."""
    rows = []
    if full is not None:
        rows.append([
            f"full resync of {full.items:,} items, start of all processes included",
            f"{full.items_per_s:,.0f} items/s ({full.seconds:.1f} s; {full.empty_s:.1f} s without any)",
        ])  # fmt: skip
    if memory is not None:
        figure = f"{memory.gib_per_million:.3f} GiB a million ({memory.bytes_per_user:.0f} bytes each)"
        rows.append([f"{memory.users:,} users with 20 signals in Redis", figure])
    if lag is not None:
        load = f"{lag.rank_rate:,.0f} Ranks/s there, {lag.write_rate:,.0f} rows/s written beside"
        rows.append([
            f"a change until another machine shows it ({load})",
            f"median {lag.p50_ms:.1f} ms, p99 {lag.p99_ms:.1f} ms of {lag.changes}; from the acknowledgement "
            f"p99 {lag.from_acknowledgement_p99_ms:.1f} ms",
        ])  # fmt: skip
    return Table("Signals shared through Redis", ["what", "figure"], rows)


def lost_table(results: list[LostResult]) -> Table:
    """Redis away."""
    head = ["Redis", "calls", "failed", "degraded", "complete again after", "p99 before", "p99 while away"]
    rows = [
        [
            r.fault, f"{r.calls:,}", str(r.failed), f"{r.degraded:,}", f"{r.back_s:.2f} s", f"{r.p99_before_ms:.1f} ms",
            f"{r.p99_away_ms:.1f} ms",
        ]
        for r in results
    ]  # fmt: skip
    return Table(f"Redis lost for {lost.AWAY_S:g} s under load", head, rows)


def main() -> int:
    """Runs it all and prints the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything: only shows that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="FOLDER", help="documents to update")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    console = Console(width=140) if not sys.stdout.isatty() else Console()
    server_core, caller_core = processes.cores()
    results = Results()
    say = console.print
    with tempfile.TemporaryDirectory(prefix="rankd-signals-bench-") as name:
        folder = Path(name)
        if "writes" in arguments.only:
            results.writes = writes.measure(folder, effort, say)
        if "fetch" in arguments.only:
            with processes.on_core(caller_core):
                results.fetch = fetch.measure(folder, effort, server_core, say)
        if "resync" in arguments.only:
            results.resync = resync.measure_resync(folder, effort, say)
        if "memory" in arguments.only:
            results.memory = resync.measure_memory(folder, effort, say)
        if "lag" in arguments.only:
            results.lag = resync.measure_lag(folder, effort, caller_core, say)
        if "lost" in arguments.only:
            results.lost = lost.measure(folder, effort, caller_core, say)
    tables = results.tables()
    for table in tables:
        table.show(console)
    console.print(report.machine_line())
    for place in arguments.write:
        text = "\n\n".join([f"Measured on: {report.machine_line()}.", *[table.markdown() for table in tables]])
        report.write_section(place / "performance.md", "bench-signals", text)
    print(json.dumps(results.line(arguments.quick), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
