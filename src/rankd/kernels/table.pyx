"""Customs desk of csrc/rk_table.h: checks arrays, releases the GIL, calls."""

import errno as _errno
import os
from collections import namedtuple

cimport numpy as cnp
from libc.errno cimport ENOENT, ENOSPC, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from rankd.kernels.arrays cimport array_data, array_size
from rankd.kernels.id_index cimport Ids

import numpy as np

cnp.import_array()


cdef extern from "rk_table.h" nogil:
    cdef enum:
        RK_TABLE_MAX_ID_BYTES
        RK_TABLE_MAX_VALUE_BYTES
        RK_CELL_F32
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

    ctypedef struct rk_table_batch:
        const rk_id *ids
        size_t n
        const rk_table_write *writes
        size_t write_count
        const int64_t *written_ms
        int one_time
        const int64_t *keys

    ctypedef struct rk_table_room:
        uint64_t rows
        uint64_t heap_bytes

    rk_table_status rk_table_open(const char *path, rk_table **table)
    rk_table_status rk_table_create(const char *path, const rk_table_options *options, rk_table **table)
    rk_table_status rk_table_attach(const char *path, const rk_table_options *options, rk_table **table)
    void rk_table_close(rk_table *table)
    const rk_cell *rk_table_cells(const rk_table *table, uint32_t *count)
    const uint8_t *rk_table_fingerprint(const rk_table *table)
    uint64_t rk_table_set_id(const rk_table *table)
    uint64_t rk_table_count(const rk_table *table)
    uint64_t rk_table_used_bytes(const rk_table *table)
    uint64_t rk_table_applied(const rk_table *table)
    int rk_table_is_retired(const rk_table *table)
    int rk_table_is_clean(const rk_table *table, uint8_t *boot)
    int rk_table_read_rows(const rk_table_reading *reading, const rk_id *ids, size_t n, int64_t now_ms,
                           rk_arena *arena, rk_column *columns, uint8_t *found, int64_t *written_ms, int64_t *keys)
    int rk_table_codes(const rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes)
    rk_id rk_table_text(const rk_table *dictionary, int64_t code)
    rk_table_status rk_table_hold(rk_table *table, const rk_table_batch *batch, rk_table_room *room)
    void rk_table_drop(rk_table *table, const rk_table_room *room)
    void rk_table_publish(rk_table *table, const rk_table_batch *batch, const rk_table_room *room)
    uint64_t rk_table_delete(rk_table *table, const rk_id *ids, size_t n)
    rk_table_status rk_table_intern(rk_table *dictionary, const rk_id *texts, size_t n, int32_t *codes)
    rk_table_status rk_table_ids(const rk_table *table, uint64_t start, size_t most, rk_arena *arena, rk_id *ids,
                                 size_t *count, uint64_t *next)
    void rk_table_set_applied(rk_table *table, uint64_t applied)
    void rk_table_set_clean(rk_table *table, int is_clean, const uint8_t *boot)
    void rk_table_retire(rk_table *table)
    void rk_table_end_writing(rk_table *table)
    rk_table_status rk_table_flush(rk_table *table)


MAX_ID_BYTES = RK_TABLE_MAX_ID_BYTES
MAX_VALUE_BYTES = RK_TABLE_MAX_VALUE_BYTES

Cell = namedtuple("Cell", ("kind", "width", "timed"), defaults=(0, False))
CellWrite = namedtuple(
    "CellWrite",
    ("cell", "rows", "values", "clear_rows", "lengths", "map_values", "times_ms"),
    defaults=(None, None, None),
)
CellRead = namedtuple(
    "CellRead", ("cell", "part", "divisor", "missing", "ttl_ms"), defaults=("number", 1.0, float("nan"), 0)
)
Spans = namedtuple("Spans", ("data", "values", "offsets", "lengths"))
TableRows = namedtuple("TableRows", ("found", "columns", "written_ms", "keys"))

