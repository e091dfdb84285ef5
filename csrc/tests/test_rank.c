/* rk_rank from bytes to bytes, without Python: each method, pages, the ladder, faults, texts that the caller normalises.
 * Values and orders are held against the Python pipeline by tests/ranking. */
#define _GNU_SOURCE

#include "minunit.h"
#include "rank_plan.h"

static rank_plans *plans;
static rk_arena *arena, *scratch;

static rk_rank_options ordinary(void)
{
    return (rk_rank_options){.request_id = text_of("made"), .now_s = 1000, .deadline_ns = INT64_MAX, .max_rescored = SIZE_MAX};
}

static int is(rk_text text, const char *expected)
{
    return text.length == strlen(expected) && !memcmp(text.bytes, expected, text.length);
}

/* Candidates sku-first and on, with base scores and the column bm25. */
static void put_candidates(rank_bytes *out, uint32_t tag, size_t first, size_t count)
{
    rank_bytes list = {.length = 0}, column = {.length = 0};
    double scores[PLAN_MOST_CANDIDATES];
    float values[PLAN_MOST_CANDIDATES];
    char id[24];
    for (size_t i = 0; i < count; i++) {
        snprintf(id, sizeof id, "sku-%zu", first + i);
        put_words(&list, RK_TAG_CANDIDATES_IDS, id);
        scores[i] = (double)(i * 7 % count);
        values[i] = (float)(i % 5);
    }
    put_block(&list, RK_TAG_CANDIDATES_BASE_SCORES, scores, count * sizeof *scores);
    put_words(&column, RK_TAG_COLUMN_NAME, "bm25");
    put_block(&column, RK_TAG_COLUMN_VALUES, values, count * sizeof *values);
    put_block(&list, RK_TAG_CANDIDATES_COLUMNS, column.bytes, column.length);
    put_block(out, tag, list.bytes, list.length);
}

static void put_common(rank_bytes *out, const char *profile, const char *words)
{
    rank_bytes part = {.length = 0};
    put_words(out, RK_TAG_RANK_REQUEST_PROFILE, profile);
    put_words(&part, RK_TAG_QUERY_TEXT, words);
    put_block(out, RK_TAG_RANK_REQUEST_QUERY, part.bytes, part.length);
    part.length = 0;
    put_words(&part, RK_TAG_USER_USER_ID, "sku-3");
    put_words(&part, RK_TAG_USER_SESSION_ID, "s-1");
    put_words(&part, RK_TAG_USER_SEGMENTS, "vip");
    put_block(out, RK_TAG_RANK_REQUEST_USER, part.bytes, part.length);
    part.length = 0;
    put_fixed64(&part, RK_TAG_CONTEXT_VALUE_NUMBER, 2.5);
    put_context(out, "a", &part);
    part.length = 0;
    put_words(&part, RK_TAG_CONTEXT_VALUE_TEXT, words);
    put_context(out, "c", &part);
}

static rk_rank_call call_of(rk_method method, const rank_bytes *request, rk_rank_options options)
{
    rk_rank_call call = {.arena = arena, .scratch = scratch, .plans = &plans->set};
    rk_arena_reset(arena);
    rk_arena_reset(scratch);
    rank_whole(&call, method, (rk_text){request->bytes, request->length}, &options);
    return call;
}

static rk_rank_call rank(const char *profile, size_t count, int view, rk_rank_options options)
{
    static rank_bytes request;
    request.length = 0;
    put_common(&request, profile, "red shoe");
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 30, count);
    put_number(&request, RK_TAG_RANK_REQUEST_VIEW, (uint64_t)view);
    return call_of(RK_METHOD_RANK, &request, options);
}

static void test_rank(void)
{
    static const char *const profiles[] = {"full", "linear", "plain", "queries", "yonder"};
    for (int p = 0; p < 5; p++) {
        for (size_t count = 0; count <= 60; count += 12) {
            for (int view = 0; view <= 3; view++) {
                rk_rank_call call = rank(profiles[p], count, view, ordinary());
                rank_seen seen = rank_look(call.answer, arena);
                size_t best = p == 2 ? 0 : p == 0 && count > PLAN_RERANK ? PLAN_RERANK : count;
                CHECK(call.fault.kind == RK_FAULT_NONE && seen.is_sound && is(call.plan->name, profiles[p]));
                CHECK(seen.ids == count && call.returned_count == count && call.candidate_count == count);
                CHECK(call.rescored_count == best && !call.degraded && is(call.request_id, "made"));
                CHECK(call.missing_count == (count > 10 ? count - 10 : 0)); /* sku-40 and on */
                CHECK(seen.scores == (view >= 2 ? count : 0));
                CHECK(seen.features == (view == 3 ? PLAN_FEATURES : 0) && !seen.token.length);
                CHECK(seen.ages == (view == 3 ? PLAN_READS * PLAN_CELLS : 0));
            }
        }
    }
}

