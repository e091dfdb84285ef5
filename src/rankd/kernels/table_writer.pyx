"""Customs desk of the writer's half of csrc/rk_table.h."""

import os

cimport numpy as cnp
from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from rankd.kernels.arrays cimport array_data, array_size
from rankd.kernels.id_index cimport Ids, rk_id
from rankd.kernels.table cimport (
    RK_CELL_MAP, RK_CELL_TEXT, RK_CELL_VECTOR, Table, check_status, rk_cell, rk_table, rk_table_cells, rk_table_status,
)

import numpy as np

from rankd.kernels.table import ELEMENTS, KINDS, TYPES

cnp.import_array()


cdef extern from "rk_table.h" nogil:
    ctypedef struct rk_table_options:
        const rk_cell *cells
        uint32_t cell_count
        const uint8_t *fingerprint
        uint64_t set_id
        uint64_t max_rows
        uint64_t max_bytes

    ctypedef struct rk_table_write:
        uint32_t cell
        const int64_t *rows
        size_t count
        const void *values
        const float *map_values
        const int64_t *lengths
        size_t value_count
        const int64_t *times_ms
        const int64_t *clears
        size_t clear_count
        const int64_t *clear_times_ms

    ctypedef struct rk_table_batch:
        const rk_id *ids
        size_t n
        const rk_table_write *writes
        size_t write_count
        const int64_t *written_ms
        int one_time
        const int64_t *keys
        int is_absolute

    ctypedef struct rk_table_room:
        uint64_t rows
        uint64_t heap_bytes

    rk_table_status rk_table_create(const char *path, const rk_table_options *options, rk_table **table)
    rk_table_status rk_table_attach(const char *path, const rk_table_options *options, rk_table **table)
    rk_table_status rk_table_hold(rk_table *table, const rk_table_batch *batch, rk_table_room *room)
    void rk_table_drop(rk_table *table, const rk_table_room *room)
    uint64_t rk_table_publish(rk_table *table, const rk_table_batch *batch, const rk_table_room *room, uint64_t *late_by_write)
    uint64_t rk_table_delete(rk_table *table, const rk_id *ids, size_t n)
    rk_table_status rk_table_intern(rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes)
    void rk_table_set_applied(rk_table *table, uint64_t applied)
    void rk_table_set_clean(rk_table *table, int is_clean, const uint8_t *boot)
    void rk_table_retire(rk_table *table)
    void rk_table_end_writing(rk_table *table)
    rk_table_status rk_table_flush(rk_table *table)


_ZEROS = bytes(32)


cdef class _Layout:
    """Cells as C has them."""

    cdef rk_cell *cells
    cdef uint32_t count

    def __cinit__(self, cells):
        cdef tuple given = tuple(cells)
        self.count = <uint32_t>len(given)
        self.cells = <rk_cell *>calloc(self.count + 1, sizeof(rk_cell))
        if self.cells is NULL:
            raise MemoryError
        for i, cell in enumerate(given):
            if cell.kind not in KINDS:
                raise ValueError(f"cells[{i}].kind: expected one of {', '.join(KINDS)}, got {cell.kind!r}")
            if cell.element not in ELEMENTS:
                raise ValueError(f"cells[{i}].element: expected one of {', '.join(ELEMENTS)}, got {cell.element!r}")
            self.cells[<Py_ssize_t>i] = rk_cell(
                KINDS.index(cell.kind), cell.width, bool(cell.timed), ELEMENTS.index(cell.element)
            )

    def __dealloc__(self):
        free(self.cells)


