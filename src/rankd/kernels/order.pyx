"""Customs desk of csrc/rk_order.h."""

from libc.stdint cimport int64_t, uint8_t

import numpy as np

from rankd.kernels.id_index cimport Ids, rk_id


cdef extern from "rk_order.h" nogil:
    ctypedef struct rk_order_list:
        const double *scores
        const int64_t *ranks
        const rk_id *ids
        size_t n

    int rk_order_top(const rk_order_list *list, size_t k, int64_t *order, int *tied)


def top(const double[::1] scores not None, ids=None, count=None):
    cdef size_t n = scores.shape[0]
    cdef size_t k = n if count is None else min(<size_t>max(count, 0), n)
    cdef rk_order_list list
    cdef int64_t[::1] out
    cdef Ids views
    cdef int tied = 0
    cdef int status
    if count is not None and count < 0:
        raise ValueError(f"count: expected at least 0, got {count}")
    if ids is not None and <size_t>len(ids) != n:
        raise ValueError(f"ids: expected {n}, as many as scores, got {len(ids)}")
    order = np.empty(k, np.intp)
    if k == 0:
        return order
    out = order
    list.scores = &scores[0]
    list.ranks = NULL
    list.ids = NULL
    list.n = n
    with nogil:
        status = rk_order_top(&list, k, &out[0], &tied)
    if status == 0 and tied and ids is not None:
        # Looking at every id costs more than the sort: only where ids decide.
        views = Ids(ids)
        list.ids = views.ids
        with nogil:
            status = rk_order_top(&list, k, &out[0], NULL)
    if status:
        raise MemoryError(f"no room to order {n} candidates")
    return order