/* The values of a named column of the answer: of features or ages. */
static int floats_named(rk_text answer, uint32_t wanted, size_t number, float *out, size_t most)
{
    uint32_t tag = 0;
    rk_wire_reader r = rk_wire_open(answer.bytes, answer.length, arena);
    while (rk_wire_next(&r, &tag)) {
        if (tag != wanted || number--) {
            rk_wire_skip(&r, tag);
            continue;
        }
        const uint8_t *around = rk_wire_enter(&r);
        while (rk_wire_next(&r, &tag)) {
            if (tag != RK_TAG_FEATURE_COLUMN_VALUES) {
                rk_wire_skip(&r, tag);
                continue;
            }
            size_t bytes = rk_wire_length(&r);
            memcpy(out, r.at, bytes < most * sizeof *out ? bytes : most * sizeof *out);
            return bytes == most * sizeof *out;
        }
        rk_wire_leave(&r, around);
    }
    return 0;
}

/* The plan "plain" ranks by base scores, which test_rank's candidates have: 7 i mod count. */
static void test_joined_ids(void)
{
    enum { COUNT = 12 };
    float pairs[COUNT], overlaps[COUNT], ages[COUNT];
    rk_rank_call call = rank("plain", COUNT, 3, ordinary());
    CHECK(floats_named(call.answer, RK_TAG_RANK_RESPONSE_FEATURES, 20, pairs, COUNT));
    CHECK(floats_named(call.answer, RK_TAG_RANK_RESPONSE_FEATURES, 21, overlaps, COUNT));
    CHECK(floats_named(call.answer, RK_TAG_RANK_RESPONSE_SIGNAL_AGES, 3 * PLAN_CELLS + 1, ages, COUNT));
    for (size_t place = 0; place < COUNT; place++) {
        size_t i = 0;
        while (i * 7 % COUNT != COUNT - 1 - place) i++;
        size_t row = 30 + i; /* of rows 0 to 39; those from 32 on have numbers alone */
        CHECK(row < PLAN_ROWS ? pairs[place] == 2 * (float)row : isnan(pairs[place]));
        CHECK(row < PLAN_ROWS ? ages[place] == 999 : isnan(ages[place])); /* written at 1 s */
        CHECK(isnan(overlaps[place]) == (row >= PLAN_ROWS - 8));
    }
}

/* A call says what it wants once its needs are answered. */
static void test_wanted_rows(void)
{
    static rank_bytes request;
    const rk_rank_options options = ordinary();
    static const size_t reads[] = {1, 2, 3, 4}, counts[] = {1, 1, 4, 2};
    rk_rank_call call = {.arena = arena, .scratch = scratch, .plans = &plans->set};
    request.length = 0;
    put_common(&request, "yonder", "red shoe");
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 30, 4); /* 30 and 31 have a category */
    rk_arena_reset(arena);
    rk_rank_prepare(&call, RK_METHOD_RANK, (rk_text){request.bytes, request.length}, &options);
    CHECK(call.fault.kind == RK_FAULT_NONE && !call.want_count);
    rk_rank_want_rows(&call);
    CHECK(call.fault.kind == RK_FAULT_NONE && call.want_count == 4);
    for (size_t i = 0; i < call.want_count; i++)
        CHECK(call.wants[i].read == reads[i] && call.wants[i].count == counts[i]);
    CHECK(is(call.wants[0].ids[0], "sku-3") && is(call.wants[1].ids[0], "red shoe"));
    CHECK(is(call.wants[2].ids[3], "8:red shoe/sku-33") && is(call.wants[3].ids[1], "3:red/3:s-1/sku-31"));
    call.told = text_of("\x9a\x02");
    rk_rank_run(&call);
    CHECK(call.fault.kind == RK_FAULT_NONE && call.degraded);
    CHECK(call.answer.length > 2 && !memcmp(call.answer.bytes + call.answer.length - 2, "\x9a\x02", 2));
}

