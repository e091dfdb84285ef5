"""Scorer: what a loaded model is to the rest of rankd, whatever its family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rankd.kernels.scorer import ScorerKernel


class Scorer(Protocol):
    """Immutable; safe to use from several threads at once; never does I/O."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The model's inputs, in its order."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """("score",), or class_0, class_1 … of a multiclass model."""

    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        """Outputs of every row: float64 (len(output_names), rows).

        `matrix`: float32 (len(feature_names), rows), a row of it per feature; its last axis
        is contiguous. NaN is missing. `raw` leaves out the objective's transform.
        Releases the GIL. ValueError if the shape does not fit.
        """

    @property
    def kernel(self) -> ScorerKernel:
        """What `score` calls; the compiled request path calls it, too."""


@runtime_checkable
class Explainer(Protocol):
    """What a Scorer whose scores can be explained offers besides (docs/explanations.md)."""

    def explain(self, matrix: NDArray[np.float32], interactions: bool = False) -> NDArray[np.float64]:
        """What every feature contributes to every row's raw score: float64 (outputs, features + 1, rows).

        The last entry of the second axis is the expected score; over that axis, contributions add up to
        `score(matrix, raw=True)`. With `interactions` (outputs, features + 1, features + 1, rows): symmetric, adding up
        over one feature axis to the contributions of the other. The first call may take a moment to prepare.
        ExplanationError if the model cannot be explained, ValueError if the shape does not fit. Releases the GIL.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """The file a model was trained into: its family (catboost, lightgbm, linear, xgboost), name and SHA-256 (hex)."""

    family: str
    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model file, validated and ready. `version` is "name@" and 12 hex digits of its origin's SHA-256.

    `row_ns`: what scoring takes for a row among many on this machine, for choosing where to run it; 0: not measured.
    """

    name: str
    version: str
    scorer: Scorer
    row_ns: float = 0.0
