"""Customs desk of csrc/rk_forest.h: checks shapes and dtypes, releases the GIL, calls."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t, uint32_t

import os

import numpy as np

from rankd.errors import ConfigError


cdef extern from "rk_forest.h" nogil:
    ctypedef struct rk_forest_source:
        uint32_t n_features
        uint32_t n_outputs
        uint32_t n_trees
        uint32_t n_sets
        uint32_t flags
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
        const uint32_t *tree_output
        const double *base
        const uint32_t *linear_begin
        const int32_t *linear_feature
        const double *linear_coefficient
        const double *linear_constant
        const double *node_cover
        const double *leaf_cover

    ctypedef enum rk_forest_status:
        RK_FOREST_OK
        RK_FOREST_NO_MEMORY
        RK_FOREST_BAD_COUNTS
        RK_FOREST_BAD_FLAGS
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
        RK_FOREST_BAD_TREE_OUTPUT
        RK_FOREST_BAD_BASE
        RK_FOREST_BAD_LINEAR_BEGIN
        RK_FOREST_BAD_LINEAR_TERM
        RK_FOREST_BAD_COVER
        RK_FOREST_BAD_IMAGE

    ctypedef struct rk_forest_fault:
        rk_forest_status status
        uint32_t tree
        uint32_t index

    ctypedef enum rk_forest_tier:
        RK_FOREST_AUTO
        RK_FOREST_SCALAR
        RK_FOREST_WALK
        RK_FOREST_BITS
        RK_FOREST_AVX2
        RK_FOREST_AVX512
        RK_FOREST_NEON

    const uint32_t RK_FOREST_MAX_FEATURES
    const uint32_t RK_FOREST_MAX_OUTPUTS
    const uint32_t RK_FOREST_MAX_TREES
    const uint32_t RK_FOREST_MAX_LEAVES
    const uint32_t RK_FOREST_FLUSH_ZERO
    const uint32_t RK_FOREST_NEGATIVE_IN_NO_SET
    const uint32_t RK_FOREST_FLOAT_SUMS
    const uint32_t RK_FOREST_VECTOR_LEAVES
    const uint32_t RK_DECISION_CATEGORICAL
    const uint32_t RK_DECISION_DEFAULT_LEFT
    const uint32_t RK_DECISION_MISSING_SHIFT
    const uint32_t RK_MISSING_NAN

    uint32_t rk_forest_describe(const rk_forest *forest, uint32_t *thresholds, uint32_t *axes, uint32_t *depth,
                                uint8_t *oblivious)
    rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault)
    rk_forest *rk_forest_open(const void *image, size_t bytes, rk_forest_fault *fault)
    const void *rk_forest_image(const rk_forest *forest, size_t *bytes)
    void rk_forest_free(rk_forest *forest)
    const rk_forest_source *rk_forest_as_source(const rk_forest *forest)
    int rk_forest_has_tier(const rk_forest *forest, rk_forest_tier tier)
    rk_forest_tier rk_forest_chosen(const rk_forest *forest, size_t rows)
    int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                        ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out)
    void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                        ptrdiff_t row_stride, int32_t *out)


MAX_FEATURES = RK_FOREST_MAX_FEATURES
MAX_OUTPUTS = RK_FOREST_MAX_OUTPUTS
MAX_TREES = RK_FOREST_MAX_TREES
MAX_LEAVES_PER_TREE = RK_FOREST_MAX_LEAVES

FLUSH_ZERO = RK_FOREST_FLUSH_ZERO
NEGATIVE_IN_NO_SET = RK_FOREST_NEGATIVE_IN_NO_SET
FLOAT_SUMS = RK_FOREST_FLOAT_SUMS
VECTOR_LEAVES = RK_FOREST_VECTOR_LEAVES

CATEGORICAL = RK_DECISION_CATEGORICAL
DEFAULT_LEFT = RK_DECISION_DEFAULT_LEFT
MISSING_NAN = RK_MISSING_NAN << RK_DECISION_MISSING_SHIFT

TIERS = {
    "auto": RK_FOREST_AUTO, "scalar": RK_FOREST_SCALAR, "walk": RK_FOREST_WALK, "bits": RK_FOREST_BITS,
    "avx2": RK_FOREST_AVX2, "avx512": RK_FOREST_AVX512, "neon": RK_FOREST_NEON,
}
_TIER_NAMES = {number: name for name, number in TIERS.items()}
FORCED_TIER = os.environ.get("RANKD_FOREST_TIER") or "auto"

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
    RK_FOREST_BAD_FLAGS: ("flags", "are not known, or arrays and flags exclude each other"),
    RK_FOREST_BAD_LEAF_VALUE: ("leaf_value", "is not finite"),
    RK_FOREST_BAD_TREE_OUTPUT: ("tree_output", "is no output of the model"),
    RK_FOREST_BAD_BASE: ("base", "is not finite"),
    RK_FOREST_BAD_LINEAR_BEGIN: ("linear_begin", "the terms of a leaf do not follow those before it, or are too many"),
    RK_FOREST_BAD_LINEAR_TERM: ("linear_terms", "a feature is out of range or a number is not finite"),
    RK_FOREST_BAD_COVER: ("cover", "is negative or not finite"),
    RK_FOREST_BAD_IMAGE: ("image", "is no forest image, is damaged, or is of another version or byte order"),
}


class ForestError(ValueError):
    """The builder refused: `array` names the array, `tree` and `index` the place in it (index within the tree)."""

    def __init__(self, str array, int tree, int index, str reason):
        super().__init__(f"tree {tree}, {array}[{index}]: {reason}")
        self.array = array
        self.tree = tree
        self.index = index
        self.reason = reason


cdef const void *_optional(name, array, dtype, Py_ssize_t length, list keep) except? NULL:
    """The address of an optional array's data, NULL for None; the array is added to `keep`."""
    if array is None:
        return NULL
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a contiguous array of {np.dtype(dtype)}, got {_describe(array)}")
    if length >= 0 and array.shape[0] != length:
        raise ForestError(name, 0, 0, f"expected {length} entries, got {array.shape[0]}")
    keep.append(array)
    cdef size_t address = array.ctypes.data
    return <const void *>address


