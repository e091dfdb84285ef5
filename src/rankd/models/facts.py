"""What a forest is like, to be told: counts and shapes, the tiers it can use and why it cannot use others."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ExplanationError
from rankd.kernels.forest import CATEGORICAL, FORCED_TIER, TIERS, Forest
from rankd.models.forest import ForestScorer

PROCESSOR_FEATURES = {
    "avx2": ("avx2", "bmi2"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "bmi2"),
    "neon": ("asimd",),
}
"""What a tier needs of the processor, in the words of Linux's /proc/cpuinfo."""
_MACHINES = {"avx2": ("x86_64", "AMD64"), "avx512": ("x86_64", "AMD64"), "neon": ("aarch64", "arm64")}
_MOST_WALKED = 64


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """One input. `thresholds` are distinct ones after rounding to float32; an axis holds up to 255 of them."""

    name: str
    splits: int
    categorical_splits: int
    thresholds: int
    axes: int


@dataclass(frozen=True, slots=True)
class ForestFacts:
    """A forest's counts. `leaves` and `depth` are per tree; `conditions` are evaluated once a block of rows."""

    outputs: tuple[str, ...]
    leaves: NDArray[np.int64]
    depth: NDArray[np.int64]
    oblivious_trees: int
    linear_leaves: int
    conditions: int
    features: tuple[FeatureFacts, ...]
    image_bytes: int
    unexplained: str
    """Why scores cannot be explained; "" where they can."""

    @property
    def trees(self) -> int:
        return len(self.leaves)


@dataclass(frozen=True, slots=True)
class TierFacts:
    """A way to score: whether this processor and this forest can use it, and why not."""

    tier: str
    available: bool
    why: str


def forest_facts(scorer: ForestScorer) -> ForestFacts:
    """Looks at every node; prepares an explanation, to know whether there can be any."""
    forest = scorer.forest
    arrays, described = forest.arrays(), forest.describe()
    split = np.bincount(arrays.get("split_feature", np.zeros(0, np.int32)), minlength=forest.features)
    categorical = np.zeros(forest.features, np.int64)
    if "decision" in arrays:
        chosen = arrays["split_feature"][(arrays["decision"] & CATEGORICAL) != 0]
        categorical = np.bincount(chosen, minlength=forest.features)
    linear_leaves = int((np.diff(arrays["linear_begin"]) > 0).sum()) if "linear_begin" in arrays else 0
    columns = (split, categorical, described["thresholds"], described["axes"])
    features = zip(scorer.feature_names, *(column.tolist() for column in columns), strict=True)
    begin = arrays["node_begin"].astype(np.int64)
    leaves = begin[1:] - begin[:-1] + 1
    return ForestFacts(
        outputs=scorer.output_names,
        leaves=leaves,
        depth=described["depth"].astype(np.int64),
        oblivious_trees=int(described["oblivious"].sum()),
        linear_leaves=linear_leaves,
        conditions=described["conditions"],
        features=tuple(FeatureFacts(*feature) for feature in features),
        image_bytes=len(memoryview(forest.image())),
        unexplained=_unexplained(scorer),
    )


def _unexplained(scorer: ForestScorer) -> str:
    try:
        scorer.explain(np.zeros((len(scorer.feature_names), 1), np.float32))
    except ExplanationError as error:
        return error.message
    return ""


def tier_facts(forest: Forest, processor: frozenset[str] | None) -> list[TierFacts]:
    """Of every tier but "auto". `processor`: its features, None where the system does not tell."""
    found = []
    for tier in TIERS:
        if tier != "auto":
            available = forest.has_tier(tier)
            found.append(TierFacts(tier, available, "" if available else _why_not(forest, tier, processor)))
    return found


def _why_not(forest: Forest, tier: str, processor: frozenset[str] | None) -> str:
    if not forest.has_tier("bits"):
        return "the forest has a tree of more than 8,190 nodes that is not oblivious"
    needed = PROCESSOR_FEATURES[tier]
    if platform.machine() not in _MACHINES[tier]:
        return f"it is for {_MACHINES[tier][0]}, this is {platform.machine()}"
    if processor is None:
        return f"the processor lacks one of {', '.join(needed)}"
    missing = [name for name in needed if name not in processor]
    return f"the processor has no {', '.join(missing)}" if missing else "this build has it not"


def chosen_why(forest: Forest, rows: int) -> str:
    """Why `forest.chosen_tier(rows)` is what it is."""
    if FORCED_TIER != "auto":
        return "as RANKD_FOREST_TIER says"
    if forest.chosen_tier(rows) != "walk":
        return "the widest vectors that there are"
    if not forest.has_tier("bits"):
        return "rows as bits cannot serve this forest"
    most = next(n for n in range(rows, _MOST_WALKED) if forest.chosen_tier(n + 1) != "walk")
    return f"up to {most} rows, walking each costs less than a block of rows as bits"


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """The features of the first processor; None where the system has no such file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def document(facts: ForestFacts) -> dict[str, Any]:
    """The facts as JSON has them."""
    return {
        "outputs": list(facts.outputs),
        "trees": facts.trees,
        "leaves": {"total": int(facts.leaves.sum()), **spread(facts.leaves)},
        "depth": spread(facts.depth),
        "oblivious_trees": facts.oblivious_trees,
        "categorical_splits": sum(feature.categorical_splits for feature in facts.features),
        "linear_leaves": facts.linear_leaves,
        "conditions": facts.conditions,
        "features": len(facts.features),
        "features_used": sum(feature.splits > 0 for feature in facts.features),
        "image_bytes": facts.image_bytes,
        "explainable": not facts.unexplained,
        "why_not_explainable": facts.unexplained or None,
        "by_feature": [
            {
                "name": feature.name,
                "splits": feature.splits,
                "categorical_splits": feature.categorical_splits,
                "thresholds": feature.thresholds,
                "axes": feature.axes,
            }
            for feature in facts.features
        ],
    }


def spread(values: NDArray[np.int64]) -> dict[str, float]:
    """Smallest, median and largest."""
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}
