"""No public name of csrc is defined twice: of two members of a static library the linker silently takes one."""

import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import test_c as tool  # noqa: E402


def defined_twice(listing: Iterable[str]) -> dict[str, list[str]]:
    """Names with the objects that define them, where there are several, from lines of `nm -A -P -g --defined-only`.

    Names that the compiler makes start with an underscore.
    """
    objects = defaultdict(list)
    for line in listing:
        place, name, *_ = line.split()
        if not name.startswith("_"):
            objects[name].append(Path(place.rstrip(":")).stem)
    return {name: where for name, where in objects.items() if len(where) > 1}


def test_a_name_in_two_objects_is_seen() -> None:
    listing = ["/b/rk_a.o: rk_one T 0 1", "/b/rk_b.o: rk_one T 0 1", "/b/rk_b.o: rk_two D 0 1", "/b/rk_a.o: __odr T 0"]
    assert defined_twice(listing) == {"rk_one": ["rk_a", "rk_b"]}


@pytest.mark.skipif(
    tool.c_compiler() is None or shutil.which("nm") is None, reason="a C compiler and nm are needed to list symbols"
)
def test_public_names_are_defined_once() -> None:
    compiler = str(tool.c_compiler())
    tools = tool.Toolchain(compiler, tuple(tool.MEMORY), tool.BUILD / f"{Path(compiler).name}-memory")
    command = ["nm", "-A", "-P", "-g", "--defined-only", *tools.library()]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {line.split()[1] for line in listing}
    assert {"rk_rank_run", "rk_rank_prepare", "rk_table_read", "rk_order_top"} <= names
    assert not defined_twice(listing)
