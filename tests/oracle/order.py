"""Orders: total, deterministic and documented.

Higher scores first; NaN (nothing known) after everything else, -inf included; 0.0 and -0.0
are equal. Equal scores: by the given tie order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankd.kernels import order


def by_score(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions, best first; equal scores keep the order they came in."""
    return order.top(scores)


def by_score_then_id(scores: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.intp]:
    """Positions, best first; equal scores by ascending id (code point order, which is UTF-8 byte order)."""
    return order.top(scores, ids)
