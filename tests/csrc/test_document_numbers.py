"""Documents have the numbers of the sources: docs/kernels.md, docs/performance.md."""

import json
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


def test_the_document_has_the_instructions_of_a_call() -> None:
    record = json.loads((ROOT / "csrc" / "counts" / "rank.json").read_text(encoding="utf-8"))["instructions"]
    document = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = {
        "decode and check": "prepare",
        "read 20 signals": "read",
        "features": "features",
        "model, 100 × 31": "model",
        "order": "order",
        "encode": "encode",
        "the call": "call",
    }
    for label, case in rows.items():
        numbers = [f"{record[f'{case}_{n}'] / 1000:,.0f}" for n in (100, 1000)]
        assert f"| {label} | {numbers[0]} | {numbers[1]} |" in document
    assert f"A call of 10 candidates takes {record['call_10'] / 1000:,.0f} thousand." in document
