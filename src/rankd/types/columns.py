"""Columns: how values travel from the store and the request into the kernels.

Every column has `length` entries: one per candidate, or exactly 1 when the value
belongs to the request (a user's signal, a context feature) and is the same for all.
Arrays are C-contiguous and are not written after a column is made. A text, set or
map column does not copy: it points into the store's arena, which only grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MISSING_CODE = -1
"""A missing category, in int32 codes."""

MISSING_LENGTH = -1
"""A missing text, set or map, in int32 lengths. 0 is an empty one."""


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """f32, i64, bool (0 or 1) and timestamp (seconds since 1970): float64 (length,); NaN is missing."""

    values: NDArray[np.float64]

    @property
    def length(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """Codes of the process-wide dictionary: int32 (length,); -1 is missing."""

    codes: NDArray[np.int32]

    @property
    def length(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class TextColumn:
    """Normalised UTF-8 (see rankd.kernels.text): `data[offsets[i]:offsets[i] + lengths[i]]`; length -1 is missing."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @property
    def length(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class SetColumn:
    """Ascending distinct codes `codes[offsets[i]:offsets[i] + lengths[i]]`; length -1 is missing."""

    codes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @property
    def length(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class MapColumn:
    """Ascending distinct keys with float32 values, addressed as in SetColumn; length -1 is missing."""

    keys: NDArray[np.int32]
    values: NDArray[np.float32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @property
    def length(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class EmbeddingColumn:
    """float32 (length, dimension); a row that starts with NaN is missing."""

    values: NDArray[np.float32]

    @property
    def length(self) -> int:
        return len(self.values)


Column: TypeAlias = NumericColumn | CategoryColumn | TextColumn | SetColumn | MapColumn | EmbeddingColumn
