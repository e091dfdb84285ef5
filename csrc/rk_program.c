/* Building a program: every index and kind is checked here, so that running one need not. */
#include <stdlib.h>
#include <string.h>

#include "rk_program_internal.h"

enum {
    RK_INITIAL_0 = 0,
    RK_INITIAL_N = RK_KIND_NUMBER,
    RK_INITIAL_T = RK_KIND_TEXT,
    RK_INITIAL_S = RK_KIND_SET,
    RK_INITIAL_M = RK_KIND_MAP,
    RK_INITIAL_E = RK_KIND_EMBEDDING,
};

static const rk_op_info op_infos[RK_OP_COUNT] = {
#define X(name, shape, arity, a, b, c, d, run, scratch) \
    {#name, RK_SHAPE_##shape, arity, {RK_INITIAL_##a, RK_INITIAL_##b, RK_INITIAL_##c, RK_INITIAL_##d}, run, scratch},
    RK_OPS(X)
#undef X
};

const rk_op_info *rk_op_lookup(int32_t code)
{
    return code >= 0 && code < RK_OP_COUNT ? &op_infos[code] : NULL;
}

const char *rk_op_name(int32_t code)
{
    const rk_op_info *info = rk_op_lookup(code);
    return info ? info->name : NULL;
}

int32_t rk_op_arity(int32_t code)
{
    const rk_op_info *info = rk_op_lookup(code);
    return info ? info->arity : -1;
}

void rk_program_free(rk_program *program)
{
    if (!program)
        return;
    free(program->inputs);
    free(program->ops);
    free(program->registers);
    free(program->texts);
    free(program->text_offsets);
    free(program->outputs);
    free(program->next_output);
    free(program->text);
    free(program);
}

/* Copies `count` entries; at least a byte, so that NULL means no memory. */
static void *copy_of(const void *from, int32_t count, size_t size)
{
    void *to = calloc((size_t)count + 1, size);
    if (to && count && from)
        memcpy(to, from, (size_t)count * size);
    return to;
}

static int allocate(rk_program *p, const rk_program_spec *spec)
{
    p->input_count = spec->input_count;
    p->op_count = spec->op_count;
    p->output_count = spec->output_count;
    p->inputs = copy_of(spec->inputs, spec->input_count, sizeof(rk_input));
    p->ops = copy_of(spec->ops, spec->op_count, sizeof(rk_op));
    p->outputs = copy_of(spec->outputs, spec->output_count, sizeof(int32_t));
    p->text = copy_of(spec->text, spec->text_length, 1);
    p->registers = copy_of(NULL, spec->op_count, sizeof(rk_register));
    p->texts = copy_of(NULL, spec->op_count, sizeof(rk_column));
    p->text_offsets = copy_of(NULL, spec->op_count, sizeof(int64_t));
    p->next_output = copy_of(NULL, spec->output_count, sizeof(int32_t));
    return p->inputs && p->ops && p->outputs && p->text && p->registers && p->texts && p->text_offsets &&
           p->next_output;
}

static int input_is_sound(const rk_input *input)
{
    if (input->kind < RK_KIND_NUMBER || input->kind > RK_KIND_EMBEDDING)
        return 0;
    if (input->per_candidate != 0 && input->per_candidate != 1)
        return 0;
    return input->kind == RK_KIND_EMBEDDING ? input->dimension > 0 : input->dimension == 0;
}

static int set_load(rk_program *p, const rk_op *op, rk_register *r)
{
    if (op->arg[0] < 0 || op->arg[0] >= p->input_count)
        return 0;
    const rk_input *input = &p->inputs[op->arg[0]];
    r->kind = input->kind == RK_KIND_CATEGORY ? RK_KIND_NUMBER : (int8_t)input->kind;
    r->per_candidate = (int8_t)input->per_candidate;
    r->dimension = input->dimension;
    r->input = op->arg[0];
    return 1;
}

static int set_text(rk_program *p, int32_t text_length, int32_t i, rk_register *r)
{
    const rk_op *op = &p->ops[i];
    int32_t start = op->arg[0], length = op->arg[1];
    if (start < 0 || length < 0 || start > text_length || length > text_length - start)
        return 0;
    r->kind = RK_KIND_TEXT;
    p->text_offsets[i] = start;
    p->texts[i] = (rk_column){
        .data = p->text, .offsets = &p->text_offsets[i], .lengths = &p->ops[i].arg[1],
        .rows = 1, .data_length = text_length, .max_length = length,
    };
    return 1;
}

/* Arguments must be earlier registers of the kinds the operation takes; two embeddings of one dimension. */
static int set_result(rk_program *p, int32_t i, const rk_op_info *info, rk_register *r)
{
    r->kind = RK_KIND_NUMBER;
    for (int k = 0; k < info->arity; k++) {
        int32_t from = p->ops[i].arg[k];
        if (from < 0 || from >= i || p->registers[from].kind != info->kinds[k])
            return 0;
        if (k && p->registers[from].dimension != p->registers[p->ops[i].arg[0]].dimension &&
            info->kinds[k] == RK_KIND_EMBEDDING)
            return 0;
        p->registers[from].last_use = i;
        if (info->shape == RK_SHAPE_EACH)
            r->per_candidate |= p->registers[from].per_candidate;
    }
    return 1;
}

static rk_program_status check_ops(rk_program *p, int32_t text_length, int32_t *position)
{
    for (int32_t i = 0; i < p->op_count; i++) {
        const rk_op_info *info = rk_op_lookup(p->ops[i].code);
        rk_register *r = &p->registers[i];
        *r = (rk_register){.input = -1, .slot = RK_NO_SLOT, .last_use = i, .first_output = -1};
        *position = i;
        if (!info)
            return RK_PROGRAM_BAD_CODE;
        int good = 1;
        if (p->ops[i].code == RK_OP_load)
            good = set_load(p, &p->ops[i], r);
        else if (p->ops[i].code == RK_OP_text)
            good = set_text(p, text_length, i, r);
        else if (p->ops[i].code != RK_OP_constant)
            good = set_result(p, i, info, r);
        if (!good)
            return RK_PROGRAM_BAD_ARG;
    }
    for (int32_t k = p->output_count; k-- > 0;) {
        int32_t from = p->outputs[k];
        *position = k;
        if (from < 0 || from >= p->op_count || p->registers[from].kind != RK_KIND_NUMBER)
            return RK_PROGRAM_BAD_OUTPUT;
        p->next_output[k] = p->registers[from].first_output;
        p->registers[from].first_output = k;
    }
    return RK_PROGRAM_OK;
}

/* A buffer for every register that is computed per candidate, free again after its last use: a program of
 * hundreds of operations needs a handful, which stay in the cache. An operation never writes into its argument. */
static int assign_slots(rk_program *p)
{
    int32_t *free_slots = malloc(((size_t)p->op_count + 1) * sizeof(int32_t));
    if (!free_slots)
        return 0;
    int32_t free_count = 0;
    for (int32_t i = 0; i < p->op_count; i++) {
        rk_register *r = &p->registers[i];
        int in_place = r->input >= 0 && p->inputs[r->input].kind != RK_KIND_CATEGORY;
        if (r->kind == RK_KIND_NUMBER && r->per_candidate && !in_place)
            r->slot = free_count ? free_slots[--free_count] : p->slot_count++;
        int arity = op_infos[p->ops[i].code].arity;
        for (int k = 0; k < arity; k++) {
            rk_register *used = &p->registers[p->ops[i].arg[k]];
            int again = 0;
            for (int earlier = 0; earlier < k; earlier++)
                again |= p->ops[i].arg[earlier] == p->ops[i].arg[k];
            if (used->slot != RK_NO_SLOT && used->last_use == i && !again)
                free_slots[free_count++] = used->slot;
        }
        if (r->slot != RK_NO_SLOT && r->last_use == i)
            free_slots[free_count++] = r->slot;
    }
    free(free_slots);
    return 1;
}

rk_program *rk_program_new(const rk_program_spec *spec, rk_program_status *status, int32_t *position)
{
    *status = RK_PROGRAM_BAD_SIZE;
    *position = 0;
    if (spec->op_count < 0 || spec->op_count > RK_PROGRAM_MAX_OPS || spec->input_count < 0 ||
        spec->input_count > RK_PROGRAM_MAX_INPUTS || spec->output_count < 0 ||
        spec->output_count > RK_PROGRAM_MAX_OPS || spec->text_length < 0)
        return NULL;
    *status = RK_PROGRAM_BAD_INPUT;
    for (int32_t i = 0; i < spec->input_count; i++) {
        *position = i;
        if (!input_is_sound(&spec->inputs[i]))
            return NULL;
    }
    rk_program *program = calloc(1, sizeof *program);
    *status = RK_PROGRAM_NO_MEMORY;
    if (program && allocate(program, spec)) {
        *status = check_ops(program, spec->text_length, position);
        if (*status == RK_PROGRAM_OK && !assign_slots(program))
            *status = RK_PROGRAM_NO_MEMORY;
    }
    if (*status == RK_PROGRAM_OK)
        return program;
    rk_program_free(program);
    return NULL;
}
