"""Customs desk of csrc/rk_forest.h: checks shapes and dtypes, releases the GIL, calls."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t, uint32_t

import numpy as np


cdef extern from "rk_forest.h" nogil:
    ctypedef struct rk_forest:
        pass

    ctypedef struct rk_forest_source:
        uint32_t n_features
        uint32_t n_outputs
        uint32_t n_trees
        uint32_t n_sets
        const uint32_t *node_begin
        const int32_t *split_feature
        const uint8_t *decision
        const double *threshold
        const int32_t *category_set
        const int32_t *left
        const int32_t *right
        const double *leaf_value
        const uint32_t *set_begin
        const uint32_t *set_words

    ctypedef enum rk_forest_status:
        RK_FOREST_OK
        RK_FOREST_NO_MEMORY
        RK_FOREST_BAD_COUNTS
        RK_FOREST_BAD_NODE_BEGIN
        RK_FOREST_BAD_SET_BEGIN
        RK_FOREST_BAD_FEATURE
        RK_FOREST_BAD_DECISION
        RK_FOREST_BAD_THRESHOLD
        RK_FOREST_BAD_CATEGORY_SET
        RK_FOREST_BAD_LEFT
        RK_FOREST_BAD_RIGHT
        RK_FOREST_UNREACHED
        RK_FOREST_BAD_LEAF_VALUE

    ctypedef struct rk_forest_fault:
        rk_forest_status status
        uint32_t tree
        uint32_t index

    ctypedef enum rk_forest_tier:
        RK_FOREST_AUTO
        RK_FOREST_SCALAR
        RK_FOREST_WALK
        RK_FOREST_BITS

    const uint32_t RK_FOREST_MAX_FEATURES
    const uint32_t RK_FOREST_MAX_OUTPUTS
    const uint32_t RK_FOREST_MAX_TREES
    const uint32_t RK_FOREST_MAX_LEAVES

    rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault)
    void rk_forest_free(rk_forest *forest)
    uint32_t rk_forest_features(const rk_forest *forest)
    uint32_t rk_forest_outputs(const rk_forest *forest)
    uint32_t rk_forest_trees(const rk_forest *forest)
    int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                        ptrdiff_t feature_stride, double *out)
    void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                        int32_t *out)


MAX_FEATURES = RK_FOREST_MAX_FEATURES
MAX_OUTPUTS = RK_FOREST_MAX_OUTPUTS
MAX_TREES = RK_FOREST_MAX_TREES
MAX_LEAVES_PER_TREE = RK_FOREST_MAX_LEAVES

TIERS = {"auto": RK_FOREST_AUTO, "scalar": RK_FOREST_SCALAR, "walk": RK_FOREST_WALK, "bits": RK_FOREST_BITS}

_FAULTS = {
    RK_FOREST_BAD_COUNTS: ("counts", "features, outputs or trees are none or too many, or trees are no multiple of outputs"),
    RK_FOREST_BAD_NODE_BEGIN: ("node_begin", "the nodes of a tree do not follow those before it, or are too many"),
    RK_FOREST_BAD_SET_BEGIN: ("set_begin", "the words of a category set do not follow those before it"),
    RK_FOREST_BAD_FEATURE: ("split_feature", "is no feature of the model"),
    RK_FOREST_BAD_DECISION: ("decision", "has bits of no meaning"),
    RK_FOREST_BAD_THRESHOLD: ("threshold", "is NaN"),
    RK_FOREST_BAD_CATEGORY_SET: ("category_set", "is no category set of the model"),
    RK_FOREST_BAD_LEFT: ("left", "is out of range or already the child of another node"),
    RK_FOREST_BAD_RIGHT: ("right", "is out of range or already the child of another node"),
    RK_FOREST_UNREACHED: ("left", "the root does not lead to this node (a cycle)"),
    RK_FOREST_BAD_LEAF_VALUE: ("leaf_value", "is not finite"),
}


class ForestError(ValueError):
    """The builder refused: `array` names the array, `tree` and `index` the place in it (index within the tree)."""

    def __init__(self, str array, int tree, int index, str reason):
        super().__init__(f"tree {tree}, {array}[{index}]: {reason}")
        self.array = array
        self.tree = tree
        self.index = index
        self.reason = reason


cdef class Forest:
    """An immutable forest; see csrc/rk_forest.h for what it computes and forest.pyi for the arguments."""

    cdef rk_forest *_forest

    def __cinit__(
        self,
        *,
        uint32_t features,
        uint32_t outputs,
        const uint32_t[::1] node_begin,
        const int32_t[::1] split_feature,
        const uint8_t[::1] decision,
        const double[::1] threshold,
        const int32_t[::1] category_set,
        const int32_t[::1] left,
        const int32_t[::1] right,
        const double[::1] leaf_value,
        const uint32_t[::1] set_begin,
        const uint32_t[::1] set_words,
    ):
        cdef rk_forest_source source
        cdef rk_forest_fault fault
        cdef Py_ssize_t trees = node_begin.shape[0] - 1
        if trees < 1 or set_begin.shape[0] < 1 or trees > RK_FOREST_MAX_TREES:
            raise ForestError("counts", 0, 0, "node_begin or set_begin is too short or too long")
        cdef Py_ssize_t nodes = node_begin[trees]
        cdef Py_ssize_t sets = set_begin.shape[0] - 1
        for name, array, length in (
            ("split_feature", split_feature, nodes), ("decision", decision, nodes), ("threshold", threshold, nodes),
            ("category_set", category_set, nodes), ("left", left, nodes), ("right", right, nodes),
            ("leaf_value", leaf_value, nodes + trees), ("set_words", set_words, <Py_ssize_t>set_begin[sets]),
        ):
            if array.shape[0] != length:
                raise ForestError(name, 0, 0, f"expected {length} entries, got {array.shape[0]}")
        source.n_features = features
        source.n_outputs = outputs
        source.n_trees = <uint32_t>trees
        source.n_sets = <uint32_t>sets
        source.node_begin = &node_begin[0]
        source.split_feature = &split_feature[0] if nodes else NULL
        source.decision = &decision[0] if nodes else NULL
        source.threshold = &threshold[0] if nodes else NULL
        source.category_set = &category_set[0] if nodes else NULL
        source.left = &left[0] if nodes else NULL
        source.right = &right[0] if nodes else NULL
        source.leaf_value = &leaf_value[0]
        source.set_begin = &set_begin[0]
        source.set_words = &set_words[0] if set_words.shape[0] else NULL
        with nogil:
            self._forest = rk_forest_build(&source, &fault)
        if self._forest == NULL:
            if fault.status == RK_FOREST_NO_MEMORY:
                raise MemoryError("no memory for the forest")
            array, reason = _FAULTS[fault.status]
            raise ForestError(array, fault.tree, fault.index, reason)

    def __dealloc__(self):
        rk_forest_free(self._forest)

    @property
    def features(self):
        return rk_forest_features(self._forest)

    @property
    def outputs(self):
        return rk_forest_outputs(self._forest)

    @property
    def trees(self):
        return rk_forest_trees(self._forest)

    def score(self, matrix, str tier="auto"):
        cdef Py_ssize_t rows = _rows(matrix, rk_forest_features(self._forest))
        cdef rk_forest_tier chosen = TIERS[tier]
        cdef ptrdiff_t stride = matrix.strides[0] // 4
        out = np.empty((rk_forest_outputs(self._forest), rows), np.float64)
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef double[:, ::1] sums = out
        cdef int failed
        with nogil:
            failed = rk_forest_score(self._forest, chosen, &values[0, 0], <size_t>rows, stride, &sums[0, 0])
        if failed:
            raise MemoryError("no memory to score")
        return out

    def leaves(self, matrix):
        cdef Py_ssize_t rows = _rows(matrix, rk_forest_features(self._forest))
        cdef ptrdiff_t stride = matrix.strides[0] // 4
        out = np.empty((rk_forest_trees(self._forest), rows), np.int32)
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef int32_t[:, ::1] found = out
        with nogil:
            rk_forest_leaf(self._forest, &values[0, 0], <size_t>rows, stride, &found[0, 0])
        return out


cdef Py_ssize_t _rows(matrix, uint32_t features) except -1:
    """The number of rows of a matrix that fits the contract; ValueError if it does not."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float32 or matrix.ndim != 2:
        raise ValueError(f"expected a float32 matrix (features, rows), got {_describe(matrix)}")
    if matrix.shape[0] != features:
        raise ValueError(f"expected {features} features (rows of the matrix), got {matrix.shape[0]}")
    if (matrix.shape[1] > 1 and matrix.strides[1] != 4) or matrix.strides[0] % 4 or not matrix.flags.aligned:
        raise ValueError("expected an aligned matrix whose last axis is contiguous")
    return matrix.shape[1]


cdef _describe(matrix):
    return f"{matrix.dtype} {matrix.shape}" if isinstance(matrix, np.ndarray) else type(matrix).__name__
