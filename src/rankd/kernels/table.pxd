# Mirrors csrc/rk_table.h, which states the contract, as far as other kernels need it.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from rankd.kernels.id_index cimport rk_id
from rankd.kernels.program cimport rk_column


cdef extern from "rk_arena.h" nogil:
    ctypedef struct rk_arena:
        pass

    rk_arena *rk_arena_new()
    void rk_arena_free(rk_arena *arena)
    void *rk_arena_take(rk_arena *arena, size_t bytes)
    void rk_arena_reset(rk_arena *arena)


cdef extern from "rk_table.h" nogil:
    ctypedef struct rk_table:
        pass

    ctypedef struct rk_table_reading:
        pass

    cdef enum:
        RK_TABLE_MAX_ID_BYTES
        RK_TABLE_MAX_VALUE_BYTES
        RK_CELL_F32
        RK_CELL_F64
        RK_CELL_I64
        RK_CELL_BOOL
        RK_CELL_CODE
        RK_CELL_VECTOR
        RK_CELL_TEXT
        RK_CELL_SET
        RK_CELL_MAP

    ctypedef struct rk_cell:
        int32_t kind
        int32_t width
        int32_t timed
        int32_t element

    ctypedef enum rk_table_status:
        RK_TABLE_OK
        RK_TABLE_NO_MEMORY
        RK_TABLE_NO_SPACE
        RK_TABLE_IO
        RK_TABLE_FULL_ROWS
        RK_TABLE_FULL_BYTES
        RK_TABLE_NOT_A_TABLE
        RK_TABLE_DAMAGED
        RK_TABLE_OTHER
        RK_TABLE_IN_USE
        RK_TABLE_BAD_ARGUMENT

    ctypedef enum rk_table_part:
        RK_PART_NUMBER
        RK_PART_STORED
        RK_PART_TIME
        RK_PART_CHANGED
        RK_PART_DECAYED
        RK_PART_WINDOW
        RK_PART_RATIO

    ctypedef struct rk_table_window:
        uint32_t cell
        int64_t ttl_ms
        int64_t bucket_ms
        int64_t bucket_count

    ctypedef struct rk_table_column:
        uint32_t cell
        double divisor
        double missing
        int64_t ttl_ms
        rk_table_part part
        double half_life_ms
        int64_t bucket_ms
        int64_t bucket_count
        rk_table_window below
        double prior_mean
        double prior_weight

    const rk_cell *rk_table_cells(const rk_table *table, uint32_t *count)
    rk_table_reading *rk_table_reading_new(const rk_table *table, const rk_table_column *columns, size_t count)
    void rk_table_reading_free(rk_table_reading *reading)
    int rk_table_read(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms, rk_arena *arena,
                      rk_column *columns, uint8_t *found)
    int64_t rk_table_code(const rk_table *dictionary, rk_id text)


# Raises what a status means; `error`: errno, as it was after the call.
cdef int check_status(rk_table_status status, int error, object path) except -1


cdef class Table:
    # Valid while the object lives, closed or not; NULL only while it is being made.
    cdef rk_table *table
    cdef bint is_closed
    cdef object _path
    cdef int check_open(self) except -1


cdef class TableReading:
    # Valid while the object lives; holds its table.
    cdef rk_table_reading *reading
    cdef readonly Table owner
    cdef tuple _wanted
    cdef int _check(self, Py_ssize_t i, object asked) except -1
    cdef object _column(self, _Memory memory, Py_ssize_t i, const rk_column *column)


cdef class _Memory:
    # An arena that lives as long as the arrays that look into it.
    cdef rk_arena *arena
    cdef object view(self, const void *data, int type_number, Py_ssize_t rows, Py_ssize_t width)
