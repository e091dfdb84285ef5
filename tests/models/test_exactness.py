"""Every model of the fuzz farm: the library's leaves and the bits of its raw scores, in every tier."""

import collections
import importlib.util
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from support.exactness import Case, Tally, cases, check, lightgbm_case, same_bits

from rankd.kernels.forest import TIERS, Forest

SCALE = int(os.environ.get("RANKD_FUZZ_SCALE", "1"))
SCORES = 1000
"""Of a model; `make fuzz-exact` takes many more."""
CASES = dict(cases())


def case_of(name: str) -> Case:
    try:
        return CASES[name]()
    except ModuleNotFoundError as error:
        pytest.skip(f"{name}: {error.name} is not installed")


@pytest.mark.parametrize("name", CASES)
def test_leaves_and_score_bits_are_the_library_s(name: str) -> None:
    case, tally = case_of(name), Tally()
    for seed in range(SCALE):
        check(case, SCORES, seed, tally)
    assert tally.scores >= SCORES * SCALE
    assert (tally.leaf_differences, tally.score_bits_different) == (0, 0), "\n".join(tally.differences)


@pytest.mark.parametrize("name", CASES)
def test_a_mapped_image_is_the_forest(name: str, tmp_path: Path) -> None:
    case = case_of(name)
    path = tmp_path / "forest"
    path.write_bytes(case.scorer.forest.image())
    with path.open("rb") as file:
        mapped = Forest.from_image(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    matrix = np.ascontiguousarray(case.rows(300, 7).T)
    assert np.array_equal(mapped.leaves(matrix), case.scorer.forest.leaves(matrix))
    assert [tier for tier in TIERS if mapped.has_tier(tier)] == case.tiers
    for tier in case.tiers:
        assert same_bits(mapped.score(matrix, tier), case.scorer.forest.score(matrix, tier)).all(), tier
    assert mapped.image() == path.read_bytes()


def test_the_farm_has_models_of_all_families() -> None:
    families = collections.Counter(name.split("/")[0] for name in CASES)
    assert families["lightgbm"] >= 90
    assert families["catboost"] >= 45
    if importlib.util.find_spec("xgboost"):
        assert families["xgboost"] >= 70
        assert families.total() >= 200


def test_a_difference_is_seen_and_told() -> None:
    """The farm itself: a library that is off by an ulp in one score and by one leaf."""
    sound = lightgbm_case("regression")

    def raw(rows: np.ndarray) -> np.ndarray:
        found = sound.raw(rows)
        found[0, 17] = np.nextafter(found[0, 17], np.inf)
        return found

    def leaves(rows: np.ndarray) -> np.ndarray:
        found = sound.leaves(rows).copy()
        found[3, 5] += 1
        return found

    tally = Tally()
    check(Case(sound.name, sound.scorer, sound.rows, raw, leaves), 100, 0, tally)
    assert (tally.models, tally.scores, tally.leaf_differences, tally.score_bits_different) == (1, 100, 1, 1)
    assert tally.differences[0].startswith("lightgbm/regression, row 5, tree 3: leaf ")
    assert tally.differences[1].startswith("lightgbm/regression, row 17, output 0: ")


def test_zeros_of_both_signs_are_different_bits() -> None:
    a, b = np.array([0.0, np.nan, 1.0]), np.array([-0.0, -np.nan, 1.0])
    assert same_bits(a, b).tolist() == [False, True, True]
