from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

class GatherColumn(NamedTuple):
    """A column to gather from: an array by row, its last element the missing one.

    `kind` and what comes out: "float" (float32), "int64" (divided by `divisor`) and "int8" give float64, with
    `missing` where NaN, the least int64 or a negative number stands; "code" (int32), "offset" (int64) and "vector"
    (float32, two dimensions) are copied. With `written_ms` (int64, as long) a value is missing from `ttl_ms` after
    its write on.
    """

    kind: str
    array: NDArray[Any]
    divisor: float = 1.0
    missing: float = ...
    written_ms: NDArray[np.int64] | None = None
    ttl_ms: int = 0

class Gather:
    """Reads rows of some columns in one call (csrc/rk_gather.h). Keeps the arrays it was given: values written to
    them are seen, arrays that take their place are not. ValueError if they do not fit their kind or each other.
    """

    def __init__(self, columns: Sequence[GatherColumn]) -> None: ...
    def read(self, rows: NDArray[np.int64], now_ms: int) -> list[NDArray[Any]]:
        """One new array per column, each as long as `rows`; a row that is out of bounds, such as -1, is missing."""