static void test_batch(void)
{
    static rank_bytes request, common, list;
    request.length = common.length = 0;
    put_common(&common, "full", "red shoe");
    put_block(&request, RK_TAG_BATCH_RANK_REQUEST_COMMON, common.bytes, common.length);
    for (size_t i = 0; i < PLAN_MOST_LISTS; i++) {
        list.length = 0;
        put_candidates(&list, RK_TAG_BATCH_RANK_REQUEST_LIST_CANDIDATES, i, 20 + i);
        if (i == 2) put_number(&list, RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_SIZE, 0); /* refused */
        if (i == 3) put_words(&list, RK_TAG_BATCH_RANK_REQUEST_LIST_REQUEST_ID, "own");
        put_block(&request, RK_TAG_BATCH_RANK_REQUEST_LISTS, list.bytes, list.length);
    }
    rk_rank_call call = call_of(RK_METHOD_BATCH_RANK, &request, ordinary());
    rank_seen seen = rank_look(call.answer, arena);
    CHECK(call.fault.kind == RK_FAULT_NONE && seen.is_sound && seen.results == 3 && call.list_count == PLAN_MOST_LISTS);
    CHECK(call.candidate_count == 86 && call.returned_count == 20 + 21 + 23);
    CHECK(call.lists[0].offset == 0 && call.lists[2].offset == call.lists[3].offset);
    CHECK(call.lists[2].fault.kind == RK_FAULT_PAGE_SIZE && call.lists[2].fault.field == RK_FIELD_PAGE_SIZE);
    CHECK(is(call.lists[0].request_id, "made-0") && is(call.lists[3].request_id, "own"));
    put_block(&request, RK_TAG_BATCH_RANK_REQUEST_LISTS, list.bytes, list.length);
    call = call_of(RK_METHOD_BATCH_RANK, &request, ordinary());
    CHECK(call.fault.kind == RK_FAULT_BATCH_LISTS && call.fault.limit == PLAN_MOST_LISTS);
}

/* The one output of a ScoreRequest's answer, where a model has one. */
static const double *only_output(rk_text answer, size_t *count)
{
    uint32_t tag = 0;
    rk_wire_reader r = rk_wire_open(answer.bytes, answer.length, arena);
    while (rk_wire_next(&r, &tag)) {
        if (tag != RK_TAG_SCORE_RESPONSE_OUTPUTS) {
            rk_wire_skip(&r, tag);
            continue;
        }
        const uint8_t *around = rk_wire_enter(&r);
        while (rk_wire_next(&r, &tag)) {
            if (tag != RK_TAG_MODEL_OUTPUT_VALUES) {
                rk_wire_skip(&r, tag);
                continue;
            }
            size_t bytes = rk_wire_length(&r);
            double *values = rk_arena_take(arena, bytes);
            if (bytes) memcpy(values, r.at, bytes);
            *count = bytes / sizeof *values;
            return values;
        }
        rk_wire_leave(&r, around);
    }
    return NULL;
}

static void test_score(void)
{
    static rank_bytes request;
    for (int raw = 0; raw < 2; raw++) {
        request.length = 0;
        put_common(&request, "full", "red shoe");
        put_candidates(&request, RK_TAG_SCORE_REQUEST_CANDIDATES, 0, 30);
        put_number(&request, RK_TAG_SCORE_REQUEST_RAW, (uint64_t)raw);
        rk_rank_call call = call_of(RK_METHOD_SCORE, &request, ordinary());
        size_t count = 0, inside = 0;
        const double *scores = only_output(call.answer, &count);
        CHECK(call.fault.kind == RK_FAULT_NONE && scores && count == 30);
        for (size_t i = 0; scores && i < count; i++) inside += scores[i] >= 0 && scores[i] <= 1;
        CHECK(raw || inside == count); /* a sigmoid's */
    }
    request.length = 0;
    put_common(&request, "plain", "");
    CHECK(call_of(RK_METHOD_SCORE, &request, ordinary()).fault.kind == RK_FAULT_NO_MODEL);
    request.length = 0;
    put_common(&request, "wide", "");
    put_candidates(&request, RK_TAG_SCORE_REQUEST_CANDIDATES, 0, 3);
    CHECK(call_of(RK_METHOD_SCORE, &request, ordinary()).fault.kind == RK_FAULT_NONE);
    rk_rank_call call = call_of(RK_METHOD_RANK, &request, ordinary());
    CHECK(call.fault.kind == RK_FAULT_MANY_OUTPUTS && call.fault.count == 2);
}