def _check_lengths(*arrays):
    for name, array, length in arrays:
        if array.shape[0] != length:
            raise ForestError(name, 0, 0, f"expected {length} entries, got {array.shape[0]}")


def _terms(linear_begin, *others):
    """The number of linear terms; ForestError if some but not all of the arrays are given."""
    if any((array is None) != (linear_begin is None) for array in others):
        raise ForestError("linear_terms", 0, 0, "the arrays of linear leaves belong together")
    return int(linear_begin[len(linear_begin) - 1]) if linear_begin is not None and len(linear_begin) else 0


cdef _check_made(const rk_forest *forest, rk_forest_fault fault):
    """MemoryError, ForestError or ConfigError if a forest was refused, or cannot be scored by FORCED_TIER."""
    if fault.status == RK_FOREST_NO_MEMORY:
        raise MemoryError("no memory for the forest")
    if forest == NULL:
        array, reason = _FAULTS[fault.status]
        raise ForestError(array, fault.tree, fault.index, reason)
    if FORCED_TIER not in TIERS:
        raise ConfigError(f'expected a tier, one of {", ".join(TIERS)}; got "{FORCED_TIER}"', "RANKD_FOREST_TIER")
    if not rk_forest_has_tier(forest, TIERS[FORCED_TIER]):
        raise ConfigError(f"this processor or this forest has no tier {FORCED_TIER}", "RANKD_FOREST_TIER")


