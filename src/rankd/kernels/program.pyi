from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankd.types.columns import Column

KINDS: Mapping[str, int]
"""Codes of input kinds: number, category, text, set, map, embedding."""

OP_CODES: Mapping[str, int]
"""Codes of operations by name."""

OP_ARITIES: Mapping[str, int]
"""How many registers each operation reads."""

class ProgramKernel:
    """A checked, immutable program (csrc/rk_program.h); safe to run from several threads.

    `inputs`: int32 (n, 3): kind, 1 if per candidate, dimension. `codes` int32 (m,), `args` int32 (m, 4)
    and `constants` float64 (m,) are the operations; `outputs` int32 (k,) the registers to return; `text`
    the bytes of text constants. `labels`: what to call each input in errors.
    ValueError if an index, kind or size is wrong.
    """

    def __new__(
        cls,
        inputs: ArrayLike,
        codes: ArrayLike,
        args: ArrayLike,
        constants: ArrayLike,
        outputs: ArrayLike,
        text: bytes,
        labels: Sequence[str],
    ) -> ProgramKernel: ...
    def run(
        self, length: int, columns: Sequence[Column], dtype: type[np.float32] | type[np.float64] = ...
    ) -> NDArray[Any]:
        """`dtype` (k, length). ValueError names the input whose column does not fit. Releases the GIL."""
