import numpy as np
from numpy.typing import NDArray

MAX_FEATURES: int
MAX_OUTPUTS: int
MAX_TREES: int
MAX_LEAVES_PER_TREE: int
TIERS: dict[str, int]

class ForestError(ValueError):
    array: str
    tree: int
    index: int
    reason: str
    def __init__(self, array: str, tree: int, index: int, reason: str) -> None: ...

class Forest:
    """An immutable forest built from flat arrays, as csrc/rk_forest.h describes them.

    Tree t has nodes `node_begin[t]:node_begin[t + 1]` and one leaf more. ForestError if anything
    is out of range; TypeError or ValueError if an array has another dtype or is not contiguous.
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
    ) -> None: ...
    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def trees(self) -> int: ...
    def score(self, matrix: NDArray[np.float32], tier: str = "auto") -> NDArray[np.float64]:
        """Sums (outputs, rows) of a float32 matrix (features, rows), last axis contiguous.

        `tier` is a key of TIERS; all give the same bits. ValueError if the matrix does not fit.
        """

    def leaves(self, matrix: NDArray[np.float32]) -> NDArray[np.int32]:
        """The leaf of every tree (trees, rows), in the source's numbering. ValueError as for `score`."""
