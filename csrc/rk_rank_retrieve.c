/* What is read of the tables for a list: ids of rows, the rows, and how old their values are. */
#include <math.h>
#include <string.h>

#include "rk_rank_internal.h"

enum { MOST_DIGITS = 20 };

static int is_of_candidate(int32_t source) { return source == RK_ID_CANDIDATE || source == RK_ID_CATEGORY; }

int rk_is_per_candidate(const rk_plan_read *read)
{
    for (size_t k = 0; k < read->part_count; k++) {
        if (is_of_candidate(read->parts[k].source)) return 1;
    }
    return 0;
}

const rk_text *rk_stored_ids(const rk_rank_call *call, const rk_list *list, rk_arena *arena)
{
    const rk_text *ids = list->candidates->ids;
    size_t need = list->first_need, n = list->candidates->id_count;
    if (n && !call->plan->reads[0].by_key) return ids;
    rk_text *keys = rk_arena_array(arena, n, sizeof *keys);
    for (size_t i = 0; keys && i < n; i++) {
        keys[i] = rk_is_ascii(ids[i]) ? rk_query_key_of(ids[i], arena) : call->needs[need++].normal;
        if (!keys[i].bytes) return NULL;
    }
    return keys;
}

/* The query's key, made once for a call. NULL bytes without memory. */
static rk_text query_key(const rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    if (s->key_need != SIZE_MAX) return call->needs[s->key_need].normal;
    if (!s->query_key.bytes) s->query_key = rk_query_key_of(s->request.query_text, call->arena);
    return s->query_key;
}

/* One part of ids: the same for all candidates, or one for each. */
typedef struct {
    rk_text one;
    const rk_text *each; /* NULL: the same for all */
} part_texts;

static int texts_of(const rk_rank_call *call, const rk_id_part *part, const rk_text *candidates, size_t n,
                    const rk_column *columns, rk_arena *arena, part_texts *out)
{
    const rk_wire_request *r = &call->state->request;
    *out = (part_texts){{(const uint8_t *)"", 0}, NULL};
    if (part->source == RK_ID_CANDIDATE) {
        out->each = candidates;
    } else if (part->source == RK_ID_CATEGORY) {
        const int32_t *codes = columns[part->column].data;
        rk_text *texts = rk_arena_array(arena, n, sizeof *texts);
        if (!texts) return -1;
        for (size_t i = 0; i < n; i++) {
            texts[i] = codes[i] < 0 ? out->one : rk_table_text(call->plan->dictionary, codes[i]);
            if (!texts[i].bytes) texts[i] = out->one;
        }
        out->each = texts;
    } else if (part->source == RK_ID_QUERY) {
        out->one = query_key(call);
        return out->one.bytes ? 0 : -1;
    } else {
        const rk_text text = part->source == RK_ID_SESSION ? r->session_id : r->user_id.length ? r->user_id : r->visitor_id;
        if (text.length) out->one = text;
    }
    return 0;
}

static uint8_t *put(uint8_t *out, rk_text text)
{
    if (text.length) memcpy(out, text.bytes, text.length);
    return out + text.length;
}

/* A part but the last: after its length in bytes. */
static uint8_t *put_measured(uint8_t *out, rk_text text)
{
    uint8_t digits[MOST_DIGITS];
    size_t count = 0, left = text.length;
    do digits[count++] = (uint8_t)('0' + left % 10);
    while (left /= 10);
    while (count) *out++ = digits[--count];
    *out++ = ':';
    out = put(out, text);
    *out++ = '/';
    return out;
}

/* `rows` ids, end to end in one piece of memory. What leads them all is written once and then copied. */
static const rk_text *join(const part_texts *parts, size_t count, size_t rows, rk_arena *arena)
{
    size_t bytes = 0, leading = 0, same = 0;
    rk_text *ids = rk_arena_array(arena, rows, sizeof *ids);
    for (; same + 1 < count && !parts[same].each; same++) leading += parts[same].one.length + MOST_DIGITS + 2;
    for (size_t k = same; k < count; k++) {
        bytes += rows * (k + 1 < count ? MOST_DIGITS + 2 : 0);
        if (!parts[k].each) bytes += rows * parts[k].one.length;
        for (size_t i = 0; parts[k].each && i < rows; i++) bytes += parts[k].each[i].length;
    }
    uint8_t *head = rk_arena_take(arena, leading), *end = head, *out = NULL;
    if (!ids || !head) return NULL;
    int is_whole = 1;
    for (size_t k = 0; k < same; k++) {
        is_whole &= parts[k].one.length != 0;
        end = put_measured(end, parts[k].one);
    }
    const rk_text lead = {head, (size_t)(end - head)};
    out = rk_arena_array(arena, 1, rows * lead.length + bytes);
    if (!out) return NULL;
    for (size_t i = 0; i < rows; i++) {
        uint8_t *first = out;
        int found = is_whole;
        out = put(out, lead);
        for (size_t k = same; k < count; k++) {
            const rk_text text = parts[k].each ? parts[k].each[i] : parts[k].one;
            found &= text.length != 0;
            out = k + 1 < count ? put_measured(out, text) : put(out, text);
        }
        ids[i] = (rk_text){first, found ? (size_t)(out - first) : 0};
    }
    return ids;
}

