/* Instructions of rk_wire_rank: a request with two columns, and a page with scores. */
#include "counts.h"

#include "../rk_wire.h"
#include "../rk_wire_rank.h"

enum { MOST = 1000, ROOM = 1 << 16 };

static uint8_t request[ROOM], answer_bytes[ROOM];
static size_t request_length;
static char names[MOST][24];
static rk_text ids[MOST];
static int64_t indexes[MOST];
static double scores[MOST];
static rk_wire_request decoded;
static rk_wire_answer answer;
static rk_arena *arena;

static rk_text text(const char *value) { return (rk_text){(const uint8_t *)value, strlen(value)}; }

static uint8_t *put_request(uint8_t *out, size_t count) {
    static uint8_t list[ROOM];
    uint8_t *at = list;
    for (size_t i = 0; i < count; i++) at = rk_wire_put_element(at, RK_TAG_CANDIDATES_IDS, ids[i]);
    for (int c = 0; c < 2; c++) {
        size_t values = count * sizeof(float);
        rk_text name = text(c ? "ctr" : "bm25");
        at = rk_wire_put_block(at, RK_TAG_CANDIDATES_COLUMNS,
                               rk_wire_text_size(RK_TAG_COLUMN_NAME, name) + rk_wire_block_size(RK_TAG_COLUMN_VALUES, values));
        at = rk_wire_put_text(at, RK_TAG_COLUMN_NAME, name);
        at = rk_wire_put_block(at, RK_TAG_COLUMN_VALUES, values);
        memset(at, 0, values);
        at += values;
    }
    out = rk_wire_put_text(out, RK_TAG_RANK_REQUEST_PROFILE, text("search"));
    out = rk_wire_put_block(out, RK_TAG_RANK_REQUEST_CANDIDATES, (size_t)(at - list));
    return rk_wire_put_bytes(out, list, (size_t)(at - list));
}

static void prepare(size_t count) {
    arena = rk_arena_new();
    for (size_t i = 0; i < MOST; i++) {
        snprintf(names[i], sizeof names[i], "product-%zu", i * 7919);
        ids[i] = text(names[i]);
        indexes[i] = (int64_t)(i * 7919 % MOST); /* a permutation */
        scores[i] = count_uniform();
    }
    request_length = (size_t)(put_request(request, count) - request);
    answer = (rk_wire_answer){.request_id = text("r-1"), .ids = ids, .indexes = indexes, .count = count, .first_rank = 1,
                              .total_count = MOST, .scores = scores, .base_scores = scores};
    if (!arena || rk_wire_answer_size(&answer) > ROOM) abort();
}

static void prepare_100(void) { prepare(100); }
static void prepare_1000(void) { prepare(1000); }

static void decode(void) {
    rk_arena_reset(arena);
    if (rk_wire_decode_rank(request, request_length, arena, &decoded)) abort();
}

static void encode(void) {
    if (rk_wire_encode_answer(&answer, answer_bytes) != answer_bytes + rk_wire_answer_size(&answer)) abort();
}

static const count_case cases[] = {
    {"decode_100", prepare_100, decode, 10},
    {"decode_1000", prepare_1000, decode, 10},
    {"encode_100", prepare_100, encode, 10},
    {"encode_1000", prepare_1000, encode, 10},
};

COUNT_MAIN(cases)
