"""One tree of an XGBoost model file, as the forest builder takes it.

Must live here: the arrays of a tree object, their counts and ranges, and the turn from XGBoost's
decisions to the kernel's. Must not: what the learner says about all trees.

Follows src/tree/tree_model.cc and multi_target_tree_model.cc of XGBoost 1.7 to 3.2. Nodes that pruning
left behind are dropped: the rest is numbered anew in its order, inner nodes and leaves apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankd import limits
from rankd.kernels.forest import CATEGORICAL, DEFAULT_LEFT, MISSING_NAN
from rankd.models.document import Place

TREE_KEYS = frozenset(
    {"left_children", "right_children", "split_indices", "split_conditions", "split_type", "default_left"}
    | {"categories", "categories_nodes", "categories_segments", "categories_sizes", "leaf_weights"}
    | {"base_weights", "sum_hessian", "tree_param", "id", "loss_changes", "parents"}
)
_MAX_CATEGORY = 2**24 - 1
"""XGBoost's highest: every category from here down is a float32 of its own."""


@dataclass(slots=True)
class Tree:
    """`nodes` and `leaves`: the file's number of each. `cover`: of nodes and leaves; None if of no use."""

    place: Place
    nodes: NDArray[np.int64]
    leaves: NDArray[np.int64]
    split_feature: NDArray[np.int32]
    decision: NDArray[np.uint8]
    threshold: NDArray[np.float64]
    category_set: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf_value: NDArray[np.float32]
    """(leaves, 1), or with vector leaves (leaves, outputs)."""
    set_sizes: NDArray[np.int64]
    set_words: NDArray[np.uint32]
    cover: tuple[NDArray[np.float64], NDArray[np.float64]] | None


def read_tree(place: Place, features: int, outputs: int) -> Tree:
    """ModelFileError with the path of what is damaged, unknown or above rankd.limits."""
    place.keys_in(TREE_KEYS)
    count = place["tree_param"]["num_nodes"].integer(1, limits.MAX_MODEL_ARRAY)
    left = place["left_children"].integers(count, -1, count - 1)
    right = place["right_children"].integers(count, -1, count - 1)
    inner = left != -1
    kept = _reached(place, left, right, inner)
    leaf = kept & ~inner
    nodes, leaves = np.flatnonzero(inner), np.flatnonzero(leaf)
    if len(leaves) > limits.MAX_LEAVES_PER_TREE:
        raise place.fault(f"expected at most {limits.MAX_LEAVES_PER_TREE} leaves, got {len(leaves)}")
    number = np.where(inner, np.cumsum(inner) - 1, ~(np.cumsum(leaf) - 1)).astype(np.int32)
    categorical = np.zeros(count, np.bool_)
    if "split_type" in place:
        categorical = place["split_type"].flags(count) & inner
    default_left = place["default_left"].flags(count)
    category_set, set_sizes, set_words = _category_sets(place, categorical)
    condition = place["split_conditions"].floats(count)
    # XGBoost sends what is in the set to the right, the kernel to the left: such a node's children change places.
    first, second = np.where(categorical, right, left), np.where(categorical, left, right)
    default_first = default_left != categorical
    decision = MISSING_NAN | categorical * CATEGORICAL | default_first * DEFAULT_LEFT
    return Tree(
        place=place,
        nodes=nodes,
        leaves=leaves,
        split_feature=place["split_indices"].integers(count, 0, features - 1, inner)[nodes].astype(np.int32),
        decision=decision[nodes].astype(np.uint8),
        threshold=_thresholds(place, condition, inner & ~categorical)[nodes],
        category_set=category_set[nodes],
        left=number[first[nodes]],
        right=number[second[nodes]],
        leaf_value=_leaf_values(place, condition, right, leaves, outputs),
        set_sizes=set_sizes,
        set_words=set_words,
        cover=_cover(place, count, nodes, leaves),
    )


