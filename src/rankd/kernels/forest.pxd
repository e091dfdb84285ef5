# Mirrors what other kernels need of csrc/rk_forest.h, and shares the check of a matrix.
from libc.stdint cimport uint32_t

cdef extern from "rk_forest.h" nogil:
    ctypedef struct rk_forest:
        pass

cdef class Forest:
    cdef rk_forest *_forest
    cdef object _borrowed

cdef Py_ssize_t matrix_rows(matrix, uint32_t features) except -1
