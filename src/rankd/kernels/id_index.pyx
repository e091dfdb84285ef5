"""Ids as kernels take them, and whether one comes twice (csrc/rk_id_index.h). Checks and calls; no logic.

The GIL is kept: calls are short (tens of microseconds per thousand ids), and it is what
keeps the caller's list from changing under us.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc

import os

import numpy as np


cdef extern from "rk_id_index.h":
    int rk_first_duplicate(const rk_id *ids, size_t n, const uint64_t *seed, size_t *first, size_t *second)


cdef uint64_t _SEED[2]
_SEED[0], _SEED[1] = np.frombuffer(os.urandom(16), np.uint64).tolist()


cdef class Ids:
    """UTF-8 views of a sequence of str; valid while it lives, because it holds the strings."""

    def __cinit__(self, object ids not None):
        cdef Py_ssize_t length = 0
        cdef Py_ssize_t i
        cdef const char *utf8
        # A tuple of its own: the caller's list may let go of a string, this does not.
        self._strings = ids if type(ids) is tuple else tuple(ids)
        self.count = len(<tuple>self._strings)
        self.ids = <rk_id *>malloc((self.count + 1) * sizeof(rk_id))
        if self.ids is NULL:
            raise MemoryError
        for i in range(<Py_ssize_t>self.count):
            item = (<tuple>self._strings)[i]
            if not PyUnicode_Check(item):
                raise TypeError(f"expected a str at ids[{i}], got {type(item).__name__}")
            utf8 = PyUnicode_AsUTF8AndSize(item, &length)
            self.ids[i].bytes = <const uint8_t *>utf8
            self.ids[i].length = <size_t>length

    def __dealloc__(self):
        free(self.ids)


def first_duplicate(ids):
    """Positions (i, j), i < j, of two equal ids with the least j, or None if all are distinct."""
    cdef Ids views = Ids(ids)
    cdef size_t first = 0
    cdef size_t second = 0
    cdef int found = rk_first_duplicate(views.ids, views.count, _SEED, &first, &second)
    if found < 0:
        raise MemoryError
    return (first, second) if found else None
