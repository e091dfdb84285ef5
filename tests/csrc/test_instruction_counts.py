"""What tools/instruction_counts.py calls a fault. The counting itself is `make count-instructions`."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import instruction_counts as tool  # noqa: E402

HERE = tool.Setting("gcc 12", "3.19", "x86_64 with AVX2")


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ({"a": 1000}, []),
        ({"a": 1050}, []),
        ({"a": 950}, []),
        ({"a": 1051}, ["a: 1,051, recorded 1,000 (+5.1%)"]),
        ({"a": 900}, ["a: 900, recorded 1,000 (-10.0%)"]),
        ({"a": 1000, "b": 1}, ["b: not recorded"]),
        ({}, ["a: recorded, but no case any more"]),
    ],
)
def test_faults(counted: dict[str, int], expected: list[str]) -> None:
    assert tool.faults(counted, {"a": 1000}) == expected


def test_record_and_compare(tmp_path: Path) -> None:
    driver = tmp_path / "count_x.c"
    assert tool.judge(driver, {"a": 1000}, HERE, update=False) == ["x: x.json is missing"]
    assert not tool.judge(driver, {"a": 1000}, HERE, update=True)
    assert not tool.judge(driver, {"a": 1001}, HERE, update=False)
    assert tool.judge(driver, {"a": 2000}, HERE, update=False) == ["x/a: 2,000, recorded 1,000 (+100.0%)"]
    # Another compiler executes other instructions: nothing to compare.
    assert not tool.judge(driver, {"a": 2000}, tool.Setting("gcc 13", "3.19", HERE.processor), update=False)


def test_every_driver_is_recorded() -> None:
    drivers = {path.stem.removeprefix("count_") for path in tool.DRIVERS.glob("count_*.c")}
    records = {path.stem: json.loads(path.read_text()) for path in tool.DRIVERS.glob("*.json")}
    assert drivers == set(records) != set()
    assert all(count > 0 for record in records.values() for count in record["instructions"].values())


def test_flags_are_those_of_the_build() -> None:
    assert "-O3" in tool.build_flags()
