"""What the libraries themselves do: train the forests and say what the scores are.

The forests: one of each library for every shape, all of their trees with all of their leaves.

LightGBM lambdarank with max_bin 255; XGBoost rank:ndcg, hist, max_bin 256, grown by loss to the same number
of leaves; CatBoost RMSE with oblivious trees of the depth that holds as many leaves, border_count 254. One
thread and fixed seeds, so that the same versions give the same models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.forest.shapes import SEED, Shape, TrainingSet


def train_lightgbm(shape: Shape, data: TrainingSet, file: Path) -> None:
    """LightGBM's text format."""
    import lightgbm

    parameters = {
        "objective": "lambdarank", "num_leaves": shape.leaves, "max_bin": 255, "learning_rate": 0.05,
        "min_data_in_leaf": 10, "min_sum_hessian_in_leaf": 1e-6, "lambdarank_truncation_level": 30,
        "feature_fraction": 0.6, "seed": SEED, "num_threads": 1, "deterministic": True, "force_col_wise": True,
        "verbose": -1,
    }  # fmt: skip
    dataset = lightgbm.Dataset(data.rows, data.grades, group=data.group_sizes)
    lightgbm.train(parameters, dataset, shape.trees).save_model(file)


def train_xgboost(shape: Shape, data: TrainingSet, file: Path) -> None:
    """XGBoost's JSON."""
    import xgboost

    matrix = xgboost.DMatrix(data.rows, data.grades, nthread=1)
    matrix.set_group(data.group_sizes)
    parameters = {
        "objective": "rank:ndcg", "tree_method": "hist", "max_bin": 256, "grow_policy": "lossguide",
        "max_leaves": shape.leaves, "max_depth": 0, "min_child_weight": 1e-3, "reg_lambda": 1e-2, "eta": 0.05,
        "colsample_bytree": 0.6, "seed": SEED, "nthread": 1,
    }  # fmt: skip
    xgboost.train(parameters, matrix, shape.trees).save_model(file)


def train_catboost(shape: Shape, data: TrainingSet, file: Path) -> None:
    """CatBoost's own binary format; rankd reads the JSON that `catboost_json` makes of it."""
    import catboost

    model = catboost.CatBoost(
        {
            "loss_function": "RMSE", "iterations": shape.trees, "depth": (shape.leaves - 1).bit_length(),
            "border_count": 254, "learning_rate": 0.1, "rsm": 0.3, "boost_from_average": True,
            "random_seed": SEED, "thread_count": 1, "allow_writing_files": False, "logging_level": "Silent",
        }
    )  # fmt: skip
    model.fit(catboost.Pool(data.rows, data.grades, thread_count=1))
    model.save_model(str(file))


def catboost_json(model: Path, file: Path) -> None:
    """A model as CatBoost's JSON."""
    import catboost

    booster = catboost.CatBoost()
    booster.load_model(str(model))
    booster.save_model(str(file), format="json")


TRAINERS: dict[str, tuple[str, Callable[[Shape, TrainingSet, Path], None]]] = {
    "lightgbm": ("txt", train_lightgbm),
    "xgboost": ("json", train_xgboost),
    "catboost": ("cbm", train_catboost),
}
"""Library: suffix of its model file, how it is trained."""


def raw_scores(library: str, model: Path, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """The library's own scores, before any transform; XGBoost's are float32 numbers."""
    if library == "lightgbm":
        import lightgbm

        scores = lightgbm.Booster(model_file=model).predict(rows, raw_score=True, num_threads=1)
    elif library == "xgboost":
        import xgboost

        booster = xgboost.Booster({"nthread": 1}, model_file=str(model))
        scores = booster.predict(xgboost.DMatrix(rows, nthread=1), output_margin=True)
    else:
        import catboost

        booster = catboost.CatBoost()
        booster.load_model(str(model.with_suffix(".cbm")))
        scores = booster.predict(rows, prediction_type="RawFormulaVal", thread_count=1)
    return np.asarray(scores, dtype=np.float64)
