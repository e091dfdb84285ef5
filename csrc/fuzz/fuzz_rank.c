/* Calls from bytes to bytes. Byte 0: the method, options and whether the rest is the request as it is, or what a
 * well-formed request is made of, or that with bytes changed; byte 1: profile and view. An answer can be read to its end, comes again bit for bit
 * (but for timings), and its pages hold every candidate once. */
#define _GNU_SOURCE

#include "../tests/rank_plan.h"

enum { AS_IT_IS = 4, TIMED = 8, LATE = 16, LADDER = 32, PAGED = 64, ODD_COLUMNS = 128, MOST_PAGES = 4, CHANGES = 4 };

static rank_plans *plans;
static rk_arena *arenas[4];

/* What is left of the input; 0 when it has ended. */
typedef struct {
    const uint8_t *at, *end;
} input;

static uint8_t next(input *in) { return in->at < in->end ? *in->at++ : 0; }

static rk_text next_text(input *in, size_t most)
{
    size_t length = next(in) % (most + 1), left = (size_t)(in->end - in->at);
    length = length < left ? length : left;
    in->at += length;
    return (rk_text){in->at - length, length};
}

/* A value of a declared context feature, of the right kind more often than not. */
static void add_context(rank_bytes *out, input *in)
{
    static const uint32_t tags[] = {RK_TAG_CONTEXT_VALUE_NUMBER, RK_TAG_CONTEXT_VALUE_CATEGORY, RK_TAG_CONTEXT_VALUE_TEXT,
                                    RK_TAG_CONTEXT_VALUE_VECTOR, RK_TAG_CONTEXT_VALUE_SET,
                                    RK_TAG_CONTEXT_VALUE_TIMESTAMP, RK_TAG_CONTEXT_VALUE_FLAG};
    uint8_t what = next(in), name = what % PLAN_CONTEXTS, which = what >= 250 ? what - 249 : name;
    rank_bytes value = {.length = 0}, inner = {.length = 0};
    float vector[PLAN_WIDTH] = {next(in), 0.5f, next(in)};
    rk_text text;
    switch (tags[which]) {
    case RK_TAG_CONTEXT_VALUE_NUMBER:
        put_fixed64(&value, tags[which], next(in));
        break;
    case RK_TAG_CONTEXT_VALUE_FLAG:
        put_number(&value, tags[which], next(in));
        break;
    case RK_TAG_CONTEXT_VALUE_CATEGORY:
    case RK_TAG_CONTEXT_VALUE_TEXT:
        text = next_text(in, 20);
        put_block(&value, tags[which], text.bytes, text.length);
        break;
    case RK_TAG_CONTEXT_VALUE_VECTOR:
        put_block(&inner, RK_TAG_VECTOR_VALUES, vector, sizeof vector);
        break;
    case RK_TAG_CONTEXT_VALUE_SET:
        for (int i = next(in) % 5; i > 0; i--) {
            text = next_text(in, 6);
            put_block(&inner, RK_TAG_STRING_SET_VALUES, text.bytes, text.length);
        }
        break;
    default:
        put_number(&inner, RK_TAG_TIMESTAMP_SECONDS, next(in));
    }
    if (inner.length) put_block(&value, tags[which], inner.bytes, inner.length);
    put_context(out, plan_contexts[name], &value);
}

/* `n` candidates, some of them stored, some twice. */
static void add_candidates(rank_bytes *out, uint32_t tag, input *in, int odd)
{
    rank_bytes list = {.length = 0}, column;
    double scores[PLAN_MOST_CANDIDATES];
    float values[PLAN_MOST_CANDIDATES];
    uint8_t shape = next(in);
    size_t n = shape & 1 ? next(in) : next(in) % 12, first = next(in);
    char id[24];
    for (size_t i = 0; i < n; i++) {
        uint8_t value = next(in);
        scores[i] = value == 255 ? NAN : value;
        values[i] = value == 254 ? NAN : (float)(value % 16);
        snprintf(id, sizeof id, value == 253 ? "\xC3\x89 %zu" : "sku-%zu", value == 252 ? first : first + i);
        put_words(&list, RK_TAG_CANDIDATES_IDS, id);
    }
    if (shape & 2) put_block(&list, RK_TAG_CANDIDATES_BASE_SCORES, scores, n * sizeof *scores);
    for (int c = 0; c < 2; c++) {
        column.length = 0;
        if (!(shape & 4 << c)) continue;
        put_words(&column, RK_TAG_COLUMN_NAME, plan_columns[c]);
        put_block(&column, RK_TAG_COLUMN_VALUES, values, (n - (odd && n)) * sizeof *values);
        put_block(&list, RK_TAG_CANDIDATES_COLUMNS, column.bytes, column.length);
    }
    put_block(out, tag, list.bytes, list.length);
}

