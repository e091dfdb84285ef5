/* rk_wire_rank without protobuf: what decoding gives for bytes written by hand, that every truncation is safe, that arrays
 * are views where they can be, that encoding writes the bytes its size said. Against protobuf: tests/kernels. */
#include <stdlib.h>
#include <string.h>

#include "../rk_wire.h"
#include "../rk_wire_rank.h"
#include "minunit.h"

static rk_arena *arena;

static int is(rk_text text, const char *expected) {
    size_t length = strlen(expected);
    return text.length == length && !(length && memcmp(text.bytes, expected, length));
}

static rk_text text(const char *value) { return (rk_text){(const uint8_t *)value, strlen(value)}; }

/* Bytes that grow at the end. */
typedef struct {
    uint8_t bytes[1 << 16];
    size_t length;
} buffer;

static void add(buffer *b, const void *bytes, size_t length) {
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
}

static void add_block(buffer *b, uint32_t tag, const void *bytes, size_t length) {
    uint8_t head[16];
    add(b, head, (size_t)(rk_wire_put_block(head, tag, length) - head));
    add(b, bytes, length);
}

static void add_text(buffer *b, uint32_t tag, const char *value) { add_block(b, tag, value, strlen(value)); }

static void add_number(buffer *b, uint32_t tag, uint64_t value) {
    uint8_t head[16];
    add(b, head, (size_t)(rk_wire_put_varint(rk_wire_put_varint(head, tag), value) - head));
}

/* A request with `count` candidates, one base score and two columns each. */
static void request_bytes(buffer *out, size_t count) {
    static buffer list, column, scores;
    list.length = scores.length = out->length = 0;
    for (size_t i = 0; i < count; i++) {
        char id[24];
        snprintf(id, sizeof id, "sku-%zu", i * 7919);
        add_text(&list, RK_TAG_CANDIDATES_IDS, id);
        add(&scores, &(double){(double)i / 3}, sizeof(double));
    }
    add_block(&list, RK_TAG_CANDIDATES_BASE_SCORES, scores.bytes, scores.length);
    for (int c = 0; c < 2; c++) {
        column.length = scores.length = 0;
        add_text(&column, RK_TAG_COLUMN_NAME, c ? "ctr" : "bm25");
        for (size_t i = 0; i < count; i++) add(&scores, &(float){(float)i + (float)c}, sizeof(float));
        add_block(&column, RK_TAG_COLUMN_VALUES, scores.bytes, scores.length);
        add_block(&list, RK_TAG_CANDIDATES_COLUMNS, column.bytes, column.length);
    }
    add_text(out, RK_TAG_RANK_REQUEST_PROFILE, "search");
    add_number(out, RK_TAG_RANK_REQUEST_SURFACE, 1);
    add_block(out, RK_TAG_RANK_REQUEST_CANDIDATES, list.bytes, list.length);
    add_number(out, RK_TAG_RANK_REQUEST_PAGE_SIZE, 10);
}

/* Decodes a copy of exactly its size, `offset` bytes from an aligned address, so that ASan sees a byte read beyond. */
static rk_wire_status decode(const buffer *b, size_t length, size_t offset, uint8_t **copy, rk_wire_request *request) {
    uint8_t *block = malloc(offset + length + 1);
    if (!block) abort();
    memmove(block + offset, b->bytes, length);
    *copy = block = realloc(block, offset + length ? offset + length : 1);
    if (!block) abort();
    rk_arena_reset(arena);
    return rk_wire_decode_rank(block + offset, length, arena, request);
}

static void test_ordinary(void) {
    static buffer b;
    static const size_t counts[] = {0, 1, 2, 100, 1000};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        size_t count = counts[c];
        request_bytes(&b, count);
        int views = 0;
        for (size_t offset = 0; offset < 8; offset++) {
            rk_wire_request request;
            uint8_t *copy;
            CHECK(decode(&b, b.length, offset, &copy, &request) == RK_WIRE_OK);
            const rk_wire_candidates *list = &request.candidates;
            CHECK(is(request.profile, "search") && request.surface == 1 && request.has_candidates && !request.has_as_of);
            CHECK(request.has_page_size && request.page_size == 10 && !request.view);
            CHECK(list->id_count == count && list->base_score_count == count && list->column_count == 2);
            CHECK(is(list->columns[0].name, "bm25") && is(list->columns[1].name, "ctr"));
            int same = 1;
            for (size_t i = 0; i < count; i++) {
                char id[24];
                snprintf(id, sizeof id, "sku-%zu", i * 7919);
                same &= is(list->ids[i], id) && list->base_scores[i] == (double)i / 3;
                same &= list->columns[1].values[i] == (float)i + 1;
            }
            CHECK(same);
            const uint8_t *values = (const uint8_t *)list->base_scores;
            views += values >= copy && values < copy + offset + b.length;
            free(copy);
        }
        CHECK(views == (count ? 1 : 0)); /* one address of eight is aligned */
    }
}

