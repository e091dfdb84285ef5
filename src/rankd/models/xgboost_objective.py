"""XGBoost's objectives: the transform that its predictor applies, and what a base score is before it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from rankd.kernels.transform import margin
from rankd.models.document import Place, nearest_float32
from rankd.models.objective import IDENTITY, Transform

_EXP, _SIGMOID, _SOFTMAX = Transform("exp"), Transform("sigmoid"), Transform("softmax")
OBJECTIVES = {
    "reg:squarederror": IDENTITY,
    "reg:linear": IDENTITY,
    "reg:squaredlogerror": IDENTITY,
    "reg:pseudohubererror": IDENTITY,
    "reg:absoluteerror": IDENTITY,
    "reg:quantileerror": IDENTITY,
    "reg:logistic": _SIGMOID,
    "reg:gamma": _EXP,
    "reg:tweedie": _EXP,
    "count:poisson": _EXP,
    "survival:cox": _EXP,
    "survival:aft": _EXP,
    "binary:logistic": _SIGMOID,
    "binary:logitraw": IDENTITY,
    "binary:hinge": Transform("step"),
    "multi:softprob": _SOFTMAX,
    "multi:softmax": _SOFTMAX,
    "rank:pairwise": IDENTITY,
    "rank:ndcg": IDENTITY,
    "rank:map": IDENTITY,
}
_SCORES = msgspec.json.Decoder(float | list[float])


def read_objective(learner: Place) -> Transform:
    """ModelFileError if the objective is not known."""
    place = learner["objective"]["name"]
    name = place.text()
    if name not in OBJECTIVES:
        raise place.fault(f"objective {ascii(name)[:64]} is not supported; known are {', '.join(sorted(OBJECTIVES))}")
    return replace(OBJECTIVES[name], objective=name)


def base_margins(learner: Place, transform: Transform, outputs: int) -> NDArray[np.float64]:
    """What each output's sum starts from: the base score, which the file has as it is after the transform.

    One for all outputs or, since 3.1, one each. ModelFileError if it is not in the transform's range.
    """
    place = learner["learner_model_param"]["base_score"]
    try:
        scores = np.atleast_1d(np.array(_SCORES.decode(place.text()), np.float64))
    except msgspec.MsgspecError:
        raise place.fault(f'expected text such as "5E-1" or "[5E-1]", got {ascii(place.text())[:40]}') from None
    if len(scores) not in (1, outputs):
        raise place.fault(f"expected 1 or {outputs} numbers, got {len(scores)}")
    margins = np.array([margin(transform.name, score) for score in nearest_float32(scores)], np.float64)
    if not np.isfinite(margins).all():
        raise place.fault(f"expected what the objective can give, got {place.text()[:40]}")
    return np.broadcast_to(margins, outputs).copy()
