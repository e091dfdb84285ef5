"""ForestScorer: a forest with its objective's transform."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from rankd.errors import ExplanationError
from rankd.kernels.forest import Forest
from rankd.kernels.scorer import ScorerKernel
from rankd.kernels.shap import Shap, ShapError
from rankd.models.objective import Transform


class ForestScorer:
    """The Scorer of tree models."""

    def __init__(
        self,
        forest: Forest,
        feature_names: tuple[str, ...],
        transform: Transform,
        divisor: int = 1,
        *,
        scale: float = 1.0,
        bias: NDArray[np.float64] | None = None,
    ) -> None:
        """`divisor`: what the sums are divided by before the transform (random forests average).

        `scale` and `bias` (float64 per output; None: 0) make the raw score of the sums: scale * sum + bias, each
        operation rounded (CatBoost). ValueError if the names are not as many as the forest's features.
        """
        if len(feature_names) != forest.features:
            raise ValueError(f"expected {forest.features} feature names, got {len(feature_names)}")
        self.forest = forest
        self.transform = transform
        self.divisor = divisor
        self.scale = scale
        self.bias = np.zeros(forest.outputs) if bias is None else bias
        shifted = scale != 1.0 or bool(self.bias.any())
        self._kernel = ScorerKernel.of_forest(
            forest, transform.name, transform.parameter, divisor, scale, self.bias if shifted else None
        )
        self._feature_names = feature_names
        self._shap: Shap | None = None
        self._shap_lock = threading.Lock()
        outputs = forest.outputs
        self._output_names = ("score",) if outputs == 1 else tuple(f"class_{i}" for i in range(outputs))

    @property
    def kernel(self) -> ScorerKernel:
        return self._kernel

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_names

    @property
    def output_names(self) -> tuple[str, ...]:
        return self._output_names

    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        """See Scorer.score. `raw` is the library's: neither averaged nor transformed, but scaled and with the bias."""
        return self._kernel.score(matrix, raw)

    def explain(self, matrix: NDArray[np.float32], interactions: bool = False) -> NDArray[np.float64]:
        """See Explainer.explain: SHAP values, the library's own (LightGBM's pred_contrib)."""
        shap = self._explanations()
        contributions = shap.interactions(matrix) if interactions else shap.values(matrix)
        contributions *= self.scale
        expected = contributions[:, -1, -1] if interactions else contributions[:, -1]
        expected += self.bias[:, None]
        return contributions

    def _explanations(self) -> Shap:
        """Built when first asked for; most models are never explained."""
        with self._shap_lock:
            if self._shap is None:
                try:
                    self._shap = Shap(self.forest)
                except ShapError as error:
                    raise ExplanationError(f"cannot explain: {error}") from None
            return self._shap
