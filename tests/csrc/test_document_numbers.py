"""docs/kernels.md has the numbers of the sources."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_document_has_the_kernels_numbers() -> None:
    source = "".join((ROOT / "csrc" / name).read_text() for name in (
        "rk_forest.c", "rk_forest_internal.h", "rk_forest_walk.c", "rk_forest_compile.c",
    ))  # fmt: skip
    number = {name: int(value) for name, value in re.findall(r"#define (\w+) (\d+)u?\b", source)}
    document = " ".join((ROOT / "docs" / "kernels.md").read_text(encoding="utf-8").split())
    least = dict(re.findall(r"{RK_FOREST_(\w+), (\d+)}", source))
    assert least["NEON"] == least["AVX2"]
    for words in (
        f"walks below {least['AVX512']} rows with AVX-512, below {least['AVX2']} with AVX2 or NEON,",
        f"below {least['BITS']} with plain C",
        f"no tree above {number['RK_MAX_BOUNDED']:,} nodes",
        f"the nearest cache: {number['RK_BUNCH_BOUNDS']})",
        f"at most {number['AXIS_THRESHOLDS']} thresholds",
    ):
        assert words in document
    assert (number["RK_BUNCH_TREES"], number["LANES"]) == (4, 16), "bunches of up to four, sixteen trees"
