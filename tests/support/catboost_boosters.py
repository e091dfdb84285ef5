"""CatBoost models of every kind rankd imports, trained small; their JSON is what users save."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import catboost

_SHAPE = {"rows": 500, "features": 6, "kind": "mixed", "nan_share": 0.1, "names": False, "sum": False, "scale": None}
"""Options that are not CatBoost's. `kind` scales the data, `sum` adds two models up, `scale` is a scale and a bias."""
_MULTI = {"loss_function": "MultiClass", "classes": 4}
_RANKING = ("YetiRank", "YetiRankPairwise", "PairLogit", "PairLogitPairwise", "QueryRMSE", "QuerySoftMax", "LambdaMart")
_TARGETS = ("MultiRMSE", "MultiLogloss", "MultiCrossEntropy")

CATBOOST: dict[str, dict[str, Any]] = {
    "rmse": {},
    "mae": {"loss_function": "MAE"},
    "quantile": {"loss_function": "Quantile:alpha=0.3"},
    "expectile": {"loss_function": "Expectile:alpha=0.7"},
    "mape": {"loss_function": "MAPE"},
    "huber": {"loss_function": "Huber:delta=1.5"},
    "log_cosh": {"loss_function": "LogCosh"},
    "lq": {"loss_function": "Lq:q=2.5"},
    "poisson": {"loss_function": "Poisson"},
    "tweedie": {"loss_function": "Tweedie:variance_power=1.4"},
    "logloss": {"loss_function": "Logloss", "iterations": 40},
    "cross_entropy": {"loss_function": "CrossEntropy"},
    "focal": {"loss_function": "Focal:focal_alpha=0.4;focal_gamma=2"},
    "multiclass": {**_MULTI},
    "multiclass_30": {**_MULTI, "classes": 30, "iterations": 6},
    "multiclass_ova": {**_MULTI, "loss_function": "MultiClassOneVsAll"},
    "multiclass_lossguide": {**_MULTI, "grow_policy": "Lossguide", "max_leaves": 20},
    "multi_rmse": {"loss_function": "MultiRMSE"},
    "multi_logloss": {"loss_function": "MultiLogloss"},
    "multi_cross_entropy": {"loss_function": "MultiCrossEntropy"},
    "multi_quantile": {"loss_function": "MultiQuantile:alpha=0.1,0.5,0.9"},
    "yeti_rank": {"loss_function": "YetiRank", "iterations": 40},
    "yeti_rank_pairwise": {"loss_function": "YetiRankPairwise"},
    "pair_logit": {"loss_function": "PairLogit"},
    "query_rmse": {"loss_function": "QueryRMSE"},
    "query_soft_max": {"loss_function": "QuerySoftMax"},
    "lambda_mart": {"loss_function": "LambdaMart"},
    "nan_max": {"nan_mode": "Max", "nan_share": 0.4},
    "nan_min": {"nan_mode": "Min", "nan_share": 0.4},
    "nan_never_seen": {"nan_share": 0.0},
    "nan_max_never_seen": {"nan_mode": "Max", "nan_share": 0.0},
    "depth_1": {"depth": 1, "iterations": 100},
    "depth_2": {"depth": 2, "iterations": 100},
    "depth_8": {"depth": 8, "iterations": 10},
    "depth_9": {"depth": 9, "iterations": 10},
    "depth_12": {"depth": 12, "iterations": 3},
    "depth_16": {"depth": 16, "iterations": 1, "features": 3, "rows": 300},
    "trees_300": {"iterations": 300, "depth": 4},
    "borders_1": {"border_count": 1},
    "borders_254": {"border_count": 254, "rows": 3000, "iterations": 100},
    "borders_2000": {"border_count": 2000, "rows": 5000, "features": 1, "iterations": 150, "depth": 6},
    "borders_uniform": {"feature_border_type": "Uniform", "border_count": 60},
    "lossguide": {"grow_policy": "Lossguide", "max_leaves": 64, "depth": 12},
    "lossguide_deep": {"grow_policy": "Lossguide", "max_leaves": 60, "depth": 16, "min_data_in_leaf": 1},
    "lossguide_nan_max": {"grow_policy": "Lossguide", "nan_mode": "Max"},
    "depthwise": {"grow_policy": "Depthwise", "depth": 6},
    "depthwise_deep": {"grow_policy": "Depthwise", "depth": 11, "iterations": 4},
    "ordered": {"boosting_type": "Ordered"},
    "bayesian": {"bootstrap_type": "Bayesian"},
    "langevin": {"langevin": True},
    "shrunk": {"model_shrink_rate": 0.1},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 0, 0]},
    "huge_values": {"kind": "huge"},
    "denormals": {"kind": "denormal"},
    "denormals_lossguide": {"kind": "denormal", "grow_policy": "Lossguide"},
    "integers": {"kind": "integers", "border_count": 254},
    "wide": {"features": 136, "rows": 1500},
    "one_feature": {"features": 1},
    "ignored_features": {"ignored_features": [0, 3]},
    "named": {"names": True},
    "scaled": {"scale": (1.2345678, -0.1)},
    "negative_scale": {"scale": (-3.3e-3, 7.7)},
    "scaled_lossguide": {"scale": (0.1, 1e6), "grow_policy": "Lossguide"},
    "sum_of_models": {"sum": True},
}


