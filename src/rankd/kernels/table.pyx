"""Customs desk of csrc/rk_table.h: checks arrays, releases the GIL, calls."""

import math
import os
from collections import namedtuple

cimport numpy as cnp
from libc.errno cimport EIO, ENOSPC, errno
from libc.stdlib cimport calloc, free

from rankd.kernels.arrays cimport array_data, array_size
from rankd.kernels.id_index cimport Ids

import numpy as np

cnp.import_array()


cdef extern from "rk_table.h" nogil:
    rk_table_status rk_table_open(const char *path, rk_table **table)
    void rk_table_close(rk_table *table)
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
    rk_table_status rk_table_ids(const rk_table *table, uint64_t start, size_t most, rk_arena *arena, rk_id *ids,
                                 size_t *count, uint64_t *next, uint64_t *generation)


MAX_ID_BYTES = RK_TABLE_MAX_ID_BYTES
MAX_VALUE_BYTES = RK_TABLE_MAX_VALUE_BYTES

Cell = namedtuple("Cell", ("kind", "width", "timed", "element"), defaults=(0, False, "f32"))
CellWrite = namedtuple(
    "CellWrite",
    ("cell", "rows", "values", "clear_rows", "lengths", "map_values", "times_ms", "clear_times_ms"),
    defaults=(None, None, None, None),
)
CellRead = namedtuple(
    "CellRead",
    (
        "cell", "part", "divisor", "missing", "ttl_ms", "half_life_ms", "bucket_ms", "bucket_count", "denominator",
        "prior_mean", "prior_weight",
    ),
    defaults=("number", 1.0, float("nan"), 0, 0.0, 0, 0, None, 0.0, 0.0),
)
Spans = namedtuple("Spans", ("data", "values", "offsets", "lengths"))
TableRows = namedtuple("TableRows", ("found", "columns", "written_ms", "keys"))

KINDS = ("f32", "f64", "i64", "bool", "code", "vector", "text", "set", "map")
ELEMENTS = ("f32", "f16", "i8")
PARTS = ("number", "stored", "time", "changed", "decayed", "window", "ratio")
# By kind: the type of an array of values.
TYPES = (
    cnp.NPY_FLOAT32, cnp.NPY_FLOAT64, cnp.NPY_INT64, cnp.NPY_INT8, cnp.NPY_INT32, cnp.NPY_FLOAT32, cnp.NPY_UINT8,
    cnp.NPY_INT32, cnp.NPY_INT32,
)
_REASONS = {
    RK_TABLE_NOT_A_TABLE: "not a table",
    RK_TABLE_DAMAGED: "damaged",
    RK_TABLE_OTHER: "other layout",
    RK_TABLE_IN_USE: "in use",
}


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


cdef int check_status(rk_table_status status, int error, object path) except -1:
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
    error = error if error else (ENOSPC if status == RK_TABLE_NO_SPACE else EIO)
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
        return tuple(
            Cell(KINDS[cells[i].kind], cells[i].width, bool(cells[i].timed), ELEMENTS[cells[i].element])
            for i in range(count)
        )

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
            if text.bytes is NULL:
                raise ValueError(f"codes[{i}]: no text has the code {numbers[i]}")
            texts.append((<const char *>text.bytes)[:text.length].decode("utf-8"))
        return texts

    def ids(self, uint64_t start, size_t most, uint64_t generation=0):
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
            status = rk_table_ids(self.table, start, most, memory.arena, ids, &count, &following, &generation)
        check_status(status, errno, self._path)
        found = [(<const char *>ids[i].bytes)[:ids[i].length].decode("utf-8") for i in range(count)]
        return found, following, generation

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
                self._check(i, cell)
                below = cell.denominator or CellRead(0)
                columns[<Py_ssize_t>i] = rk_table_column(
                    cell.cell, cell.divisor, cell.missing, cell.ttl_ms, <rk_table_part><int>PARTS.index(cell.part),
                    cell.half_life_ms, cell.bucket_ms, cell.bucket_count,
                    rk_table_window(below.cell, below.ttl_ms, below.bucket_ms, below.bucket_count),
                    cell.prior_mean, cell.prior_weight,
                )
            self.reading = rk_table_reading_new(owner.table, columns, len(given))
        finally:
            free(columns)
        if self.reading is NULL:
            raise MemoryError

    def __dealloc__(self):
        rk_table_reading_free(self.reading)

    cdef int _check(self, Py_ssize_t i, object asked) except -1:
        cdef tuple cells = self.owner.cells
        if asked.part not in PARTS:
            raise ValueError(f"cells[{i}].part: expected one of {', '.join(PARTS)}, got {asked.part!r}")
        if not 0 <= asked.cell < len(cells):
            raise ValueError(f"cells[{i}].cell: expected one of {len(cells)} cells, got {asked.cell}")
        kind = cells[asked.cell].kind
        if asked.ttl_ms < 0:
            raise ValueError(f"cells[{i}].ttl_ms: expected at least 0, got {asked.ttl_ms}")
        if asked.part == "decayed" and (kind not in ("f32", "f64", "map") or not asked.half_life_ms > 0):
            raise ValueError(
                f"cells[{i}]: expected an f32, f64 or map cell and a half-life, got {kind} and {asked.half_life_ms} ms"
            )
        if asked.part in ("window", "ratio") and (kind != "map" or asked.bucket_ms < 1 or asked.bucket_count < 1):
            raise ValueError(
                f"cells[{i}]: expected a map cell and a window, got {kind} and {asked.bucket_count} x {asked.bucket_ms} ms"
            )
        if asked.part == "ratio":
            if asked.denominator is None or asked.denominator.part != "window":
                raise ValueError(f"cells[{i}].denominator: expected a window, got {asked.denominator!r}")
            if not (math.isfinite(asked.prior_mean) and math.isfinite(asked.prior_weight) and asked.prior_weight >= 0):
                raise ValueError(
                    f"cells[{i}]: expected a finite prior, got mean {asked.prior_mean}, weight {asked.prior_weight}"
                )
            self._check(i, asked.denominator)
        return 0

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
        cdef int type_number = TYPES[cell.kind]
        if part in ("window", "ratio"):
            return memory.view(column.data, cnp.NPY_FLOAT64, column.rows, 0)
        if part in ("time", "changed"):
            return memory.view(column.data, cnp.NPY_INT64, column.rows, 0)
        if cell.kind >= RK_CELL_TEXT:
            return Spans(
                memory.view(column.data, type_number, column.data_length, 0),
                memory.view(column.values, cnp.NPY_FLOAT32, column.data_length, 0) if cell.kind == RK_CELL_MAP else None,
                memory.view(column.offsets, cnp.NPY_INT64, column.rows, 0),
                memory.view(column.lengths, cnp.NPY_INT32, column.rows, 0),
            )
        if part != "stored" and cell.kind <= RK_CELL_BOOL:
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
        check_status(status, errno, path)
