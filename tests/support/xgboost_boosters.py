"""Small XGBoost models of every kind rankd imports, and rows that sit on their borders."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

ROWS = 400
FEATURES = 7
CATEGORICAL = (5, 6)
TREE = {"objective": "reg:squarederror"}
BINARY = {"objective": "binary:logistic"}
PROB = {"objective": "multi:softprob", "num_class": 3}
CAT = {**TREE, "categorical": True}
DART = {**TREE, "booster": "dart", "rate_drop": 0.4, "one_drop": 1, "trees": 12}
FOREST = {"num_parallel_tree": 5, "subsample": 0.6, "colsample_bynode": 0.6, "trees": 2}
VECTOR = {**TREE, "multi_strategy": "multi_output_tree", "targets": 3}

BOOSTERS: dict[str, dict[str, Any]] = {
    **{o: {"objective": o} for o in (
        "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:logistic",
        "reg:gamma", "reg:tweedie", "count:poisson", "survival:cox", "survival:aft", "binary:logistic",
        "binary:logitraw", "binary:hinge", "rank:pairwise", "rank:ndcg", "rank:map",
    )},
    "softprob": PROB,
    "softmax": {"objective": "multi:softmax", "num_class": 4},
    "quantile": {"objective": "reg:quantileerror", "quantile_alpha": 0.7},
    "quantiles": {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]},
    "custom": {"objective": "custom"},
    "custom_negative_hessian": {"objective": "custom", "negative_hessian": True},
    "exact": {**TREE, "tree_method": "exact"},
    "exact_pruned": {**TREE, "tree_method": "exact", "gamma": 3.0, "max_depth": 8},
    "exact_softprob": {**PROB, "tree_method": "exact", "gamma": 0.2},
    "approx": {**TREE, "tree_method": "approx"},
    "approx_pruned": {**TREE, "tree_method": "approx", "gamma": 2.0, "max_depth": 8},
    **{f"max_bin_{n}": {**TREE, "max_bin": n} for n in (2, 3, 16, 64, 1024)},
    **{f"depth_{n}": {**TREE, "max_depth": n, "min_child_weight": 0} for n in (1, 2, 3, 8, 10, 12)},
    "depth_unbounded": {**TREE, "max_depth": 0, "min_child_weight": 0, "trees": 3},
    **{f"lossguide_{n}": {**TREE, "grow_policy": "lossguide", "max_leaves": n, "max_depth": 0, "min_child_weight": 0}
       for n in (2, 7, 31, 100, 255)},
    "no_missing": {**TREE, "missing": 0.0},
    "half_missing": {**TREE, "missing": 0.5},
    "mostly_missing": {**BINARY, "missing": 0.95},
    "one_hot": {**CAT, "max_cat_to_onehot": 600},
    "partition": {**CAT, "max_cat_to_onehot": 1},
    "many_categories": {**CAT, "categories": 500, "max_cat_to_onehot": 1, "trees": 20},
    "far_categories": {**CAT, "categories": 30, "category_step": 911, "max_cat_to_onehot": 1},
    "categories_approx_pruned": {**CAT, "tree_method": "approx", "gamma": 1.0, "max_cat_to_onehot": 4, "max_depth": 8},
    "categories_no_missing": {**CAT, "missing": 0.0, "max_cat_to_onehot": 4},
    "categories_softprob": {**PROB, "categorical": True, "max_cat_to_onehot": 5},
    "categories_deep": {**CAT, "max_depth": 10, "min_child_weight": 0, "max_cat_threshold": 3},
    "dart": DART,
    "dart_forest_normalised": {**DART, "normalize_type": "forest", "rate_drop": 0.9, "sample_type": "weighted"},
    "dart_binary": {**DART, **BINARY},
    "dart_softprob": {**DART, **PROB},
    "dart_categories": {**DART, **CAT},
    "dart_parallel": {**DART, "num_parallel_tree": 3, "subsample": 0.5, "trees": 4},
    "forest": {**TREE, **FOREST, "learning_rate": 1},
    "forest_binary": {**BINARY, **FOREST},
    "forest_softprob": {**PROB, **FOREST},
    "forest_targets": {**TREE, **FOREST, "targets": 3},
    "targets": {**TREE, "targets": 3},
    "targets_binary": {**BINARY, "targets": 2},
    "vector": VECTOR,
    "vector_binary": {**VECTOR, **BINARY},
    "vector_softprob": {**VECTOR, **PROB, "targets": 1},
    "vector_deep": {**VECTOR, "max_depth": 9, "min_child_weight": 0},
    "vector_lossguide": {**VECTOR, "grow_policy": "lossguide", "max_leaves": 20},
    "vector_forest": {**VECTOR, **FOREST},
    "vector_missing": {**VECTOR, "missing": 0.5, "trees": 20},
    "vector_single_leaf": {**VECTOR, "min_child_weight": 1e9},
    "single_leaf": {**TREE, "min_child_weight": 1e9},
    "single_leaf_softprob": {**PROB, "min_child_weight": 1e9},
    "single_leaf_pruned": {**TREE, "tree_method": "exact", "gamma": 1e9},
    "single_leaf_sometimes": {**BINARY, "gamma": 3.0, "trees": 30},
    "monotone": {**TREE, "monotone_constraints": "(1,-1,0,1,0,0,0)"},
    "interaction": {**TREE, "interaction_constraints": "[[0,1],[2,3,4]]"},
    "huge_values": {**TREE, "scale": 1e37, "tree_method": "exact"},
    "tiny_values": {**TREE, "scale": 1e-38, "tree_method": "exact"},
    "tiny_values_hist": {**TREE, "scale": 1e-30},
    "constant_feature": {**TREE, "constant": True},
    "whole_numbers": {**TREE, "whole": True, "tree_method": "exact"},
    "whole_numbers_hist": {**TREE, "whole": True},
    "steps": {**TREE, "learning_rate": 1.0, "reg_lambda": 0.0, "reg_alpha": 0.5},
    "slow": {**TREE, "learning_rate": 0.001, "trees": 40},
    "large_targets": {**TREE, "target_scale": 1e12},
    "weights": {**BINARY, "scale_pos_weight": 7.0, "max_delta_step": 0.7},
    "base_score": {**TREE, "base_score": -3.5},
    "base_score_binary": {**BINARY, "base_score": 0.9123},
    "base_score_poisson": {"objective": "count:poisson", "base_score": 7.25},
    "many_trees": {**BINARY, "trees": 150, "max_depth": 4},
    "many_trees_softprob": {**PROB, "trees": 60, "max_depth": 3, "learning_rate": 0.8},
    "refreshed": {**TREE, "refresh": True},
    "sliced": {**TREE, "slice": (2, 7)},
    "named": {**TREE, "names": [f"name_{i}" for i in range(FEATURES)]},
}  # fmt: skip

LINEAR: dict[str, dict[str, Any]] = {
    "linear": {**TREE, "booster": "gblinear"},
    "linear_binary": {**BINARY, "booster": "gblinear", "updater": "coord_descent"},
    "linear_poisson": {"objective": "count:poisson", "booster": "gblinear", "learning_rate": 0.1},
    "linear_missing": {**TREE, "booster": "gblinear", "missing": 0.5, "base_score": 0.3},
}


def training_data(options: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features with exact zeros, NaN and two columns of categories; the target fits the objective."""
    generator = np.random.default_rng(11)
    x = generator.normal(size=(ROWS, FEATURES))
    x[:, 1] = np.round(x[:, 1], 1)
    x[:, 2] *= 1e6
    x[:, 3] = generator.integers(-3, 4, ROWS)
    x[generator.random(x.shape) < 0.15] = 0.0
    step = options.pop("category_step", 1)
    x[:, 5] = generator.integers(0, options.pop("categories", 12), ROWS)
    x[:, 6] = generator.integers(0, 4, ROWS)
    y = np.sin(x[:, 0]) + (x[:, 5] * 7 % 5) / 2 + (x[:, 6] == 2) + np.sign(x[:, 2]) + x[:, 3] / 3
    x[:, 5] *= step
    y += generator.normal(scale=0.3, size=ROWS)
    if options.pop("whole", False):
        x[:, :5] = np.round(x[:, :5] * 3)
    if options.pop("constant", False):
        x[:, 0] = 2.5
    x[:, :5] *= options.pop("scale", 1.0) / (1e6 if "scale" in options else 1.0)
    x[generator.random(x.shape) < options.pop("missing", 0.1)] = np.nan
    with np.errstate(over="ignore"):
        x = np.clip(x, -3e38, 3e38).astype(np.float32)
    return x, _target(options, y)


