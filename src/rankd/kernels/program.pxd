# Mirrors csrc/rk_program.h, which states the contract.
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "rk_program.h" nogil:
    cdef enum:
        RK_PROGRAM_MAX_OPS
        RK_PROGRAM_MAX_INPUTS
        RK_PROGRAM_ARITY

    cdef enum:
        RK_KIND_NUMBER
        RK_KIND_CATEGORY
        RK_KIND_TEXT
        RK_KIND_SET
        RK_KIND_MAP
        RK_KIND_EMBEDDING

    ctypedef struct rk_input:
        int32_t kind
        int32_t per_candidate
        int32_t dimension

    ctypedef struct rk_op:
        int32_t code
        int32_t arg[4]
        double constant

    ctypedef struct rk_program_spec:
        const rk_input *inputs
        const rk_op *ops
        const int32_t *outputs
        const uint8_t *text
        int32_t input_count
        int32_t op_count
        int32_t output_count
        int32_t text_length

    ctypedef struct rk_column:
        const void *data
        const float *values
        const int64_t *offsets
        const int32_t *lengths
        int64_t rows
        int64_t data_length
        int32_t max_length

    ctypedef enum rk_program_status:
        RK_PROGRAM_OK
        RK_PROGRAM_NO_MEMORY
        RK_PROGRAM_BAD_SIZE
        RK_PROGRAM_BAD_INPUT
        RK_PROGRAM_BAD_CODE
        RK_PROGRAM_BAD_ARG
        RK_PROGRAM_BAD_OUTPUT
        RK_PROGRAM_BAD_ROWS
        RK_PROGRAM_BAD_SPAN

    ctypedef struct rk_program:
        pass

    rk_program *rk_program_new(const rk_program_spec *spec, rk_program_status *status, int32_t *position)
    void rk_program_free(rk_program *program)
    rk_program_status rk_program_run(const rk_program *program, int64_t length, rk_column *columns, int as_double,
                                     void *out, int32_t *position)
    const char *rk_op_name(int32_t code)
    int32_t rk_op_arity(int32_t code)


cdef class ProgramKernel:
    cdef rk_program *_program
    cdef rk_input *_inputs
    cdef int32_t _input_count
    cdef int32_t _output_count
    cdef tuple _labels
    cdef int _view(self, int32_t i, object column, rk_column *view) except -1
    cdef int _view_spans(self, int32_t kind, str label, object column, rk_column *view) except -1
