from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.forest import Forest

class ScorerKernel:
    """What csrc/rk_scorer.h computes; immutable."""

    @staticmethod
    def of_forest(
        forest: Forest,
        transform: str,
        parameter: float,
        divisor: float,
        scale: float,
        bias: NDArray[np.float64] | None,
    ) -> ScorerKernel:
        """A forest; `bias` per output, None: sums are neither scaled nor added to."""

    @staticmethod
    def of_linear(
        weights: Sequence[float], substitutes: Sequence[float], intercept: float, single: bool, transform: str
    ) -> ScorerKernel:
        """A linear model; a NaN substitute is none. `single`: float32 at every step."""

    @property
    def features(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        """float64 (outputs, rows) of a float32 matrix (features, rows). ValueError if the shape does not fit."""

    def terms(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """A linear model's terms, float64 (features, rows)."""