def _target(options: dict[str, Any], y: NDArray[np.float64]) -> NDArray[np.float64]:
    objective, targets = options["objective"], options.pop("targets", 1)
    if objective in ("reg:gamma", "reg:tweedie", "count:poisson", "reg:squaredlogerror") or "survival" in objective:
        y = np.exp(y / 2)
    elif objective.startswith("binary") or objective in ("reg:logistic", "rank:map"):
        y = (y > 1).astype(float)
    elif objective.startswith("multi"):
        y = np.clip(np.round(y), 0, options["num_class"] - 1)
    elif objective.startswith("rank"):
        y = np.clip(np.round(y), 0, 4)
    y = y * options.pop("target_scale", 1.0)
    if targets == 1:
        return y
    return np.stack([np.roll(y, 3 * i) if objective.startswith("binary") else y * (i + 1) for i in range(targets)], 1)


def _custom(negative: bool) -> Callable[[Any, xgb.DMatrix], tuple[Any, Any]]:
    def gradient(predicted: Any, data: xgb.DMatrix) -> tuple[Any, Any]:
        hessian = np.ones_like(predicted)
        if negative:
            hessian[::9] = -0.25
        return predicted - data.get_label(), hessian

    return gradient


@functools.cache
def model_bytes(name: str, kind: str = "ubj") -> bytes:
    """The file of the model of that name in BOOSTERS or LINEAR, `kind` json or ubj; always the same."""
    if kind == "ubj":
        return bytes(_train(name).save_raw("ubj"))
    return bytes(_reread(model_bytes(name)).save_raw(kind))


