"""Compiles csrc with sanitizers and runs every csrc/tests/test_*.c: no Python in the process under test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted((ROOT / "csrc" / "tests").glob("test_*.c"))
FLAGS = ["-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
FLAGS += ["-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-ffp-contract=off", f"-I{ROOT / 'csrc'}"]

GCC = shutil.which("gcc")
pytestmark = pytest.mark.skipif(GCC is None, reason="gcc is not installed: the C tests cannot be compiled")


def run(command: list[str], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("csrc")
    sources = sorted(str(p) for p in (ROOT / "csrc").glob("*.c"))
    run([GCC, *FLAGS, "-c", *sources], cwd=folder)
    return sorted(str(p) for p in folder.glob("*.o"))


def test_there_are_c_tests() -> None:
    assert TESTS


@pytest.mark.parametrize("source", TESTS, ids=[p.stem for p in TESTS])
def test_c(source: Path, objects: list[str], tmp_path: Path) -> None:
    program = str(tmp_path / source.stem)
    run([GCC, *FLAGS, "-o", program, str(source), *objects, "-lm", "-lpthread"])
    # A shared library preloaded into this process would stand before ASan's runtime.
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    run([program], cwd=tmp_path, env=environment, timeout=60)
