"""LightGBM models for the fuzz farm: what support.boosters has, and the corners of its options.

Each entry is LightGBM's parameters and, by the keys of `_SHAPE`, how the data looks.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from support.boosters import BOOSTERS, booster

_SHAPE = {"rows": 600, "trees": 8, "kind": "mixed", "categories": 12, "nan_share": 0.1, "weights": False}
"""Options that are not LightGBM's. `kind` is a function of _KINDS."""
_MULTICLASS = {"objective": "multiclass", "num_class": 3}
_LINEAR = {"objective": "regression", "linear_tree": True}
_RF = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
_LOOSE = {"min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0, "min_data_in_bin": 1}
_EAGER = {"cat_smooth": 0.1, "cat_l2": 0.1, "min_data_per_group": 1}
"""Splits on categories of a few rows."""

_MORE: dict[str, dict[str, Any]] = {
    "bins_2": {"max_bin": 2, "trees": 30},
    "bins_15": {"max_bin": 15, "trees": 30},
    "bins_255": {"max_bin": 255, "rows": 3000, "trees": 60, "num_leaves": 31},
    "bins_1023": {"max_bin": 1023, "rows": 4000, "trees": 60, "num_leaves": 63, **_LOOSE},
    "bins_1023_no_missing": {"max_bin": 1023, "rows": 4000, "trees": 40, "num_leaves": 63, "use_missing": False},
    "bins_1023_zero_missing": {"max_bin": 1023, "rows": 4000, "trees": 40, "num_leaves": 63, "zero_as_missing": True},
    "leaves_2000": {"rows": 6000, "num_leaves": 2000, "trees": 2, "max_bin": 1023, **_LOOSE},
    "leaves_500_classes": {**_MULTICLASS, "rows": 3000, "num_leaves": 500, "trees": 2, **_LOOSE},
    "chain_64": {
        "kind": "chain",
        "nan_share": 0.02,
        "max_depth": 64,
        "num_leaves": 300,
        "max_bin": 1023,
        "trees": 3,
        **_LOOSE,
    },
    "chain": {"kind": "chain", "nan_share": 0.02, "num_leaves": 300, "max_bin": 1023, "trees": 3, **_LOOSE},
    "chain_rf": {"kind": "chain", "nan_share": 0.02, "num_leaves": 100, "max_bin": 1023, "trees": 4, **_RF, **_LOOSE},
    "trees_300": {"num_leaves": 8, "trees": 300},
    "trees_300_stumps": {"num_leaves": 2, "trees": 300},
    "wide_rows": {"kind": "wide", "trees": 30, "num_leaves": 31, "rows": 1500},
    "classes_30": {"objective": "multiclass", "num_class": 30, "kind": "classes", "trees": 3},
    "classes_30_ova": {"objective": "multiclassova", "num_class": 30, "kind": "classes", "trees": 3},
    "dart_multiclass": {**_MULTICLASS, "boosting": "dart", "drop_rate": 0.5},
    "dart_binary": {"objective": "binary", "boosting": "dart", "drop_rate": 0.9, "trees": 20},
    "dart_xgboost_mode": {"boosting": "dart", "xgboost_dart_mode": True, "drop_rate": 0.5, "trees": 20},
    "dart_zero_missing": {"boosting": "dart", "zero_as_missing": True, "drop_rate": 0.5, "uniform_drop": True},
    "rf_regression": {**_RF},
    "rf_ova": {"objective": "multiclassova", "num_class": 4, **_RF},
    "rf_poisson": {"objective": "poisson", **_RF},
    "rf_no_missing": {"objective": "binary", "use_missing": False, **_RF},
    "goss_multiclass": {**_MULTICLASS, "data_sample_strategy": "goss", "trees": 15},
    "goss_lambdarank": {"objective": "lambdarank", "data_sample_strategy": "goss", "trees": 15},
    "no_missing_multiclass": {**_MULTICLASS, "use_missing": False},
    "zero_missing_lambdarank": {"objective": "lambdarank", "zero_as_missing": True},
    "zero_missing_deep": {"zero_as_missing": True, "num_leaves": 200, "nan_share": 0.4, **_LOOSE},
    "mostly_missing": {"nan_share": 0.8, **_LOOSE},
    "categories_2000": {"categories": 2000, "rows": 4000, "max_cat_to_onehot": 1, **_EAGER, **_LOOSE},
    "categories_onehot": {"categories": 12, "max_cat_to_onehot": 64},
    "categories_large": {"kind": "large_categories", "max_cat_to_onehot": 1, "min_data_per_group": 1, **_LOOSE},
    "categories_only": {"kind": "only_categories", "categories": 100, "max_cat_to_onehot": 1, "cat_smooth": 1.0},
    "categories_no_missing": {"use_missing": False, "categories": 60, "max_cat_to_onehot": 1, **_EAGER},
    "categories_threshold": {"categories": 300, "max_cat_threshold": 300, "max_cat_to_onehot": 1, **_EAGER},
    "categories_dart": {"boosting": "dart", "categories": 60, "max_cat_to_onehot": 1, **_EAGER},
    "huge_values": {"kind": "huge", "trees": 20, **_LOOSE},
    "denormals": {"kind": "denormal", "trees": 20, **_LOOSE},
    "denormals_zero_missing": {"kind": "denormal", "zero_as_missing": True, "trees": 20, **_LOOSE},
    "infinities": {"kind": "infinite", "trees": 20, **_LOOSE},
    "infinities_no_missing": {"kind": "infinite", "use_missing": False, "trees": 20, **_LOOSE},
    "neighbours": {"kind": "neighbours", "trees": 20, "num_leaves": 100, "max_bin": 1023, **_LOOSE},
    "integers": {"kind": "integers", "trees": 20, **_LOOSE},
    "forced_splits": {"forced": True, "num_leaves": 31},
    "monotone": {"monotone_constraints": [1, -1, 0, 1, 0, 0, 0]},
    "extra_trees": {"extra_trees": True, "trees": 20},
    "path_smooth": {"path_smooth": 2.0, "trees": 20},
    "quantized": {"use_quantized_grad": True, "trees": 20},
    "continued": {"continued": True},
    "weighted": {"weights": True},
    "linear_leaves": {**_LINEAR, "num_leaves": 31},
    "linear_binary": {**_LINEAR, "objective": "binary"},
    "linear_multiclass": {**_LINEAR, **_MULTICLASS},
    "linear_lambdarank": {**_LINEAR, "objective": "lambdarank"},
    "linear_deep": {**_LINEAR, "num_leaves": 100, "rows": 2000, "min_data_in_leaf": 8},
    "linear_rf": {**_LINEAR, **_RF},
    "linear_dart": {**_LINEAR, "boosting": "dart", "drop_rate": 0.5},
    "linear_no_missing": {**_LINEAR, "use_missing": False},
    "linear_lambda": {**_LINEAR, "linear_lambda": 3.0, "nan_share": 0.0},
    "linear_poisson": {**_LINEAR, "objective": "poisson"},
    "linear_wide": {**_LINEAR, "kind": "wide", "rows": 2000},
    "linear_huge": {**_LINEAR, "kind": "huge"},
}

FARM = (*BOOSTERS, *_MORE)


def _mixed(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    x = generator.normal(size=(rows, 7)).astype(np.float32).astype(np.float64)
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] *= 1e6
    x[:, 3] = generator.integers(-3, 4, rows)
    x[generator.random(x.shape) < 0.15] = 0.0
    x[:, 5] = generator.integers(0, categories, rows)
    x[:, 6] = generator.integers(0, 4, rows)
    return x


def _chain(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    """With the target of `_target`: each split cuts off the largest value, a tree is a chain."""
    x = _mixed(generator, rows, categories)
    x[:, 0] = np.arange(rows)
    return x


def _wide(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    return np.hstack([_mixed(generator, rows, categories), generator.normal(size=(rows, 129)).astype(np.float32)])


def _large_categories(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    x = _mixed(generator, rows, categories)
    x[:, 5] = generator.choice([0, 1, 31, 32, 63, 64, 1000, 65535, 65536, 1_000_000, -1, -7], rows)
    return x


def _only_categories(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    x = _mixed(generator, rows, categories)
    x[:, :5] = 0.0
    return x


def _scaled(scale: float) -> Any:
    def kind(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
        x = _mixed(generator, rows, categories)
        with np.errstate(over="ignore"):
            x[:, :5] = (np.sign(x[:, :5]) * 10.0 ** (-3 * np.abs(x[:, :5] % 1.7)) * scale).astype(np.float32)
        return x

    return kind


def _infinite(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    x = _mixed(generator, rows, categories)
    where = generator.random((rows, 5))
    x[:, :5][where < 0.1] = np.inf
    x[:, :5][where > 0.9] = -np.inf
    return x


def _neighbours(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    """Values that follow each other in float32, so that thresholds lie between two floats."""
    x = _mixed(generator, rows, categories)
    x[:, 0] = (generator.integers(-150, 150, rows) + np.float32(1).view(np.int32)).astype(np.int32).view(np.float32)
    x[:, 1] = generator.integers(0, 300, rows).astype(np.int32).view(np.float32)
    x[:, 2] = (generator.integers(-150, 0, rows) + np.float32(np.inf).view(np.int32)).astype(np.int32).view(np.float32)
    return x


def _integers(generator: np.random.Generator, rows: int, categories: int) -> NDArray[np.float64]:
    x = _mixed(generator, rows, categories)
    x[:, :5] = generator.integers(-(2**24) - 3, 2**24 + 3, (rows, 5)).astype(np.float32)
    x[:, 1] %= 5
    return x


_KINDS = {
    "mixed": _mixed, "classes": _mixed, "chain": _chain, "wide": _wide, "large_categories": _large_categories,
    "only_categories": _only_categories, "huge": _scaled(3e38), "denormal": _scaled(1e-33), "infinite": _infinite,
    "neighbours": _neighbours, "integers": _integers,
}  # fmt: skip


def _target(
    options: dict[str, Any], shape: dict[str, Any], x: NDArray[np.float64], generator: np.random.Generator
) -> Any:
    rows = len(x)
    y = np.sin(np.nan_to_num(np.clip(x[:, 0], -9, 9))) + (x[:, 5] * 7 % 5) / 2 + (x[:, 6] == 2) + np.sign(x[:, 2])
    y = y + np.clip(x[:, 3], -3, 3) / 3 + np.sign(x[:, 1]) / 2 + generator.normal(scale=0.3, size=rows)
    objective = options.get("objective", "regression")
    if shape["kind"] == "chain":
        return np.minimum(1.3 ** np.arange(rows), 1e37)
    if shape["kind"] == "classes":
        return (np.floor(np.abs(y) * 1000) % options["num_class"]).astype(float)
    if objective == "poisson":
        return np.exp(y / 2)
    if objective == "binary":
        return (y > 1).astype(float)
    if objective in ("multiclass", "multiclassova"):
        return np.clip(np.round(y), 0, options["num_class"] - 1)
    if objective == "lambdarank":
        return np.clip(np.round(y), 0, 4)
    return y


@functools.cache
def farm_booster(name: str) -> lgb.Booster:
    """The model of that name in FARM, as its file is read back; trained once a process, always the same."""
    if name in BOOSTERS:
        return lgb.Booster(model_str=booster(name).model_to_string())
    shape = {key: _MORE[name].get(key, default) for key, default in _SHAPE.items()}
    options = {key: value for key, value in _MORE[name].items() if key not in _SHAPE}
    generator = np.random.default_rng(11)
    x = _KINDS[shape["kind"]](generator, shape["rows"], shape["categories"])
    y = _target(options, shape, x, generator)
    x[generator.random(x.shape) < shape["nan_share"]] = np.nan
    group = [20] * (len(x) // 20) if options.get("objective") == "lambdarank" else None
    weight = generator.random(len(x)) if shape["weights"] else None
    continued, forced = options.pop("continued", False), options.pop("forced", False)
    options = {"objective": "regression", "num_leaves": 12, "min_data_in_leaf": 5, "min_data_per_group": 5} | options
    options |= {"verbose": -1, "num_threads": 1, "seed": 3, "deterministic": True, "force_col_wise": True}
    # linear trees keep the raw values, which LightGBM wants as doubles of their own
    data = lgb.Dataset(x, y, group=group, weight=weight, categorical_feature=[5, 6], free_raw_data=False)
    with tempfile.TemporaryDirectory() as folder:
        if forced:
            path = Path(folder) / "forced.json"
            child = {"feature": 1, "threshold": 0.25}
            path.write_text(json.dumps({"feature": 0, "threshold": 0.5, "left": child, "right": child}))
            options["forcedsplits_filename"] = str(path)
        model = lgb.train(options, data, shape["trees"])
    if continued:
        model = lgb.train(options, data, 4, init_model=lgb.Booster(model_str=model.model_to_string()))
    return lgb.Booster(model_str=model.model_to_string())


def split_points(text: str) -> tuple[int, dict[int, list[float]], dict[int, list[float]]]:
    """Of a model file: the number of features, the thresholds and the categories by feature."""
    features = int(re.search(r"^max_feature_idx=(\d+)", text, re.MULTILINE)[1]) + 1
    thresholds: dict[int, list[float]] = {}
    categories: dict[int, list[float]] = {}
    for tree in text.split("\nTree=")[1:]:
        lines = dict(line.split("=", 1) for line in tree.split("\n\n")[0].split("\n")[1:] if "=" in line)
        if not lines.get("threshold"):
            continue
        bounds = [int(v) for v in lines.get("cat_boundaries", "").split()]
        words = [int(v) for v in lines.get("cat_threshold", "").split()]
        columns = (lines[key].split() for key in ("split_feature", "decision_type", "threshold"))
        for feature, decision, threshold in zip(*columns, strict=True):
            if int(decision) & 1:
                begin, end = bounds[int(threshold)], bounds[int(threshold) + 1]
                members = [32 * i + b for i, w in enumerate(words[begin:end]) for b in range(32) if w >> b & 1]
                categories.setdefault(int(feature), []).extend(map(float, members))
            else:
                thresholds.setdefault(int(feature), []).append(float(threshold))
    return features, thresholds, categories
