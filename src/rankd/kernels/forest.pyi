from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

MAX_FEATURES: int
MAX_OUTPUTS: int
MAX_TREES: int
MAX_LEAVES_PER_TREE: int
FLUSH_ZERO: int
NEGATIVE_IN_NO_SET: int
FLOAT_SUMS: int
VECTOR_LEAVES: int
CATEGORICAL: int
DEFAULT_LEFT: int
MISSING_NAN: int
"""Of a node's decision, with the two above."""
TIERS: dict[str, int]
FORCED_TIER: str
"""What "auto" means in this process: RANKD_FOREST_TIER, read once, else "auto" itself."""

class ForestError(ValueError):
    array: str
    tree: int
    index: int
    reason: str
    def __init__(self, array: str, tree: int, index: int, reason: str) -> None: ...

class Forest:
    """An immutable forest built from flat arrays, as csrc/rk_forest.h describes them.

    Tree t has nodes `node_begin[t]:node_begin[t + 1]` and one leaf more. ForestError if anything
    is out of range; TypeError or ValueError if an array has another dtype or is not contiguous; ConfigError if
    RANKD_FOREST_TIER is no tier, or one that this forest or this processor cannot use.
    """

    def __init__(
        self,
        *,
        features: int,
        outputs: int,
        node_begin: NDArray[np.uint32],
        split_feature: NDArray[np.int32],
        decision: NDArray[np.uint8],
        threshold: NDArray[np.float64],
        category_set: NDArray[np.int32],
        left: NDArray[np.int32],
        right: NDArray[np.int32],
        leaf_value: NDArray[np.float64],
        set_begin: NDArray[np.uint32],
        set_words: NDArray[np.uint32],
        flags: int = 0,
        tree_output: NDArray[np.uint32] | None = None,
        base: NDArray[np.float64] | None = None,
        linear_begin: NDArray[np.uint32] | None = None,
        linear_feature: NDArray[np.int32] | None = None,
        linear_coefficient: NDArray[np.float64] | None = None,
        linear_constant: NDArray[np.float64] | None = None,
        node_cover: NDArray[np.float64] | None = None,
        leaf_cover: NDArray[np.float64] | None = None,
    ) -> None: ...
    @staticmethod
    def from_image(image: Buffer) -> Forest:
        """A forest over bytes that `image` gave, such as a mapped file: nothing is copied, `image` is kept.

        It must be aligned to 64 bytes and never change. ForestError if it is not such an image, or a damaged one.
        """

    def image(self) -> bytes:
        """The whole forest as one block of bytes without pointers, for `from_image`."""

    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def trees(self) -> int: ...
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of arrays the forest was built from: node_begin, leaf_value; with nodes split_feature, decision,
        threshold and category_set; with linear leaves linear_begin."""

    @property
    def flags(self) -> int: ...
    @property
    def has_cover(self) -> bool:
        """Whether nodes and leaves have the weights of training rows that explanations need."""

    def describe(self) -> dict[str, Any]:
        """rk_forest_describe: conditions (int); thresholds and axes (features,); depth and oblivious (trees,)."""

    def has_tier(self, tier: str) -> bool:
        """Whether this processor and this forest can use a tier. KeyError if there is no such tier."""

    def chosen_tier(self, rows: int) -> str:
        """The tier that "auto" takes for so many rows."""

    def score(self, matrix: NDArray[np.float32], tier: str = "auto") -> NDArray[np.float64]:
        """Sums (outputs, rows) of a float32 matrix (features, rows), with any strides.

        Contiguous rows of the matrix (features side by side in memory) are fastest. `tier` is a key of TIERS; all give
        the same bits. ValueError if the matrix does not fit or the tier is not to be had.
        """

    def leaves(self, matrix: NDArray[np.float32]) -> NDArray[np.int32]:
        """The leaf of every tree (trees, rows), in the source's numbering. ValueError as for `score`."""
