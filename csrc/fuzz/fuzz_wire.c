/* Any bytes are decoded or refused; texts lie in the input; the answer about the candidates decoded has the size that was
 * said and is a message again. The first byte says which request, the second how far from an aligned address the rest is. */
#include <stdlib.h>
#include <string.h>

#include "../rk_wire.h"
#include "../rk_wire_rank.h"

static const uint8_t *input;
static size_t input_length;
static volatile unsigned sink; /* so that what is pointed to is read */

static void look(const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) sink += ((const uint8_t *)bytes)[i];
}

static void look_text(rk_text text) {
    if (text.length && (text.bytes < input || text.bytes + text.length > input + input_length)) abort();
    if (!rk_utf8_valid(text.bytes, text.length)) abort();
}

static void look_texts(const rk_text *texts, size_t count) {
    for (size_t i = 0; i < count; i++) look_text(texts[i]);
}

/* A message of well-formed fields. */
static void check_message(const uint8_t *bytes, size_t length) {
    rk_wire_reader reader = rk_wire_open(bytes, length, NULL);
    for (uint32_t tag; rk_wire_next(&reader, &tag);) rk_wire_skip(&reader, tag);
    if (reader.status) abort();
}

/* Memory of exactly its size, so that a byte written beyond is seen. */
static uint8_t *exact(size_t size) {
    uint8_t *memory = malloc(size ? size : 1);
    if (!memory) abort();
    return memory;
}

static void answer_about(const rk_wire_request *request, const rk_wire_candidates *list) {
    size_t count = list->id_count, named = 0;
    int64_t *indexes = malloc((count + 1) * sizeof *indexes);
    rk_wire_named *features = malloc((list->column_count + 1) * sizeof *features);
    if (!indexes || !features) abort();
    for (size_t i = 0; i < count; i++) indexes[i] = (int64_t)(count - 1 - i);
    for (size_t i = 0; i < list->column_count; i++) /* those that have a value for each candidate */
        if (list->columns[i].count >= count)
            features[named++] = (rk_wire_named){list->columns[i].name, list->columns[i].values, NULL};
    rk_wire_answer answer = {
        .request_id = request->request_id, .profile_version = request->profile, .next_page_token = request->page_token,
        .ids = list->ids, .indexes = indexes, .count = count, .first_rank = request->page_size,
        .total_count = (uint32_t)count, .scores = list->base_score_count >= count ? list->base_scores : NULL,
        .features = features, .feature_count = named, .missing = indexes, .missing_count = count / 2};
    size_t size = rk_wire_answer_size(&answer), wrapped = rk_wire_result_size(&answer);
    uint8_t *out = exact(size), *result = exact(wrapped);
    if (rk_wire_encode_answer(&answer, out) != out + size) abort();
    if (rk_wire_encode_result(&answer, result) != result + wrapped) abort();
    check_message(out, size);
    check_message(result, wrapped);
    rk_wire_scores scores = {.ids = list->ids, .count = count, .outputs = features, .features = features,
                             .output_count = named, .feature_count = named, .missing = indexes, .missing_count = count / 2};
    free(out);
    out = exact(size = rk_wire_scores_size(&scores));
    if (rk_wire_encode_scores(&scores, out) != out + size) abort();
    check_message(out, size);
    free(out);
    free(result);
    free(features);
    free(indexes);
}

static void look_candidates(const rk_wire_candidates *list) {
    look_texts(list->ids, list->id_count);
    look(list->base_scores, list->base_score_count * sizeof(double));
    for (size_t i = 0; i < list->column_count; i++) {
        look_text(list->columns[i].name);
        look(list->columns[i].values, list->columns[i].count * sizeof(float));
    }
}

static void look_request(const rk_wire_request *r) {
    const rk_text texts[] = {r->profile,    r->request_id, r->query_text, r->language_code,
                             r->visitor_id, r->user_id,    r->session_id, r->page_token};
    look_texts(texts, sizeof texts / sizeof texts[0]);
    look_texts(r->segments, r->segment_count);
    for (size_t i = 0; i < r->context_count; i++) {
        const rk_wire_context *value = &r->context[i];
        look_text(value->name);
        look_text(value->text);
        if (value->which == RK_CONTEXT_VECTOR) look(value->vector, value->count * sizeof(float));
        if (value->which == RK_CONTEXT_SET) look_texts(value->set, value->count);
    }
    for (size_t i = 0; i < r->label_count; i++) {
        look_text(r->labels[i].key);
        look_text(r->labels[i].value);
    }
    look_candidates(&r->candidates);
    answer_about(r, &r->candidates);
}

static void look_batch(const rk_wire_batch *batch) {
    look_request(&batch->common);
    for (size_t i = 0; i < batch->list_count; i++) {
        look_text(batch->lists[i].request_id);
        look_text(batch->lists[i].page_token);
        look_candidates(&batch->lists[i].candidates);
        answer_about(&batch->common, &batch->lists[i].candidates);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t offset = data[1] % 8;
    uint8_t *memory = exact(offset + size - 2);
    rk_arena *arena = rk_arena_new();
    if (!arena) abort();
    memcpy(memory + offset, data + 2, size - 2);
    input = memory + offset;
    input_length = size - 2;
    rk_wire_request request;
    rk_wire_batch batch;
    switch (data[0] % 3) {
    case 0:
        if (rk_wire_decode_rank(input, input_length, arena, &request) == RK_WIRE_OK) look_request(&request);
        break;
    case 1:
        if (rk_wire_decode_score(input, input_length, arena, &request) == RK_WIRE_OK) look_request(&request);
        break;
    default:
        if (rk_wire_decode_batch(input, input_length, arena, &batch) == RK_WIRE_OK) look_batch(&batch);
    }
    rk_arena_free(arena);
    free(memory);
    return 0;
}
