# Mirrors csrc/rk_scorer.h, which states the contract.
from libc.stddef cimport ptrdiff_t

from rankd.kernels.forest cimport rk_forest

cdef extern from "rk_scorer.h" nogil:
    ctypedef int rk_forest_tier
    ctypedef int rk_transform

    ctypedef struct rk_scorer:
        size_t features
        size_t outputs
        const rk_forest *forest
        rk_forest_tier tier
        double scale
        const double *bias
        double divisor
        const double *weights
        const double *substitutes
        double intercept
        int single
        rk_transform transform
        double parameter

    int rk_scorer_score(const rk_scorer *scorer, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                        ptrdiff_t row_stride, int raw, double *out)
    void rk_scorer_terms(const rk_scorer *scorer, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                         ptrdiff_t row_stride, double *out)

cdef class ScorerKernel:
    cdef rk_scorer _scorer
    cdef tuple _held
