"""Customs desk of csrc/rk_packed.h: checks arrays, releases the GIL, calls."""

from collections import namedtuple

cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc

from rankd.kernels.arrays cimport array_data, array_size
from rankd.kernels.id_index cimport Ids, rk_id

import numpy as np

cnp.import_array()


cdef extern from "rk_packed.h" nogil:
    enum:
        RK_PACKED_VERSION_AT
        RK_PACKED_MOST_CELLS
        RK_PACKED_MISSING
        RK_PACKED_LIVE
        RK_PACKED_TOMBSTONE
        RK_PACKED_WRONG_ID
        RK_PACKED_DAMAGED
        RK_PACKED_OTHER_LAYOUT
    const int64_t RK_PACKED_MOST_VERSION
    ctypedef struct rk_packed_cell:
        uint8_t is_ragged, has_text, has_int
        uint32_t width
    ctypedef struct rk_packed_layout:
        const rk_packed_cell *cells
        size_t count
        uint32_t fingerprint
    ctypedef struct rk_packed_column:
        uint8_t *state
        int64_t *times
        int64_t *lengths
        rk_id *texts
        int64_t *ints
        uint8_t *fixed
    ctypedef struct rk_packed_extent:
        size_t values, elements
    ctypedef struct rk_packed_heads:
        uint8_t *status
        rk_id *ids
        uint32_t *fingerprints
        int64_t *versions
        int64_t *latest
    void rk_packed_sizes(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                         size_t n, rk_packed_extent *places, size_t *sizes)
    void rk_packed_pack(const rk_packed_layout *layout, const rk_packed_heads *heads, const rk_packed_column *columns,
                        size_t n, rk_packed_extent *places, uint8_t *const *out)
    void rk_packed_check(const rk_packed_layout *layout, const rk_id *rows, const rk_id *ids, size_t n,
                         const rk_packed_heads *heads, rk_packed_extent *extents)
    void rk_packed_unpack(const rk_packed_layout *layout, const rk_id *rows, size_t n, const rk_packed_heads *heads,
                          rk_packed_extent *places, const rk_packed_column *columns)


MOST_VERSION = RK_PACKED_MOST_VERSION
VERSION_AT = RK_PACKED_VERSION_AT
TOMBSTONE_FLAG = 1
MISSING = RK_PACKED_MISSING
LIVE = RK_PACKED_LIVE
TOMBSTONE = RK_PACKED_TOMBSTONE
WRONG_ID = RK_PACKED_WRONG_ID
DAMAGED = RK_PACKED_DAMAGED
OTHER_LAYOUT = RK_PACKED_OTHER_LAYOUT

PackedCell = namedtuple("PackedCell", ("is_ragged", "has_text", "has_int", "width"), defaults=(False, False, False, 0))
PackedColumn = namedtuple("PackedColumn", ("state", "times_ms", "lengths", "texts", "ints", "fixed"))
PackedRows = namedtuple("PackedRows", ("status", "ids", "fingerprints", "versions", "latest_ms", "columns"))

_MOST_WIDTH = 1 << 20
_MOST_ELEMENTS = 1 << 24


cdef class _Scratch:
    """Memory of one call."""

    cdef list _pieces

    def __cinit__(self):
        self._pieces = []

    cdef void *take(self, size_t count, size_t size) except NULL:
        piece = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>((count + 1) * size))
        self._pieces.append(piece)
        return <void *>PyBytes_AS_STRING(piece)


cdef void *_checked(object array, int type_number, int dimensions, Py_ssize_t length, str what) except? NULL:
    cdef void *data = array_data(array, type_number, dimensions, what)
    if array_size(array) != length:
        raise ValueError(f"{what}: expected {length} rows, got {array_size(array)}")
    return data


