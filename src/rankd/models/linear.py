"""Linear models: a small JSON file, "rankd.linear/1" (docs/models.md).

score = transform(intercept + Σ weight · value), added up in double in the file's order: the same bits
whatever the batch. A missing (NaN) value is replaced by the file's `missing` entry; without one its
term is left out, so a candidate is scored by what is known about it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.errors import ModelFileError
from rankd.kernels.scorer import ScorerKernel

FORMAT = "rankd.linear/1"
TRANSFORMS = ("identity", "sigmoid", "exp")
_KEYS = ("format", "intercept", "transform", "weights", "missing")


class LinearScorer:
    """The Scorer of linear models."""

    def __init__(
        self,
        weights: Mapping[str, float],
        intercept: float,
        transform: str,
        missing: Mapping[str, float],
        precision: type[np.float64 | np.float32] = np.float64,
    ) -> None:
        """`weights` in summing order; `missing` substitutes NaN of the features it names.

        `precision`: what products and sums are rounded to (XGBoost's linear models: float32).
        """
        self._feature_names = tuple(weights)
        self._intercept = intercept
        self._kernel = ScorerKernel.of_linear(
            list(weights.values()),
            [missing.get(name, math.nan) for name in weights],
            intercept,
            precision is np.float32,
            transform,
        )

    @property
    def kernel(self) -> ScorerKernel:
        return self._kernel

    @property
    def feature_names(self) -> tuple[str, ...]:
        return self._feature_names

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("score",)

    def score(self, matrix: NDArray[np.float32], raw: bool = False) -> NDArray[np.float64]:
        """See Scorer.score."""
        return self._kernel.score(matrix, raw)

    def explain(self, matrix: NDArray[np.float32], interactions: bool = False) -> NDArray[np.float64]:
        """See Explainer.explain: the terms of the sum as they are added; the expected score is the intercept.

        So a contribution is against a feature of value 0. No two features interact.
        """
        found = self._kernel.terms(matrix)
        terms = np.concatenate([found, np.full((1, found.shape[1]), self._intercept)])
        if not interactions:
            return terms[None]
        pairs = np.zeros((1, len(terms), *terms.shape))
        pairs[0, np.arange(len(terms)), np.arange(len(terms))] = terms
        return pairs


def parse_linear(data: bytes | str, where: str = "model", features: Sequence[str] | None = None) -> LinearScorer:
    """The scorer of a linear model file. `features`, if given, must be the file's weights in order.

    ModelFileError with where="FILE:PATH" (weights.price) for anything but the documented format.
    """
    document = _read_json(data, where)
    for key in document:
        if key not in _KEYS:
            raise ModelFileError(f"unknown key; known are {', '.join(_KEYS)}", f"{where}:{_path(key)}")
    if document.get("format") != FORMAT:
        raise ModelFileError(f'expected "{FORMAT}", got {_show(document.get("format"))}', f"{where}:format")
    transform = document.get("transform", "identity")
    if transform not in TRANSFORMS:
        raise ModelFileError(f"expected one of {', '.join(TRANSFORMS)}, got {_show(transform)}", f"{where}:transform")
    intercept = _number(document.get("intercept", 0.0), f"{where}:intercept")
    if "weights" not in document:
        raise ModelFileError("expected an object of feature: weight, it is missing", f"{where}:weights")
    weights = _numbers(document["weights"], f"{where}:weights")
    if not 1 <= len(weights) <= limits.MAX_MODEL_FEATURES:
        raise ModelFileError(
            f"expected 1 to {limits.MAX_MODEL_FEATURES} weights, got {len(weights)}", f"{where}:weights"
        )
    missing = _numbers(document.get("missing", {}), f"{where}:missing")
    for name in missing:
        if name not in weights:
            raise ModelFileError("expected a feature that has a weight", f"{where}:missing.{_path(name)}")
    if features is not None and tuple(features) != tuple(weights):
        raise ModelFileError("the declared features are not the file's weights in their order", f"{where}:weights")
    return LinearScorer(weights, intercept, transform, missing)


def _read_json(data: bytes | str, where: str) -> dict[str, Any]:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ModelFileError("the key stands twice", f"{where}:{_path(twice)}")
        return result

    def constant(text: str) -> float:
        raise ModelFileError(f"expected finite numbers, got {text}", where)

    try:
        text = data.decode() if isinstance(data, bytes) else data
        document = json.loads(text, object_pairs_hook=pairs, parse_constant=constant, parse_int=float)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"expected UTF-8, got another byte at offset {error.start}", where) from None
    except json.JSONDecodeError as error:
        raise ModelFileError(f"expected JSON: {error.msg} (column {error.colno})", f"{where}:{error.lineno}") from None
    except RecursionError:
        raise ModelFileError("expected JSON of three levels, this one is nested without end", where) from None
    if not isinstance(document, dict):
        raise ModelFileError(f"expected an object, got {_show(document)}", where)
    return document


def _numbers(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ModelFileError(f"expected an object of feature: number, got {_show(value)}", where)
    for name, number in value.items():
        if not name or not name.isprintable():
            raise ModelFileError("expected printable, non-empty feature names", f"{where}.{_path(name)}")
        _number(number, f"{where}.{name}")
    return value


def _number(value: Any, where: str) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ModelFileError(f"expected a finite number, got {_show(value)}", where)
    return value


def _path(key: str) -> str:
    return key[: limits.MAX_NAME_CHARS] if key.isprintable() else ascii(key[: limits.MAX_NAME_CHARS])


def _show(value: Any) -> str:
    return ascii(value)[:40]
