"""Feature programs: checks ops and columns, releases the GIL, calls csrc/rk_program.h."""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

import numpy as np

cimport numpy as cnp

from rankd.kernels.arrays cimport array_data, array_size
from rankd.types.columns import (
    CategoryColumn,
    EmbeddingColumn,
    MapColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
)

cnp.import_array()

_CLASSES = (NumericColumn, CategoryColumn, TextColumn, SetColumn, MapColumn, EmbeddingColumn)

KINDS = {
    "number": RK_KIND_NUMBER,
    "category": RK_KIND_CATEGORY,
    "text": RK_KIND_TEXT,
    "set": RK_KIND_SET,
    "map": RK_KIND_MAP,
    "embedding": RK_KIND_EMBEDDING,
}


def _op_codes():
    codes = {}
    while rk_op_name(len(codes)) != NULL:
        codes[rk_op_name(len(codes)).decode()] = len(codes)
    return codes


OP_CODES = _op_codes()
OP_ARITIES = {name: rk_op_arity(code) for name, code in OP_CODES.items()}

_REFUSALS = {
    RK_PROGRAM_BAD_SIZE: "a count is negative or over its limit",
    RK_PROGRAM_BAD_INPUT: "unknown kind or impossible dimension of input",
    RK_PROGRAM_BAD_CODE: "unknown code of op",
    RK_PROGRAM_BAD_ARG: "argument out of range or of another kind in op",
    RK_PROGRAM_BAD_OUTPUT: "no numeric register for output",
}


