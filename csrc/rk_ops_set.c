/* Sets and maps of categories: ascending codes, so membership is a binary search and overlap a merge.
 * Codes out of order give wrong answers, never a read outside the row. */
#include "rk_ops.h"

void rk_run_span_missing(const rk_call *call)
{
    for (int64_t i = 0; i < call->count; i++)
        call->out[i] = rk_span_at(&call->arg[0], i).length < 0;
}

/* The position of `code` in ascending codes, or -1. */
static int64_t find_code(const int32_t *codes, int64_t count, int32_t code)
{
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (codes[middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && codes[low] == code ? low : -1;
}

void rk_run_contains(const rk_call *call)
{
    const rk_operand *set = &call->arg[0], *category = &call->arg[1];
    for (int64_t i = 0; i < call->count; i++) {
        rk_span span = rk_span_at(set, i);
        int32_t code = rk_category_code(category->values[i * category->stride]);
        if (span.length < 0 || code < 0)
            call->out[i] = NAN;
        else
            call->out[i] = find_code((const int32_t *)set->column->data + span.start, span.length, code) >= 0;
    }
}

/* The value under a category; missing where the map, the category or its entry is. */
void rk_run_lookup(const rk_call *call)
{
    const rk_operand *map = &call->arg[0], *category = &call->arg[1];
    for (int64_t i = 0; i < call->count; i++) {
        rk_span span = rk_span_at(map, i);
        int32_t code = rk_category_code(category->values[i * category->stride]);
        int64_t found = -1;
        if (span.length > 0 && code >= 0)
            found = find_code((const int32_t *)map->column->data + span.start, span.length, code);
        call->out[i] = found < 0 ? NAN : (double)map->column->values[span.start + found];
    }
}

static int64_t common_count(const int32_t *a, int64_t a_count, const int32_t *b, int64_t b_count)
{
    int64_t common = 0;
    for (int64_t i = 0, j = 0; i < a_count && j < b_count;) {
        int32_t x = a[i], y = b[j];
        common += x == y;
        i += x <= y;
        j += y <= x;
    }
    return common;
}

static void overlaps(const rk_call *call, int as_share)
{
    const rk_operand *a = &call->arg[0], *b = &call->arg[1];
    for (int64_t i = 0; i < call->count; i++) {
        rk_span p = rk_span_at(a, i), q = rk_span_at(b, i);
        if (p.length < 0 || q.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        double common = (double)common_count((const int32_t *)a->column->data + p.start, p.length,
                                             (const int32_t *)b->column->data + q.start, q.length);
        call->out[i] = as_share ? common / ((double)p.length + (double)q.length - common) : common;
    }
}

void rk_run_overlap(const rk_call *call) { overlaps(call, 0); }
void rk_run_jaccard(const rk_call *call) { overlaps(call, 1); } /* two empty sets: 0 / 0, missing */
