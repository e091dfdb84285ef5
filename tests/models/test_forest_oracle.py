"""The oracle of tests/support against the kernel: the same leaves and the same bits, with the same arguments."""

import numpy as np
import pytest
from support.boosters import booster, nasty_rows
from support.forest_oracle import ForestOracle

from rankd.models import lightgbm, parse_lightgbm


@pytest.mark.parametrize("name", ["many_categories", "multiclass", "zero_as_missing", "no_missing", "single_leaf"])
def test_oracle_equals_the_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = booster(name).model_to_string()
    forest = parse_lightgbm(text).forest
    built: list[ForestOracle] = []

    def both(**arguments):
        # The kernel that this contract was first written for takes LightGBM's zeros for granted.
        built.append(ForestOracle(**{"flags": 1, **arguments}))
        return forest

    monkeypatch.setattr(lightgbm, "Forest", both)
    parse_lightgbm(text)
    matrix = np.ascontiguousarray(nasty_rows(booster(name), 300).T)
    assert np.array_equal(built[0].leaves(matrix), forest.leaves(matrix))
    assert np.array_equal(built[0].score(matrix), forest.score(matrix, "scalar"))
