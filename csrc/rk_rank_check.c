/* Every check of ranking.proto's comments that the wire format does not make itself. */
#include <math.h>
#include <string.h>

#include "rk_rank_internal.h"

static const int64_t LEAST_SECONDS = -62135596800, MOST_SECONDS = 253402300799; /* years 1 to 9999 */
static const int32_t MOST_NANOS = 999999999;

enum { SURFACES = 5 };

int rk_check_bytes(rk_text text, size_t limit, rk_field field, rk_fault *fault)
{
    if (text.length <= limit) return 0;
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_TOO_LONG, .field = field, .limit = (int64_t)limit,
                                         .count = (int64_t)text.length});
}

static int check_count(size_t count, size_t limit, rk_field field, rk_fault *fault)
{
    if (count <= limit) return 0;
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_TOO_MANY, .field = field, .limit = (int64_t)limit,
                                         .count = (int64_t)count});
}

static int check_timestamp(rk_wire_timestamp stamp, rk_field field, rk_text name, rk_fault *fault)
{
    if (stamp.seconds < LEAST_SECONDS || stamp.seconds > MOST_SECONDS)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_SECONDS, .field = field, .name = name,
                                             .count = stamp.seconds});
    if (stamp.nanos < 0 || stamp.nanos > MOST_NANOS)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_NANOS, .field = field, .name = name,
                                             .count = stamp.nanos});
    return 0;
}

double rk_seconds_of(rk_wire_timestamp stamp) { return (double)stamp.seconds + stamp.nanos / 1e9; }

static int check_labels(const rk_wire_request *r, const rk_rank_limits *limits, rk_fault *fault)
{
    if (check_count(r->label_count, limits->labels, RK_FIELD_LABELS, fault)) return -1;
    for (size_t i = 0; i < r->label_count; i++) {
        const rk_wire_label *label = &r->labels[i];
        if (rk_check_bytes(label->key, limits->label_bytes, RK_FIELD_LABELS, fault)) return -1;
        if (rk_check_bytes(label->value, limits->label_bytes, RK_FIELD_LABEL, fault)) {
            fault->name = label->key;
            return -1;
        }
    }
    return 0;
}

static int check_set(const rk_wire_context *sent, const rk_rank_limits *limits, const uint64_t seed[2],
                     rk_fault *fault)
{
    size_t first = 0, again = 0;
    if (check_count(sent->count, limits->set_members, RK_FIELD_CONTEXT_SET, fault)) return -1;
    int found = rk_first_duplicate(sent->set, sent->count, seed, &first, &again);
    if (found < 0) return rk_short_of_memory(fault);
    if (found)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_REPEATED_MEMBER, .field = RK_FIELD_CONTEXT_MEMBER,
                                             .at = (int64_t)again, .text = sent->set[again]});
    return 0;
}

static int check_vector(const rk_wire_context *sent, int32_t dimension, rk_fault *fault)
{
    if (sent->count != (size_t)dimension)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_DIMENSION, .field = RK_FIELD_CONTEXT_VECTOR,
                                             .limit = dimension, .count = (int64_t)sent->count});
    for (size_t i = 0; i < sent->count; i++) {
        if (!isfinite(sent->vector[i]))
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_NOT_FINITE, .field = RK_FIELD_CONTEXT_ENTRY,
                                                 .at = (int64_t)i, .number = sent->vector[i]});
    }
    return 0;
}

static int check_value(const rk_wire_context *sent, const rk_declared_context *declared, const rk_rank_limits *limits,
                       const uint64_t seed[2], rk_fault *fault)
{
    switch (sent->which) {
    case RK_CONTEXT_NUMBER:
        if (!isinf(sent->number)) return 0;
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_INFINITE, .field = RK_FIELD_CONTEXT_NUMBER,
                                             .number = sent->number});
    case RK_CONTEXT_TEXT:
        return rk_check_bytes(sent->text, limits->query_bytes, RK_FIELD_CONTEXT_TEXT, fault);
    case RK_CONTEXT_VECTOR:
        return check_vector(sent, declared->dimension, fault);
    case RK_CONTEXT_SET:
        return check_set(sent, limits, seed, fault);
    case RK_CONTEXT_TIMESTAMP:
        return check_timestamp(sent->timestamp, RK_FIELD_CONTEXT_TIMESTAMP, sent->name, fault);
    default:
        return 0;
    }
}

