/* Plans: checked once, then only read. */
#include <string.h>

#include "rk_rank_internal.h"

static inline int same(rk_text a, rk_text b) { return a.length == b.length && (!a.length || !memcmp(a.bytes, b.bytes, a.length)); }

static int compare(rk_text a, rk_text b)
{
    size_t shared = a.length < b.length ? a.length : b.length;
    int by_bytes = shared ? memcmp(a.bytes, b.bytes, shared) : 0;
    return by_bytes ? by_bytes : (a.length > b.length) - (a.length < b.length);
}

int64_t rk_names_find(const rk_names *names, rk_text name, size_t hint)
{
    if (hint < names->count && same(names->names[hint], name)) return (int64_t)hint;
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(names->names[names->sorted[middle]], name);
        if (!order) return names->sorted[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return -1;
}

static int names_are_sound(const rk_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        if (names->sorted[i] < 0 || (size_t)names->sorted[i] >= names->count) return 0;
        if (i && compare(names->names[names->sorted[i - 1]], names->names[names->sorted[i]]) >= 0) return 0;
    }
    return 1;
}

static int input_is_sound(const rk_plan *plan, const rk_binding *input, int is_base)
{
    size_t bound = 1;
    if (input->source < 0 || input->source >= RK_SOURCES || input->kind < 0 || input->kind > RK_KIND_EMBEDDING ||
        input->dimension < 0 || input->index < 0 || input->reading < 0)
        return 0;
    if (input->source == RK_SOURCE_SIGNAL) {
        if ((size_t)input->reading >= plan->read_count) return 0;
        bound = plan->reads[input->reading].column_count;
    } else if (input->source == RK_SOURCE_COLUMN) {
        bound = plan->columns.count;
    } else if (input->source == RK_SOURCE_CONTEXT) {
        bound = plan->contexts.count;
    } else if (input->source == RK_SOURCE_FEATURE) {
        bound = is_base ? plan->feature_count : 0;
    }
    return (size_t)input->index < bound;
}

static int program_is_sound(const rk_plan *plan, const rk_bound_program *program, int is_base)
{
    for (size_t i = 0; program->program && i < program->input_count; i++) {
        if (!input_is_sound(plan, &program->inputs[i], is_base)) return 0;
    }
    return 1;
}

/* Ids of fetched rows are made of the leading columns alone. */
static int read_is_sound(const rk_plan *plan, const rk_plan_read *read)
{
    size_t bound = read->is_fetched ? plan->category_count : plan->reads[0].column_count;
    if (!read->reading || !read->dated || !read->part_count) return 0;
    for (size_t k = 0; k < read->part_count; k++) {
        const rk_id_part *part = &read->parts[k];
        if (part->source < 0 || part->source >= RK_ID_SOURCES) return 0;
        if (part->source == RK_ID_CATEGORY && (part->column < 0 || (size_t)part->column >= bound)) return 0;
    }
    return 1;
}

int rk_plan_check(const rk_plan *plan)
{
    size_t fetched_count = 0;
    if (!plan->features.program || !plan->read_count || plan->category_count > plan->reads[0].column_count ||
        (plan->category_count && !plan->categories))
        return -1;
    for (size_t i = 0; i < plan->read_count; i++) {
        if (!read_is_sound(plan, &plan->reads[i])) return -1;
        fetched_count += plan->reads[i].is_fetched != 0;
    }
    if (plan->reads[0].part_count != 1 || plan->reads[0].parts[0].source != RK_ID_CANDIDATE ||
        fetched_count != plan->fetched_count)
        return -1;
    for (size_t i = 0; i < plan->contexts.count; i++) {
        if (plan->declared[i].dimension < 0) return -1;
    }
    for (size_t i = 0; plan->scorer && plan->model_rows && i < plan->scorer->features; i++) {
        if (plan->model_rows[i] < 0 || (size_t)plan->model_rows[i] >= plan->feature_count) return -1;
    }
    if (plan->scorer && !plan->model_rows && plan->scorer->features != plan->feature_count) return -1;
    return names_are_sound(&plan->columns) && names_are_sound(&plan->contexts) &&
                   program_is_sound(plan, &plan->features, 0) && program_is_sound(plan, &plan->base, 1)
               ? 0
               : -1;
}

const char *rk_fault_name(int32_t kind)
{
#define NAME(code, name) name,
    static const char *const names[] = {RK_FAULTS(NAME)};
    return kind >= 0 && kind < RK_FAULT_KINDS ? names[kind] : NULL;
}

const char *rk_field_path(int32_t field)
{
#define PATH(code, path) path,
    static const char *const paths[] = {RK_FIELDS(PATH)};
    return field >= 0 && field < RK_FIELD_KINDS ? paths[field] : NULL;
}

const char *rk_stage_name(int32_t stage)
{
    static const char *const names[] = {"retrieve", "features", "base", "model", "page"};
    return stage >= 0 && stage < RK_MOST_STAGES ? names[stage] : NULL;
}
