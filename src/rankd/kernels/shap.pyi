import numpy as np
from numpy.typing import NDArray

from rankd.kernels.forest import Forest

TIERS: dict[str, int]

class ShapError(ValueError): ...

def has_tier(tier: str) -> bool:
    """Whether this processor and this build have a tier. KeyError if there is no such tier."""

class Shap:
    """Exact explanations (path-dependent TreeSHAP) of a forest, which it keeps.

    ShapError if the forest has no covers or linear leaves, or a path with too many features.
    """

    def __init__(self, forest: Forest) -> None: ...
    @property
    def bytes(self) -> int:
        """Memory held beside the forest."""

    def values(self, matrix: NDArray[np.float32], tier: str = "auto") -> NDArray[np.float64]:
        """(outputs, features + 1, rows) for a float32 matrix (features, rows) with any strides.

        The last entry of the second axis is the expected value; the sum over that axis is the row's score.
        `tier` is a key of TIERS. ValueError if the matrix does not fit or the tier is not to be had.
        """

    def interactions(self, matrix: NDArray[np.float32], tier: str = "auto") -> NDArray[np.float64]:
        """(outputs, features + 1, features + 1, rows): symmetric, adding up to `values` over the third axis.

        The expected value stands in the last place of both axes. ValueError as for `values`.
        """
