"""Customs desk of csrc/rk_scorer.h: checks shapes and dtypes, releases the GIL, calls."""

from libc.stddef cimport ptrdiff_t

import numpy as np

from rankd.kernels.forest cimport Forest, matrix_rows

from rankd.kernels.forest import FORCED_TIER, TIERS
from rankd.kernels.transform import TRANSFORMS


cdef class ScorerKernel:
    """An immutable scorer; see scorer.pyi. What it points to is kept in _held."""

    @staticmethod
    def of_forest(Forest forest, str transform, double parameter, double divisor, double scale, bias):
        cdef ScorerKernel made = ScorerKernel.__new__(ScorerKernel)
        cdef const double[::1] bias_view
        made._scorer.features = forest.features
        made._scorer.outputs = forest.outputs
        made._scorer.forest = forest._forest
        made._scorer.tier = TIERS[FORCED_TIER]
        made._scorer.scale = scale
        made._scorer.divisor = divisor
        made._scorer.transform = TRANSFORMS[transform]
        made._scorer.parameter = parameter
        if bias is not None:
            bias = np.array(bias, np.float64)
            bias_view = bias
            if bias_view.shape[0] != forest.outputs:
                raise ValueError(f"bias: expected {forest.outputs} numbers, got {bias_view.shape[0]}")
            made._scorer.bias = &bias_view[0]
        made._held = (forest, bias)
        return made

    @staticmethod
    def of_linear(weights, substitutes, double intercept, bint single, str transform):
        cdef ScorerKernel made = ScorerKernel.__new__(ScorerKernel)
        weights, substitutes = np.array(weights, np.float64), np.array(substitutes, np.float64)
        cdef const double[::1] weight_view = weights, substitute_view = substitutes
        if weight_view.shape[0] < 1 or weight_view.shape[0] != substitute_view.shape[0]:
            raise ValueError(
                f"expected weights and as many substitutes, got {weight_view.shape[0]} and {substitute_view.shape[0]}")
        made._scorer.features = weight_view.shape[0]
        made._scorer.outputs = 1
        made._scorer.weights = &weight_view[0]
        made._scorer.substitutes = &substitute_view[0]
        made._scorer.intercept = intercept
        made._scorer.divisor = 1.0
        made._scorer.single = single
        made._scorer.transform = TRANSFORMS[transform]
        made._scorer.parameter = 1.0
        made._held = (weights, substitutes)
        return made

    @property
    def features(self):
        return self._scorer.features

    @property
    def outputs(self):
        return self._scorer.outputs

    def score(self, matrix, bint raw=False):
        cdef Py_ssize_t rows = matrix_rows(matrix, self._scorer.features)
        cdef ptrdiff_t feature_stride = matrix.strides[0] // 4
        cdef ptrdiff_t row_stride = matrix.strides[1] // 4 if rows > 1 else 1
        out = np.empty((self._scorer.outputs, rows), np.float64)
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef double[:, ::1] scores = out
        cdef int failed
        with nogil:
            failed = rk_scorer_score(&self._scorer, &values[0, 0], <size_t>rows, feature_stride, row_stride, raw,
                                     &scores[0, 0])
        if failed:
            raise MemoryError("no memory to score")
        return out

    def terms(self, matrix):
        cdef Py_ssize_t rows = matrix_rows(matrix, self._scorer.features)
        cdef ptrdiff_t feature_stride = matrix.strides[0] // 4
        cdef ptrdiff_t row_stride = matrix.strides[1] // 4 if rows > 1 else 1
        if self._scorer.weights == NULL:
            raise ValueError("expected a linear model")
        out = np.empty((self._scorer.features, rows), np.float64)
        if rows == 0:
            return out
        cdef const float[:, :] values = matrix
        cdef double[:, ::1] terms = out
        with nogil:
            rk_scorer_terms(&self._scorer, &values[0, 0], <size_t>rows, feature_stride, row_stride, &terms[0, 0])
        return out