cdef class Forest:
    """An immutable forest; see csrc/rk_forest.h for what it computes and forest.pyi for the arguments."""

    def __init__(
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
        uint32_t flags=0,
        tree_output=None,
        base=None,
        linear_begin=None,
        linear_feature=None,
        linear_coefficient=None,
        linear_constant=None,
        node_cover=None,
        leaf_cover=None,
    ):
        cdef rk_forest_source source
        cdef rk_forest_fault fault
        cdef Py_ssize_t trees = node_begin.shape[0] - 1
        cdef list keep = []
        if self._forest != NULL or trees < 1 or set_begin.shape[0] < 1 or trees > RK_FOREST_MAX_TREES:
            raise ForestError("counts", 0, 0, "node_begin or set_begin is too short or too long, or the forest is already built")
        cdef Py_ssize_t nodes = node_begin[trees]
        cdef Py_ssize_t leaves = nodes + trees
        cdef Py_ssize_t sets = set_begin.shape[0] - 1
        cdef Py_ssize_t values = leaves * outputs if flags & RK_FOREST_VECTOR_LEAVES else leaves
        _check_lengths(
            ("split_feature", split_feature, nodes), ("decision", decision, nodes), ("threshold", threshold, nodes),
            ("category_set", category_set, nodes), ("left", left, nodes), ("right", right, nodes),
            ("leaf_value", leaf_value, values), ("set_words", set_words, <Py_ssize_t>set_begin[sets]),
        )
        source.n_features = features
        source.n_outputs = outputs
        source.n_trees = <uint32_t>trees
        source.n_sets = <uint32_t>sets
        source.flags = flags
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
        source.tree_output = <const uint32_t *>_optional("tree_output", tree_output, np.uint32, trees, keep)
        source.base = <const double *>_optional("base", base, np.float64, outputs, keep)
        source.linear_begin = <const uint32_t *>_optional("linear_begin", linear_begin, np.uint32, leaves + 1, keep)
        terms = _terms(linear_begin, linear_feature, linear_coefficient, linear_constant)
        source.linear_feature = <const int32_t *>_optional("linear_feature", linear_feature, np.int32, terms, keep)
        source.linear_coefficient = <const double *>_optional(
            "linear_coefficient", linear_coefficient, np.float64, terms, keep)
        source.linear_constant = <const double *>_optional(
            "linear_constant", linear_constant, np.float64, leaves, keep)
        source.node_cover = <const double *>_optional("node_cover", node_cover, np.float64, nodes, keep)
        source.leaf_cover = <const double *>_optional("leaf_cover", leaf_cover, np.float64, leaves, keep)
        with nogil:
            self._forest = rk_forest_build(&source, &fault)
        _check_made(self._forest, fault)

    def __dealloc__(self):
        rk_forest_free(self._forest)

    @staticmethod
    def from_image(image):
        cdef const uint8_t[::1] data = image
        cdef rk_forest_fault fault
        cdef Forest forest = Forest.__new__(Forest)
        if data.shape[0] == 0:
            raise ForestError("image", 0, 0, "is empty")
        with nogil:
            forest._forest = rk_forest_open(&data[0], <size_t>data.shape[0], &fault)
        _check_made(forest._forest, fault)
        forest._borrowed = data
        return forest

    def image(self):
        cdef size_t size
        cdef const void *data = rk_forest_image(self._forest, &size)
        return (<const uint8_t *>data)[:size]

    @property
    def features(self):
        return rk_forest_as_source(self._forest).n_features

    @property
    def outputs(self):
        return rk_forest_as_source(self._forest).n_outputs

    @property
    def trees(self):
        return rk_forest_as_source(self._forest).n_trees

    def arrays(self):
        cdef const rk_forest_source *s = rk_forest_as_source(self._forest)
        cdef Py_ssize_t trees = s.n_trees, nodes = s.node_begin[s.n_trees], values = nodes + trees
        if s.flags & RK_FOREST_VECTOR_LEAVES:
            values *= s.n_outputs
        found = {
            "node_begin": np.asarray(<const uint32_t[:trees + 1]>s.node_begin),
            "leaf_value": np.asarray(<const double[:values]>s.leaf_value),
        }
        if nodes:
            found["split_feature"] = np.asarray(<const int32_t[:nodes]>s.split_feature)
            found["decision"] = np.asarray(<const uint8_t[:nodes]>s.decision)
            found["threshold"] = np.asarray(<const double[:nodes]>s.threshold)
            found["category_set"] = np.asarray(<const int32_t[:nodes]>s.category_set)
        if s.linear_begin != NULL:
            found["linear_begin"] = np.asarray(<const uint32_t[:nodes + trees + 1]>s.linear_begin)
        return {name: array.copy() for name, array in found.items()}

    @property
    def flags(self):
        return rk_forest_as_source(self._forest).flags

    @property
    def has_cover(self):
        return rk_forest_as_source(self._forest).leaf_cover != NULL

    def describe(self):
        thresholds, axes = np.zeros(self.features, np.uint32), np.zeros(self.features, np.uint32)
        depth, oblivious = np.zeros(self.trees, np.uint32), np.zeros(self.trees, np.uint8)
        cdef uint32_t[::1] threshold_view = thresholds, axis_view = axes, depth_view = depth
        cdef uint8_t[::1] oblivious_view = oblivious
        conditions = rk_forest_describe(
            self._forest, &threshold_view[0], &axis_view[0], &depth_view[0], &oblivious_view[0])
        return {"conditions": conditions, "thresholds": thresholds, "axes": axes, "depth": depth,
                "oblivious": oblivious.astype(np.bool_)}

    def has_tier(self, str tier):
        return bool(rk_forest_has_tier(self._forest, TIERS[tier]))

    def chosen_tier(self, Py_ssize_t rows):
        if rows < 0:
            raise ValueError(f"expected a number of rows, got {rows}")
        if FORCED_TIER != "auto":
            return FORCED_TIER
        return _TIER_NAMES[rk_forest_chosen(self._forest, <size_t>rows)]

    def score(self, matrix, str tier="auto"):
        cdef Py_ssize_t rows = matrix_rows(matrix, self.features)
        cdef rk_forest_tier chosen = TIERS[FORCED_TIER if tier == "auto" else tier]
        cdef ptrdiff_t feature_stride = matrix.strides[0] // 4
        cdef ptrdiff_t row_stride = matrix.strides[1] // 4 if rows > 1 else 1
        out = np.empty((self.outputs, rows), np.float64)
        if not rk_forest_has_tier(self._forest, chosen):
            raise ValueError(f"this processor or this forest has no tier {tier}")
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef double[:, ::1] sums = out
        cdef int failed
        with nogil:
            failed = rk_forest_score(self._forest, chosen, &values[0, 0], <size_t>rows, feature_stride, row_stride,
                                     &sums[0, 0])
        if failed:
            raise MemoryError("no memory to score")
        return out

    def leaves(self, matrix):
        cdef Py_ssize_t rows = matrix_rows(matrix, self.features)
        cdef ptrdiff_t feature_stride = matrix.strides[0] // 4
        cdef ptrdiff_t row_stride = matrix.strides[1] // 4 if rows > 1 else 1
        out = np.empty((self.trees, rows), np.int32)
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef int32_t[:, ::1] found = out
        with nogil:
            rk_forest_leaf(self._forest, &values[0, 0], <size_t>rows, feature_stride, row_stride, &found[0, 0])
        return out


cdef Py_ssize_t matrix_rows(matrix, uint32_t features) except -1:
    """The number of rows of a matrix that fits the contract; ValueError if it does not."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float32 or matrix.ndim != 2:
        raise ValueError(f"expected a float32 matrix (features, rows), got {_describe(matrix)}")
    if matrix.shape[0] != features:
        raise ValueError(f"expected {features} features (rows of the matrix), got {matrix.shape[0]}")
    if matrix.strides[0] % 4 or matrix.strides[1] % 4 or not matrix.flags.aligned:
        raise ValueError("expected an aligned matrix")
    return matrix.shape[1]


cdef _describe(matrix):
    return f"{matrix.dtype} {matrix.shape}" if isinstance(matrix, np.ndarray) else type(matrix).__name__
