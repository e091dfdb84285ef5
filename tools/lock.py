"""Regenerates constraints.txt: one version of every package, direct or not, for all Pythons rankd runs on.

    python tools/lock.py                      # resolves anew, to the newest versions
    python tools/lock.py --python python3.13  # only checks that the lock resolves on this interpreter

The lowest Python decides the versions; the later ones must resolve with the same ones and may add
packages of their own. A constraint on a package that an interpreter does not need does no harm, so
no line needs a marker. Interpreters are found as python3.11, python3.12 and python3.13, or given by
--python. pip itself is pinned in tools/bootstrap.py, because it is needed first.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from requirements import requirements

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
SETS = ["build", "run", "train", "parquet", "history", "spark", "test", "house", "bench", "peers", "serving-peers"]
PYTHONS = ["python3.11", "python3.12", "python3.13"]
HEADER = """\
# Written by `make lock` (tools/lock.py); do not edit. One version of everything rankd is built,
# run, tested and measured with, valid for Python 3.11 to 3.13. Used by every pip call of the
# Makefile, also for isolated builds.
"""


def resolve(python: str, constraints: dict[str, str]) -> dict[str, str]:
    """name -> version of everything the requirements pull in on that interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text("\n".join(requirements(SETS)) + "\n", encoding="utf-8")
        pins = Path(folder, "constraints.txt")
        pins.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()), encoding="utf-8")
        report = Path(folder, "report.json")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            shutil.which(python) or python,
            "install",
            "-qq",
            "--dry-run",
        ]
        # pyspark comes as a source distribution only.
        command += ["--ignore-installed", "--only-binary=:all:", "--no-binary=pyspark", "--report", str(report)]
        command += ["--requirement", str(wanted), "--constraint", str(pins)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {}
    for package in installed:
        name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
        found[name] = package["metadata"]["version"]
    return found


def read_lock() -> dict[str, str]:
    """name -> version as constraints.txt has them."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def main() -> int:
    """Writes the lock, or checks it for one interpreter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="only check that the lock resolves on this interpreter")
    arguments = parser.parse_args()
    if arguments.python:
        pins = read_lock()
        missing = sorted(set(resolve(arguments.python, pins)) - set(pins))
        print(f"{arguments.python}: " + (f"not in the lock: {', '.join(missing)}" if missing else "the lock holds"))
        return 1 if missing else 0
    pins: dict[str, str] = {}
    for python in PYTHONS:
        found = resolve(python, pins)
        print(f"{python}: {len(found)} packages, {len(set(found) - set(pins))} new", flush=True)
        pins |= found
    LOCK.write_text(HEADER + "".join(f"{name}=={pins[name]}\n" for name in sorted(pins)), encoding="utf-8")
    print(f"wrote {LOCK.name}: {len(pins)} packages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