static void add_common(rank_bytes *out, input *in, uint8_t second, int method)
{
    rank_bytes part = {.length = 0};
    rk_text text = next_text(in, 30);
    put_words(out, RK_TAG_RANK_REQUEST_PROFILE, plan_names[second % PLAN_COUNT]);
    put_number(out, RK_TAG_RANK_REQUEST_SURFACE, next(in) % 6);
    put_block(&part, RK_TAG_QUERY_TEXT, text.bytes, text.length);
    put_words(&part, RK_TAG_QUERY_LANGUAGE_CODE, "en");
    put_block(out, RK_TAG_RANK_REQUEST_QUERY, part.bytes, part.length);
    part.length = 0;
    text = next_text(in, 10);
    put_block(&part, RK_TAG_USER_SEGMENTS, text.bytes, text.length);
    put_block(&part, RK_TAG_USER_SESSION_ID, text.bytes, text.length);
    put_words(&part, next(in) % 2 ? RK_TAG_USER_USER_ID : RK_TAG_USER_VISITOR_ID, "sku-3");
    put_block(out, RK_TAG_RANK_REQUEST_USER, part.bytes, part.length);
    for (int i = next(in) % 9; i > 0; i--) add_context(out, in);
    if (method == RK_METHOD_SCORE) put_number(out, RK_TAG_SCORE_REQUEST_RAW, next(in) % 2);
    else put_number(out, RK_TAG_RANK_REQUEST_INCLUDE_TIMINGS, next(in) % 2);
    put_number(out, RK_TAG_RANK_REQUEST_VIEW, second / PLAN_COUNT % 5); /* include_features of a ScoreRequest */
}

static void make_request(rank_bytes *out, input *in, uint8_t how, uint8_t second, int method)
{
    if (how & AS_IT_IS && second % 2) {
        put_raw(out, in->at, (size_t)(in->end - in->at));
        return;
    }
    if (how & AS_IT_IS) {
        make_request(out, in, how & (uint8_t)~AS_IT_IS, second, method);
        for (int i = 0; i < CHANGES && out->length; i++) {
            size_t at = next(in), high = next(in);
            out->bytes[(at | high << 8) % out->length] ^= next(in);
        }
        return;
    }
    rank_bytes part = {.length = 0};
    add_common(&part, in, second, method);
    if (method == RK_METHOD_RANK && how & PAGED) put_number(&part, RK_TAG_RANK_REQUEST_PAGE_SIZE, 1 + next(in));
    if (method != RK_METHOD_BATCH_RANK) {
        put_raw(out, part.bytes, part.length);
        add_candidates(out, RK_TAG_RANK_REQUEST_CANDIDATES, in, how & ODD_COLUMNS);
        return;
    }
    put_block(out, RK_TAG_BATCH_RANK_REQUEST_COMMON, part.bytes, part.length);
    for (int i = next(in) % (PLAN_MOST_LISTS + 2); i > 0; i--) {
        part.length = 0;
        if (how & PAGED) put_number(&part, RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_SIZE, 1 + next(in));
        add_candidates(&part, RK_TAG_BATCH_RANK_REQUEST_LIST_CANDIDATES, in, how & ODD_COLUMNS);
        put_block(out, RK_TAG_BATCH_RANK_REQUEST_LISTS, part.bytes, part.length);
    }
}

static void reset(void)
{
    for (int i = 0; i < 4; i++) rk_arena_reset(arenas[i]);
}

/* What must hold of a call that was answered. */
static rank_seen check_answer(const rk_rank_call *call, int method)
{
    rank_seen seen = rank_look(call->answer, call->arena);
    size_t answered = 0, last = 0;
    if (!seen.is_sound) abort();
    if (method == RK_METHOD_RANK && seen.ids != call->returned_count) abort();
    if (method != RK_METHOD_BATCH_RANK) return seen;
    for (size_t i = 0; i < call->list_count; i++) {
        const rk_list_result *list = &call->lists[i];
        if (list->offset < last || list->offset > call->answer.length) abort();
        last = list->offset;
        answered += list->fault.kind == RK_FAULT_NONE;
        if (!rk_fault_name(list->fault.kind) || !rk_field_path(list->fault.field)) abort();
        if (list->fault.kind == RK_FAULT_INTERNAL) abort();
    }
    if (answered != seen.results) abort();
    return seen;
}

