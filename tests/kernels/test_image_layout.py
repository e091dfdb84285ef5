"""A forest's image may outlive the program that wrote it: what is in it changes together with its version only."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest

from rankd.kernels.forest import FLOAT_SUMS, FLUSH_ZERO, Forest

VERSION = 3
DIGEST = "7127d8bb0164881215507f7db5eff5c0"
"""Of the images of the forests below. If they changed: raise VERSION here and in csrc/rk_forest_image.c, and put the
new one here. Compiled models of the old version are then refused instead of being read wrongly."""


def forest(flags: int, oblivious: bool) -> Forest:
    """40 trees of 15 nodes with numeric and categorical splits, every missing type, 2 outputs; always the same."""
    trees, nodes = 40, 15
    state = 12345
    drawn = []
    for _ in range(trees * nodes * 3):
        state = (1103515245 * state + 12345) % 2**31
        drawn.append(state >> 8)
    a, b, c = np.array(drawn).reshape(3, trees, nodes)
    if oblivious:
        level = np.array([0, 1, 1, 2, 2, 2, 2, *[3] * 8])
        a, b, c = a[:, level], b[:, level], c[:, level]
    inner = np.arange(nodes)
    left = np.where(2 * inner + 1 < nodes, 2 * inner + 1, ~(2 * inner - nodes + 1))
    right = np.where(2 * inner + 2 < nodes, 2 * inner + 2, ~(2 * inner - nodes + 2))
    categorical = (c % 11 == 0).astype(np.uint8)
    decision = np.where(categorical, 1, (c % 2) * 2 + c % 3 * 4).astype(np.uint8)
    return Forest(
        features=3, outputs=2, node_begin=np.arange(0, trees * nodes + 1, nodes, dtype=np.uint32),
        split_feature=(a % 3).astype(np.int32).ravel(), decision=decision.ravel(),
        threshold=((b % 400) / 16.0 - 5).ravel(), category_set=(b % 2).astype(np.int32).ravel(),
        left=np.tile(left, trees).astype(np.int32), right=np.tile(right, trees).astype(np.int32),
        leaf_value=np.arange(trees * (nodes + 1)) / 8.0, set_begin=np.array([0, 1, 3], np.uint32),
        set_words=np.array([5, 0, 9], np.uint32), flags=flags,
    )  # fmt: skip


@pytest.mark.skipif(sys.byteorder != "little", reason="the digest is of little-endian images")
def test_the_image_changes_with_its_version() -> None:
    images = [forest(FLUSH_ZERO, False), forest(FLUSH_ZERO, True), forest(FLOAT_SUMS, False)]
    assert [bool(one.describe()["oblivious"].all()) for one in images] == [False, True, False]
    data = [bytes(one.image()) for one in images]
    assert {int.from_bytes(image[8:12], "little") for image in data} == {VERSION}
    assert hashlib.sha256(b"".join(data)).hexdigest()[:32] == DIGEST
