"""Values of signals as JSON has them: what `rankd get` prints, `rankd export` writes and `rankd load` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rankd.types.schema import SignalKind


def time_text(value: np.datetime64) -> str:
    """ISO 8601 in UTC; as NumPy writes it, for years that datetime lacks, too."""
    return f"{np.datetime_as_string(value, unit='ms')}Z"


def plain(value: Any, kind: SignalKind | None = None) -> Any:
    """A value as JSON has it. Sets are sorted: a set has no order."""
    if isinstance(value, np.datetime64):
        return time_text(value)
    if isinstance(value, np.ndarray):
        return [f32(v) for v in value]
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, Mapping):
        return {time_text(k) if isinstance(k, np.datetime64) else str(k): f32(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if kind is SignalKind.COUNTER else f32(value)
    return value


def f32(value: Any) -> float:
    """The shortest number that is the same float32: 0.1, not 0.10000000149011612."""
    return float(str(np.float32(value)))