cdef class StagedRows:
    """See table.pyi."""

    cdef TableWriter _writer
    cdef tuple _given
    cdef Ids _ids
    cdef rk_table_write *_writes
    cdef int64_t _written_ms
    cdef rk_table_batch _batch
    cdef rk_table_room _room
    cdef bint _is_held
    cdef readonly object late_counts

    def __cinit__(self, TableWriter writer not None, ids, cells, written_ms, keys, bint is_absolute):
        self._writer = writer
        self._given = (tuple(cells), written_ms, keys)
        self._ids = Ids(ids)
        cdef Py_ssize_t count = len(self._given[0])
        self._writes = <rk_table_write *>calloc(count + 1, sizeof(rk_table_write))
        if self._writes is NULL:
            raise MemoryError
        for i in range(count):
            self._set(i, self._given[0][i])
        self._batch.ids = self._ids.ids
        self._batch.n = self._ids.count
        self._batch.writes = self._writes
        self._batch.write_count = count
        self._batch.is_absolute = is_absolute
        if isinstance(written_ms, np.ndarray):
            self._batch.written_ms = self._times(written_ms, self._batch.n, "written_ms")
        else:
            self._written_ms = written_ms
            self._batch.written_ms = &self._written_ms
            self._batch.one_time = 1
        if keys is not None:
            self._batch.keys = self._times(keys, self._batch.n, "keys")
        cdef rk_table_status status
        with nogil:
            status = rk_table_hold(writer.table, &self._batch, &self._room)
        check_status(status, errno, writer._path)
        self._is_held = True

    def __dealloc__(self):
        if self._is_held and not self._writer.is_closed:
            rk_table_drop(self._writer.table, &self._room)
        free(self._writes)

    cdef const int64_t *_times(self, object array, size_t n, str what) except? NULL:
        cdef const void *data = array_data(array, cnp.NPY_INT64, 1, what)
        if <size_t>array_size(array) != n:
            raise ValueError(f"{what}: expected {n} elements, got {array_size(array)}")
        return <const int64_t *>data

    cdef int _set(self, Py_ssize_t i, object given) except -1:
        cdef uint32_t cells = 0
        cdef const rk_cell *cell = rk_table_cells(self._writer.table, &cells)
        cdef rk_table_write *write = &self._writes[i]
        cdef str what = f"cells[{i}]"
        if not 0 <= given.cell < cells:
            raise ValueError(f"{what}.cell: expected one of {cells} cells, got {given.cell}")
        cell += <Py_ssize_t>given.cell
        write.cell = given.cell
        write.rows = <const int64_t *>array_data(given.rows, cnp.NPY_INT64, 1, f"{what}.rows")
        write.count = array_size(given.rows)
        write.clears = <const int64_t *>array_data(given.clear_rows, cnp.NPY_INT64, 1, f"{what}.clear_rows")
        write.clear_count = array_size(given.clear_rows)
        write.values = array_data(
            given.values, TYPES[cell.kind], 2 if cell.kind == RK_CELL_VECTOR else 1, f"{what}.values"
        )
        write.value_count = cnp.PyArray_SIZE(<cnp.ndarray>given.values)
        if cell.kind >= RK_CELL_TEXT:
            write.lengths = self._times(given.lengths, write.count, f"{what}.lengths")
        elif write.value_count != write.count * <size_t>(cell.width if cell.width else 1):
            raise ValueError(f"{what}.values: expected values of {write.count} rows, got {given.values.shape}")
        if cell.kind == RK_CELL_MAP:
            write.map_values = <const float *>array_data(
                given.map_values, cnp.NPY_FLOAT32, 1, f"{what}.map_values"
            )
            if <size_t>array_size(given.map_values) != write.value_count:
                raise ValueError(f"{what}.map_values: expected {write.value_count} elements")
        if given.times_ms is not None:
            write.times_ms = self._times(given.times_ms, write.count, f"{what}.times_ms")
        if given.clear_times_ms is not None:
            write.clear_times_ms = self._times(given.clear_times_ms, write.clear_count, f"{what}.clear_times_ms")
        return 0

    cdef int _end(self) except -1:
        self._writer.check_open()
        if not self._is_held:
            raise ValueError("the batch was published or dropped")
        self._is_held = False
        return 0

    def publish(self):
        self._end()
        self.late_counts = np.zeros(self._batch.write_count, np.uint64)
        cdef uint64_t *late_by_write = <uint64_t *>cnp.PyArray_DATA(<cnp.ndarray>self.late_counts)
        cdef uint64_t late
        with nogil:
            late = rk_table_publish(self._writer.table, &self._batch, &self._room, late_by_write)
        return late

    def drop(self):
        self._end()
        rk_table_drop(self._writer.table, &self._room)


cdef TableWriter _opened(bint is_new, path, cells, max_rows, max_bytes, fingerprint, set_id):
    cdef _Layout layout = _Layout(cells)
    cdef TableWriter writer = TableWriter.__new__(TableWriter)
    cdef bytes name = os.fsencode(path)
    cdef bytes mark = fingerprint
    cdef rk_table_options options
    cdef rk_table_status status
    if len(mark) != 32:
        raise ValueError(f"fingerprint: expected 32 bytes, got {len(mark)}")
    options.cells = layout.cells
    options.cell_count = layout.count
    options.fingerprint = <const uint8_t *><const char *>mark
    options.set_id = set_id
    options.max_rows = max_rows
    options.max_bytes = max_bytes
    cdef const char *c_name = name
    writer._path = path
    with nogil:
        if is_new:
            status = rk_table_create(c_name, &options, &writer.table)
        else:
            status = rk_table_attach(c_name, &options, &writer.table)
    check_status(status, errno, path)
    return writer


cdef class TableWriter(Table):
    """See table.pyi."""

    @staticmethod
    def create(path, cells, *, max_rows, max_bytes, fingerprint=_ZEROS, set_id=0):
        return _opened(True, path, cells, max_rows, max_bytes, fingerprint, set_id)

    @staticmethod
    def attach(path, cells, *, max_rows, max_bytes, fingerprint=_ZEROS):
        return _opened(False, path, cells, max_rows, max_bytes, fingerprint, 0)

    def stage(self, ids, cells, written_ms, keys=None, *, is_absolute=False):
        self.check_open()
        return StagedRows(self, ids, cells, written_ms, keys, is_absolute)

    def delete(self, ids):
        self.check_open()
        cdef Ids views = Ids(ids)
        cdef uint64_t removed
        with nogil:
            removed = rk_table_delete(self.table, views.ids, views.count)
        return removed

    def intern(self, texts):
        self.check_open()
        cdef Ids views = Ids(texts)
        codes = np.empty(views.count, np.int32)
        cdef int32_t *out = <int32_t *>cnp.PyArray_DATA(<cnp.ndarray>codes)
        cdef rk_table_status status
        with nogil:
            status = rk_table_intern(self.table, views.ids, views.count, out)
        check_status(status, errno, self._path)
        return codes

    def set_applied(self, uint64_t number):
        self.check_open()
        rk_table_set_applied(self.table, number)

    def set_clean(self, bint is_clean, bytes boot):
        self.check_open()
        if len(boot) != 32:
            raise ValueError(f"boot: expected 32 bytes, got {len(boot)}")
        rk_table_set_clean(self.table, is_clean, <const uint8_t *><const char *>boot)

    def retire(self):
        self.check_open()
        rk_table_retire(self.table)

    def flush(self):
        self.check_open()
        cdef rk_table_status status
        with nogil:
            status = rk_table_flush(self.table)
        check_status(status, errno, self._path)

    def close(self):
        if not self.is_closed and self.table is not NULL:
            self.is_closed = True
            rk_table_end_writing(self.table)