def _reached(
    place: Place, left: NDArray[np.int64], right: NDArray[np.int64], inner: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The nodes that are the root or a child. Cycles apart from the root are left to the forest builder."""
    count, nodes = len(left), np.flatnonzero(inner)
    child = np.concatenate([left[nodes], right[nodes]])
    times = np.bincount(np.maximum(child, 0), minlength=count)
    bad = (child <= 0) | (times[np.maximum(child, 0)] > 1)
    if bad.any():
        i = int(bad.argmax())
        children = place["left_children" if i < len(nodes) else "right_children"].at(int(nodes[i % len(nodes)]))
        raise children.fault(f"expected a node below the root that is no other's child, got {child[i]}")
    kept = times > 0
    kept[0] = True
    lost = inner & ~kept
    if lost.any():
        raise place["left_children"].at(int(lost.argmax())).fault("the root does not lead to this node")
    if len(nodes) and not inner[0]:
        raise place["left_children"].at(int(nodes[0])).fault("the root does not lead to this node: it is a leaf")
    param, deleted = place["tree_param"], count - int(kept.sum())
    if ("num_deleted" in param and param["num_deleted"].integer(0, count - 1) != deleted) or (
        "num_deleted" not in param and deleted
    ):
        raise param["num_deleted"].fault(f"expected {deleted}, the number of nodes that the root does not lead to")
    return kept


def _thresholds(place: Place, condition: NDArray[np.float32], numeric: NDArray[np.bool_]) -> NDArray[np.float64]:
    """XGBoost's x < t for float32 x is x <= the float32 before t. It writes t = inf, too; before -inf there is none."""
    bad = numeric & ~(condition > -np.inf)
    if bad.any():
        i = int(bad.argmax())
        raise place["split_conditions"].at(i).fault(f"expected a threshold above -inf, got {condition[i]}")
    return np.where(numeric, np.nextafter(condition, np.float32(-np.inf)), np.float32(0)).astype(np.float64)


def _leaf_values(
    place: Place, condition: NDArray[np.float32], right: NDArray[np.int64], leaves: NDArray[np.int64], outputs: int
) -> NDArray[np.float32]:
    """A leaf's value stands where a node has its threshold; vector leaves have a list of their own."""
    size = max(1, place["tree_param"]["size_leaf_vector"].integer(0, limits.MAX_MODEL_OUTPUTS))
    if size == 1:
        source, rows = place["split_conditions"], leaves
        values = condition[leaves, None]
    else:
        if size != outputs:
            raise place["tree_param"]["size_leaf_vector"].fault(f"expected 1 or {outputs}, the outputs, got {size}")
        if "leaf_weights" in place:  # since 3.1; a leaf's right child is its number
            source, rows, count = place["leaf_weights"], right[leaves], len(leaves)
        else:
            source, rows, count = place["base_weights"], leaves, len(condition)
        values = source.floats(count * size).reshape(count, size)
        bad = (rows < 0) | (rows >= count)
        if bad.any():
            i = int(bad.argmax())
            raise place["right_children"].at(int(leaves[i])).fault(f"expected a leaf below {count}, got {rows[i]}")
        values = values[rows]
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(bad.argmax())
        index = int(rows[i // size]) * size + i % size
        raise source.at(index).fault(f"expected a finite leaf value, got {values.flat[i]}")
    return values


def _category_sets(
    place: Place, categorical: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint32]]:
    """The set of every node (0 where it has none), the number of words of every set, and the words of all."""
    category_set = np.zeros(len(categorical), np.int32)
    nothing = category_set, np.zeros(0, np.int64), np.zeros(0, np.uint32)
    if "categories_nodes" not in place and not categorical.any():
        return nothing
    nodes = place["categories_nodes"].integers(None, 0, len(categorical) - 1)
    has_set = np.bincount(nodes, minlength=len(categorical)) if len(nodes) else np.zeros(len(categorical), np.int64)
    if (has_set > 1).any():
        raise place["categories_nodes"].fault(f"expected each node once, got {int(has_set.argmax())} twice")
    if (categorical & (has_set == 0)).any():
        node = int((categorical & (has_set == 0)).argmax())
        raise place["categories_nodes"].fault(f"expected the categorical node {node} among them")
    sizes = place["categories_sizes"].integers(len(nodes), 1, limits.MAX_MODEL_ARRAY)
    categories = place["categories"].integers(int(sizes.sum()), 0, _MAX_CATEGORY)
    segments = place["categories_segments"].integers(len(nodes), 0, len(categories))
    ends = np.cumsum(sizes)
    if not np.array_equal(segments, ends - sizes):
        i = int((segments != ends - sizes).argmax())
        raise place["categories_segments"].at(i).fault(f"expected {ends[i] - sizes[i]}, got {segments[i]}")
    if not len(nodes):
        return nothing
    words = np.maximum.reduceat(categories, segments) // 32 + 1
    if words.sum() > limits.MAX_MODEL_CATEGORY_WORDS:
        raise place["categories"].fault(f"expected at most {limits.MAX_MODEL_CATEGORY_WORDS} words of categories")
    set_words = np.zeros(int(words.sum()), np.uint32)
    begin = np.repeat(np.cumsum(words) - words, sizes)
    np.bitwise_or.at(set_words, begin + categories // 32, np.uint32(1) << (categories % 32).astype(np.uint32))
    category_set[nodes] = np.arange(len(nodes), dtype=np.int32)
    return category_set, words, set_words


def _cover(
    place: Place, count: int, nodes: NDArray[np.int64], leaves: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Sums of hessians; None without, or if one is of no use (an objective of one's own may make them negative)."""
    if "sum_hessian" not in place:
        return None
    cover = place["sum_hessian"].floats(count).astype(np.float64)
    known = np.concatenate([cover[nodes], cover[leaves]])
    return (cover[nodes], cover[leaves]) if (np.isfinite(known) & (known >= 0)).all() else None
