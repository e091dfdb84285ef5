"""The worked example of docs/kernels.md is what the kernel does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rankd.kernels.forest import TIERS, Forest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rows_as_bits", DOCS / "rows_as_bits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forest_of(example: ModuleType) -> Forest:
    """The picture's tree; NaN goes left."""
    nan_left = 2 | 2 << 2
    conditions = [example.CONDITIONS[node[0]] for node in example.NODES]
    return Forest(
        features=2, outputs=1, node_begin=np.array([0, 4], np.uint32),
        split_feature=np.array([feature for feature, _ in conditions], np.int32),
        decision=np.full(4, nan_left, np.uint8),
        # So that the float32 below is the picture's own: 0.3 would be rounded down to another one.
        threshold=np.array([np.float32(example.AXES[f][t]) for f, t in conditions], np.float64),
        category_set=np.zeros(4, np.int32), left=np.array([1, ~0, ~3, ~1], np.int32),
        right=np.array([2, 3, ~4, ~2], np.int32), leaf_value=np.array(example.LEAVES),
        set_begin=np.zeros(1, np.uint32), set_words=np.zeros(0, np.uint32),
    )  # fmt: skip


def test_the_picture_is_the_one_the_script_draws(example: ModuleType) -> None:
    assert (DOCS / "rows_as_bits.svg").read_text(encoding="utf-8") == example.picture()


def test_its_codes_are_the_leaves_that_the_kernel_finds(example: ModuleType) -> None:
    matrix = np.array(example.ROWS, np.float32).T
    forest = forest_of(example)
    ranks = forest.leaves(matrix)[0]
    assert example.codes() == [rank ^ rank >> 1 for rank in ranks.tolist()]
    assert [example.table()[code] for code in example.codes()] == [example.LEAVES[rank] for rank in ranks]
    for tier in filter(forest.has_tier, TIERS):
        assert forest.score(matrix, tier)[0].tolist() == [example.LEAVES[rank] for rank in ranks]


def test_its_boundaries_stand_left_of_the_leaves(example: ModuleType) -> None:
    ranks = forest_of(example).leaves(np.array(example.ROWS, np.float32).T)[0].tolist()
    for i, mask in enumerate(example.boundaries()):
        assert [bool(mask >> row & 1) for row in range(len(ranks))] == [i <= rank for rank in ranks]


def test_its_axes_and_conditions_are_the_compilers(example: ModuleType) -> None:
    described = forest_of(example).describe()
    assert described["thresholds"].tolist() == [len(axis) for axis in example.AXES]
    assert described["conditions"] == len(example.CONDITIONS)