_KINDS = ("f32", "i64", "bool", "code", "vector", "text", "set", "map")
_PARTS = ("number", "stored", "time")
# By kind: the type of an array of values.
_TYPES = (
    cnp.NPY_FLOAT32, cnp.NPY_INT64, cnp.NPY_INT8, cnp.NPY_INT32, cnp.NPY_FLOAT32, cnp.NPY_UINT8, cnp.NPY_INT32,
    cnp.NPY_INT32,
)
_REASONS = {
    RK_TABLE_NOT_A_TABLE: "not a table",
    RK_TABLE_DAMAGED: "damaged",
    RK_TABLE_OTHER: "other layout",
    RK_TABLE_IN_USE: "in use",
}
_ZEROS = bytes(32)


class TableFullError(Exception):
    """See table.pyi."""

    def __init__(self, limit):
        super().__init__(f"the table is full: {limit} is reached")
        self.limit = limit


class NotATableError(Exception):
    """See table.pyi."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: {reason}")
        self.reason = reason


cdef int _check(rk_table_status status, int error, object path) except -1:
    """Raises what a status means; `error`: errno, as it was after the call."""
    if status == RK_TABLE_OK:
        return 0
    if status == RK_TABLE_NO_MEMORY:
        raise MemoryError
    if status in _REASONS:
        raise NotATableError(path, _REASONS[status])
    if status == RK_TABLE_FULL_ROWS or status == RK_TABLE_FULL_BYTES:
        raise TableFullError("max_rows" if status == RK_TABLE_FULL_ROWS else "max_bytes")
    if status == RK_TABLE_BAD_ARGUMENT:
        raise ValueError(f"{path}: cells, ids, positions or values that a table cannot take")
    error = error if error else (ENOSPC if status == RK_TABLE_NO_SPACE else _errno.EIO)
    raise OSError(error, os.strerror(error), path)


cdef class _Memory:
    """An arena that lives as long as the arrays that look into it."""

    def __cinit__(self):
        self.arena = rk_arena_new()
        if self.arena is NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.arena is not NULL:
            rk_arena_free(self.arena)

    cdef object view(self, const void *data, int type_number, Py_ssize_t rows, Py_ssize_t width):
        """An array over memory of the arena; width 0: of one dimension."""
        cdef cnp.npy_intp shape[2]
        shape[0] = rows
        shape[1] = width
        array = cnp.PyArray_SimpleNewFromData(2 if width else 1, shape, type_number, <void *>data)
        cnp.set_array_base(<cnp.ndarray>array, self)
        return array


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
            if cell.kind not in _KINDS:
                raise ValueError(f"cells[{i}].kind: expected one of {', '.join(_KINDS)}, got {cell.kind!r}")
            self.cells[<Py_ssize_t>i] = rk_cell(_KINDS.index(cell.kind), cell.width, bool(cell.timed))

    def __dealloc__(self):
        free(self.cells)


cdef class Table:
    """See table.pyi."""

    def __init__(self):
        raise TypeError("use TableReader, TableWriter.create or TableWriter.attach")

    def __dealloc__(self):
        rk_table_close(self.table)

    cdef int check_open(self) except -1:
        if self.is_closed or self.table is NULL:
            raise ValueError(f"the table {self._path} is closed")
        return 0

    def __len__(self):
        self.check_open()
        return rk_table_count(self.table)

    @property
    def cells(self):
        self.check_open()
        cdef uint32_t count = 0
        cdef const rk_cell *cells = rk_table_cells(self.table, &count)
        return tuple(Cell(_KINDS[cells[i].kind], cells[i].width, bool(cells[i].timed)) for i in range(count))

    @property
    def fingerprint(self):
        self.check_open()
        return (<const char *>rk_table_fingerprint(self.table))[:32]

    @property
    def set_id(self):
        self.check_open()
        return rk_table_set_id(self.table)

    @property
    def applied(self):
        self.check_open()
        return rk_table_applied(self.table)

    @property
    def is_retired(self):
        self.check_open()
        return rk_table_is_retired(self.table) != 0

    @property
    def is_clean(self):
        self.check_open()
        return rk_table_is_clean(self.table, NULL) != 0

    @property
    def boot(self):
        self.check_open()
        cdef uint8_t boot[32]
        rk_table_is_clean(self.table, boot)
        return (<const char *>boot)[:32]

    @property
    def used_bytes(self):
        self.check_open()
        return rk_table_used_bytes(self.table)

    def find(self, ids):
        return self.codes(ids) >= 0

    def keys(self, ids):
        return self.reading(()).read(ids, 0).keys

    def reading(self, cells):
        self.check_open()
        return TableReading(self, cells)

    def codes(self, texts):
        self.check_open()
        cdef Ids views = Ids(texts)
        codes = np.empty(views.count, np.int32)
        cdef int32_t *out = <int32_t *>cnp.PyArray_DATA(<cnp.ndarray>codes)
        cdef int status
        with nogil:
            status = rk_table_codes(self.table, views.ids, views.count, out)
        if status:
            raise MemoryError
        return codes

    def texts(self, codes):
        self.check_open()
        cdef const int32_t *numbers = <const int32_t *>array_data(codes, cnp.NPY_INT32, 1, "codes")
        cdef Py_ssize_t i
        cdef rk_id text
        cdef list texts = []
        for i in range(array_size(codes)):
            text = rk_table_text(self.table, numbers[i])
            if text.length == 0:
                raise ValueError(f"codes[{i}]: no text has the code {numbers[i]}")
            texts.append((<const char *>text.bytes)[:text.length].decode("utf-8"))
        return texts

    def close(self):
        self.is_closed = True


cdef class TableReading:
    """See table.pyi."""

    def __cinit__(self, Table owner not None, cells):
        cdef tuple given = tuple(cells)
        cdef rk_table_column *columns = <rk_table_column *>calloc(len(given) + 1, sizeof(rk_table_column))
        if columns is NULL:
            raise MemoryError
        self.owner = owner
        self._wanted = given
        try:
            for i, cell in enumerate(given):
                if cell.part not in _PARTS:
                    raise ValueError(f"cells[{i}].part: expected one of {', '.join(_PARTS)}, got {cell.part!r}")
                if not 0 <= cell.cell < len(owner.cells):
                    raise ValueError(f"cells[{i}].cell: expected one of {len(owner.cells)} cells, got {cell.cell}")
                if cell.ttl_ms < 0:
                    raise ValueError(f"cells[{i}].ttl_ms: expected at least 0, got {cell.ttl_ms}")
                columns[<Py_ssize_t>i] = rk_table_column(
                    cell.cell, cell.divisor, cell.missing, cell.ttl_ms, <rk_table_part><int>_PARTS.index(cell.part)
                )
            self.reading = rk_table_reading_new(owner.table, columns, len(given))
        finally:
            free(columns)
        if self.reading is NULL:
            raise MemoryError

    def __dealloc__(self):
        rk_table_reading_free(self.reading)

    def read(self, ids, int64_t now_ms):
        self.owner.check_open()
        cdef Ids views = Ids(ids)
        cdef _Memory memory = _Memory()
        cdef size_t n = views.count
        cdef Py_ssize_t count = len(self._wanted)
        cdef rk_column *columns = <rk_column *>rk_arena_take(memory.arena, (count + 1) * sizeof(rk_column))
        cdef uint8_t *found = <uint8_t *>rk_arena_take(memory.arena, n)
        cdef int64_t *written_ms = <int64_t *>rk_arena_take(memory.arena, 8 * n)
        cdef int64_t *keys = <int64_t *>rk_arena_take(memory.arena, 8 * n)
        cdef int status
        if columns is NULL or found is NULL or written_ms is NULL or keys is NULL:
            raise MemoryError
        with nogil:
            status = rk_table_read_rows(
                self.reading, views.ids, n, now_ms, memory.arena, columns, found, written_ms, keys
            )
        if status:
            raise MemoryError
        return TableRows(
            memory.view(found, cnp.NPY_BOOL, n, 0),
            [self._column(memory, i, &columns[i]) for i in range(count)],
            memory.view(written_ms, cnp.NPY_INT64, n, 0),
            memory.view(keys, cnp.NPY_INT64, n, 0),
        )

    cdef object _column(self, _Memory memory, Py_ssize_t i, const rk_column *column):
        cdef uint32_t count = 0
        cdef const rk_cell *cell = &rk_table_cells(self.owner.table, &count)[<Py_ssize_t>self._wanted[i].cell]
        cdef object part = self._wanted[i].part
        cdef int type_number = _TYPES[cell.kind]
        if part == "time":
            return memory.view(column.data, cnp.NPY_INT64, column.rows, 0)
        if cell.kind >= RK_CELL_TEXT:
            return Spans(
                memory.view(column.data, type_number, column.data_length, 0),
                memory.view(column.values, cnp.NPY_FLOAT32, column.data_length, 0) if cell.kind == RK_CELL_MAP else None,
                memory.view(column.offsets, cnp.NPY_INT64, column.rows, 0),
                memory.view(column.lengths, cnp.NPY_INT32, column.rows, 0),
            )
        if part == "number" and cell.kind <= RK_CELL_BOOL:
            type_number = cnp.NPY_FLOAT64
        return memory.view(column.data, type_number, column.rows, cell.width)


cdef class TableReader(Table):
    """See table.pyi."""

    def __init__(self, path):
        if self.table is not NULL:
            raise ValueError("opened already")
        cdef bytes name = os.fsencode(path)
        self._path = path
        cdef rk_table_status status = rk_table_open(name, &self.table)
        _check(status, errno, path)


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

    def __cinit__(self, TableWriter writer not None, ids, cells, written_ms, keys):
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
        _check(status, errno, writer._path)
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
            given.values, _TYPES[cell.kind], 2 if cell.kind == RK_CELL_VECTOR else 1, f"{what}.values"
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
        if cell.timed and given.times_ms is not None:
            write.times_ms = self._times(given.times_ms, write.count, f"{what}.times_ms")
        return 0

    cdef int _end(self) except -1:
        self._writer.check_open()
        if not self._is_held:
            raise ValueError("the batch was published or dropped")
        self._is_held = False
        return 0

    def publish(self):
        self._end()
        with nogil:
            rk_table_publish(self._writer.table, &self._batch, &self._room)

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
    _check(status, errno, path)
    return writer


cdef class TableWriter(Table):
    """See table.pyi."""

    @staticmethod
    def create(path, cells, *, max_rows, max_bytes, fingerprint=_ZEROS, set_id=0):
        return _opened(True, path, cells, max_rows, max_bytes, fingerprint, set_id)

    @staticmethod
    def attach(path, cells, *, max_rows, max_bytes, fingerprint=_ZEROS):
        return _opened(False, path, cells, max_rows, max_bytes, fingerprint, 0)

    def stage(self, ids, cells, written_ms, keys=None):
        self.check_open()
        return StagedRows(self, ids, cells, written_ms, keys)

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
        _check(status, errno, self._path)
        return codes

    def ids(self, uint64_t start, size_t most):
        self.check_open()
        cdef _Memory memory = _Memory()
        cdef rk_id *ids = <rk_id *>rk_arena_take(memory.arena, (most + 1) * sizeof(rk_id))
        cdef size_t count = 0
        cdef size_t i
        cdef uint64_t following = 0
        cdef rk_table_status status
        if ids is NULL:
            raise MemoryError
        with nogil:
            status = rk_table_ids(self.table, start, most, memory.arena, ids, &count, &following)
        _check(status, errno, self._path)
        return [(<const char *>ids[i].bytes)[:ids[i].length].decode("utf-8") for i in range(count)], following

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
        _check(status, errno, self._path)

    def close(self):
        if not self.is_closed and self.table is not NULL:
            self.is_closed = True
            rk_table_end_writing(self.table)
