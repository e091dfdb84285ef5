"""Customs desk of csrc/rk_diversity.h."""

from libc.stdint cimport int32_t, int64_t

import numpy as np

cimport numpy as cnp

from rankd.kernels.arrays cimport array_data, array_size

cnp.import_array()


cdef extern from "rk_diversity.h" nogil:
    ctypedef struct rk_mmr_list:
        const double *relevance
        const float *embeddings
        const int32_t *groups
        size_t n
        size_t dimension
        # lambda is a word of Python.
        double tradeoff "lambda"

    int rk_mmr(const rk_mmr_list *list, size_t k, int64_t *order)
    int rk_group_caps(const int32_t *groups, size_t n, size_t cap, size_t window, size_t depth, int64_t *order,
                      size_t *placed)


cdef size_t _not_negative(object number, str what) except? 0:
    if number < 0:
        raise ValueError(f"{what}: expected at least 0, got {number}")
    return min(number, 2**62)


def mmr(relevance, double tradeoff, count, *, embeddings=None, groups=None):
    cdef rk_mmr_list list
    cdef size_t k = _not_negative(count, "count")
    cdef int64_t *out
    cdef int status
    list.relevance = <const double *>array_data(relevance, cnp.NPY_FLOAT64, 1, "relevance")
    list.n = array_size(relevance)
    list.embeddings = NULL
    list.groups = NULL
    list.dimension = 0
    list.tradeoff = tradeoff
    if (embeddings is None) == (groups is None):
        raise ValueError("expected either embeddings or groups")
    if not 0 <= tradeoff <= 1:
        raise ValueError(f"tradeoff: expected 0 to 1, got {tradeoff}")
    if embeddings is not None:
        list.embeddings = <const float *>array_data(embeddings, cnp.NPY_FLOAT32, 2, "embeddings")
        list.dimension = cnp.PyArray_DIM(<cnp.ndarray>embeddings, 1)
        if list.dimension == 0:
            raise ValueError("embeddings: expected at least 1 dimension, got 0")
    else:
        list.groups = <const int32_t *>array_data(groups, cnp.NPY_INT32, 1, "groups")
    given = groups if embeddings is None else embeddings
    if <size_t>array_size(given) != list.n:
        what = "groups" if embeddings is None else "embeddings"
        raise ValueError(f"{what}: expected {list.n}, as many as relevance, got {array_size(given)}")
    order = np.empty(list.n, np.intp)
    out = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>order)
    with nogil:
        status = rk_mmr(&list, k, out)
    if status:
        raise MemoryError(f"no room to diversify {list.n} items")
    return order


def group_caps(groups, cap, window, depth=None):
    cdef const int32_t *data = <const int32_t *>array_data(groups, cnp.NPY_INT32, 1, "groups")
    cdef size_t n = array_size(groups)
    cdef size_t most = _not_negative(cap, "cap")
    cdef size_t width = _not_negative(window, "window")
    cdef size_t reach = n if depth is None else _not_negative(depth, "depth")
    cdef size_t placed = 0
    cdef int64_t *out
    cdef int status
    order = np.empty(n, np.intp)
    out = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>order)
    with nogil:
        status = rk_group_caps(data, n, most, width, reach, out, &placed)
    if status:
        raise MemoryError(f"no room to place {n} items")
    return order, placed
