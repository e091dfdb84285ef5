"""The kernels beside the forest, and what they stand in for: NumPy and Python, in one process, alternating.

    .venv/bin/python load_tests/bench_kernels.py     # or: make bench-kernels

Prints medians in microseconds and how many times sooner the kernel is; last, one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankd.kernels import diversity, order

ROUNDS = 60
Case = tuple[str, Callable[[int], Any], Callable[[int], Any]]
"""A name, the kernel and its stand-in; each takes the number of the round."""


def sorted_by_python(scores: NDArray[np.float64], ids: list[str]) -> NDArray[np.intp]:
    """NumPy's stable sort, then Python's within runs of equal scores."""
    positions = np.argsort(-scores, kind="stable")
    ranked = scores[positions]
    tied = ranked[1:] == ranked[:-1]
    if tied.any():
        edges = np.flatnonzero(np.diff(np.concatenate(([False], tied, [False])).astype(np.int8)))
        for start, stop in zip(edges[::2], edges[1::2] + 1, strict=True):
            positions[start:stop] = sorted(positions[start:stop], key=ids.__getitem__)
    return positions


def order_cases(random: np.random.Generator) -> list[Case]:
    """1,000 candidates: distinct scores, and a hundred values with ids deciding."""
    ids = [f"product-{i}" for i in random.permutation(1000)]
    apart = random.normal(size=(ROUNDS, 1000))
    tied = np.floor(apart * 20)
    return [
        ("order 1,000 distinct", lambda r: order.top(apart[r], ids), lambda r: sorted_by_python(apart[r], ids)),
        ("order 1,000 tied", lambda r: order.top(tied[r], ids), lambda r: sorted_by_python(tied[r], ids)),
        (
            "first 10 of 1,000",
            lambda r: order.top(apart[r], None, 10),
            lambda r: np.argsort(-apart[r], kind="stable")[:10],
        ),
    ]


def mmr_by_numpy(relevance: NDArray[np.float64], units: NDArray[np.float32], count: int) -> list[int]:
    """Greedy with a running maximum: one product of the matrix and the item placed per place."""
    most = np.full(len(relevance), -np.inf)
    left = np.ones(len(relevance), np.bool_)
    chosen: list[int] = []
    for place in range(count):
        value = 0.7 * relevance - (0.3 * most if place else 0.0)
        best = int(np.argmax(np.where(left, value, -np.inf)))
        chosen.append(best)
        left[best] = False
        most = np.maximum(most, units @ units[best])
    return chosen


def diversity_cases(random: np.random.Generator) -> list[Case]:
    """Fifty of 1,000 items by embeddings of 128 dimensions."""
    embeddings = random.normal(size=(1000, 128)).astype(np.float32)
    relevance = random.random((ROUNDS, 1000))

    def by_numpy(r: int) -> list[int]:
        units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return mmr_by_numpy(relevance[r], units, 50)

    def by_kernel(r: int) -> NDArray[np.intp]:
        return diversity.mmr(relevance[r], 0.7, 50, embeddings=embeddings)

    return [("MMR 50 of 1,000 x 128", by_kernel, by_numpy)]


def microseconds(function: Callable[[int], Any], turn: int) -> float:
    """How long one call takes."""
    start = time.perf_counter_ns()
    function(turn)
    return (time.perf_counter_ns() - start) / 1000


def main() -> None:
    """Times every case and prints."""
    random = np.random.default_rng(7)
    report: dict[str, dict[str, float]] = {}
    for name, kernel, stand_in in [*order_cases(random), *diversity_cases(random)]:
        kernel(0), stand_in(0)
        times = [(microseconds(kernel, r), microseconds(stand_in, r)) for r in range(ROUNDS)]
        ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        report[name] = {"kernel_us": round(ours, 2), "numpy_us": round(theirs, 2), "ratio": round(theirs / ours, 2)}
        print(f"{name:28} kernel {ours:9.1f} us   NumPy/Python {theirs:9.1f} us   {theirs / ours:5.1f} x")
    print(json.dumps({"bench": "kernels", "cases": report}))


if __name__ == "__main__":
    main()
