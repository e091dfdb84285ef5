# Mirrors what other kernels need of csrc/rk_id_index.h, and shares the views of ids.
from libc.stdint cimport uint8_t

cdef extern from "rk_id_index.h":
    ctypedef struct rk_id:
        const uint8_t *bytes
        size_t length

cdef class Ids:
    cdef object _strings
    cdef rk_id *ids
    cdef size_t count