/* Every id of `count` candidates once, over pages of `size`; a token of another request is refused. */
static void pages(const char *profile, size_t count, size_t size, int view)
{
    static rank_bytes request;
    uint8_t seen[PLAN_MOST_CANDIDATES] = {0}, token[1024];
    size_t held, ids = 0, token_length = 0, turned = 0;
    request.length = 0;
    put_common(&request, profile, "red shoe");
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 0, count);
    put_number(&request, RK_TAG_RANK_REQUEST_PAGE_SIZE, size);
    put_number(&request, RK_TAG_RANK_REQUEST_VIEW, (uint64_t)view);
    held = request.length;
    do {
        request.length = held;
        if (token_length) put_block(&request, RK_TAG_RANK_REQUEST_PAGE_TOKEN, token, token_length);
        rk_rank_options options = ordinary();
        options.now_s += (double)turned;
        rk_rank_call call = call_of(RK_METHOD_RANK, &request, options);
        rank_seen page = rank_look(call.answer, arena);
        CHECK(call.fault.kind == RK_FAULT_NONE && page.is_sound && page.ids <= size);
        if (call.fault.kind != RK_FAULT_NONE) return;
        uint32_t tag = 0;
        rk_wire_reader r = rk_wire_open(call.answer.bytes, call.answer.length, arena);
        while (rk_wire_next(&r, &tag)) {
            rk_text id = {NULL, 0};
            if (tag == RK_TAG_RANK_RESPONSE_IDS) id = rk_wire_text(&r);
            else rk_wire_skip(&r, tag);
            if (id.length > 4) seen[atoi((const char *)id.bytes + 4)]++;
        }
        ids += page.ids;
        token_length = page.token.length;
        CHECK(token_length <= sizeof token);
        if (token_length) memcpy(token, page.token.bytes, token_length);
    } while (token_length && ++turned < count);
    int each_once = 1;
    for (size_t i = 0; i < count; i++) each_once &= seen[i] == 1;
    CHECK(ids == count && each_once && turned + 1 == (count + size - 1) / size);
}

static void test_tokens(void)
{
    static rank_bytes request;
    pages("full", 50, 3, 1);
    pages("full", 50, 7, 2);
    pages("linear", 50, 50, 3);
    pages("plain", 50, 49, 3);
    rk_rank_options options = ordinary();
    request.length = 0;
    put_common(&request, "full", "red shoe");
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 0, 9);
    put_number(&request, RK_TAG_RANK_REQUEST_PAGE_SIZE, 4);
    rk_rank_call call = call_of(RK_METHOD_RANK, &request, options);
    uint8_t token[256];
    size_t length = rank_look(call.answer, arena).token.length, held;
    CHECK(length && length <= sizeof token);
    memcpy(token, rank_look(call.answer, arena).token.bytes, length);
    held = request.length;
    put_words(&request, RK_TAG_RANK_REQUEST_PAGE_TOKEN, "?");
    CHECK(call_of(RK_METHOD_RANK, &request, options).fault.kind == RK_FAULT_TOKEN_FORM);
    request.length = held;
    put_block(&request, RK_TAG_RANK_REQUEST_PAGE_TOKEN, token, length);
    put_words(&request, RK_TAG_RANK_REQUEST_PROFILE, "linear");
    CHECK(call_of(RK_METHOD_RANK, &request, options).fault.kind == RK_FAULT_TOKEN_OTHER);
    request.length = held;
    token[20] = token[20] == 'A' ? 'B' : 'A';
    put_block(&request, RK_TAG_RANK_REQUEST_PAGE_TOKEN, token, length);
    call = call_of(RK_METHOD_RANK, &request, options);
    CHECK(call.fault.kind == RK_FAULT_TOKEN_DAMAGED && call.fault.field == RK_FIELD_PAGE_TOKEN);
}

/* A ladder re-scores fewer, marks the answer, and with 0 leaves base order. */
static void test_ladder(void)
{
    static const char mark[] = "\x9A\x02\x02\x08\x01";
    for (size_t most = 0; most <= PLAN_RERANK + 1; most++) {
        rk_rank_options options = ordinary();
        options.max_rescored = most;
        options.degradation = text_of(mark);
        rk_rank_call call = rank("full", 30, 1, options);
        int cut = most < PLAN_RERANK;
        CHECK(call.fault.kind == RK_FAULT_NONE && call.degraded == cut && rank_look(call.answer, arena).ids == 30);
        CHECK(call.rescored_count == (cut ? most : PLAN_RERANK));
        const uint8_t *end = call.answer.bytes + call.answer.length - (sizeof mark - 1);
        CHECK(cut == !memcmp(end, mark, sizeof mark - 1));
    }
    rk_rank_options options = ordinary();
    options.max_rescored = 0;
    rk_rank_call call = rank("plain", 30, 1, options);
    CHECK(call.fault.kind == RK_FAULT_NONE && !call.degraded);
}

