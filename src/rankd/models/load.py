"""From a declared model file to a LoadedModel."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rankd import limits
from rankd.errors import ModelFileError
from rankd.models.catboost import parse_catboost
from rankd.models.compiled import MAGIC, read_compiled
from rankd.models.files import open_file, read_file
from rankd.models.forest import ForestScorer
from rankd.models.lightgbm import parse_lightgbm
from rankd.models.linear import parse_linear
from rankd.models.scorer import LoadedModel, Origin, Scorer
from rankd.models.xgboost import parse_xgboost
from rankd.types.profile import ModelSpec

logger = logging.getLogger("rankd.models")

_PARSERS: dict[str, tuple[Callable[[bytes, str, Sequence[str] | None], Scorer], int]] = {
    "catboost": (parse_catboost, limits.MAX_CATBOOST_FILE_BYTES),
    "lightgbm": (parse_lightgbm, limits.MAX_MODEL_FILE_BYTES),
    "linear": (parse_linear, limits.MAX_LINEAR_FILE_BYTES),
    "xgboost": (parse_xgboost, limits.MAX_MODEL_FILE_BYTES),
}
FORMATS = ("catboost", "compiled", "lightgbm", "linear", "xgboost")

_FIRST_KEY = re.compile(rb'\s*\{\s*"(\w+)"')
_KEYS = {
    "xgboost": ("learner", "version"),
    "linear": ("format", "intercept", "transform", "weights", "missing"),
    "catboost": (
        "features_info", "model_info", "oblivious_trees", "trees", "scale_and_bias", "ctr_data",
    ),
}  # fmt: skip
"""What a JSON file of each format may begin with."""
_DETECT_BYTES = 4096

_MEASURED_ROWS = 256
_MEASURED_TIMES = 5
_MEASURED_ENOUGH_NS = 20_000_000


def load_model(spec: ModelSpec) -> LoadedModel:
    """Reads and validates `spec.path`, relative to the process's directory. A compiled one has its source's version.

    A forest that the fast tiers cannot serve is a warning in the log. ModelFileError if the file cannot be read, is
    above its limit or is not a valid model.
    """
    if spec.format not in FORMATS:
        raise ModelFileError(f"expected format {', '.join(FORMATS)}, got {spec.format!r}", f"models.{spec.name}.format")
    scorer, origin = read_model(Path(spec.path), spec.format, spec.features)
    if isinstance(scorer, ForestScorer) and not scorer.forest.has_tier("bits"):
        logger.warning(
            "model %s: a tree has too many nodes for rows as bits; every row is walked, with the same scores", spec.name
        )
    return LoadedModel(spec.name, f"{spec.name}@{origin.sha256[:12]}", scorer, _row_ns(scorer))


def _row_ns(scorer: Scorer) -> float:
    """What a row among many takes, ns. Measured: it differs tenfold between processors and forests of one size."""
    matrix = np.zeros((len(scorer.feature_names), _MEASURED_ROWS), np.float32)
    best = math.inf
    for _ in range(_MEASURED_TIMES):
        start_ns = time.perf_counter_ns()
        scorer.score(matrix)
        best = min(best, time.perf_counter_ns() - start_ns)
        if best > _MEASURED_ENOUGH_NS:
            break
    return best / _MEASURED_ROWS


def read_model(path: Path, format: str, features: Sequence[str] | None = None) -> tuple[Scorer, Origin]:
    """The scorer of a file in one of FORMATS, and where the model came from. ModelFileError as for load_model."""
    if format == "compiled":
        return read_compiled(path, features)
    parse, max_bytes = _PARSERS[format]
    data = read_file(path, max_bytes)
    return parse(data, str(path), features), Origin(format, path.name, hashlib.sha256(data).hexdigest())


def detect_format(path: Path) -> str:
    """Which of FORMATS a file is in, by its first bytes. ModelFileError if they do not tell, or cannot be read."""
    file, _ = open_file(path, limits.MAX_COMPILED_FILE_BYTES)
    with file:
        start = file.read(_DETECT_BYTES)
    if start.startswith(MAGIC):
        return "compiled"
    if start.startswith(b"tree\n"):
        return "lightgbm"
    if first := _FIRST_KEY.match(start):
        for format, keys in _KEYS.items():
            if first[1].decode() in keys:
                return format
    elif re.match(rb"\{[LiUIl$#]", start):
        return "xgboost"  # UBJSON
    raise ModelFileError("expected a model file; say which format it has if it is one", str(path))
