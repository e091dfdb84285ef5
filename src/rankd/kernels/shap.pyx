"""Customs desk of csrc/rk_shap.h: checks shapes and dtypes, releases the GIL, calls."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint32_t

import numpy as np

from rankd.kernels.forest cimport Forest, matrix_rows, rk_forest


cdef extern from "rk_shap.h" nogil:
    ctypedef struct rk_shap:
        pass

    ctypedef enum rk_shap_status:
        RK_SHAP_NO_MEMORY
        RK_SHAP_NO_COVERS
        RK_SHAP_LINEAR_LEAVES
        RK_SHAP_TOO_MANY_FEATURES
        RK_SHAP_TOO_DEEP

    ctypedef struct rk_shap_fault:
        rk_shap_status status
        uint32_t tree

    ctypedef enum rk_shap_tier:
        RK_SHAP_AUTO
        RK_SHAP_SCALAR
        RK_SHAP_PLAIN
        RK_SHAP_AVX2
        RK_SHAP_AVX512

    const uint32_t RK_SHAP_MAX_PATH_FEATURES

    int rk_shap_has_tier(rk_shap_tier tier)
    rk_shap *rk_shap_build(const rk_forest *forest, rk_shap_fault *fault)
    void rk_shap_free(rk_shap *shap)
    size_t rk_shap_bytes(const rk_shap *shap)
    int rk_shap_values(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows,
                       ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out)
    int rk_shap_interactions(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows,
                             ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out)


TIERS = {
    "auto": RK_SHAP_AUTO, "scalar": RK_SHAP_SCALAR, "plain": RK_SHAP_PLAIN, "avx2": RK_SHAP_AVX2,
    "avx512": RK_SHAP_AVX512,
}


class ShapError(ValueError):
    """The forest cannot be explained; the message says why."""


def has_tier(str tier):
    return bool(rk_shap_has_tier(TIERS[tier]))


cdef class Shap:
    """Exact explanations of a forest; see csrc/rk_shap.h for what it computes and shap.pyi for the arguments."""

    cdef rk_shap *_shap
    cdef Forest _forest

    def __init__(self, Forest forest not None):
        cdef rk_shap_fault fault
        if self._shap != NULL or forest._forest == NULL:
            raise ShapError("already built, or the forest is not")
        with nogil:
            self._shap = rk_shap_build(forest._forest, &fault)
        self._forest = forest
        if self._shap != NULL:
            return
        if fault.status == RK_SHAP_NO_COVERS:
            raise ShapError("the model does not say how many training rows reached its leaves (covers)")
        if fault.status == RK_SHAP_LINEAR_LEAVES:
            raise ShapError("the model has linear trees")
        if fault.status == RK_SHAP_TOO_MANY_FEATURES:
            raise ShapError(f"tree {fault.tree} has a path of more than {RK_SHAP_MAX_PATH_FEATURES} features")
        if fault.status == RK_SHAP_TOO_DEEP:
            raise ShapError(f"tree {fault.tree} is too deep")
        raise MemoryError("no memory for explanations")

    def __dealloc__(self):
        rk_shap_free(self._shap)

    @property
    def bytes(self):
        return rk_shap_bytes(self._shap)

    def values(self, matrix, str tier="auto"):
        width = self._forest.features + 1
        return self._explain(matrix, TIERS[tier], (self._forest.outputs, width), False)

    def interactions(self, matrix, str tier="auto"):
        width = self._forest.features + 1
        return self._explain(matrix, TIERS[tier], (self._forest.outputs, width, width), True)

    cdef _explain(self, matrix, rk_shap_tier tier, tuple shape, bint interactions):
        cdef Py_ssize_t rows = matrix_rows(matrix, self._forest.features)
        cdef ptrdiff_t feature_stride = matrix.strides[0] // 4
        cdef ptrdiff_t row_stride = matrix.strides[1] // 4 if rows > 1 else 1
        out = np.empty((*shape, rows), np.float64)
        if not rk_shap_has_tier(tier):
            raise ValueError("this processor does not have this tier")
        if rows == 0:
            return out
        cdef const float[:, :] inputs = matrix
        cdef double[::1] flat = out.reshape(-1)
        cdef int failed
        with nogil:
            if interactions:
                failed = rk_shap_interactions(self._shap, tier, &inputs[0, 0], <size_t>rows, feature_stride, row_stride,
                                              &flat[0])
            else:
                failed = rk_shap_values(self._shap, tier, &inputs[0, 0], <size_t>rows, feature_stride, row_stride,
                                        &flat[0])
        if failed:
            raise MemoryError("no memory to explain")
        return out
