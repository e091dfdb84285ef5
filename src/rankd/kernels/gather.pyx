"""Customs desk of csrc/rk_gather.h. The GIL is kept: it is what keeps writers of the table away."""

from collections import namedtuple

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free

cimport numpy as cnp

from rankd.kernels.arrays cimport array_data, array_size

cnp.import_array()


cdef extern from "rk_gather.h":
    ctypedef enum rk_gather_kind:
        RK_GATHER_FLOAT
        RK_GATHER_INT64
        RK_GATHER_INT8
        RK_GATHER_CODE
        RK_GATHER_OFFSET
        RK_GATHER_VECTOR

    ctypedef struct rk_gather_column:
        const void *data
        void *out
        const int64_t *written_ms
        int64_t ttl_ms
        double divisor
        double missing
        int32_t kind
        int32_t width

    void rk_gather(const rk_gather_column *columns, size_t count, const int64_t *rows, size_t n, size_t bound,
                   int64_t now_ms)


GatherColumn = namedtuple(
    "GatherColumn",
    ("kind", "array", "divisor", "missing", "written_ms", "ttl_ms"),
    defaults=(1.0, float("nan"), None, 0),
)

# kind: (its code, type of the array, its dimensions, type of what comes out)
_KINDS = {
    "float": (RK_GATHER_FLOAT, cnp.NPY_FLOAT32, 1, cnp.NPY_FLOAT64),
    "int64": (RK_GATHER_INT64, cnp.NPY_INT64, 1, cnp.NPY_FLOAT64),
    "int8": (RK_GATHER_INT8, cnp.NPY_INT8, 1, cnp.NPY_FLOAT64),
    "code": (RK_GATHER_CODE, cnp.NPY_INT32, 1, cnp.NPY_INT32),
    "offset": (RK_GATHER_OFFSET, cnp.NPY_INT64, 1, cnp.NPY_INT64),
    "vector": (RK_GATHER_VECTOR, cnp.NPY_FLOAT32, 2, cnp.NPY_FLOAT32),
}


cdef class Gather:
    """See gather.pyi."""

    cdef rk_gather_column *_columns
    cdef int *_out_types
    cdef Py_ssize_t _count
    cdef Py_ssize_t _bound
    cdef tuple _held

    def __cinit__(self, columns):
        self._held = tuple(columns)
        self._count = len(self._held)
        self._columns = <rk_gather_column *>calloc(self._count + 1, sizeof(rk_gather_column))
        self._out_types = <int *>calloc(self._count + 1, sizeof(int))
        if self._columns == NULL or self._out_types == NULL:
            raise MemoryError
        cdef Py_ssize_t i
        for i in range(self._count):
            self._set(i, self._held[i])

    def __dealloc__(self):
        free(self._columns)
        free(self._out_types)

    cdef int _set(self, Py_ssize_t i, object given) except -1:
        cdef rk_gather_column *column = &self._columns[i]
        cdef str what = f"columns[{i}]"
        if given.kind not in _KINDS:
            raise ValueError(f"{what}.kind: expected one of {', '.join(_KINDS)}, got {given.kind!r}")
        code, type_number, dimensions, self._out_types[i] = _KINDS[given.kind]
        column.kind = code
        column.data = array_data(given.array, type_number, dimensions, what)
        column.width = <int32_t>cnp.PyArray_DIM(<cnp.ndarray>given.array, 1) if dimensions == 2 else 1
        column.divisor = given.divisor
        column.missing = given.missing
        if i == 0:
            self._bound = array_size(given.array) - 1
        if self._bound < 0 or array_size(given.array) != self._bound + 1:
            raise ValueError(f"{what}: expected {self._bound + 1} elements, at least 1, got {array_size(given.array)}")
        if given.written_ms is not None:
            column.ttl_ms = given.ttl_ms
            column.written_ms = <const int64_t *>array_data(given.written_ms, cnp.NPY_INT64, 1, f"{what}.written_ms")
            if array_size(given.written_ms) != self._bound + 1:
                raise ValueError(
                    f"{what}.written_ms: expected {self._bound + 1} elements, got {array_size(given.written_ms)}"
                )
        return 0

    def read(self, rows, int64_t now_ms):
        """See gather.pyi."""
        cdef const int64_t *row_data = <const int64_t *>array_data(rows, cnp.NPY_INT64, 1, "rows")
        cdef cnp.npy_intp shape[2]
        cdef Py_ssize_t i
        cdef list out = []
        shape[0] = array_size(rows)
        for i in range(self._count):
            shape[1] = self._columns[i].width
            array = cnp.PyArray_EMPTY(
                2 if self._columns[i].kind == RK_GATHER_VECTOR else 1, shape, self._out_types[i], 0
            )
            self._columns[i].out = cnp.PyArray_DATA(<cnp.ndarray>array)
            out.append(array)
        rk_gather(self._columns, self._count, row_data, shape[0], self._bound, now_ms)
        return out
