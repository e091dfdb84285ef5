"""Leaves and scores against LightGBM itself, over many small models and inputs at the edges."""

import os
import re

import lightgbm as lgb
import numpy as np
import pytest
from support.boosters import BOOSTERS, booster, nasty_rows

from rankd.kernels.forest import TIERS
from rankd.models import parse_lightgbm

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
SIZES = (1, 7, 8, 64, 65, 400)
"""Rows: one, around the walk's and the block's borders, and several blocks."""


def as_written(model: lgb.Booster) -> tuple[str, lgb.Booster]:
    """What rankd is compared with: the file, and LightGBM's reading of the same file."""
    text = model.model_to_string()
    return text, lgb.Booster(model_str=text)


@pytest.mark.parametrize("name", sorted(BOOSTERS))
def test_leaves_and_bits_equal_lightgbm(name: str) -> None:
    text, reference = as_written(booster(name))
    scorer = parse_lightgbm(text)
    for seed in range(SCALE):
        rows = nasty_rows(reference, max(SIZES), seed)
        matrix = np.ascontiguousarray(rows.T)
        assert np.array_equal(
            scorer.forest.leaves(matrix).T, reference.predict(rows, pred_leaf=True).reshape(len(rows), -1)
        )
        raw = reference.predict(rows, raw_score=True).reshape(len(rows), -1).T
        done = reference.predict(rows).reshape(len(rows), -1).T
        for size in SIZES:
            part = np.ascontiguousarray(matrix[:, -size:])
            # The infinities of a linear leaf may make a NaN.
            assert np.array_equal(scorer.score(part, raw=True), raw[:, -size:], equal_nan=True)
            # exp and log1p are the same libm functions that LightGBM calls: equal bits, not only close.
            assert np.array_equal(scorer.score(part), done[:, -size:], equal_nan=True)


@pytest.mark.parametrize("name", sorted(BOOSTERS))
def test_tiers_agree_on_random_bits(name: str) -> None:
    """Any float32 bits, batch sizes from 0 up, strided matrices: every tier gives the oracle's bits."""
    text, _ = as_written(booster(name))
    forest = parse_lightgbm(text).forest
    generator = np.random.default_rng(5)
    wide = generator.integers(0, 2**32, (forest.features, 700), np.uint32).view(np.float32)
    wide[:, ::3] = generator.normal(size=wide[:, ::3].shape)
    for rows in (0, 1, 2, 3, 9, 63, 64, 129, 300):
        part = wide[:, 11 : 11 + rows]
        expected = forest.score(part, "scalar")
        for tier in filter(forest.has_tier, TIERS):
            for layout in (part, np.asfortranarray(part)):
                assert np.array_equal(forest.score(layout, tier), expected, equal_nan=True), (tier, rows)


def test_file_equals_the_booster_that_wrote_it() -> None:
    model = booster("lambdarank")
    rows = nasty_rows(model, 200, 3)
    assert np.array_equal(parse_lightgbm(model.model_to_string()).score(rows.T.copy())[0], model.predict(rows))


def test_a_linear_tree_of_one_leaf() -> None:
    """LightGBM writes none, but reads them."""
    text = re.sub(r"tree_sizes=.*\n", "", booster("linear").model_to_string())
    head, tail = text[: text.index("Tree=0")], text[text.index("end of trees") :]
    nodes = "split_feature=\nsplit_gain=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\n"
    tree = "Tree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=7.5\nis_linear=1\nleaf_const=0.1\nnum_features=2\n"
    text = head + tree + nodes + "leaf_features=3 0  \nleaf_coeff=0.3 -1.7  \nshrinkage=1\n\n\n" + tail
    rows = nasty_rows(booster("linear"), 300)
    expected = lgb.Booster(model_str=text).predict(rows, raw_score=True)
    assert np.array_equal(parse_lightgbm(text).score(np.ascontiguousarray(rows.T))[0], expected, equal_nan=True)
    assert len(np.unique(expected)) > 50
