from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def top(scores: NDArray[np.float64], ids: Sequence[str] | None = None, count: int | None = None) -> NDArray[np.intp]:
    """The first `count` positions (all, if None) by score, best first: csrc/rk_order.h.

    Equal scores: by ids (distinct or not, any text that UTF-8 can encode), then by position. ValueError if `ids` and
    `scores` (n,) differ in length or `count` is negative.
    """