cdef class ProgramKernel:
    """A checked, immutable program. See program.pyi."""

    def __cinit__(self, inputs, codes, args, constants, outputs, bytes text, labels):
        cdef const int32_t[:, ::1] input_view = np.ascontiguousarray(inputs, np.int32).reshape(-1, 3)
        cdef const int32_t[::1] code_view = np.ascontiguousarray(codes, np.int32)
        cdef const int32_t[:, ::1] arg_view = np.ascontiguousarray(args, np.int32).reshape(-1, RK_PROGRAM_ARITY)
        cdef const double[::1] constant_view = np.ascontiguousarray(constants, np.float64)
        cdef const int32_t[::1] output_view = np.ascontiguousarray(outputs, np.int32)
        cdef rk_program_spec spec
        cdef rk_program_status status
        cdef int32_t position
        cdef Py_ssize_t i, k, count = code_view.shape[0]
        if arg_view.shape[0] != count or constant_view.shape[0] != count:
            raise ValueError("codes, args and constants differ in length")
        if count > RK_PROGRAM_MAX_OPS or input_view.shape[0] > RK_PROGRAM_MAX_INPUTS:
            raise ValueError(f"at most {RK_PROGRAM_MAX_OPS} ops and {RK_PROGRAM_MAX_INPUTS} inputs")
        if len(text) > 2**31 - 1 or output_view.shape[0] > RK_PROGRAM_MAX_OPS:
            raise ValueError("more text or outputs than a program can have")
        self._labels = tuple(labels)
        if len(self._labels) != input_view.shape[0]:
            raise ValueError("one label per input")
        self._inputs = <rk_input *>calloc(input_view.shape[0] + 1, sizeof(rk_input))
        cdef rk_op *ops = <rk_op *>calloc(count + 1, sizeof(rk_op))
        try:
            if self._inputs == NULL or ops == NULL:
                raise MemoryError
            for i in range(input_view.shape[0]):
                self._inputs[i] = rk_input(input_view[i, 0], input_view[i, 1], input_view[i, 2])
            for i in range(count):
                ops[i].code = code_view[i]
                ops[i].constant = constant_view[i]
                for k in range(RK_PROGRAM_ARITY):
                    ops[i].arg[k] = arg_view[i, k]
            self._input_count = <int32_t>input_view.shape[0]
            self._output_count = <int32_t>output_view.shape[0]
            spec.inputs = self._inputs
            spec.ops = ops
            spec.outputs = &output_view[0] if self._output_count else NULL
            spec.text = <const uint8_t *><const char *>text
            spec.input_count = self._input_count
            spec.op_count = <int32_t>count
            spec.output_count = self._output_count
            spec.text_length = <int32_t>len(text)
            self._program = rk_program_new(&spec, &status, &position)
        finally:
            free(ops)
        if self._program == NULL:
            if status == RK_PROGRAM_NO_MEMORY:
                raise MemoryError
            raise ValueError(f"{_REFUSALS[status]} {position}")

    def __dealloc__(self):
        rk_program_free(self._program)
        free(self._inputs)

    cdef int _view(self, int32_t i, object column, rk_column *view) except -1:
        """Fills the view of one column, or says what does not fit."""
        cdef int32_t kind = self._inputs[i].kind
        cdef str label = self._labels[i]
        if type(column) is not _CLASSES[kind]:
            raise ValueError(f"{label}: expected {_CLASSES[kind].__name__}, got {type(column).__name__}")
        if kind == RK_KIND_NUMBER:
            values = column.values
            view.data = array_data(values, cnp.NPY_FLOAT64, 1, label)
            view.rows = array_size(values)
        elif kind == RK_KIND_CATEGORY:
            values = column.codes
            view.data = array_data(values, cnp.NPY_INT32, 1, label)
            view.rows = array_size(values)
        elif kind == RK_KIND_EMBEDDING:
            values = column.values
            view.data = array_data(values, cnp.NPY_FLOAT32, 2, label)
            view.rows = array_size(values)
            if cnp.PyArray_DIM(<cnp.ndarray>values, 1) != self._inputs[i].dimension:
                raise ValueError(f"{label}: expected dimension {self._inputs[i].dimension}, got {values.shape[1]}")
        else:
            self._view_spans(kind, label, column, view)
        return 0

    cdef int _view_spans(self, int32_t kind, str label, object column, rk_column *view) except -1:
        """Texts, sets and maps: data, and where each row lies in it. C checks the rows."""
        offsets = column.offsets
        lengths = column.lengths
        if kind == RK_KIND_TEXT:
            data = column.data
            view.data = array_data(data, cnp.NPY_UINT8, 1, label)
        elif kind == RK_KIND_SET:
            data = column.codes
            view.data = array_data(data, cnp.NPY_INT32, 1, label)
        else:
            data = column.keys
            values = column.values
            view.data = array_data(data, cnp.NPY_INT32, 1, label)
            view.values = <const float *>array_data(values, cnp.NPY_FLOAT32, 1, label)
            if array_size(values) != array_size(data):
                raise ValueError(f"{label}: {array_size(data)} keys but {array_size(values)} values")
        view.offsets = <const int64_t *>array_data(offsets, cnp.NPY_INT64, 1, label)
        view.lengths = <const int32_t *>array_data(lengths, cnp.NPY_INT32, 1, label)
        if array_size(offsets) != array_size(lengths):
            raise ValueError(f"{label}: {array_size(offsets)} offsets but {array_size(lengths)} lengths")
        view.rows = array_size(offsets)
        view.data_length = array_size(data)
        return 0

    def run(self, int64_t length, columns, dtype=np.float32):
        """See program.pyi."""
        cdef int as_double = np.dtype(dtype) == np.float64
        if not as_double and np.dtype(dtype) != np.float32:
            raise ValueError(f"dtype: expected float32 or float64, got {np.dtype(dtype)}")
        if length < 0:
            raise ValueError(f"length: expected at least 0, got {length}")
        cdef tuple held = tuple(columns)
        if len(held) != self._input_count:
            raise ValueError(f"expected {self._input_count} columns, got {len(held)}")
        cdef rk_column *views = <rk_column *>calloc(self._input_count + 1, sizeof(rk_column))
        if views == NULL:
            raise MemoryError
        cdef rk_program_status status
        cdef int32_t position = 0
        cdef int32_t i
        cdef void *data
        try:
            for i in range(self._input_count):
                self._view(i, held[i], &views[i])
            out = np.empty((self._output_count, length), np.float64 if as_double else np.float32)
            data = cnp.PyArray_DATA(<cnp.ndarray>out)
            with nogil:
                status = rk_program_run(self._program, length, views, as_double, data, &position)
            if status == RK_PROGRAM_BAD_ROWS:
                wanted = length if self._inputs[position].per_candidate else 1
                raise ValueError(f"{self._labels[position]}: expected {wanted} rows, got {views[position].rows}")
        finally:
            free(views)
        if status == RK_PROGRAM_NO_MEMORY:
            raise MemoryError
        if status == RK_PROGRAM_BAD_SPAN:
            raise ValueError(f"{self._labels[position]}: a row lies outside the column's data")
        if status != RK_PROGRAM_OK:
            raise ValueError("the run's scratch memory is larger than the address space")
        return out