static void test_faults(void)
{
    static rank_bytes request;
    rk_rank_options late = ordinary();
    late.deadline_ns = 1;
    CHECK(rank("full", 10, 1, late).fault.kind == RK_FAULT_DEADLINE);
    CHECK(rank("absent", 10, 1, ordinary()).fault.kind == RK_FAULT_UNKNOWN_PROFILE);
    CHECK(rank("full", 10, 9, ordinary()).fault.kind == RK_FAULT_NO_VIEW);
    request.length = 0;
    put_common(&request, "full", "");
    size_t held = request.length;
    rank_bytes list = {.length = 0};
    for (int i = 0; i < 3; i++) put_words(&list, RK_TAG_CANDIDATES_IDS, i == 1 ? "other" : "sku-1");
    put_block(&request, RK_TAG_RANK_REQUEST_CANDIDATES, list.bytes, list.length);
    rk_rank_call call = call_of(RK_METHOD_RANK, &request, ordinary());
    CHECK(call.fault.kind == RK_FAULT_DUPLICATE_ID && call.fault.at == 2 && call.fault.other == 0);
    CHECK(is(call.fault.text, "sku-1") && call.fault.field == RK_FIELD_ID);
    request.length = held;
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 0, PLAN_MOST_CANDIDATES);
    put_candidates(&request, RK_TAG_RANK_REQUEST_CANDIDATES, 900, 1); /* merged: one too many */
    call = call_of(RK_METHOD_RANK, &request, ordinary());
    CHECK(call.fault.kind == RK_FAULT_TOO_MANY && call.fault.count == PLAN_MOST_CANDIDATES + 1);
    size_t refused = 0;
    for (size_t length = 1; length < 200; length++) { /* cut anywhere: answered or refused, never followed */
        rank_bytes *cut = malloc(sizeof *cut);
        cut->length = 0;
        put_raw(cut, request.bytes, length);
        refused += call_of(RK_METHOD_RANK, cut, ordinary()).fault.kind != RK_FAULT_NONE;
        free(cut);
    }
    CHECK(refused > 150);
}

/* What is not ASCII comes back to be normalised; ASCII does not. */
static void test_needs(void)
{
    static rank_bytes request;
    for (int keyed = 0; keyed < 2; keyed++) {
        rank_bytes list = {.length = 0};
        rk_rank_options options = ordinary();
        rk_rank_call call = {.arena = arena, .scratch = scratch, .plans = &plans->set};
        request.length = 0;
        put_common(&request, keyed ? "queries" : "full", "caf\xC3\xA9");
        put_words(&list, RK_TAG_CANDIDATES_IDS, "\xC3\xA9");
        put_words(&list, RK_TAG_CANDIDATES_IDS, " Sku-1 ");
        put_block(&request, RK_TAG_RANK_REQUEST_CANDIDATES, list.bytes, list.length);
        rk_rank_prepare(&call, RK_METHOD_RANK, (rk_text){request.bytes, request.length}, &options);
        CHECK(call.fault.kind == RK_FAULT_NONE && call.need_count == (keyed ? 4 : 3) && call.cost > 0);
        for (size_t i = 0; i < call.need_count; i++) {
            rk_rank_call *c = &call;
            CHECK(is(c->needs[i].text, i < 3 ? "caf\xC3\xA9" : "\xC3\xA9") && c->needs[i].is_key == (i == 1 || i == 3));
            c->needs[i].normal = text_of(i == 3 ? "sku-2" : "red");
        }
        rk_rank_run(&call);
        CHECK(call.fault.kind == RK_FAULT_NONE && call.returned_count == 2);
        CHECK(call.missing_count == (keyed ? 0 : 2)); /* keys are compared as they are normal */
    }
}

static void test_stages(void)
{
    rk_rank_options options = ordinary();
    options.with_stages = 1;
    rk_rank_call call = rank("full", 20, 1, options);
    CHECK(call.stage_count == 5);
    for (size_t i = 0; i < call.stage_count; i++) {
        CHECK(call.stages[i].stage == (int32_t)i && call.stages[i].end_ns >= call.stages[i].start_ns);
        CHECK(call.stages[i].list == -1 && rk_stage_name(call.stages[i].stage));
    }
}

int main(void)
{
    arena = rk_arena_new();
    scratch = rk_arena_new();
    plans = rank_plans_new();
    test_rank();
    test_joined_ids();
    test_wanted_rows();
    test_batch();
    test_score();
    test_tokens();
    test_ladder();
    test_faults();
    test_needs();
    test_stages();
    rank_plans_free(plans);
    rk_arena_free(arena);
    rk_arena_free(scratch);
    FINISH();
}
