"""Importers of model files and what they give: see docs/models.md."""

from rankd.models.catboost import parse_catboost
from rankd.models.forest import ForestScorer
from rankd.models.lightgbm import parse_lightgbm
from rankd.models.linear import LinearScorer, parse_linear
from rankd.models.load import load_model
from rankd.models.scorer import Explainer, LoadedModel, Scorer
from rankd.models.xgboost import parse_xgboost

__all__ = [
    "Explainer",
    "ForestScorer",
    "LinearScorer",
    "LoadedModel",
    "Scorer",
    "load_model",
    "parse_catboost",
    "parse_lightgbm",
    "parse_linear",
    "parse_xgboost",
]