def _features(shape: dict[str, Any], generator: np.random.Generator) -> NDArray[np.float32]:
    x = generator.normal(size=(shape["rows"], shape["features"]))
    x[:, 1:2] = np.round(x[:, 1:2], 1)
    x[generator.random(x.shape) < 0.1] = 0.0
    if shape["kind"] == "huge":
        x = np.sign(x) * 10.0 ** (38 - 3 * np.abs(x))
    elif shape["kind"] == "denormal":
        x = np.sign(x) * 10.0 ** (-35 - 5 * np.abs(x))
    elif shape["kind"] == "integers":
        x = np.round(x * 40)
    return x.astype(np.float32)


def _target(loss: str, classes: int, x: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float64]:
    signs = np.sign(x) + np.tanh(x)
    y = signs[:, 0] + signs[:, -1] * signs[:, x.shape[1] // 2] + generator.normal(scale=0.3, size=len(x))
    rank = np.argsort(np.argsort(y)) / len(y)
    if loss in _TARGETS:
        both = np.stack([y, y**2, -y], 1)
        return {"MultiRMSE": both, "MultiLogloss": (both > 0.5) * 1.0, "MultiCrossEntropy": 1 / (1 + np.exp(-both))}[
            loss
        ]
    if loss in ("Poisson", "Tweedie", "MAPE"):
        return np.exp(y / 2)
    if loss in ("Logloss", "Focal"):
        return (y > 0).astype(float)
    if loss == "CrossEntropy":
        return rank
    if loss.startswith("MultiClass"):
        return np.floor(rank * classes)
    return np.floor(rank * 5) if loss in _RANKING else y


@functools.cache
def catboost_model(name: str) -> tuple[catboost.CatBoost, bytes, catboost.CatBoost]:
    """The model of that name in CATBOOST, its JSON, and the JSON as CatBoost reads it; always the same.

    ModuleNotFoundError where CatBoost is not installed.

    CatBoost's own reader of JSON is off by an ulp now and then, so scores are compared with the first. Its numbers
    of the leaves of trees that are not symmetric depend on how they grew, so leaves are compared with the last.
    """
    import catboost

    shape = {key: CATBOOST[name].get(key, default) for key, default in _SHAPE.items()}
    options = {key: value for key, value in CATBOOST[name].items() if key not in _SHAPE}
    generator = np.random.default_rng(5)
    classes = options.pop("classes", 0)
    options = {"iterations": 20, "depth": 5, "loss_function": "RMSE", "random_seed": 3} | options
    options |= {"thread_count": 1, "verbose": 0, "allow_writing_files": False}
    loss = options["loss_function"].partition(":")[0]
    x = _features(shape, generator)
    y = _target(loss, classes, x, generator)
    x[generator.random(x.shape) < shape["nan_share"]] = np.nan
    names = [f"signal_{i}" for i in range(x.shape[1])] if shape["names"] else None
    group = np.repeat(np.arange(len(x) // 20), 20) if loss in _RANKING else None
    pool = catboost.Pool(x, y, group_id=group, feature_names=names)
    model = catboost.CatBoost(options).fit(pool)
    if shape["sum"]:
        model = catboost.sum_models([model, catboost.CatBoost(options | {"random_seed": 9}).fit(pool)], [0.3, 0.7])
    if shape["scale"] is not None:
        model.set_scale_and_bias(*shape["scale"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        reread = catboost.CatBoost()
        reread.load_model(str(path), format="json")
        return model, path.read_bytes(), reread


def borders(data: bytes) -> tuple[int, dict[int, list[float]]]:
    """Of a model file: the number of features and the borders by the column they are of."""
    features = json.loads(data)["features_info"]["float_features"]
    return len(features), {feature["flat_feature_index"]: feature["borders"] or [] for feature in features}
