/* What a checked program is, shared by the files that build and run it. */
#ifndef RK_PROGRAM_INTERNAL_H
#define RK_PROGRAM_INTERNAL_H

#include "rk_ops.h"

enum { RK_NO_SLOT = -1 };

/* Where a register comes from and where its values are kept. */
typedef struct {
    int8_t kind;          /* RK_KIND_CATEGORY never: it reads as a number */
    int8_t per_candidate; /* the stride */
    int32_t input;        /* of LOAD; else -1 */
    int32_t slot;         /* a buffer of one double per candidate, shared over time; or RK_NO_SLOT */
    int32_t dimension;    /* of an embedding */
    int32_t last_use;     /* the last operation that reads it; its own if none */
    int32_t first_output; /* an output it feeds, or -1; the others follow by next_output */
} rk_register;

struct rk_program {
    rk_input *inputs;
    rk_op *ops;
    rk_register *registers;
    rk_column *texts;      /* by register: the column of a TEXT constant */
    int64_t *text_offsets; /* by register, for those columns */
    int32_t *outputs;
    int32_t *next_output; /* by output: the next one fed by the same register, or -1 */
    uint8_t *text;
    int32_t input_count, op_count, output_count, slot_count;
};

#endif