static void test_truncated(void) {
    static buffer b;
    request_bytes(&b, 5);
    int accepted = 0;
    for (size_t length = 0; length < b.length; length++) {
        rk_wire_request request;
        uint8_t *copy;
        accepted += decode(&b, length, 0, &copy, &request) == RK_WIRE_OK;
        free(copy);
    }
    CHECK(accepted == 4); /* between its four fields */
}

static rk_wire_status decode_text(const char *bytes, size_t length, rk_wire_request *request) {
    rk_arena_reset(arena);
    return rk_wire_decode_rank((const uint8_t *)bytes, length, arena, request);
}

static void test_merging(void) {
    rk_wire_request r;
    static const char query_twice[] = "\x22\x03\x0a\x01" "a" "\x22\x04\x12\x02" "de";
    CHECK(decode_text(query_twice, sizeof query_twice - 1, &r) == RK_WIRE_OK);
    CHECK(is(r.query_text, "a") && is(r.language_code, "de"));
    static const char lists[] = "\x82\x01\x03\x0a\x01" "a" "\x82\x01\x06\x0a\x01" "b" "\x0a\x01" "c";
    CHECK(decode_text(lists, sizeof lists - 1, &r) == RK_WIRE_OK);
    CHECK(r.candidates.id_count == 3 && is(r.candidates.ids[0], "a") && is(r.candidates.ids[2], "c"));
    static const char labels[] = "\x3a\x06\x0a\x01" "a" "\x12\x01" "1" "\x3a\x03\x0a\x01" "b" "\x3a\x06\x0a\x01" "a" "\x12\x01" "2";
    CHECK(decode_text(labels, sizeof labels - 1, &r) == RK_WIRE_OK);
    CHECK(r.label_count == 2 && is(r.labels[0].key, "a") && is(r.labels[0].value, "2") && is(r.labels[1].key, "b"));
    static const char cases[] = "\x32\x07\x12\x05\x1a\x01" "t" "\x38\x01";
    CHECK(decode_text(cases, sizeof cases - 1, &r) == RK_WIRE_OK);
    CHECK(r.context_count == 1 && r.context[0].which == RK_CONTEXT_FLAG && r.context[0].flag && !r.context[0].text.length);
    CHECK(rk_wire_decode_rank(NULL, 0, arena, &r) == RK_WIRE_OK && !r.has_candidates);
}

static void test_many_labels(void) {
    static buffer b;
    b.length = 0;
    enum { COUNT = 1000, DISTINCT = 300 };
    for (int i = 0; i < COUNT; i++) {
        static buffer entry;
        char key[16], value[16];
        entry.length = 0;
        snprintf(key, sizeof key, "key-%d", i * 7 % DISTINCT);
        snprintf(value, sizeof value, "%d", i);
        add_text(&entry, RK_TAG_RANK_REQUEST_LABELS_ENTRY_KEY, key);
        add_text(&entry, RK_TAG_RANK_REQUEST_LABELS_ENTRY_VALUE, value);
        add_block(&b, RK_TAG_RANK_REQUEST_LABELS, entry.bytes, entry.length);
    }
    rk_wire_request r;
    CHECK(decode_text((const char *)b.bytes, b.length, &r) == RK_WIRE_OK);
    CHECK(r.label_count == DISTINCT);
    int good = 1;
    for (int i = 0; i < DISTINCT; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "key-%d", i * 7 % DISTINCT);
        snprintf(value, sizeof value, "%d", i + (COUNT - 1 - i) / DISTINCT * DISTINCT);
        good &= is(r.labels[i].key, key) && is(r.labels[i].value, value);
    }
    CHECK(good);
}

/* A map takes memory for its keys, however often they come. */
static void test_map_memory(void) {
    static uint8_t bytes[1 << 20];
    enum { ENTRIES = (int)sizeof bytes / 4 };
    for (size_t i = 0; i < ENTRIES; i++) memcpy(bytes + 4 * i, "\x32\x02\x0a\x00", 4); /* an empty key, no value */
    rk_wire_request r;
    CHECK(decode_text((const char *)bytes, sizeof bytes, &r) == RK_WIRE_OK && r.context_count == 1);
    rk_wire_reader reader = rk_wire_open(bytes, 0, arena);
    CHECK(!rk_wire_grow(&reader, NULL, 0, RK_ARENA_MOST / 8 + 1, 8, 0) && reader.status == RK_WIRE_NO_MEMORY);
}

static void test_refused(void) {
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {{"\x0a", 1},     {"\x0a\x05" "a", 3},  {"\x00\x00", 2}, {"\x0a\x01\xff", 3}, {"\x4c", 1},
               {"\x4b\x54", 2}, {"\x0e", 1},           {"\x10\x80", 2}, {"\x82\x01\x03\x12\x01" "a", 6}};
    rk_wire_request r;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(decode_text(bad[i].bytes, bad[i].length, &r) == RK_WIRE_MALFORMED);
    char groups[2 * RK_WIRE_MOST_DEPTH + 2];
    for (int depth = RK_WIRE_MOST_DEPTH; depth <= RK_WIRE_MOST_DEPTH + 1; depth++) {
        memset(groups, 0x4b, (size_t)depth);
        memset(groups + depth, 0x4c, (size_t)depth);
        CHECK((decode_text(groups, 2 * (size_t)depth, &r) == RK_WIRE_OK) == (depth == RK_WIRE_MOST_DEPTH));
    }
}