static int check_context(const rk_wire_request *r, const rk_plan *plan, const rk_rank_limits *limits,
                         const uint64_t seed[2], const rk_wire_context **sent, rk_fault *fault)
{
    size_t hint = 0;
    for (size_t i = 0; i < r->context_count; i++) {
        const rk_wire_context *value = &r->context[i];
        int64_t number = rk_names_find(&plan->contexts, value->name, hint);
        if (number < 0)
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_UNKNOWN_CONTEXT, .field = RK_FIELD_CONTEXT,
                                                 .name = value->name});
        const rk_declared_context *declared = &plan->declared[number];
        if ((int32_t)value->which != declared->which)
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_CONTEXT_TYPE, .field = RK_FIELD_CONTEXT,
                                                 .name = value->name, .other = value->which});
        if (check_value(value, declared, limits, seed, fault)) {
            fault->name = value->name;
            return -1;
        }
        sent[number] = value;
        hint = (size_t)number + 1;
    }
    return 0;
}

int rk_check_common(const rk_wire_request *r, const rk_plan *plan, const rk_rank_limits *limits,
                    const uint64_t seed[2], const rk_wire_context **sent, rk_fault *fault)
{
    if (rk_check_bytes(r->query_text, limits->query_bytes, RK_FIELD_QUERY_TEXT, fault) ||
        rk_check_bytes(r->language_code, limits->language_bytes, RK_FIELD_LANGUAGE, fault) ||
        rk_check_bytes(r->visitor_id, limits->id_bytes, RK_FIELD_VISITOR_ID, fault) ||
        rk_check_bytes(r->user_id, limits->id_bytes, RK_FIELD_USER_ID, fault) ||
        rk_check_bytes(r->session_id, limits->id_bytes, RK_FIELD_SESSION_ID, fault) ||
        check_count(r->segment_count, limits->segments, RK_FIELD_SEGMENTS, fault))
        return -1;
    if (r->surface < 0 || r->surface >= SURFACES)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_NO_SURFACE, .field = RK_FIELD_SURFACE,
                                             .count = r->surface});
    if (check_labels(r, limits, fault)) return -1;
    if (r->has_as_of && check_timestamp(r->as_of, RK_FIELD_AS_OF, (rk_text){NULL, 0}, fault)) return -1;
    return check_context(r, plan, limits, seed, sent, fault);
}

int rk_check_page_size(int has_page_size, uint32_t page_size, const rk_rank_limits *limits, rk_fault *fault)
{
    if (!has_page_size || (page_size >= 1 && page_size <= limits->candidates)) return 0;
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_PAGE_SIZE, .field = RK_FIELD_PAGE_SIZE,
                                         .limit = (int64_t)limits->candidates, .count = page_size});
}

int rk_check_view(int32_t view, rk_fault *fault)
{
    if (view >= 0 && view <= RK_VIEW_FEATURES) return 0;
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_NO_VIEW, .field = RK_FIELD_VIEW, .count = view});
}

