"""Tests csrc without Python: every csrc/tests/test_*.c, then every csrc/fuzz/fuzz_*.c for a short time.

    python3 tools/test_c.py                   # or: make test-c
    python3 tools/test_c.py order table       # only sources whose name contains a word
    RANKD_FUZZ_SCALE=300 python3 tools/test_c.py --fuzz-only order

Everything runs under AddressSanitizer and UndefinedBehaviorSanitizer; csrc/tests/test_*_threads.c under
ThreadSanitizer, too. Fuzz targets run in clang's libFuzzer where clang is installed, else in
csrc/fuzz/standalone.c, which has no coverage to learn from; the output says which. Where a cross compiler
for aarch64 and qemu-user are installed, the forest's tests run there, too: NEON is among the tiers then.
Objects are kept in build/test_c. Nothing but a C compiler is needed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
BUILD = ROOT / "build" / "test_c"

FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer", "-ffp-contract=off"]
MEMORY = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# gcc warns of code that ThreadSanitizer's own instructions only seem to leave uninitialised.
THREADS = ["-fsanitize=thread", "-Wno-error"]
FUZZING = ["-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION"]
"""libFuzzer's own name for builds that leave out what no mutated input can pass: here, comparing checksums."""
LIBRARIES = ["-lm", "-lpthread"]
AARCH64 = ("aarch64-linux-gnu-gcc", "qemu-aarch64")
"""What compiles for aarch64, and what runs it."""
TEST_TIMEOUT_S = 300
FUZZ_S = 2.0
"""How long a fuzz target runs, times RANKD_FUZZ_SCALE."""
MAX_INPUT_BYTES = 4096


class TestFailure(Exception):
    """A command failed; the message is the command and all it printed."""


def run(command: list[str], cwd: Path, timeout_s: float) -> str:
    """Runs a command that must succeed; what it printed."""
    # A library preloaded into this process would stand before the sanitizer's runtime.
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            timeout=timeout_s,
            check=False,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as expired:
        raise TestFailure(f"{' '.join(command)}\nstill running after {timeout_s:.0f} s\n{expired.output}") from None
    if done.returncode:
        raise TestFailure(f"{' '.join(command)}\n{done.stdout}\nstatus {done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the sanitizers it builds with; `folder` keeps what it built."""

    compiler: str
    flags: tuple[str, ...]
    folder: Path

    def library(self) -> list[str]:
        """Objects of every csrc/*.c; those older than their source or any header are compiled anew."""
        headers = max(path.stat().st_mtime for path in [*CSRC.glob("*.h"), Path(__file__)])
        self.folder.mkdir(parents=True, exist_ok=True)
        pairs = [(source, self.folder / f"{source.stem}.o") for source in sorted(CSRC.glob("*.c"))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda pair: self._compile(*pair, headers), pairs))
        return [str(target) for _, target in pairs]

    def _compile(self, source: Path, target: Path, headers: float) -> None:
        if target.exists() and target.stat().st_mtime > max(headers, source.stat().st_mtime):
            return
        unfinished = target.with_suffix(f".{os.getpid()}.o")
        command = [self.compiler, *FLAGS, *self.flags, f"-I{CSRC}", "-c", str(source), "-o", str(unfinished)]
        run(command, self.folder, TEST_TIMEOUT_S)
        unfinished.replace(target)

    def program(self, name: str, sources: list[Path], *flags: str) -> str:
        """A program of these sources and the library."""
        target = str(self.folder / f"{name}.program")
        command = [self.compiler, *FLAGS, *self.flags, *flags, f"-I{CSRC}", "-o", target, *map(str, sources)]
        run([*command, *self.library(), *LIBRARIES], self.folder, TEST_TIMEOUT_S)
        return target


def c_compiler() -> str | None:
    """gcc, or clang without it; None if there is no C compiler."""
    return shutil.which("gcc") or shutil.which("clang")


def test_sources() -> list[Path]:
    """csrc/tests/test_*.c."""
    return sorted((CSRC / "tests").glob("test_*.c"))


def fuzz_sources() -> list[Path]:
    """csrc/fuzz/fuzz_*.c."""
    return sorted((CSRC / "fuzz").glob("fuzz_*.c"))


def fuzz_engine() -> str:
    """What drives the fuzz targets on this machine."""
    return "clang's libFuzzer" if _libfuzzer() else "csrc/fuzz/standalone.c (without coverage: clang is not installed)"


def fuzz_seconds() -> float:
    """How long each fuzz target runs."""
    return FUZZ_S * float(os.environ.get("RANKD_FUZZ_SCALE", "1"))


