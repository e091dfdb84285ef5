"""Stand-ins for the parts ranking is built on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd.models.linear import LinearScorer


class FakeCategories:
    """A dictionary of category strings."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def intern(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def code(self, text: str) -> int:
        return self.texts.index(text) if text in self.texts else -1

    def text(self, code: int) -> str:
        return self.texts[code]


@dataclass
class FakeScorer:
    """Scores computed by a Python function of the matrix. Has no kernel: it can be loaded and tried, not served."""

    feature_names: tuple[str, ...]
    compute: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    output_names: tuple[str, ...] = ("score",)

    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        assert matrix.shape[0] == len(self.feature_names)
        return np.atleast_2d(self.compute(matrix)).astype(np.float64)


class Weighted(LinearScorer):
    """A weighted sum that says what it costs: whether calls run on the loop or on a thread."""

    def __init__(self, weights: Mapping[str, float], cost_per_row: float = 1.0) -> None:
        super().__init__(weights, 0.0, "identity", {})
        self._cost_per_row = cost_per_row
