/* A hostile program is refused or runs, and a hostile column too; nothing is read or written outside. And what a
 * program gives as floats is what it gives as doubles, rounded. Bytes are read in turn: inputs, operations, outputs, the
 * text, then columns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_program.h"

enum { MOST = 24, LENGTH = 5, POOL = 64 };

typedef struct {
    const uint8_t *data;
    size_t left;
} bytes;

static uint8_t next(bytes *b) {
    if (!b->left) return 0;
    b->left--;
    return *b->data++;
}

/* Mostly small; now and then anything. */
static int32_t number(bytes *b, int32_t bound) {
    int32_t value = next(b);
    if (value == 255) return (int32_t)((uint32_t)next(b) << 24 | next(b));
    return value % bound;
}

typedef struct {
    double numbers[LENGTH];
    int32_t codes[POOL];
    float floats[LENGTH * 4];
    int64_t offsets[LENGTH];
    int32_t lengths[LENGTH];
} storage;

/* A column of the right kind, whose rows and spans may be wrong. */
static rk_column column_of(const rk_input *input, storage *s, bytes *b) {
    rk_column column = {.rows = input->per_candidate ? LENGTH : 1};
    if (next(b) == 7) column.rows = LENGTH - 1; /* never more than is there */
    for (int i = 0; i < LENGTH; i++) {
        s->numbers[i] = next(b) % 4 ? (double)next(b) / 16 - 4 : (double)NAN;
        s->offsets[i] = number(b, POOL / 2);
        s->lengths[i] = number(b, 12) - 1;
    }
    for (int i = 0; i < POOL; i++) s->codes[i] = i % 3 ? i : (int32_t)next(b);
    for (int i = 0; i < LENGTH * 4; i++) s->floats[i] = (float)next(b) / 16;
    switch (input->kind) {
    case RK_KIND_NUMBER: column.data = s->numbers; break;
    case RK_KIND_EMBEDDING: column.data = s->floats; break;
    default:
        column.data = s->codes;
        column.values = (const float *)s->codes;
        column.offsets = s->offsets;
        column.lengths = s->lengths;
        column.data_length = POOL;
    }
    return column;
}

static void run(const rk_program *program, const rk_program_spec *spec, bytes *b) {
    static storage stored[MOST];
    rk_column columns[MOST];
    double as_double[MOST * LENGTH];
    float as_float[MOST * LENGTH];
    int32_t position;
    for (int32_t i = 0; i < spec->input_count; i++) columns[i] = column_of(&spec->inputs[i], &stored[i], b);
    rk_program_status status = rk_program_run(program, LENGTH, columns, 1, as_double, &position);
    if (status != rk_program_run(program, LENGTH, columns, 0, as_float, &position)) abort();
    for (int32_t i = 0; status == RK_PROGRAM_OK && i < spec->output_count * LENGTH; i++) {
        float rounded = (float)as_double[i];
        if (rounded == rounded ? rounded != as_float[i] : as_float[i] == as_float[i]) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bytes b = {data, size};
    rk_input inputs[MOST];
    rk_op ops[MOST];
    int32_t outputs[MOST], position, op_codes = 0;
    uint8_t text[16];
    rk_program_status status;
    while (rk_op_name(op_codes)) op_codes++;
    rk_program_spec spec = {inputs, ops, outputs, text, next(&b) % MOST, next(&b) % MOST, next(&b) % MOST, sizeof text};
    for (int32_t i = 0; i < spec.input_count; i++) {
        int32_t kind = number(&b, 7), per_candidate = number(&b, 2);
        inputs[i] = (rk_input){kind, per_candidate, kind == RK_KIND_EMBEDDING ? number(&b, 5) : number(&b, 9) == 8};
        if (inputs[i].dimension > 4) inputs[i].dimension = 4; /* no column is wider */
    }
    for (int32_t i = 0; i < spec.op_count; i++) {
        ops[i] = (rk_op){.code = number(&b, op_codes + 1), .constant = next(&b)};
        for (int k = 0; k < RK_PROGRAM_ARITY; k++) ops[i].arg[k] = number(&b, MOST);
    }
    for (int32_t i = 0; i < spec.output_count; i++) outputs[i] = number(&b, MOST);
    for (size_t i = 0; i < sizeof text; i++) text[i] = next(&b);
    rk_program *program = rk_program_new(&spec, &status, &position);
    if ((program != NULL) != (status == RK_PROGRAM_OK)) abort();
    if (program) run(program, &spec, &b);
    rk_program_free(program);
    return 0;
}
