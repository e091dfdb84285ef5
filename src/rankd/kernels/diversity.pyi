import numpy as np
from numpy.typing import NDArray

def mmr(
    relevance: NDArray[np.float64],
    tradeoff: float,
    count: int,
    *,
    embeddings: NDArray[np.float32] | None = None,
    groups: NDArray[np.int32] | None = None,
) -> NDArray[np.intp]:
    """Maximal marginal relevance (csrc/rk_diversity.h): all positions (n,), of which the first `count` are chosen.

    `relevance` (n,) in the order given; NaN is missing and comes last. `tradeoff` in [0, 1] is the paper's lambda: 1 is
    relevance alone. Similarity is the cosine of `embeddings` (n, dimension), or 1 within a group of `groups` (n,;
    below 0: missing); exactly one of them is given. ValueError says what does not fit.
    """

def group_caps(
    groups: NDArray[np.int32], cap: int, window: int, depth: int | None = None
) -> tuple[NDArray[np.intp], int]:
    """At most `cap` of a group in any `window` places in a row among the first `depth` (all, if None).

    Greedy and stable (csrc/rk_diversity.h). All positions (n,) in their new order, and how many places were filled
    before no item was allowed and the rest followed as given. A group below 0 is missing: such an item may stand
    anywhere. ValueError for a negative number.
    """
