"""Ids to rows, over csrc/rk_id_index. Checks and calls; no logic.

The GIL is kept: calls are short (tens of microseconds per thousand ids), and it is what
keeps a lookup from meeting an insert, and the caller's list from changing under us.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

import os

import numpy as np


cdef extern from "rk_id_index.h":
    ctypedef struct rk_id_index:
        pass

    rk_id_index *rk_id_index_create(const uint64_t *seed)
    void rk_id_index_destroy(rk_id_index *index)
    uint32_t rk_id_index_count(const rk_id_index *index)
    uint32_t rk_id_index_row_bound(const rk_id_index *index)
    size_t rk_id_index_memory_bytes(const rk_id_index *index)
    int rk_id_index_reserve(rk_id_index *index, size_t ids, size_t bytes)
    int rk_id_index_insert(rk_id_index *index, rk_id id, uint32_t *row)
    void rk_id_index_find_many(const rk_id_index *index, const rk_id *ids, size_t n, int64_t *rows)
    int64_t rk_id_index_remove(rk_id_index *index, rk_id id)
    rk_id rk_id_index_id(const rk_id_index *index, uint32_t row)
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
            self.total_bytes += <size_t>length

    def __dealloc__(self):
        free(self.ids)


cdef class IdIndex:
    """A growing index of ids; rows are dense from 0 and reused after removal.

    Every method takes any sequence of str. Raises UnicodeEncodeError for text that UTF-8
    cannot encode (lone surrogates), ValueError for an empty id in `insert`, MemoryError.
    """

    cdef rk_id_index *_index

    def __cinit__(self):
        self._index = rk_id_index_create(_SEED)
        if self._index is NULL:
            raise MemoryError

    def __dealloc__(self):
        rk_id_index_destroy(self._index)

    def __len__(self):
        return rk_id_index_count(self._index)

    @property
    def row_bound(self):
        """Every row is below this; it never falls."""
        return rk_id_index_row_bound(self._index)

    @property
    def memory_bytes(self):
        """Bytes the index occupies."""
        return rk_id_index_memory_bytes(self._index)

    def find(self, ids):
        """Rows, int64 (len(ids),); -1 where an id is not known."""
        cdef Ids views = Ids(ids)
        rows = np.empty(views.count, np.int64)
        cdef int64_t[::1] out = rows
        if views.count:
            rk_id_index_find_many(self._index, views.ids, views.count, &out[0])
        return rows

    def insert(self, ids):
        """Finds or inserts every id. Rows int64 (len(ids),). All or nothing."""
        cdef Ids views = Ids(ids)
        cdef size_t i
        cdef uint32_t row = 0
        rows = np.empty(views.count, np.int64)
        cdef int64_t[::1] out = rows
        for i in range(views.count):
            if views.ids[i].length == 0:
                raise ValueError(f"expected a non-empty id at ids[{i}]")
        if rk_id_index_reserve(self._index, views.count, views.total_bytes):
            raise MemoryError(f"no room for {views.count} more ids")
        for i in range(views.count):
            rk_id_index_insert(self._index, views.ids[i], &row)
            out[i] = row
        return rows

    def remove(self, ids):
        """Removes ids. The rows that became free, int64; -1 where an id was not known (or came before)."""
        cdef Ids views = Ids(ids)
        cdef size_t i
        rows = np.empty(views.count, np.int64)
        cdef int64_t[::1] out = rows
        for i in range(views.count):
            out[i] = rk_id_index_remove(self._index, views.ids[i])
        return rows

    def ids(self, const int64_t[:] rows):
        """The ids of rows, a list; None where a row is free or out of range."""
        cdef list found = []
        cdef Py_ssize_t i
        cdef rk_id id
        for i in range(rows.shape[0]):
            id.length = 0
            if 0 <= rows[i] < rk_id_index_row_bound(self._index):
                id = rk_id_index_id(self._index, <uint32_t>rows[i])
            found.append((<const char *>id.bytes)[:id.length].decode("utf-8") if id.length else None)
        return found


def first_duplicate(ids):
    """Positions (i, j), i < j, of two equal ids with the least j, or None if all are distinct."""
    cdef Ids views = Ids(ids)
    cdef size_t first = 0
    cdef size_t second = 0
    cdef int found = rk_first_duplicate(views.ids, views.count, _SEED, &first, &second)
    if found < 0:
        raise MemoryError
    return (first, second) if found else None
