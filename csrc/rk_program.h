/* rk_program: features computed column by column.
 *
 * A program is an immutable array of operations in single-assignment form: operation i
 * defines register i and reads registers below i only. Numeric registers are doubles;
 * one that depends on the request alone is computed once (stride 0), one that depends on
 * the candidate for each of them (stride 1). Categories are numbers here: their code,
 * NaN if missing. Texts, sets, maps and embeddings are only read, straight from the
 * caller's columns.
 *
 * Ownership: rk_program_new copies all it is given. rk_program_run borrows columns and
 * output for the call and allocates its scratch memory once, freed before it returns.
 * Threads: a program is constant; any number of threads may run it at once.
 * NaN: is "missing". Arithmetic and comparison propagate it; the operations that do not
 * (RK_OP_AND, RK_OP_OR, RK_OP_COALESCE, RK_OP_IS_MISSING, the list aggregates) say so at their code.
 * Ties: list_rank gives equal values the same rank.
 * Limits: RK_PROGRAM_MAX_OPS operations, RK_PROGRAM_MAX_INPUTS inputs. Every index, kind and size of
 * a program and of the columns is checked: hostile ones are refused, never followed.
 * Tiers: loops over candidates are compiled twice on x86-64, the second time for AVX2 (2 to 4 times fewer instructions);
 * rk_program_run takes the widest that the processor has. What calls libm for each candidate has no tiers.
 * Results are the same in every tier, and on every machine but for libm's exp, log, pow, sin, cos and asin.
 */
#ifndef RK_PROGRAM_H
#define RK_PROGRAM_H

#include <stdint.h>

enum {
    RK_PROGRAM_MAX_OPS = 1 << 24,
    RK_PROGRAM_MAX_INPUTS = 1 << 16,
    RK_PROGRAM_ARITY = 4, /* the most arguments of an operation */
};

/* What an input is, and (but for RK_KIND_CATEGORY, which reads as a number) a register. */
enum rk_kind {
    RK_KIND_NUMBER,    /* double */
    RK_KIND_CATEGORY,  /* int32 codes; negative is missing */
    RK_KIND_TEXT,      /* UTF-8, words joined by single blanks (any other bytes are safe) */
    RK_KIND_SET,       /* ascending distinct int32 codes */
    RK_KIND_MAP,       /* ascending distinct int32 codes with a float each */
    RK_KIND_EMBEDDING, /* `dimension` floats; missing if the first is NaN */
};

typedef struct {
    int32_t kind;
    int32_t per_candidate; /* 0: one value for the request; 1: one for each candidate */
    int32_t dimension;     /* of an embedding, at least 1; else 0 */
} rk_input;

/* One operation. Its arguments are registers, except: LOAD reads input arg[0]; TEXT is the
 * constant text[arg[0] .. arg[0] + arg[1]). `constant` is the value of CONST, else unused. */
typedef struct {
    int32_t code;
    int32_t arg[RK_PROGRAM_ARITY];
    double constant;
} rk_op;

typedef struct {
    const rk_input *inputs;
    const rk_op *ops;
    const int32_t *outputs; /* numeric registers, in the order of the output's rows */
    const uint8_t *text;    /* bytes of the text constants */
    int32_t input_count, op_count, output_count, text_length;
} rk_program_spec;

/* The values of one input. `rows` is 1 or the list's length, as the input says.
 * Texts, sets and maps: row i is [offsets[i], offsets[i] + lengths[i]) of `data`; length -1 is missing. */
typedef struct {
    const void *data;         /* double, int32 or float values; bytes of texts; codes of sets and maps */
    const float *values;      /* of maps, beside `data` */
    const int64_t *offsets;   /* of texts, sets and maps */
    const int32_t *lengths;   /* of texts, sets and maps */
    int64_t rows;
    int64_t data_length;      /* of texts, sets and maps: entries in `data` (and `values`) */
    int32_t max_length;       /* set by rk_program_run: the longest row */
} rk_column;

typedef enum {
    RK_PROGRAM_OK,
    RK_PROGRAM_NO_MEMORY,
    RK_PROGRAM_BAD_SIZE,   /* a count is negative or over its limit, or the scratch size overflows */
    RK_PROGRAM_BAD_INPUT,  /* position: the input with an unknown kind or impossible dimension */
    RK_PROGRAM_BAD_CODE,   /* position: the operation of unknown code */
    RK_PROGRAM_BAD_ARG,    /* position: the operation one of whose arguments is out of range or of another kind */
    RK_PROGRAM_BAD_OUTPUT, /* position: the output that is no numeric register */
    RK_PROGRAM_BAD_ROWS,   /* position: the input whose column has the wrong number of rows */
    RK_PROGRAM_BAD_SPAN,   /* position: the input whose column has a row outside its data */
} rk_program_status;

typedef struct rk_program rk_program;

/* Checks and copies a program; NULL with *status (and *position) set if it is refused. */
rk_program *rk_program_new(const rk_program_spec *spec, rk_program_status *status, int32_t *position);
void rk_program_free(rk_program *program);

/* Computes every output for `length` candidates into `out`: output_count rows of `length`
 * floats (or doubles, if `as_double`). NaNs come out in their one canonical form. */
rk_program_status rk_program_run(const rk_program *program, int64_t length, rk_column *columns, int as_double,
                                 void *out, int32_t *position);

/* The operations' vocabulary: names are lower case, such as "log1p"; NULL past the last code. */
const char *rk_op_name(int32_t code);
int32_t rk_op_arity(int32_t code);

#endif
