"""What rankd does with more load than it can take, and when it is restarted, killed and reloaded under load.

    make overload                              # tables, then one line of JSON; some five minutes
    make overload BENCH_ARGS="--quick"      # little of everything: shows that it works
    make overload BENCH_ARGS="--only shedding --write docs"

C is the highest rate of independent (Poisson) calls at which 99 of 100 answers come within 50 ms and none is refused
or cut short. Then twice, five and ten times as many are offered, each with a deadline of 100 ms: goodput is the answers
within the deadline a second, as a fraction of C. The server has one core and the generator another; the generator never
waits for an answer before it sends the next call, and the run fails if it could not keep up itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench import processes, report
from bench.report import Table
from generator.process import Generator
from overload import faults, reloading, shedding
from overload.effort import QUICK, Effort
from overload.faults import Faults
from overload.reloading import Reloads
from overload.shedding import Shedding
from rich.console import Console

PARTS = ("shedding", "drain", "kill", "reload")


def shedding_table(found: Shedding) -> Table:
    """Load beyond capacity."""
    capacity = found.capacity
    head = ["offered", "calls/s", "goodput", "of C", "degraded", "p50", "p99", "back after", "probes", "probes' p99",
            "no admission"]  # fmt: skip
    unloaded = capacity.at_rate
    rows = [
        ["1 x", f"{capacity.rate:,.0f}", f"{unloaded.goodput:,.0f}", "100%", f"{unloaded.degraded_share:.0%}",
         f"{unloaded.latency_ms(50):.1f} ms", f"{unloaded.latency_ms(99):.1f} ms", "", "", "", ""]
    ]  # fmt: skip
    for each in found.overloads:
        outcome, bare = each.outcome, found.bare.get(each.factor)
        rows.append([
            f"{each.factor} x", f"{outcome.offer.rate:,.0f}", f"{outcome.goodput:,.0f}",
            f"{each.goodput(capacity):.0%}", f"{outcome.degraded_share:.0%}", f"{outcome.latency_ms(50):.1f} ms",
            f"{outcome.latency_ms(99):.1f} ms", f"{each.recovered_s:.2f} s",
            f"{len(each.probes.waits_ms) - each.probes.failed}/{len(each.probes.waits_ms)}",
            f"{each.probes.p99_ms():.0f} ms", "" if bare is None else f"{bare:.0%}",
        ])  # fmt: skip
    note = (
        f"C = {capacity.rate:,.0f} calls/s of {found.cpu_ms:.2f} ms each. p50 and p99 of what was answered. "
        "No admission: a grpc.aio server that spends the same CPU on every call, whatever comes."
    )
    lags = ", ".join(f"{o.outcome.lag_ms(99):.0f} ms at {o.factor} x" for o in found.overloads)
    note += f" The generator's own lateness, 99 of 100 calls: {lags}; it counts against the server."
    if found.mix is not None:
        live, batch = found.mix.share_good("live"), found.mix.share_good("batch")
        note += f" Half live, half batch at 3 x: {live:.1%} of the live calls answered, {batch:.1%} of the batch calls."
    return Table("Load beyond capacity, deadlines of 100 ms", head, rows, note)


def faults_table(found: dict[str, Faults], reloads: Reloads | None) -> Table:
    """What clients saw of restarts, kills and reloads."""
    head = ["under load", "times", "calls", "failed", "p99", "takes"]
    rows = []
    names = {"drain": "SIGTERM and restart, two servers in turn", "kill": "kill -9 of one of two workers"}
    for name, each in found.items():
        took = f"{statistics.median(each.ready_s):.2f} s" if each.ready_s else ""
        rows.append([names[name], f"{each.count}", f"{len(each.outcome.code):,}", f"{each.outcome.failed}",
                     f"{each.outcome.latency_ms(99):.1f} ms", took])  # fmt: skip
    if reloads is not None:
        took = f"{statistics.median(reloads.apply_s):.2f} s" if reloads.apply_s else ""
        rows.append(["reload, two versions in turn", f"{reloads.applied}", f"{len(reloads.outcome.code):,}",
                     f"{reloads.failed}", f"{reloads.outcome.latency_ms(99):.1f} ms", took])  # fmt: skip
    note = "Calls through rankd's client with its retries. Failed reloads include answers that are not of one version."
    return Table("Restarts, kills and reloads under load", head, rows, note)


def line(effort: Effort, shed: Shedding | None, found: dict[str, Faults], reloads: Reloads | None) -> dict[str, object]:
    """The last line. What was not run is null."""
    result: dict[str, object] = {"bench": "overload", "quick": effort is QUICK, "goodput": None}
    if shed is not None:
        result["goodput"] = {str(o.factor): round(o.goodput(shed.capacity), 3) for o in shed.overloads}
        result["capacity"] = round(shed.capacity.rate, 1)
        result["probes_failed"] = sum(o.probes.failed for o in shed.overloads)
        result["recovered_s"] = {str(o.factor): o.recovered_s for o in shed.overloads}
        result["generator_lag_ms"] = {str(o.factor): round(o.outcome.lag_ms(99), 1) for o in shed.overloads}
        result["degraded"] = {str(o.factor): round(o.outcome.degraded_share, 3) for o in shed.overloads}
        result["p99_ms"] = {str(o.factor): round(o.outcome.latency_ms(99), 1) for o in shed.overloads}
        if shed.mix is not None:
            result["live"], result["batch"] = (round(shed.mix.share_good(name), 4) for name in ("live", "batch"))
    for name in ("drain", "kill"):
        result[f"{name}_failed"] = found[name].outcome.failed if name in found else None
    result["reload_failed"] = None if reloads is None else reloads.failed
    result["reloads"] = None if reloads is None else reloads.applied
    result["calls"] = len(found["drain"].outcome.code) if "drain" in found else None
    return result


def main() -> int:
    """Runs it all and prints the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little of everything: only shows that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="some parts")
    parser.add_argument("--write", nargs="+", type=Path, default=[], metavar="FOLDER", help="documents to update")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    console = Console(width=150) if not sys.stdout.isatty() else Console()
    server_core, caller_core = processes.cores()
    shed: Shedding | None = None
    found: dict[str, Faults] = {}
    reloads: Reloads | None = None
    with tempfile.TemporaryDirectory(prefix="rankd-overload-") as name:
        folder = Path(name)
        if "shedding" in arguments.only:
            with processes.on_core(caller_core), Generator(caller_core) as generator:
                shed = shedding.measure(folder, effort, generator, server_core, console.print)
        # From here on clients and servers share the machine as they come.
        with Generator() as generator:
            if "drain" in arguments.only:
                found["drain"] = faults.drain(folder, effort, generator, console.print)
            if "kill" in arguments.only:
                found["kill"] = faults.kill_workers(folder, effort, generator, console.print)
            if "reload" in arguments.only:
                reloads = reloading.measure(folder, effort, generator, console.print)
    tables = [shedding_table(shed)] if shed is not None else []
    tables += [faults_table(found, reloads)] if found or reloads is not None else []
    for table in tables:
        table.show(console)
    for outcome in [*[f.outcome for f in found.values()], *([reloads.outcome] if reloads is not None else [])]:
        for text, count in outcome.texts.items():
            console.print(f"  {count} calls: {text}")
    console.print(report.machine_line())
    for place in arguments.write:
        text = "\n\n".join([f"Measured on: {report.machine_line()}.", *[table.markdown() for table in tables]])
        report.write_section(place / "performance.md", "overload", text)
    print(json.dumps(line(effort, shed, found, reloads), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
