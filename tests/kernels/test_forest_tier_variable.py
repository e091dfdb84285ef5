"""RANKD_FOREST_TIER: the tier that "auto" means; read once, so each case is a process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json
import numpy as np
from rankd.errors import ConfigError
from rankd.kernels.forest import TIERS, Forest
from rankd.models.facts import chosen_why
node = dict(split_feature=np.zeros(1, np.int32), decision=np.zeros(1, np.uint8), threshold=np.zeros(1),
            category_set=np.zeros(1, np.int32), left=np.array([-1], np.int32), right=np.array([-2], np.int32))
try:
    forest = Forest(features=1, outputs=1, node_begin=np.array([0, 1], np.uint32), leaf_value=np.array([1.0, 2.0]),
                    set_begin=np.zeros(1, np.uint32), set_words=np.zeros(0, np.uint32), **node)
    has = [tier for tier in TIERS if forest.has_tier(tier)]
    scores = forest.score(np.linspace(-1, 1, 100, dtype=np.float32)[None, :])
    print(json.dumps({"has": has, "chosen": [forest.chosen_tier(1), forest.chosen_tier(100)], "sum": scores.sum(),
                      "why": chosen_why(forest, 100)}))
except ConfigError as error:
    print(json.dumps({"error": str(error)}))
"""


def run(tier: str | None) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "RANKD_FOREST_TIER"}
    if tier is not None:
        environment["RANKD_FOREST_TIER"] = tier
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("tier", [None, "", "auto"])
def test_auto_chooses(tier: str | None) -> None:
    said = run(tier)
    assert said["chosen"][0] == "walk"
    assert said["chosen"][1] not in ("auto", "scalar", "walk")
    assert said["sum"] == 150.0


def test_a_tier_is_forced() -> None:
    for tier in run(None)["has"][1:]:
        said = run(tier)
        assert said["chosen"] == [tier, tier]
        assert said["why"] == "as RANKD_FOREST_TIER says"
        assert said["sum"] == 150.0


def test_unknown_tier_is_refused() -> None:
    assert run("sse")["error"] == (
        'RANKD_FOREST_TIER: expected a tier, one of auto, scalar, walk, bits, avx2, avx512, neon; got "sse"'
    )


def test_tier_of_another_processor_is_refused() -> None:
    foreign = "avx2" if platform.machine() == "aarch64" else "neon"
    assert run(foreign)["error"] == f"RANKD_FOREST_TIER: this processor or this forest has no tier {foreign}"