static int check_ids(const rk_text *ids, size_t n, const rk_rank_limits *limits, const uint64_t seed[2],
                     rk_fault *fault)
{
    size_t shortest = SIZE_MAX, longest = 0, first = 0, again = 0;
    for (size_t i = 0; i < n; i++) {
        shortest = ids[i].length < shortest ? ids[i].length : shortest;
        longest = ids[i].length > longest ? ids[i].length : longest;
    }
    for (size_t i = 0; shortest == 0 && i < n; i++) {
        if (!ids[i].length)
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_EMPTY_ID, .field = RK_FIELD_ID, .at = (int64_t)i});
    }
    for (size_t i = 0; longest > limits->id_bytes && i < n; i++) {
        if (rk_check_bytes(ids[i], limits->id_bytes, RK_FIELD_ID, fault)) {
            fault->at = (int64_t)i;
            return -1;
        }
    }
    int found = rk_first_duplicate(ids, n, seed, &first, &again);
    if (found < 0) return rk_short_of_memory(fault);
    if (found)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_DUPLICATE_ID, .field = RK_FIELD_ID, .at = (int64_t)again,
                                             .other = (int64_t)first, .text = ids[again]});
    return 0;
}

/* Whether there is an infinity; a loop that compilers make vectors of. */
static int has_infinity(const float *values, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        found |= (bits & 0x7fffffffu) == 0x7f800000u;
    }
    return (int)found;
}

static int check_base_scores(const rk_wire_candidates *c, rk_fault *fault)
{
    if (!c->base_score_count) return 0;
    if (c->base_score_count != c->id_count)
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_ONE_PER_ID_OR_NONE, .field = RK_FIELD_BASE_SCORES,
                                             .limit = (int64_t)c->id_count, .count = (int64_t)c->base_score_count});
    for (size_t i = 0; i < c->id_count; i++) {
        if (isinf(c->base_scores[i]))
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_INFINITE, .field = RK_FIELD_BASE_SCORE,
                                                 .at = (int64_t)i, .number = c->base_scores[i]});
    }
    return 0;
}

/* Names and lengths of all columns come before the values of any. */
static int check_columns(rk_list *list, const rk_plan *plan, rk_fault *fault)
{
    const rk_wire_candidates *c = list->candidates;
    size_t hint = 0;
    for (size_t i = 0; i < c->column_count; i++) {
        const rk_wire_column *column = &c->columns[i];
        rk_fault at = {.field = RK_FIELD_COLUMN_NAME, .index = (int64_t)i, .text = column->name};
        int64_t number = rk_names_find(&plan->columns, column->name, hint);
        at.kind = number < 0 ? RK_FAULT_UNKNOWN_COLUMN : list->columns[number] ? RK_FAULT_REPEATED_COLUMN : RK_FAULT_NONE;
        if (at.kind != RK_FAULT_NONE) return rk_fault_of(fault, at);
        if (column->count != c->id_count)
            return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_ONE_PER_ID, .field = RK_FIELD_COLUMN_VALUES,
                                                 .index = (int64_t)i, .limit = (int64_t)c->id_count,
                                                 .count = (int64_t)column->count});
        list->columns[number] = column;
        hint = (size_t)number + 1;
    }
    for (size_t i = 0; i < c->column_count; i++) {
        const float *values = c->columns[i].values;
        size_t at = 0;
        if (!has_infinity(values, c->id_count)) continue;
        while (!isinf(values[at])) at++;
        return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_INFINITE, .field = RK_FIELD_COLUMN_VALUE,
                                             .index = (int64_t)i, .at = (int64_t)at, .number = values[at]});
    }
    return 0;
}

int rk_check_list(rk_list *list, const rk_plan *plan, const rk_rank_limits *limits, const uint64_t seed[2],
                  rk_arena *arena, rk_fault *fault)
{
    const rk_wire_candidates *c = list->candidates;
    if (check_count(c->id_count, limits->candidates, RK_FIELD_IDS, fault) ||
        check_count(c->column_count, limits->columns, RK_FIELD_COLUMNS, fault) ||
        check_ids(c->ids, c->id_count, limits, seed, fault) || check_base_scores(c, fault))
        return -1;
    list->columns = rk_arena_array(arena, plan->columns.count, sizeof *list->columns);
    if (!list->columns) return rk_short_of_memory(fault);
    for (size_t i = 0; i < plan->columns.count; i++) list->columns[i] = NULL;
    return check_columns(list, plan, fault);
}
