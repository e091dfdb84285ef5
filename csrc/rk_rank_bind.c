/* Which column answers which input of a program. */
#include <math.h>

#include "rk_rank_internal.h"

int rk_plan_uses(const rk_plan *plan, rk_source source, int64_t index)
{
    const rk_bound_program *programs[] = {&plan->features, &plan->base};
    for (int p = 0; p < 2; p++) {
        for (size_t i = 0; programs[p]->program && i < programs[p]->input_count; i++) {
            const rk_binding *input = &programs[p]->inputs[i];
            if (input->source == (int32_t)source && (index < 0 || input->index == index)) return 1;
        }
    }
    return 0;
}

/* A text as it is compared: normalised by the caller if it is not ASCII. */
static rk_text normal_of(const rk_rank_call *call, rk_text text, size_t need)
{
    return need == SIZE_MAX ? rk_words_of(text, call->arena) : call->needs[need].normal;
}

static int bind_context(rk_rank_call *call, size_t number)
{
    rk_rank_state *s = call->state;
    const rk_wire_context *sent = s->sent[number];
    rk_column *column = &s->contexts[number];
    const rk_table *dictionary = call->plan->dictionary;
    rk_text normal;
    switch (sent->which) {
    case RK_CONTEXT_NUMBER:
        return rk_one_number(column, sent->number, call->arena);
    case RK_CONTEXT_FLAG:
        return rk_one_number(column, sent->flag != 0, call->arena);
    case RK_CONTEXT_TIMESTAMP:
        return rk_one_number(column, rk_seconds_of(sent->timestamp), call->arena);
    case RK_CONTEXT_CATEGORY:
        return rk_one_category(column, dictionary, sent->text, call->arena);
    case RK_CONTEXT_SET:
        return rk_one_set(column, dictionary, sent->set, sent->count, call->arena);
    case RK_CONTEXT_TEXT:
        normal = normal_of(call, sent->text, s->context_needs[number]);
        return normal.bytes ? rk_one_text(column, normal, call->arena) : -1;
    case RK_CONTEXT_VECTOR:
        *column = (rk_column){.data = sent->vector, .rows = 1};
        return 0;
    default:
        return 0;
    }
}

static int bind_query(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    const rk_binding text = {.kind = RK_KIND_TEXT};
    if (!s->request.query_text.length) return rk_one_missing(&s->query, &text, call->arena);
    rk_text normal = normal_of(call, s->request.query_text, s->query_need);
    return normal.bytes ? rk_one_text(&s->query, normal, call->arena) : -1;
}

static rk_text surface_of(int32_t number)
{
    static const rk_text surfaces[] = {
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"search", 6},
        {(const uint8_t *)"browse", 6},
        {(const uint8_t *)"autocomplete", 12},
        {(const uint8_t *)"recommendation", 14},
    };
    return surfaces[number];
}

int rk_bind_shared(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    const rk_plan *plan = call->plan;
    const rk_wire_request *r = &s->request;
    for (size_t i = 0; i < plan->contexts.count; i++) {
        if (s->sent[i] && rk_plan_uses(plan, RK_SOURCE_CONTEXT, (int64_t)i) && bind_context(call, i)) return -1;
    }
    if (rk_plan_uses(plan, RK_SOURCE_QUERY, -1) && bind_query(call)) return -1;
    if (rk_plan_uses(plan, RK_SOURCE_LANGUAGE, -1) &&
        rk_one_category(&s->language, plan->dictionary, r->language_code, call->arena))
        return -1;
    if (rk_plan_uses(plan, RK_SOURCE_SURFACE, -1) &&
        rk_one_category(&s->surface, plan->dictionary, surface_of(r->surface), call->arena))
        return -1;
    return rk_plan_uses(plan, RK_SOURCE_SEGMENTS, -1)
               ? rk_one_set(&s->segments, plan->dictionary, r->segments, r->segment_count, call->arena)
               : 0;
}

static int bind_floats(rk_column *column, const float *values, size_t n, rk_arena *arena)
{
    double *data = rk_arena_array(arena, n, sizeof *data);
    if (!data) return -1;
    for (size_t i = 0; i < n; i++) data[i] = values[i];
    *column = (rk_column){.data = data, .rows = (int64_t)n};
    return 0;
}

static int bind_nothing(rk_bindings *b, rk_column *column)
{
    if (!b->nothing) {
        double *made = rk_arena_array(b->call->scratch, b->count, sizeof *made);
        if (!made) return -1;
        for (size_t i = 0; i < b->count; i++) made[i] = (double)NAN;
        b->nothing = made;
    }
    *column = (rk_column){.data = b->nothing, .rows = (int64_t)b->count};
    return 0;
}

static int bind_positions(rk_column *column, size_t n, rk_arena *arena)
{
    double *data = rk_arena_array(arena, n, sizeof *data);
    if (!data) return -1;
    for (size_t i = 0; i < n; i++) data[i] = (double)(i + 1);
    *column = (rk_column){.data = data, .rows = (int64_t)n};
    return 0;
}

static int bind_input(rk_bindings *b, const rk_binding *input, rk_column *column)
{
    const rk_rank_state *s = b->call->state;
    const rk_wire_candidates *c = b->list->candidates;
    rk_arena *arena = b->call->scratch;
    switch ((rk_source)input->source) {
    case RK_SOURCE_SIGNAL:
        *column = b->reads[input->reading][input->index];
        return 0;
    case RK_SOURCE_COLUMN:
        return b->list->columns[input->index] ? bind_floats(column, b->list->columns[input->index]->values, b->count, arena)
                                              : bind_nothing(b, column);
    case RK_SOURCE_CONTEXT:
        *column = s->contexts[input->index];
        return s->sent[input->index] ? 0 : rk_one_missing(column, input, arena);
    case RK_SOURCE_FEATURE:
        return bind_floats(column, b->matrix + (size_t)input->index * b->count, b->count, arena);
    case RK_SOURCE_BASE_SCORE:
        if (!c->base_score_count) return bind_nothing(b, column);
        *column = (rk_column){.data = c->base_scores, .rows = (int64_t)b->count};
        return 0;
    case RK_SOURCE_POSITION:
        return bind_positions(column, b->count, arena);
    case RK_SOURCE_NOW:
        return rk_one_number(column, b->now_s, arena);
    case RK_SOURCE_QUERY:
        *column = s->query;
        return 0;
    case RK_SOURCE_LANGUAGE:
        *column = s->language;
        return 0;
    case RK_SOURCE_SURFACE:
        *column = s->surface;
        return 0;
    case RK_SOURCE_SEGMENTS:
        *column = s->segments;
        return 0;
    default:
        return -1;
    }
}

int rk_run_program(rk_bindings *b, const rk_bound_program *program, int as_double, void *out, rk_fault *fault)
{
    int32_t position;
    rk_column *columns = rk_arena_array(b->call->scratch, program->input_count, sizeof *columns);
    if (!columns) return rk_short_of_memory(fault);
    for (size_t i = 0; i < program->input_count; i++) {
        if (bind_input(b, &program->inputs[i], &columns[i])) return rk_short_of_memory(fault);
    }
    rk_program_status status =
        rk_program_run(program->program, (int64_t)b->count, columns, as_double, out, &position);
    if (status == RK_PROGRAM_OK) return 0;
    if (status == RK_PROGRAM_NO_MEMORY) return rk_short_of_memory(fault);
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_INTERNAL, .count = status, .at = position});
}