static void test_batch(void) {
    static buffer common, list, b;
    request_bytes(&list, 3);
    common.length = b.length = 0;
    add_text(&common, RK_TAG_RANK_REQUEST_PROFILE, "search");
    add_block(&b, RK_TAG_BATCH_RANK_REQUEST_COMMON, common.bytes, common.length);
    for (int i = 0; i < 20; i++) {
        list.length = 0;
        add_text(&list, RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_TOKEN, "token");
        add_number(&list, RK_TAG_BATCH_RANK_REQUEST_LIST_PAGE_SIZE, (uint64_t)i);
        add_block(&b, RK_TAG_BATCH_RANK_REQUEST_LISTS, list.bytes, list.length);
    }
    rk_wire_batch batch;
    CHECK(rk_wire_decode_batch(b.bytes, b.length, arena, &batch) == RK_WIRE_OK);
    CHECK(is(batch.common.profile, "search") && batch.list_count == 20);
    CHECK(batch.lists[19].has_page_size && batch.lists[19].page_size == 19 && is(batch.lists[7].page_token, "token"));
}

static void test_encoding(void) {
    static const char *const names[] = {"", "a", "abcd", "abcdefgh", "0123456789abcdef", "a text of more than sixteen bytes"};
    enum { IDS = 6 };
    rk_text ids[IDS];
    int64_t indexes[IDS], missing[] = {1, 4};
    double scores[IDS];
    float values[IDS];
    for (int i = 0; i < IDS; i++) {
        ids[i] = text(names[i]);
        indexes[i] = IDS - 1 - i;
        scores[i] = i / 2.0;
        values[i] = (float)i;
    }
    rk_wire_named feature = {text("f"), values, NULL}, output = {text("score"), NULL, scores};
    rk_wire_timing timing = {text("model"), -0.0};
    for (size_t count = 0; count <= IDS; count++) {
        rk_wire_answer answer = {.request_id = text("r"), .ids = ids, .indexes = indexes, .count = count,
                                 .first_rank = 126, .total_count = IDS, .scores = scores, .features = &feature,
                                 .feature_count = 1, .missing = missing, .missing_count = 2, .timings = &timing,
                                 .timing_count = 1, .told = {(const uint8_t *)"\x9a\x02", 2}, .degradation = {(const uint8_t *)"", 1}};
        size_t size = rk_wire_answer_size(&answer), wrapped = rk_wire_result_size(&answer);
        uint8_t *out = malloc(size), *result = malloc(wrapped);
        if (!out || !result) abort();
        CHECK(rk_wire_encode_answer(&answer, out) == out + size);
        CHECK(rk_wire_encode_result(&answer, result) == result + wrapped);
        CHECK(!memcmp(result + wrapped - size, out, size) && !memcmp(out + size - 3, "\x9a\x02\x00", 3));
        CHECK(!memcmp(out, "\x0a\x01r\x12\x00", 5));
        free(out);
        free(result);
        rk_wire_scores scored = {.ids = ids, .count = count, .outputs = &output, .features = &feature,
                                 .output_count = 1, .feature_count = 1, .missing = missing, .missing_count = 2};
        size = rk_wire_scores_size(&scored);
        out = malloc(size);
        if (!out) abort();
        CHECK(rk_wire_encode_scores(&scored, out) == out + size);
        free(out);
    }
}

static void test_utf8(void) {
    static const char *const good[] = {"", "abc", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                                       "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9" "12345678"};
    static const char *const bad[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xe0\x9f\xbf", "\xed\xa0\x80",
                                      "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
                                      "12345678\xf0\x90\x80", "1234567\x80" "1234567"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(rk_utf8_valid((const uint8_t *)good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!rk_utf8_valid((const uint8_t *)bad[i], strlen(bad[i])));
}

static void test_varints(void) {
    for (int bits = 0; bits <= 64; bits++) {
        uint64_t value = bits ? UINT64_MAX >> (64 - bits) : 0;
        uint8_t bytes[16];
        size_t size = (size_t)(rk_wire_put_varint(bytes, value) - bytes);
        CHECK(size == rk_wire_varint_size(value) && size == (size_t)(bits ? (bits + 6) / 7 : 1));
        rk_wire_reader r = rk_wire_open(bytes, size, arena);
        CHECK(rk_wire_varint(&r, RK_WIRE_MOST_VARINT) == value && !r.status && r.at == r.end);
    }
}

int main(void) {
    arena = rk_arena_new();
    if (!arena) return 1;
    test_ordinary();
    test_truncated();
    test_merging();
    test_many_labels();
    test_map_memory();
    test_refused();
    test_batch();
    test_encoding();
    test_utf8();
    test_varints();
    rk_arena_free(arena);
    FINISH();
}