/* The pages after the first hold the rest. */
static void turn_pages(rank_bytes *request, size_t first_ids, rk_text token, const rk_rank_options *options)
{
    size_t held = request->length, ids = first_ids;
    for (int page = 0; token.length && page < MOST_PAGES; page++) {
        rk_rank_call call = {.arena = arenas[2], .scratch = arenas[3], .plans = &plans->set};
        request->length = held;
        put_block(request, RK_TAG_RANK_REQUEST_PAGE_TOKEN, token.bytes, token.length);
        if (request->length == held) return; /* no room */
        rk_arena_reset(arenas[2]);
        rk_arena_reset(arenas[3]);
        rank_whole(&call, RK_METHOD_RANK, (rk_text){request->bytes, request->length}, options);
        if (call.fault.kind != RK_FAULT_NONE) abort();
        rank_seen seen = check_answer(&call, RK_METHOD_RANK);
        ids += seen.ids;
        if (!seen.ids || ids > call.candidate_count || (!seen.token.length && ids != call.candidate_count)) abort();
        token = seen.token;
        uint8_t *copy = rk_arena_take(arenas[1], token.length);
        if (!copy) abort();
        if (token.length) memcpy(copy, token.bytes, token.length);
        token.bytes = copy;
    }
}

static void call_twice(rank_bytes *request, int method, int as_it_is, const rk_rank_options *options)
{
    rk_rank_call call = {.arena = arenas[0], .scratch = arenas[1], .plans = &plans->set}, again = call;
    uint8_t *exact = malloc(request->length + 1); /* so that a byte read beyond is seen */
    if (!exact) abort();
    exact = realloc(exact, request->length ? request->length : 1);
    if (request->length) memcpy(exact, request->bytes, request->length);
    again.arena = arenas[2];
    again.scratch = arenas[3];
    rank_whole(&call, method, (rk_text){exact, request->length}, options);
    rank_whole(&again, method, (rk_text){exact, request->length}, options);
    if (!rk_fault_name(call.fault.kind) || !rk_field_path(call.fault.field)) abort();
    for (size_t i = 0; i < call.want_count; i++) {
        const rk_rank_want *want = &call.wants[i];
        for (size_t k = 0; k < want->count; k++) {
            if (!want->ids[k].length || want->ids[k].length > 4 * PLAN_MOST_TEXT + sizeof request->bytes) abort();
        }
    }
    if (call.fault.kind != again.fault.kind || call.fault.kind == RK_FAULT_INTERNAL) abort();
    if (call.fault.kind == RK_FAULT_NONE) {
        rank_seen seen = check_answer(&call, method);
        if (!seen.timings && method != RK_METHOD_BATCH_RANK && call.answer.length != again.answer.length) abort();
        if (!seen.timings && method != RK_METHOD_BATCH_RANK && call.answer.length &&
            memcmp(call.answer.bytes, again.answer.bytes, call.answer.length))
            abort();
        if (method == RK_METHOD_RANK && seen.ids && !as_it_is) turn_pages(request, seen.ids, seen.token, options);
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static rank_bytes request;
    for (int i = 0; !arenas[3] && i < 4; i++) arenas[i] = rk_arena_new();
    if (!plans) plans = rank_plans_new();
    if (size < 2) return 0;
    uint8_t how = data[0];
    int method = how % 4 % 3;
    input in = {data + 2, data + size};
    const rk_rank_options options = {
        .request_id = text_of("made"), .now_s = 1000, .deadline_ns = how & LATE && data[1] > 200 ? 1 : INT64_MAX,
        .max_rescored = how & LADDER ? data[1] % 3 : SIZE_MAX, .degradation = text_of("\x9A\x02\x02\x08\x01"),
        .with_stages = how & TIMED,
    };
    request.length = 0;
    make_request(&request, &in, how, data[1], method);
    reset();
    call_twice(&request, method, how & AS_IT_IS, &options);
    return 0;
}
