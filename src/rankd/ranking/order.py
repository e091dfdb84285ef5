"""Orders: total, deterministic and documented.

Higher scores first; NaN (nothing known) after everything else, -inf included; 0.0 and -0.0
are equal. Equal scores: by the given tie order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def by_score(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions, best first; equal scores keep the order they came in."""
    return np.argsort(-scores, kind="stable")


def by_score_then_id(scores: NDArray[np.float64], ids: Sequence[str]) -> NDArray[np.intp]:
    """Positions, best first; equal scores by ascending id (code point order, which is UTF-8 byte order)."""
    order = by_score(scores)
    if len(order) < 2:
        return order
    ranked = scores[order]
    tied = (ranked[1:] == ranked[:-1]) | (np.isnan(ranked[1:]) & np.isnan(ranked[:-1]))
    if not tied.any():
        return order
    # The edges of each run of equal scores: ids are compared inside runs only.
    edges = np.flatnonzero(np.diff(np.concatenate(([False], tied, [False])).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2] + 1, strict=True):
        order[start:stop] = sorted(order[start:stop], key=ids.__getitem__)
    return order
