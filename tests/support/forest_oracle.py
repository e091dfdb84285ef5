"""csrc/rk_forest.h read once more, in NumPy: one tree at a time, all rows one level down together.

`ForestOracle` takes the arguments of `rankd.kernels.forest.Forest` and answers `score` and `leaves`
with what the contract says. It trusts its source: refusals are the builder's.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT = 1, 2, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2
FLUSH_ZERO, NEGATIVE_IN_NO_SET, FLOAT_SUMS, VECTOR_LEAVES = 1, 2, 4, 8


class ForestOracle:
    """The contract's Numeric, Category, Missing, Zero, Sums and Linear."""

    def __init__(
        self, *, features, outputs, node_begin, split_feature, decision, threshold, category_set, left, right,
        leaf_value, set_begin, set_words, flags=0, tree_output=None, base=None, linear_begin=None,
        linear_feature=None, linear_coefficient=None, linear_constant=None, node_cover=None, leaf_cover=None,
    ) -> None:  # fmt: skip
        self.features, self.outputs, self.trees = features, outputs, len(node_begin) - 1
        self.flags, self.node_begin = flags, np.asarray(node_begin, np.int64)
        self.split_feature, self.decision, self.threshold = split_feature, decision, threshold
        self.category_set, self.left, self.right = category_set, left, right
        self.leaf_value = np.asarray(leaf_value, np.float64)
        self.sets = [
            {
                32 * i + bit
                for i, word in enumerate(set_words[begin:end].tolist())
                for bit in range(32)
                if word >> bit & 1
            }
            for begin, end in pairwise(set_begin)
        ]
        self.tree_output = np.arange(self.trees) % outputs if tree_output is None else tree_output
        self.base = np.zeros(outputs) if base is None else np.asarray(base, np.float64)
        self.linear = None if linear_begin is None else (linear_begin, linear_feature, linear_coefficient)
        self.linear_constant = linear_constant
        self.node_cover, self.leaf_cover = node_cover, leaf_cover

    def score(self, matrix: NDArray[np.float32], tier: str = "") -> NDArray[np.float64]:
        """Sums (outputs, rows) in tree order, one addition after the other."""
        precision = np.float32 if self.flags & FLOAT_SUMS else np.float64
        with np.errstate(all="ignore"):
            sums = np.repeat(self.base.astype(precision)[:, None], matrix.shape[1], axis=1)
            for tree, leaf in enumerate(self.leaves(matrix)):
                if self.flags & VECTOR_LEAVES:
                    values = self.leaf_value.reshape(-1, self.outputs)[self._first_leaf(tree) + leaf]
                    sums += values.T.astype(precision)
                else:
                    sums[self.tree_output[tree]] += self._leaf_sum(tree, leaf, matrix).astype(precision)
        return sums.astype(np.float64)

    def leaves(self, matrix: NDArray[np.float32]) -> NDArray[np.int32]:
        """The leaf of every tree (trees, rows)."""
        if self.flags & FLUSH_ZERO:
            matrix = np.where(np.abs(matrix) <= np.float32(1e-35), np.float32(0), matrix)
        rows = np.arange(matrix.shape[1])
        found = np.zeros((self.trees, len(rows)), np.int32)
        for tree in range(self.trees):
            begin = self.node_begin[tree]
            at = np.full(len(rows), 0 if self.node_begin[tree + 1] > begin else -1)
            while (at >= 0).any():
                for node in np.unique(at[at >= 0]):
                    here = rows[at == node]
                    goes_left = self._goes_left(begin + node, matrix[self.split_feature[begin + node], here])
                    at[here] = np.where(goes_left, self.left[begin + node], self.right[begin + node])
            found[tree] = ~at
        return found

    def _goes_left(self, node: int, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        decision, nan = self.decision[node], np.isnan(x)
        default = np.full(len(x), bool(decision & DEFAULT_LEFT))
        if decision & CATEGORICAL:
            return np.where(nan, default, [self._in_set(self.category_set[node], float(v)) for v in x])
        missing = decision >> MISSING_SHIFT
        value = np.where(nan, 0.0, x.astype(np.float64)) if missing == MISSING_NONE else x.astype(np.float64)
        takes_default = nan & (missing != MISSING_NONE) | ((x == 0) & (missing == MISSING_ZERO))
        return np.where(takes_default, default, value <= self.threshold[node])

    def _in_set(self, category_set: int, x: float) -> bool:
        if not -1 < x < 2**31 or (x < 0 and self.flags & NEGATIVE_IN_NO_SET):
            return False
        return int(x) in self.sets[category_set]

    def _first_leaf(self, tree: int) -> int:
        return int(self.node_begin[tree]) + tree

    def _leaf_sum(self, tree: int, leaf: NDArray[np.int32], matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Leaf values, or where a leaf has linear terms their sum: the constant, then term after term."""
        leaf = self._first_leaf(tree) + leaf
        values = self.leaf_value[leaf].copy()
        if self.linear is None:
            return values
        begin, feature, coefficient = self.linear
        for row, one in enumerate(leaf):
            terms = range(begin[one], begin[one + 1])
            if terms and not any(np.isnan(matrix[feature[i], row]) for i in terms):
                values[row] = self.linear_constant[one]
                for i in terms:
                    values[row] += coefficient[i] * np.float64(matrix[feature[i], row])
        return values
