/* Running a checked program over checked columns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rk_program_internal.h"

/* One run's memory: a value per register of the request, the slots, the blocks for spreading, the scratch. */
typedef struct {
    double *single;
    double *slots;
    double (*broadcast)[RK_BLOCK];
    void *scratch;
    void *allocation;
} run_memory;

/* Every row of texts, sets and maps must lie within its data. */
static int spans_are_sound(rk_column *column)
{
    int32_t longest = 0;
    int bad = 0;
    for (int64_t i = 0; i < column->rows; i++) {
        int64_t start = column->offsets[i];
        int32_t length = column->lengths[i];
        int outside = start < 0 || start > column->data_length || length > column->data_length - start;
        bad |= length < -1 || (length >= 0 && outside);
        longest = length > longest ? length : longest;
    }
    column->max_length = longest;
    return !bad;
}

static rk_program_status check_columns(const rk_program *p, int64_t length, rk_column *columns, int32_t *position)
{
    for (int32_t i = 0; i < p->input_count; i++) {
        *position = i;
        if (columns[i].rows != (p->inputs[i].per_candidate ? length : 1))
            return RK_PROGRAM_BAD_ROWS;
        int kind = p->inputs[i].kind;
        columns[i].max_length = 0;
        if ((kind == RK_KIND_TEXT || kind == RK_KIND_SET || kind == RK_KIND_MAP) && !spans_are_sound(&columns[i]))
            return RK_PROGRAM_BAD_SPAN;
    }
    return RK_PROGRAM_OK;
}

static double *values_of(const rk_program *p, const run_memory *memory, const rk_column *columns, int32_t i,
                         int64_t length)
{
    const rk_register *r = &p->registers[i];
    if (r->slot != RK_NO_SLOT)
        return memory->slots + r->slot * length;
    if (r->input >= 0 && p->inputs[r->input].kind == RK_KIND_NUMBER)
        return (double *)columns[r->input].data; /* only ever read */
    return &memory->single[i];
}

static rk_call call_of(const rk_program *p, const run_memory *memory, const rk_column *columns, int32_t i,
                       int64_t length)
{
    rk_call call = {.count = p->registers[i].per_candidate ? length : 1, .length = length};
    for (int k = 0; k < rk_op_arity(p->ops[i].code); k++) {
        int32_t from = p->ops[i].arg[k];
        const rk_register *r = &p->registers[from];
        call.arg[k] = (rk_operand){.stride = r->per_candidate, .dimension = r->dimension};
        if (r->kind == RK_KIND_NUMBER)
            call.arg[k].values = values_of(p, memory, columns, from, length);
        else
            call.arg[k].column = r->input >= 0 ? &columns[r->input] : &p->texts[from];
    }
    call.out = values_of(p, memory, columns, i, length);
    call.scratch = memory->scratch;
    call.broadcast = memory->broadcast;
    return call;
}

/* The largest scratch that any operation asks for. */
static int scratch_bytes(const rk_program *p, const rk_column *columns, int64_t length, size_t *most)
{
    *most = 0;
    for (int32_t i = 0; i < p->op_count; i++) {
        rk_op_scratch_fn estimate = rk_op_lookup(p->ops[i].code)->scratch;
        if (!estimate)
            continue;
        rk_call call = {.length = length};
        for (int k = 0; k < rk_op_arity(p->ops[i].code); k++) {
            int32_t from = p->ops[i].arg[k], input = p->registers[from].input;
            call.arg[k].column = input >= 0 ? &columns[input] : &p->texts[from];
        }
        size_t bytes;
        if (estimate(&call, &bytes))
            return -1;
        *most = bytes > *most ? bytes : *most;
    }
    return 0;
}

static rk_program_status allocate(const rk_program *p, const rk_column *columns, int64_t length, run_memory *memory)
{
    size_t scratch, slots, total;
    size_t single = ((size_t)p->op_count + 1) * sizeof(double);
    size_t broadcast = RK_PROGRAM_ARITY * RK_BLOCK * sizeof(double);
    if (scratch_bytes(p, columns, length, &scratch) ||
        __builtin_mul_overflow((size_t)p->slot_count * sizeof(double), (size_t)length, &slots) ||
        __builtin_add_overflow(scratch, slots, &total) || __builtin_add_overflow(total, single + broadcast, &total))
        return RK_PROGRAM_BAD_SIZE;
    char *bytes = malloc(total);
    if (!bytes)
        return RK_PROGRAM_NO_MEMORY;
    memory->allocation = bytes;
    memory->single = (double *)bytes;
    memory->broadcast = (double(*)[RK_BLOCK])(bytes + single);
    memory->slots = (double *)(bytes + single + broadcast);
    memory->scratch = bytes + single + broadcast + slots;
    return RK_PROGRAM_OK;
}

/* One output; a value of the request is every candidate's. */
static void write_output(const double *values, int64_t stride, int64_t length, int as_double, int64_t row, void *out,
                         int tier)
{
    if (as_double) {
        double *to = (double *)out + row * length;
        rk_write_doubles(values, stride ? length : length > 0, to, tier);
        for (int64_t i = 1; !stride && i < length; i++)
            to[i] = to[0];
    } else {
        float *to = (float *)out + row * length;
        rk_write_floats(values, stride ? length : length > 0, to, tier);
        for (int64_t i = 1; !stride && i < length; i++)
            to[i] = to[0];
    }
}

rk_program_status rk_program_run(const rk_program *p, int64_t length, rk_column *columns, int as_double, void *out,
                                 int32_t *position)
{
    run_memory memory;
    int tier = rk_ops_widest();
    *position = 0;
    if (length < 0)
        return RK_PROGRAM_BAD_SIZE;
    rk_program_status status = check_columns(p, length, columns, position);
    if (status == RK_PROGRAM_OK)
        status = allocate(p, columns, length, &memory);
    if (status != RK_PROGRAM_OK)
        return status;
    for (int32_t i = 0; i < p->op_count; i++) {
        const rk_register *r = &p->registers[i];
        double *values = r->kind == RK_KIND_NUMBER ? values_of(p, &memory, columns, i, length) : NULL;
        rk_op_fn run = rk_op_lookup(p->ops[i].code)->run;
        if (p->ops[i].code == RK_OP_constant)
            values[0] = p->ops[i].constant;
        else if (r->input >= 0 && p->inputs[r->input].kind == RK_KIND_CATEGORY)
            rk_load_codes(columns[r->input].data, columns[r->input].rows, values, tier);
        else if (run) {
            rk_call call = call_of(p, &memory, columns, i, length);
            call.tier = tier;
            run(&call);
        }
        for (int32_t k = r->first_output; k >= 0; k = p->next_output[k])
            write_output(values, r->per_candidate, length, as_double, k, out, tier);
    }
    free(memory.allocation);
    return RK_PROGRAM_OK;
}
