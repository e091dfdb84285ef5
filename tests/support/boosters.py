"""Small LightGBM models of every kind rankd imports, and rows that sit on their borders."""

from __future__ import annotations

import functools
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

ROWS = 600
FEATURES = 7
CATEGORICAL = (5, 6)

BOOSTERS: dict[str, dict[str, Any]] = {
    "regression": {"objective": "regression"},
    "regression_sqrt": {"objective": "regression", "reg_sqrt": True},
    "l1_sqrt": {"objective": "regression_l1", "reg_sqrt": True},
    "huber": {"objective": "huber"},
    "fair": {"objective": "fair"},
    "quantile": {"objective": "quantile", "alpha": 0.7},
    "mape": {"objective": "mape"},
    "poisson": {"objective": "poisson"},
    "gamma": {"objective": "gamma"},
    "tweedie": {"objective": "tweedie"},
    "binary": {"objective": "binary"},
    "binary_sigmoid": {"objective": "binary", "sigmoid": 2.34567},
    "binary_small_sigmoid": {"objective": "binary", "sigmoid": 0.0000123457},
    "cross_entropy": {"objective": "cross_entropy"},
    "cross_entropy_lambda": {"objective": "cross_entropy_lambda"},
    "multiclass": {"objective": "multiclass", "num_class": 3},
    "multiclassova": {"objective": "multiclassova", "num_class": 4, "sigmoid": 0.7},
    "lambdarank": {"objective": "lambdarank", "num_leaves": 31, "trees": 40},
    "rank_xendcg": {"objective": "rank_xendcg"},
    "custom": {"objective": "custom"},
    "rf": {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    "rf_multiclass": {
        "objective": "multiclass", "num_class": 3, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6,
    },
    "dart": {"objective": "regression", "boosting": "dart", "drop_rate": 0.5},
    "goss": {"objective": "regression", "data_sample_strategy": "goss"},
    "zero_as_missing": {"objective": "regression", "zero_as_missing": True},
    "no_missing": {"objective": "regression", "use_missing": False},
    "no_nan_seen": {"objective": "regression", "nan_share": 0.0},
    "many_categories": {"objective": "regression", "categories": 500, "max_cat_to_onehot": 1, "trees": 20},
    "zero_missing_categories": {"objective": "regression", "zero_as_missing": True, "categories": 60},
    "small_bins": {"objective": "regression", "max_bin": 3},
    "large_bins": {"objective": "regression", "max_bin": 5000, "min_data_in_bin": 1},
    "small": {"objective": "binary", "num_leaves": 6, "trees": 2, "max_cat_to_onehot": 1},
    "stumps": {"objective": "regression", "num_leaves": 2},
    "single_leaf": {"objective": "regression", "min_data_in_leaf": 10 * ROWS},
    "deep": {"objective": "regression", "num_leaves": 200, "min_data_in_leaf": 1, "trees": 6},
    "wide": {"objective": "regression", "num_leaves": 400, "min_data_in_leaf": 1, "trees": 4},
    "first_leaf_then_trees": {"objective": "multiclass", "num_class": 3, "rare_class": True},
    "linear": {"objective": "regression", "linear_tree": True, "num_leaves": 6},
    "tiny_values": {"objective": "regression", "tiny": True, "min_data_in_bin": 1},
}  # fmt: skip


def training_data(options: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features with exact zeros, NaN and two categorical columns; the target fits the objective."""
    generator = np.random.default_rng(7)
    x = generator.normal(size=(ROWS, FEATURES)).astype(np.float32).astype(np.float64)
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] *= 1e-35 if options.pop("tiny", False) else 1e6
    x[:, 3] = generator.integers(-3, 4, ROWS)
    x[generator.random(x.shape) < 0.15] = 0.0
    x[:, 5] = generator.integers(0, options.pop("categories", 12), ROWS)
    x[:, 6] = generator.integers(0, 4, ROWS)
    y = np.sin(x[:, 0]) + (x[:, 5] * 7 % 5) / 2 + (x[:, 6] == 2) + np.sign(x[:, 2]) + x[:, 3] / 3
    x[generator.random(x.shape) < options.pop("nan_share", 0.1)] = np.nan
    y += generator.normal(scale=0.3, size=ROWS)
    objective = options["objective"]
    if objective in ("poisson", "gamma", "tweedie", "mape"):
        y = np.exp(y / 2)
    elif objective == "binary":
        y = (y > 1).astype(float)
    elif objective.startswith("cross_entropy"):
        y = 1 / (1 + np.exp(-y))
    elif objective.startswith("multiclass"):
        y = np.clip(np.round(y), 0, options["num_class"] - 1)
        if options.pop("rare_class", False):
            y[y == 1] = 0
            y[:3] = 1
    elif objective in ("lambdarank", "rank_xendcg"):
        y = np.clip(np.round(y), 0, 4)
    return x, y


@functools.cache
def booster(name: str) -> lgb.Booster:
    """The model of that name in BOOSTERS; trained once a process, always the same."""
    options = dict(BOOSTERS[name])
    trees = options.pop("trees", 8)
    x, y = training_data(options)
    group = [20] * (ROWS // 20) if options["objective"] in ("lambdarank", "rank_xendcg") else None
    if options["objective"] == "custom":
        options["objective"] = lambda predicted, data: (predicted - data.get_label(), np.ones_like(predicted))
    options = {"num_leaves": 12, "min_data_in_leaf": 5, "min_data_per_group": 5, **options}
    options |= {"verbose": -1, "num_threads": 1, "seed": 3, "deterministic": True}
    data = lgb.Dataset(x, y, group=group, categorical_feature=list(CATEGORICAL))
    return lgb.train(options, data, trees)


def nasty_rows(model: lgb.Booster, rows: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 (rows, features): thresholds and their neighbours, NaN, infinities, zeros, denormals, large values."""
    generator = np.random.default_rng(seed)
    thresholds: list[list[float]] = [[] for _ in range(FEATURES)]
    for tree in model.dump_model()["tree_info"]:
        _collect(tree["tree_structure"], thresholds)
    zero = np.float32(1e-35)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, zero, -zero, np.nextafter(zero, np.float32(1)), 1e-45, -1e-45]
    special += [np.nextafter(-zero, np.float32(-1)), np.finfo(np.float32).max, np.finfo(np.float32).min, 2.0**31, 1e10]
    special += [-1.0, -0.5, -1.5, 0.99, 1.0, 2.0**31 - 128, -(2.0**31), 3e9, 31, 32, 63.5]
    result = np.empty((rows, FEATURES), np.float32)
    for f in range(FEATURES):
        with np.errstate(over="ignore"):  # 1e300 stands for infinity in LightGBM's files
            border = np.array(thresholds[f] or [0.5], np.float64).astype(np.float32)
        pool = np.concatenate([
            border, np.nextafter(border, np.float32(np.inf)), np.nextafter(border, np.float32(-np.inf)),
            np.array(special, np.float32), generator.normal(size=8).astype(np.float32),
            generator.integers(-2, 520, 40).astype(np.float32),
        ])  # fmt: skip
        result[:, f] = generator.choice(pool, rows)
    return result


def _collect(node: dict[str, Any], thresholds: list[list[float]]) -> None:
    if "split_feature" in node:
        if node["decision_type"] == "<=":
            thresholds[node["split_feature"]].append(float(node["threshold"]))
        _collect(node["left_child"], thresholds)
        _collect(node["right_child"], thresholds)