@functools.cache
def booster(name: str) -> xgb.Booster:
    """What XGBoost reads from the file."""
    return _reread(model_bytes(name))


def _reread(data: bytes) -> xgb.Booster:
    model = xgb.Booster({"nthread": 1})
    model.load_model(bytearray(data))
    return model


def _train(name: str) -> xgb.Booster:
    options = dict({**BOOSTERS, **LINEAR}[name])
    trees = options.pop("trees", 8)
    x, y = training_data(options)
    types = ["c" if options.get("categorical") and f in CATEGORICAL else "q" for f in range(FEATURES)]
    arguments: dict[str, Any] = {"feature_names": options.pop("names", None)}
    if options.pop("categorical", False):
        arguments |= {"feature_types": types, "enable_categorical": True}
    objective = options["objective"]
    if objective == "survival:aft":
        arguments |= {"label_lower_bound": y, "label_upper_bound": y * 1.5}
    if objective.startswith("rank"):
        arguments["group"] = [20] * (ROWS // 20)
    refresh, part = options.pop("refresh", False), options.pop("slice", None)
    custom = _custom(options.pop("negative_hessian", False)) if objective == "custom" else None
    if custom:
        del options["objective"]
    options = {"max_depth": 5, "seed": 3, "nthread": 1, "disable_default_eval_metric": 1, **options}
    if options.get("booster") == "gblinear":
        del options["max_depth"]
        options.setdefault("updater", "coord_descent")
    data = xgb.DMatrix(x, y, nthread=1, **arguments)
    with xgb.config_context(verbosity=0):
        model = xgb.train(options, data, trees, obj=custom)
        if refresh:
            again = {"process_type": "update", "updater": "refresh,prune", "gamma": 2.0}
            half = xgb.DMatrix(x[::2], y[::2], nthread=1)
            model = xgb.train({**options, **again}, half, trees, xgb_model=model)
    return model[part[0] : part[1]] if part else model


def document(name: str) -> dict[str, Any]:
    """The JSON file as Python's own reader has it."""
    return json.loads(model_bytes(name, "json"))


def trees_of(model: dict[str, Any]) -> list[dict[str, Any]]:
    gradient_booster = model["learner"]["gradient_booster"]
    return gradient_booster.get("gbtree", gradient_booster)["model"]["trees"]


def leaf_numbers(tree: dict[str, Any]) -> list[int]:
    """The node numbers of a tree's leaves, rising: what pred_leaf gives for rankd's leaf 0, 1 …"""
    found, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        if tree["left_children"][node] == -1:
            found.append(node)
        else:
            waiting += [tree["left_children"][node], tree["right_children"][node]]
    return sorted(found)


def nasty_rows(name: str, rows: int, seed: int = 0, infinite: bool = False) -> NDArray[np.float32]:
    """float32 (rows, features): thresholds and their neighbours, NaN, zeros, denormals, large values, odd categories.

    DMatrix refuses infinities: with `infinite` there are some, too.
    """
    generator = np.random.default_rng(seed)
    thresholds: list[list[float]] = [[] for _ in range(FEATURES)]
    model = document(name)
    for tree in trees_of(model) if name in BOOSTERS else []:
        for node, child in enumerate(tree["left_children"]):
            if child != -1 and not tree["split_type"][node]:
                thresholds[tree["split_indices"][node]].append(tree["split_conditions"][node])
    largest = np.finfo(np.float32).max
    special = [np.nan, 0.0, -0.0, 1e-45, -1e-45, 1e-38, largest, -largest, 1e-35, -1e-35, 2.0**24, 2.0**24 - 1]
    special += [2.0**24 + 2, 2.0**31, 1e10, -1.0, -0.5, -1.5, 0.99, 1.0, -(2.0**31), 3e9, 31, 32, 63.5, 911.5, 1822]
    if infinite:
        special += [np.inf, -np.inf]
    result = np.empty((rows, FEATURES), np.float32)
    for f in range(FEATURES):
        border = np.array(thresholds[f] or [0.5], np.float32)
        near = np.concatenate([border, *(np.nextafter(border, np.float32(end)) for end in (np.inf, -np.inf))])
        pool = np.concatenate([
            near[infinite | np.isfinite(near)], np.array(special, np.float32),
            generator.normal(size=8).astype(np.float32), np.full(6, np.nan, np.float32),
            generator.integers(-2, 520, 40).astype(np.float32),
        ])  # fmt: skip
        result[:, f] = generator.choice(pool, rows)
    return result


def margins(name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """XGBoost's raw scores (outputs, rows): of a DMatrix, or where that refuses infinities of the rows as they are."""
    return _predict(name, rows, output_margin=True)


def predictions(name: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """XGBoost's scores (outputs, rows)."""
    return _predict(name, rows, output_margin=False)


def leaves(name: str, rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The node every row ends in (trees, rows), XGBoost's numbers. Rows must be finite or NaN."""
    found = booster(name).predict(_matrix(rows), pred_leaf=True, validate_features=False)
    return found.reshape(len(rows), -1).T.astype(np.int64)


def _matrix(rows: NDArray[np.float32]) -> xgb.DMatrix:
    return xgb.DMatrix(rows, nthread=1)


def _predict(name: str, rows: NDArray[np.float32], output_margin: bool) -> NDArray[np.float32]:
    if np.isinf(rows).any():
        kind = "margin" if output_margin else "value"
        found = booster(name).inplace_predict(rows, predict_type=kind, validate_features=False)
    else:
        found = booster(name).predict(_matrix(rows), output_margin=output_margin, validate_features=False)
    return found.reshape(len(rows), -1).T


class FuzzModel(NamedTuple):
    """A model for long comparisons: rows(count, seed), margins(rows) (outputs, rows), leaves(rows) (trees, rows).

    `leaf_numbers[t][i]` is the number that `leaves` has for rankd's leaf i of tree t.
    """

    name: str
    data: bytes
    rows: Callable[[int, int], NDArray[np.float32]]
    margins: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    leaves: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    leaf_numbers: list[list[int]]


def fuzz_models() -> Iterator[FuzzModel]:
    """Every tree model of BOOSTERS; always the same ones, in order."""
    for name in sorted(BOOSTERS):
        yield FuzzModel(
            name,
            model_bytes(name),
            functools.partial(nasty_rows, name),
            functools.partial(margins, name),
            functools.partial(leaves, name),
            [leaf_numbers(tree) for tree in trees_of(document(name))],
        )
