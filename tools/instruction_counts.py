"""Counts the instructions that kernels execute on fixed inputs, and compares them with what was recorded.

    python3 tools/instruction_counts.py                   # or: make count-instructions
    python3 tools/instruction_counts.py order             # only drivers whose name contains a word
    python3 tools/instruction_counts.py --update order    # record what was counted

A driver is a file csrc/counts/count_NAME.c (see counts.h there); what was recorded of it is NAME.json beside
it. Kernels are compiled with the flags of setup.py and run under `valgrind --tool=callgrind`, which counts the
same on a busy machine. valgrind offers no AVX-512, so what is counted is the tier of an AVX2 machine.

A count may be 5 % off in either direction: more is a regression, less wants recording. With another compiler,
valgrind or kind of processor than the record's, counts are printed and nothing is judged.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRIVERS = ROOT / "csrc" / "counts"
TOLERANCE = 0.05
TIMEOUT_S = 600


@dataclass(frozen=True)
class Setting:
    """What counts depend on besides the source."""

    compiler: str
    valgrind: str
    processor: str


def output(*command: str | Path) -> str:
    """What a command printed (both streams); SystemExit if it failed."""
    done = subprocess.run(
        list(map(str, command)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"count-instructions: failed: {' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def build_flags() -> list[str]:
    """C_FLAGS of setup.py: what is counted is what is shipped."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "C_FLAGS":
            return list(ast.literal_eval(node.value))
    raise SystemExit("count-instructions: setup.py has no C_FLAGS")


def setting() -> Setting | None:
    """This machine's, or None (said why) if nothing can be counted here."""
    missing = [name for name in ("gcc", "valgrind") if shutil.which(name) is None]
    if missing:
        print(f"count-instructions: {' and '.join(missing)} not installed: nothing is counted")
        return None
    compiler = f"gcc {output('gcc', '-dumpversion').strip().split('.')[0]}"
    valgrind = ".".join(re.findall(r"\d+", output("valgrind", "--version"))[:2])
    machine = os.uname().machine
    cpu_info = Path("/proc/cpuinfo")
    flags = cpu_info.read_text(encoding="utf-8").split() if cpu_info.exists() else []
    return Setting(compiler, valgrind, f"{machine} with AVX2" if "avx2" in flags else machine)


def build(folder: Path) -> list[str]:
    """Objects of every csrc/*.c, built as for the wheel."""
    sources = sorted(str(path) for path in (ROOT / "csrc").glob("*.c"))
    command = ["gcc", "-g", *build_flags(), f"-I{ROOT / 'csrc'}", "-c", *sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"count-instructions: csrc does not compile\n{done.stderr}")
    return sorted(str(path) for path in folder.glob("*.o"))


def count(driver: Path, objects: list[str], folder: Path) -> dict[str, int]:
    """Instructions by case of one driver."""
    program = folder / driver.stem
    output("gcc", "-g", *build_flags(), f"-I{ROOT / 'csrc'}", "-o", program, driver, *objects, "-lm", "-lpthread")
    counts = {}
    for line in output(program).splitlines():
        case, repeats = line.split()
        callgrind = ["--tool=callgrind", "--toggle-collect=rk_counted", "--callgrind-out-file=/dev/null"]
        said = output("valgrind", *callgrind, program, case)
        collected = re.search(r"Collected : (\d+)", said)
        if collected is None or int(collected[1]) == 0:
            raise SystemExit(f"count-instructions: {driver.stem} {case}: callgrind collected nothing\n{said}")
        counts[case] = round(int(collected[1]) / int(repeats))
    return counts


def faults(counted: dict[str, int], recorded: dict[str, int]) -> list[str]:
    """What differs by more than TOLERANCE, and what only one side has."""
    found = [f"{case}: recorded, but no case any more" for case in recorded if case not in counted]
    for case, number in counted.items():
        if case not in recorded:
            found.append(f"{case}: not recorded")
        elif abs(number - recorded[case]) > TOLERANCE * recorded[case]:
            found.append(f"{case}: {number:,}, recorded {recorded[case]:,} ({number / recorded[case] - 1:+.1%})")
    return found


def judge(driver: Path, counted: dict[str, int], here: Setting, update: bool) -> list[str]:
    """Prints one driver's counts; its faults. `update` records them instead."""
    record = driver.with_name(f"{driver.stem.removeprefix('count_')}.json")
    name = record.stem
    for case, number in counted.items():
        print(f"  {name}/{case}: {number:,}")
    if update:
        document = {**vars(here), "instructions": counted}
        record.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        return []
    if not record.exists():
        return [f"{name}: {record.name} is missing"]
    document = json.loads(record.read_text(encoding="utf-8"))
    recorded_in = Setting(document["compiler"], document["valgrind"], document["processor"])
    if recorded_in != here:
        print(f"  {name}: recorded with {recorded_in}, counted with {here}: not compared")
        return []
    return [f"{name}/{fault}" for fault in faults(counted, document["instructions"])]


def main() -> int:
    """Counts, compares or records; 1 if something is more than TOLERANCE off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only drivers whose name contains one of these")
    parser.add_argument("--update", action="store_true", help="record the counts")
    options = parser.parse_args()
    here = setting()
    if here is None:
        return 0
    drivers = [
        path
        for path in sorted(DRIVERS.glob("count_*.c"))
        if not options.words or any(word in path.stem for word in options.words)
    ]
    print(
        f"count-instructions: {here.compiler}, valgrind {here.valgrind}, {here.processor}; without AVX-512", flush=True
    )
    found = []
    with tempfile.TemporaryDirectory() as name:
        objects = build(Path(name))
        for driver in drivers:
            found += judge(driver, count(driver, objects, Path(name)), here, options.update)
    for fault in found:
        print(f"count-instructions: {fault}", file=sys.stderr)
    if found:
        print("count-instructions: if that is meant: tools/instruction_counts.py --update", file=sys.stderr)
    return 1 if found or not drivers else 0


if __name__ == "__main__":
    raise SystemExit(main())
