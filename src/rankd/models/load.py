"""From a declared model file to a LoadedModel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from rankd import limits
from rankd.errors import ModelFileError
from rankd.models.catboost import parse_catboost
from rankd.models.lightgbm import parse_lightgbm
from rankd.models.linear import parse_linear
from rankd.models.scorer import LoadedModel, Scorer
from rankd.models.xgboost import parse_xgboost
from rankd.types.profile import ModelSpec

_PARSERS: dict[str, tuple[Callable[[bytes, str, Sequence[str] | None], Scorer], int]] = {
    "catboost": (parse_catboost, limits.MAX_CATBOOST_FILE_BYTES),
    "lightgbm": (parse_lightgbm, limits.MAX_MODEL_FILE_BYTES),
    "linear": (parse_linear, limits.MAX_LINEAR_FILE_BYTES),
    "xgboost": (parse_xgboost, limits.MAX_MODEL_FILE_BYTES),
}


def load_model(spec: ModelSpec) -> LoadedModel:
    """Reads and validates `spec.path`, relative to the process's directory.

    ModelFileError if the file cannot be read, is above its limit or is not a valid model.
    """
    if spec.format not in _PARSERS:
        raise ModelFileError(
            f"expected format {', '.join(_PARSERS)}, got {spec.format!r}", f"models.{spec.name}.format"
        )
    parse, max_bytes = _PARSERS[spec.format]
    data = _read(Path(spec.path), max_bytes)
    scorer = parse(data, spec.path, spec.features)
    return LoadedModel(spec.name, f"{spec.name}@{hashlib.sha256(data).hexdigest()[:12]}", scorer)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():  # a pipe would block, a device never end
            raise ModelFileError("expected a file, there is none", str(path))
        with path.open("rb") as file:
            data = file.read(min(path.stat().st_size, max_bytes) + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFileError(f"cannot be read: {reason}", str(path)) from None
    if len(data) > max_bytes:
        raise ModelFileError(f"expected at most {max_bytes} bytes", str(path))
    return data
