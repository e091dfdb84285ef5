"""csrc under sanitizers, without Python in the process under test: what `make test-c` runs, a test each."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import test_c as tool  # noqa: E402

pytestmark = pytest.mark.skipif(
    tool.c_compiler() is None, reason="neither gcc nor clang is installed: the C tests cannot be compiled"
)


def test_there_are_c_tests() -> None:
    assert tool.test_sources()
    assert tool.fuzz_sources()


@pytest.mark.parametrize("source", tool.test_sources(), ids=lambda path: path.stem)
def test_c(source: Path) -> None:
    assert ", 0 failures" in tool.run_test(source)


@pytest.mark.skipif(tool.aarch64_lacks() is not None, reason=str(tool.aarch64_lacks()))
@pytest.mark.parametrize("source", tool.aarch64_sources(), ids=lambda path: path.stem)
def test_c_on_aarch64(source: Path) -> None:
    said = tool.run_aarch64(source)
    assert "0 failures" in said
    if source.stem == "test_forest_tiers":
        assert "tiers tested: scalar walk bits neon; not here: avx2 avx512" in said


@pytest.mark.parametrize("source", tool.fuzz_sources(), ids=lambda path: path.stem)
def test_fuzz(source: Path) -> None:
    assert int(tool.run_fuzz(source, tool.fuzz_seconds()).split()[0]) > 1