def _libfuzzer() -> str | None:
    """clang, if it comes with libFuzzer and the sanitizers' runtime."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    for part in ("fuzzer", "asan"):
        asked = [clang, f"-print-file-name=libclang_rt.{part}-{os.uname().machine}.a"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if not Path(found).is_file():
            return None
    return clang


def run_test(source: Path) -> str:
    """Compiles and runs one C test; what it printed. TestFailure if anything is wrong."""
    compiler = c_compiler()
    assert compiler is not None, "callers check"
    kinds = {"memory": MEMORY} | ({"threads": THREADS} if source.stem.endswith("_threads") else {})
    said = []
    for kind, flags in kinds.items():
        tools = Toolchain(compiler, tuple(flags), BUILD / f"{Path(compiler).name}-{kind}")
        said.append(run([tools.program(source.stem, [source])], tools.folder, TEST_TIMEOUT_S).strip())
    return "; ".join(said)


def aarch64_sources() -> list[Path]:
    """The tests of what has a tier of its own on aarch64; ThreadSanitizer, and so threads, are for this machine."""
    return [path for path in test_sources() if path.stem.startswith("test_forest") and "threads" not in path.stem]


def aarch64_lacks() -> str | None:
    """Why nothing can be run as on aarch64, or None."""
    missing = [name for name in AARCH64 if shutil.which(name) is None]
    return f"{' and '.join(missing)} not installed: nothing is tested on aarch64" if missing else None


def run_aarch64(source: Path) -> str:
    """Compiles one C test for aarch64, runs it under qemu-user; what it printed. TestFailure if anything is wrong."""
    compiler, runner = AARCH64
    tools = Toolchain(compiler, ("-static",), BUILD / "aarch64")
    return run([runner, tools.program(source.stem, [source])], tools.folder, TEST_TIMEOUT_S).strip()


def run_fuzz(source: Path, seconds: float, seed: int = 1) -> str:
    """Fuzzes one target; the engine's last line. TestFailure (with the input, in hex) if it dies."""
    clang = _libfuzzer()
    if clang is not None:
        tools = Toolchain(clang, ("-fsanitize=fuzzer-no-link", *MEMORY, *FUZZING), BUILD / "libfuzzer")
        program = tools.program(source.stem, [source], "-fsanitize=fuzzer")
        arguments = [f"-max_total_time={max(1, round(seconds))}", "-verbosity=0", "-print_final_stats=1"]
        arguments += ["-timeout=30", f"-max_len={MAX_INPUT_BYTES}", "-rss_limit_mb=2048"]
    else:
        compiler = c_compiler()
        assert compiler is not None, "callers check"
        tools = Toolchain(compiler, (*MEMORY, *FUZZING), BUILD / f"{Path(compiler).name}-fuzz")
        program = tools.program(source.stem, [source, CSRC / "fuzz" / "standalone.c"])
        arguments = [f"-max_total_time={seconds:g}", f"-max_len={MAX_INPUT_BYTES}"]
    arguments.append(f"-seed={seed}")
    culprit = tools.folder / f"{source.stem}.input"
    culprit.unlink(missing_ok=True)
    try:
        said = run([program, *arguments, f"-exact_artifact_path={culprit}"], tools.folder, seconds + TEST_TIMEOUT_S)
    except TestFailure as failure:
        told = f"\nthe input, in {culprit}: {culprit.read_bytes().hex()}" if culprit.exists() else ""
        raise TestFailure(f"{failure}{told}") from None
    executed = [line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line]
    return f"{executed[0] if executed else 'unknown'} inputs"


def main() -> int:
    """Runs all, prints a line each; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="run only sources whose name contains one of these")
    parser.add_argument("--tests-only", action="store_true", help="no fuzzing")
    parser.add_argument("--fuzz-only", action="store_true", help="no tests")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzing (default 1)")
    options = parser.parse_args()
    compiler = c_compiler()
    if compiler is None:
        print("test-c: no C compiler: install gcc or clang", file=sys.stderr)
        return 1

    def chosen(sources: list[Path]) -> list[Path]:
        return [s for s in sources if not options.words or any(word in s.stem for word in options.words)]

    failures = 0
    tests = [] if options.fuzz_only else chosen(test_sources())
    targets = [] if options.tests_only else chosen(fuzz_sources())
    print(f"test-c: {len(tests)} C tests under ASan and UBSan ({compiler})", flush=True)
    print(f"test-c: {len(targets)} fuzz targets, {fuzz_seconds():g} s each, by {fuzz_engine()}", flush=True)
    crossed = [] if options.fuzz_only else chosen(aarch64_sources())
    lacks = aarch64_lacks()
    print(f"test-c: {lacks or f'{len(crossed)} C tests for aarch64 ({AARCH64[1]})'}", flush=True)
    jobs: list[tuple[str, Path, Callable[[Path], str]]] = [(source.stem, source, run_test) for source in tests]
    jobs += [(f"{source.stem}, aarch64", source, run_aarch64) for source in crossed if lacks is None]
    jobs += [(source.stem, source, lambda s: run_fuzz(s, fuzz_seconds(), options.seed)) for source in targets]
    for name, source, job in jobs:
        try:
            print(f"test-c: {name}: {job(source)}", flush=True)
        except TestFailure as failure:
            failures += 1
            print(f"test-c: {name}: FAILED\n{failure}", flush=True)
    ran = len(jobs)
    print(f"test-c: {ran - failures} of {ran} passed", flush=True)
    return 1 if failures or not ran else 0


if __name__ == "__main__":
    raise SystemExit(main())
