"""Trees read one by one, joined into the arrays that the forest is built from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class TreeArrays(Protocol):
    """One tree, as rankd.kernels.forest.Forest takes it; category sets are numbered within the tree."""

    split_feature: NDArray[np.int32]
    decision: NDArray[np.uint8]
    threshold: NDArray[np.float64]
    category_set: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    set_words: NDArray[np.uint32]

    @property
    def set_sizes(self) -> NDArray[Any]:
        """Words of each set."""

    @property
    def leaf_value(self) -> NDArray[Any]:
        """By leaf or, with vector leaves, (leaves, outputs)."""


def joined(trees: Sequence[TreeArrays]) -> dict[str, NDArray[Any]]:
    """The Forest's arrays of nodes, leaves and category sets, by parameter."""
    first_set = np.cumsum([0, *(len(t.set_sizes) for t in trees)])[:-1]
    return {
        "node_begin": np.cumsum([0, *(len(t.split_feature) for t in trees)]).astype(np.uint32),
        "split_feature": np.concatenate([t.split_feature for t in trees]),
        "decision": np.concatenate([t.decision for t in trees]),
        "threshold": np.concatenate([t.threshold for t in trees]),
        "category_set": np.concatenate(
            [t.category_set + np.int32(first) for t, first in zip(trees, first_set, strict=True)]
        ),
        "left": np.concatenate([t.left for t in trees]),
        "right": np.concatenate([t.right for t in trees]),
        "leaf_value": np.concatenate([t.leaf_value.ravel() for t in trees]).astype(np.float64),
        "set_begin": np.cumsum([0, *np.concatenate([t.set_sizes for t in trees])]).astype(np.uint32),
        "set_words": np.concatenate([t.set_words for t in trees]),
    }