cdef class PackedLayout:
    """See packed.pyi."""

    cdef rk_packed_layout layout
    cdef rk_packed_cell *cells

    def __cinit__(self, cells, uint32_t fingerprint):
        cdef tuple given = tuple(cells)
        cdef Py_ssize_t i
        if len(given) > RK_PACKED_MOST_CELLS:
            raise ValueError(f"cells: expected at most {RK_PACKED_MOST_CELLS}, got {len(given)}")
        self.cells = <rk_packed_cell *>calloc(len(given) + 1, sizeof(rk_packed_cell))
        if self.cells is NULL:
            raise MemoryError
        for i, cell in enumerate(given):
            if not 0 <= cell.width <= _MOST_WIDTH or not (cell.has_text or cell.has_int or cell.width):
                raise ValueError(f"cells[{i}]: expected a text, an integer or 1 to {_MOST_WIDTH} bytes, got {cell}")
            self.cells[i] = rk_packed_cell(bool(cell.is_ragged), bool(cell.has_text), bool(cell.has_int), cell.width)
        self.layout = rk_packed_layout(self.cells, len(given), fingerprint)

    def __dealloc__(self):
        free(self.cells)

    def pack(self, status, ids, versions, latest_ms, columns):
        cdef Ids views = Ids(ids)
        cdef Py_ssize_t n = <Py_ssize_t>views.count
        cdef _Scratch scratch = _Scratch()
        cdef rk_packed_heads heads
        heads.status = <uint8_t *>_checked(status, cnp.NPY_UINT8, 1, n, "status")
        heads.ids = views.ids
        heads.fingerprints = NULL
        heads.versions = <int64_t *>_checked(versions, cnp.NPY_INT64, 1, n, "versions")
        heads.latest = <int64_t *>_checked(latest_ms, cnp.NPY_INT64, 1, n, "latest_ms")
        if n and (versions.min() < 0 or versions.max() > MOST_VERSION):
            raise ValueError(f"versions: expected 0 to {MOST_VERSION}, got {versions.min()} to {versions.max()}")
        if <size_t>len(columns) != self.layout.count:
            raise ValueError(f"columns: expected {self.layout.count}, got {len(columns)}")
        cdef rk_packed_column *given = <rk_packed_column *>scratch.take(self.layout.count, sizeof(rk_packed_column))
        cdef list held = [self._given(c, columns[c], status, latest_ms, &given[c]) for c in range(self.layout.count)]
        cdef rk_packed_extent *places = <rk_packed_extent *>scratch.take(self.layout.count, sizeof(rk_packed_extent))
        cdef size_t *sizes = <size_t *>scratch.take(n, sizeof(size_t))
        cdef uint8_t **out = <uint8_t **>scratch.take(n, sizeof(uint8_t *))
        with nogil:
            rk_packed_sizes(&self.layout, &heads, given, n, places, sizes)
        cdef list packed = []
        cdef Py_ssize_t i
        for i in range(n):
            row = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>sizes[i])
            packed.append(row)
            out[i] = <uint8_t *>PyBytes_AS_STRING(row)
        with nogil:
            rk_packed_pack(&self.layout, &heads, given, n, places, out)
        del held
        return packed

    cdef object _given(self, size_t c, object column, object status, object latest_ms, rk_packed_column *out):
        """Checks one column; what must be held while `out` is used."""
        cdef rk_packed_cell cell = self.cells[c]
        cdef str what = f"columns[{c}]"
        cdef Py_ssize_t n = array_size(status)
        cdef Ids texts = None
        state = column.state
        out.state = <uint8_t *>_checked(state, cnp.NPY_UINT8, 1, n, what + ".state")
        out.times = <int64_t *>_checked(column.times_ms, cnp.NPY_INT64, 1, n, what + ".times_ms")
        if bool(np.any(state > 2)) or bool(np.any((state != 0) & ((status == TOMBSTONE) | (column.times_ms > latest_ms)))):
            raise ValueError(f"{what}: expected states of live rows, of times up to the row's latest")
        cdef Py_ssize_t elements = np.count_nonzero(state == 1)
        if cell.is_ragged:
            out.lengths = <int64_t *>_checked(column.lengths, cnp.NPY_INT64, 1, elements, what + ".lengths")
            if elements and (column.lengths.min() < 0 or column.lengths.max() > _MOST_ELEMENTS):
                raise ValueError(f"{what}.lengths: expected 0 to {_MOST_ELEMENTS}")
            elements = column.lengths.sum()
        if cell.has_text:
            texts = Ids(column.texts)
            if <Py_ssize_t>texts.count != elements:
                raise ValueError(f"{what}.texts: expected {elements}, got {texts.count}")
            out.texts = texts.ids
        if cell.has_int:
            out.ints = <int64_t *>_checked(column.ints, cnp.NPY_INT64, 1, elements, what + ".ints")
        if cell.width:
            out.fixed = <uint8_t *>_checked(column.fixed, cnp.NPY_UINT8, 2, elements, what + ".fixed")
            if column.fixed.shape[1] != cell.width:
                raise ValueError(f"{what}.fixed: expected {cell.width} bytes each, got {column.fixed.shape[1]}")
        return texts

    def unpack(self, rows, ids=None):
        cdef tuple given = tuple(rows)
        cdef Py_ssize_t n = len(given)
        cdef Py_ssize_t i
        cdef Ids views = None if ids is None else Ids(ids)
        if views is not None and <Py_ssize_t>views.count != n:
            raise ValueError(f"ids: expected {n}, got {views.count}")
        cdef _Scratch scratch = _Scratch()
        cdef rk_id *packed = <rk_id *>scratch.take(n, sizeof(rk_id))
        for i in range(n):
            row = given[i]
            if row is None:
                packed[i] = rk_id(NULL, 0)
            elif PyBytes_Check(row):
                packed[i] = rk_id(<const uint8_t *>PyBytes_AS_STRING(row), <size_t>PyBytes_GET_SIZE(row))
            else:
                raise TypeError(f"rows[{i}]: expected bytes or None, got {type(row).__name__}")
        status, fingerprints = np.zeros(n, np.uint8), np.zeros(n, np.uint32)
        versions, latest = np.zeros(n, np.int64), np.zeros(n, np.int64)
        cdef rk_packed_heads heads
        heads.status = <uint8_t *>cnp.PyArray_DATA(status)
        heads.ids = <rk_id *>scratch.take(n, sizeof(rk_id))
        heads.fingerprints = <uint32_t *>cnp.PyArray_DATA(fingerprints)
        heads.versions = <int64_t *>cnp.PyArray_DATA(versions)
        heads.latest = <int64_t *>cnp.PyArray_DATA(latest)
        cdef rk_packed_extent *extents = <rk_packed_extent *>scratch.take(self.layout.count, sizeof(rk_packed_extent))
        cdef rk_packed_column *out = <rk_packed_column *>scratch.take(self.layout.count, sizeof(rk_packed_column))
        cdef const rk_id *expected = NULL if views is None else views.ids
        with nogil:
            rk_packed_check(&self.layout, packed, expected, n, &heads, extents)
        columns = [self._room(c, n, extents[c], scratch, &out[c]) for c in range(self.layout.count)]
        with nogil:
            rk_packed_unpack(&self.layout, packed, n, &heads, extents, out)
        columns = [self._taken(c, columns[c], extents[c], out[c].texts) for c in range(self.layout.count)]
        for i in range(n):
            if heads.status[i] == RK_PACKED_MISSING or heads.status[i] == RK_PACKED_DAMAGED:
                heads.ids[i] = rk_id(NULL, 0)
                heads.fingerprints[i] = heads.versions[i] = heads.latest[i] = 0
        whose = _texts(heads.ids, n) if ids is None else list(ids)
        return PackedRows(status, whose, fingerprints, versions, latest, columns)

    cdef object _room(self, size_t c, Py_ssize_t n, rk_packed_extent extent, _Scratch scratch, rk_packed_column *out):
        """Memory for one column."""
        cdef rk_packed_cell cell = self.cells[c]
        state, times = np.empty(n, np.uint8), np.empty(n, np.int64)
        out.state = <uint8_t *>cnp.PyArray_DATA(state)
        out.times = <int64_t *>cnp.PyArray_DATA(times)
        lengths = ints = fixed = None
        if cell.is_ragged:
            lengths = np.empty(extent.values, np.int64)
            out.lengths = <int64_t *>cnp.PyArray_DATA(lengths)
        if cell.has_text:
            out.texts = <rk_id *>scratch.take(extent.elements, sizeof(rk_id))
        if cell.has_int:
            ints = np.empty(extent.elements, np.int64)
            out.ints = <int64_t *>cnp.PyArray_DATA(ints)
        if cell.width:
            fixed = np.empty((extent.elements, cell.width), np.uint8)
            out.fixed = <uint8_t *>cnp.PyArray_DATA(fixed)
        return PackedColumn(state, times, lengths, None, ints, fixed)

    cdef object _taken(self, size_t c, object column, rk_packed_extent extent, const rk_id *texts):
        """What was taken of the memory of one column."""
        return PackedColumn(
            column.state,
            column.times_ms,
            None if column.lengths is None else column.lengths[:extent.values],
            _texts(texts, extent.elements) if self.cells[c].has_text else None,
            None if column.ints is None else column.ints[:extent.elements],
            None if column.fixed is None else column.fixed[:extent.elements],
        )


cdef list _texts(const rk_id *texts, Py_ssize_t count):
    cdef list decoded = []
    cdef Py_ssize_t i
    for i in range(count):
        decoded.append(PyUnicode_DecodeUTF8(<const char *>texts[i].bytes, <Py_ssize_t>texts[i].length, NULL)
                       if texts[i].length else "")
    return decoded