const rk_text *rk_row_ids(const rk_rank_call *call, const rk_plan_read *read, const rk_text *candidates, size_t n,
                          const rk_column *columns, rk_arena *arena)
{
    size_t rows = rk_is_per_candidate(read) ? n : 1;
    part_texts *parts = rk_arena_array(arena, read->part_count, sizeof *parts);
    if (!parts) return NULL;
    for (size_t k = 0; k < read->part_count; k++) {
        if (texts_of(call, &read->parts[k], candidates, n, columns, arena, &parts[k])) return NULL;
    }
    if (read->part_count > 1) return join(parts, read->part_count, rows, arena);
    return parts[0].each ? parts[0].each : &parts[0].one;
}

static int64_t milliseconds(double seconds) { return (int64_t)rint(seconds * 1000); }

static rk_column *read_rows(const rk_bindings *b, const rk_plan_read *read, const rk_text *candidates, int is_dated,
                            rk_arena *arena, uint8_t *found)
{
    size_t rows = rk_is_per_candidate(read) ? b->count : 1;
    rk_column *columns = rk_arena_array(arena, read->column_count * (is_dated ? 2 : 1), sizeof *columns);
    const rk_text *ids = rk_row_ids(b->call, read, candidates, b->count, b->reads[0], arena);
    if (!found) found = rk_arena_take(arena, rows);
    if (!columns || !ids || !found) return NULL;
    const rk_table_reading *reading = is_dated ? read->dated : read->reading;
    return rk_table_read(reading, ids, rows, milliseconds(b->now_s), arena, columns, found) ? NULL : columns;
}

int rk_retrieve(rk_bindings *b, int is_alone, int is_dated, uint8_t *found)
{
    rk_rank_call *call = b->call;
    const rk_text *candidates = rk_stored_ids(call, b->list, call->scratch);
    if (!candidates) return -1;
    b->is_dated = is_dated;
    b->reads[0] = NULL;
    for (size_t i = 0; i < b->plan->read_count; i++) {
        const rk_plan_read *read = &b->plan->reads[i];
        rk_column **kept = is_alone || rk_is_per_candidate(read) ? NULL : &call->state->reads[i];
        b->reads[i] = kept && *kept ? *kept
                                    : read_rows(b, read, candidates, is_dated, kept ? call->arena : call->scratch,
                                                i ? NULL : found);
        if (!b->reads[i]) return -1;
        if (kept) *kept = b->reads[i];
    }
    return 0;
}

rk_wire_named *rk_signal_ages(const rk_bindings *b, size_t *count)
{
    rk_arena *arena = b->call->scratch;
    const int64_t now_ms = milliseconds(b->now_s);
    size_t n = b->count, total = 0, made = 0;
    for (size_t i = 0; i < b->plan->read_count; i++) total += b->plan->reads[i].column_count;
    rk_wire_named *ages = rk_arena_array(arena, total, sizeof *ages);
    float *values = rk_arena_array(arena, n * total, sizeof *values);
    if (!ages || !values) return NULL;
    for (size_t i = 0; i < b->plan->read_count; i++) {
        const rk_plan_read *read = &b->plan->reads[i];
        const size_t step = rk_is_per_candidate(read);
        for (size_t c = 0; c < read->column_count; c++, values += n) {
            const int64_t *times = b->reads[i][read->column_count + c].data;
            for (size_t k = 0; k < n; k++) {
                int64_t time_ms = times[k * step];
                values[k] = time_ms == INT64_MIN ? NAN : (float)((double)(now_ms - time_ms) / 1000);
            }
            ages[made++] = (rk_wire_named){.name = read->names[c], .values = values};
        }
    }
    *count = total;
    return ages;
}
