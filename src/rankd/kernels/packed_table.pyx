"""Customs desk of csrc/rk_packed_table.h: checks, releases the GIL, calls."""

from collections import namedtuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from rankd.kernels.id_index cimport Ids, rk_id
from rankd.kernels.table cimport (
    Table, check_status, rk_arena, rk_arena_free, rk_arena_new, rk_arena_reset, rk_arena_take, rk_table,
    rk_table_status,
)
from rankd.kernels.table_writer import TableWriter


cdef extern from "rk_packed.h" nogil:
    enum:
        RK_PACKED_MOST_CELLS
    ctypedef struct rk_packed_cell:
        uint8_t is_ragged, has_text, has_int
        uint32_t width
    ctypedef struct rk_packed_layout:
        const rk_packed_cell *cells
        size_t count
        uint32_t fingerprint
    ctypedef struct rk_packed_heads:
        uint8_t *status
        rk_id *ids
        uint32_t *fingerprints
        int64_t *versions
        int64_t *latest


cdef extern from "rk_packed_table.h" nogil:
    ctypedef struct rk_into:
        int32_t kind
        uint32_t cell
        uint32_t width
    ctypedef struct rk_packed_target:
        const rk_packed_layout *layout
        const rk_into *into
        rk_table *table
        const rk_table *dictionary
    ctypedef struct rk_put:
        rk_table_status table_status
        const rk_id *unknown
        size_t unknown_count
    ctypedef enum rk_put_status:
        RK_PUT_OK
        RK_PUT_UNKNOWN
        RK_PUT_OTHER
        RK_PUT_FAILED
    int rk_packed_target_fits(const rk_packed_target *target)
    rk_put_status rk_packed_put(const rk_packed_target *target, const rk_id *rows, const rk_id *ids, size_t n,
                                const rk_packed_heads *heads, rk_arena *arena, rk_put *put)


INTO = ("f32", "f64", "i64", "bool", "code", "text", "set", "map", "window", "f32s", "f16s", "i8s")

Put = namedtuple("Put", ("status", "unknown", "is_other"))


cdef class PackedTarget:
    """See packed_table.pyi."""

    cdef rk_packed_layout layout
    cdef rk_packed_cell *cells
    cdef rk_into *into
    cdef rk_packed_target target
    cdef rk_arena *arena
    cdef Table table
    cdef Table dictionary

    def __cinit__(self, cells, uint32_t fingerprint, into, Table table not None, Table dictionary not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t count = len(cells)
        if not isinstance(table, TableWriter):
            raise ValueError("expected a table of this process")
        if count > RK_PACKED_MOST_CELLS or len(into) != count:
            raise ValueError(f"expected as many places as cells, got {len(into)} and {count}")
        self.cells = <rk_packed_cell *>calloc(count + 1, sizeof(rk_packed_cell))
        self.into = <rk_into *>calloc(count + 1, sizeof(rk_into))
        self.arena = rk_arena_new()
        if self.cells is NULL or self.into is NULL or self.arena is NULL:
            raise MemoryError
        for i in range(count):
            cell = cells[i]
            self.cells[i] = rk_packed_cell(bool(cell.is_ragged), bool(cell.has_text), bool(cell.has_int), cell.width)
            kind, place, width = into[i]
            self.into[i] = rk_into(INTO.index(kind), place, width)
        self.layout = rk_packed_layout(self.cells, <size_t>count, fingerprint)
        self.table, self.dictionary = table, dictionary
        self.target = rk_packed_target(&self.layout, self.into, table.table, dictionary.table)
        if not rk_packed_target_fits(&self.target):
            raise ValueError("the packed cells do not fit the table's")

    def __dealloc__(self):
        free(self.cells)
        free(self.into)
        rk_arena_free(self.arena)

    def put(self, ids, rows):
        self.table.check_open()
        self.dictionary.check_open()
        cdef Ids views = Ids(ids)
        cdef size_t n = views.count
        cdef size_t i
        cdef list given = list(rows)
        if <size_t>len(given) != n:
            raise ValueError(f"rows: expected {n}, got {len(given)}")
        rk_arena_reset(self.arena)
        cdef rk_id *packed = <rk_id *>rk_arena_take(self.arena, (n + 1) * sizeof(rk_id))
        cdef rk_packed_heads heads
        status = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n)
        heads.status = <uint8_t *>PyBytes_AS_STRING(status)
        heads.ids = <rk_id *>rk_arena_take(self.arena, (n + 1) * sizeof(rk_id))
        heads.fingerprints = <uint32_t *>rk_arena_take(self.arena, (n + 1) * sizeof(uint32_t))
        heads.versions = <int64_t *>rk_arena_take(self.arena, (n + 1) * sizeof(int64_t))
        heads.latest = <int64_t *>rk_arena_take(self.arena, (n + 1) * sizeof(int64_t))
        if (packed is NULL or heads.ids is NULL or heads.fingerprints is NULL or heads.versions is NULL
                or heads.latest is NULL):
            raise MemoryError
        for i in range(n):
            row = given[i]
            if row is None:
                packed[i] = rk_id(NULL, 0)
            elif PyBytes_Check(row):
                packed[i] = rk_id(<const uint8_t *>PyBytes_AS_STRING(row), <size_t>PyBytes_GET_SIZE(row))
            else:
                raise TypeError(f"rows[{i}]: expected bytes or None, got {type(row).__name__}")
        cdef rk_put done
        cdef rk_put_status outcome
        with nogil:
            outcome = rk_packed_put(&self.target, packed, views.ids, n, &heads, self.arena, &done)
        if outcome == RK_PUT_FAILED:
            check_status(done.table_status, errno, "fetched rows")
        unknown = []
        if outcome == RK_PUT_UNKNOWN:
            unknown = [
                PyUnicode_DecodeUTF8(<const char *>done.unknown[i].bytes, <Py_ssize_t>done.unknown[i].length, NULL)
                for i in range(done.unknown_count)
            ]
        return Put(status, unknown, outcome == RK_PUT_OTHER)
