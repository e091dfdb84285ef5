import numpy as np
from numpy.typing import NDArray

TRANSFORMS: dict[str, int]

def apply_transform(name: str, parameter: float, values: NDArray[np.float64]) -> None:
    """Overwrites raw sums (outputs, rows) by the transform `name`, a key of TRANSFORMS (csrc/rk_transform.h).

    `parameter` is the sigmoid's factor; the others ignore it. KeyError for an unknown name.
    """

def margin(name: str, score: float) -> float:
    """The raw sum, a float32, that a float32 `score` stands for under a transform; not finite out of its range."""
