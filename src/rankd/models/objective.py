"""Objectives: from LightGBM's objective line to the transform that its predictor applies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from rankd.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class Transform:
    """A key of rankd.kernels.transform.TRANSFORMS with the sigmoid's factor (others ignore it).

    `objective`: what the file says it was trained for, to be told; "" where it does not say.
    """

    name: str
    parameter: float = 1.0
    objective: str = field(default="", compare=False)


IDENTITY = Transform("identity")

_REGRESSION = ("regression", "regression_l1", "fair", "quantile", "mape", "huber")
_PLAIN = {
    "poisson": Transform("exp"),
    "gamma": Transform("exp"),
    "tweedie": Transform("exp"),
    "cross_entropy": Transform("sigmoid"),
    "cross_entropy_lambda": Transform("log1p_exp"),
    "lambdarank": IDENTITY,
    "rank_xendcg": IDENTITY,
    "custom": IDENTITY,
}
_DECIMAL = re.compile(r"(\d{1,17})(?:\.(\d{1,17}))?(?:[eE]([+-]?)(\d{1,3}))?", re.ASCII)


def parse_objective(line: str, outputs: int, where: str) -> Transform:
    """The transform of the objective line's value, such as "multiclassova num_class:3 sigmoid:2".

    `outputs` is the model's num_tree_per_iteration, which the objective must agree with.
    ModelFileError if the objective or one of its words is not known.
    """
    name, *words = line.split(" ")
    options = _options(words, where)
    if name in ("multiclass", "multiclassova"):
        classes = options.pop("num_class", None)
        if classes != str(outputs):
            raise ModelFileError(f"expected num_class:{outputs} in objective {name}, got {classes}", where)
    elif outputs != 1 and name != "custom":
        raise ModelFileError(f"objective {name} has one tree per iteration, got {outputs}", where)
    if name in _REGRESSION:
        transform = Transform("signed_square") if name != "huber" and options.pop("sqrt", None) == "" else IDENTITY
    elif name in ("binary", "multiclassova"):
        transform = Transform("sigmoid", _sigmoid(options.pop("sigmoid", None), where))
    elif name == "multiclass":
        transform = Transform("softmax")
    elif name in _PLAIN:
        transform = _PLAIN[name]
    else:
        known = ", ".join(sorted((*_REGRESSION, *_PLAIN, "binary", "multiclass", "multiclassova")))
        raise ModelFileError(f"objective {name!r} is not supported; known are {known}", where)
    if options:
        raise ModelFileError(f"objective {name} has the unknown word {next(iter(options))!r}", where)
    return replace(transform, objective=line)


def _options(words: list[str], where: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        key, _, value = word.partition(":")
        if key in options:
            raise ModelFileError(f"the objective names {key!r} twice", where)
        options[key] = value
    return options


def _sigmoid(text: str | None, where: str) -> float:
    """LightGBM reads this one number with its own decimal reader; the same steps give the same bits.

    Whole digits, plus the fraction's digits over a power of ten, then scaled by the exponent in steps of
    1e50, 1e8 and 10 (Common::Atof): off the nearest double by an ulp now and then.
    """
    match = _DECIMAL.fullmatch(text or "")
    if match is None:
        raise ModelFileError(f"expected the objective's sigmoid as sigmoid:NUMBER, got {text!r}", where)
    whole, fraction, sign, exponent = match.groups()
    value = 0.0
    for digit in whole:
        value = value * 10.0 + int(digit)
    if fraction:
        tail = 0.0
        for digit in fraction:
            tail = int(digit) + tail * 10.0
        value += tail / 10.0 ** len(fraction)
    left = min(int(exponent or 0), 308)
    scale = 1.0
    for step, factor in ((50, 1e50), (8, 1e8), (1, 10.0)):
        while left >= step:
            scale *= factor
            left -= step
    value = value / scale if sign == "-" else value * scale
    if not 0.0 < value < float("inf"):
        raise ModelFileError(f"expected a sigmoid above 0, got {text}", where)
    return value
