/* Answers of rankd.v1.RankingService to bytes. Every message has a function for its size and one that writes it. */
#include "rk_wire.h"

/* ---- Parts. ---- */

static size_t versions_size(rk_text profile, rk_text model, rk_text schema) {
    return rk_wire_text_size(RK_TAG_VERSIONS_PROFILE, profile) + rk_wire_text_size(RK_TAG_VERSIONS_MODEL, model) +
           rk_wire_text_size(RK_TAG_VERSIONS_SCHEMA, schema);
}

/* Always there: a message is not left out for being empty. */
static uint8_t *put_versions(uint8_t *out, uint32_t tag, rk_text profile, rk_text model, rk_text schema) {
    out = rk_wire_put_block(out, tag, versions_size(profile, model, schema));
    out = rk_wire_put_text(out, RK_TAG_VERSIONS_PROFILE, profile);
    out = rk_wire_put_text(out, RK_TAG_VERSIONS_MODEL, model);
    return rk_wire_put_text(out, RK_TAG_VERSIONS_SCHEMA, schema);
}

static inline size_t place(const int64_t *indexes, size_t i) { return indexes ? (size_t)indexes[i] : i; }

static size_t ids_size(uint32_t tag, const rk_text *ids, const int64_t *indexes, size_t count) {
    size_t total = 0, any = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = ids[indexes[i]].length;
        total += length;
        any |= length;
    }
    size_t size = total + count * (rk_wire_varint_size(tag) + 1);
    if (any >= 0x80) /* else all lengths take a byte */
        for (size_t i = 0; i < count; i++) size += rk_wire_varint_size(ids[indexes[i]].length) - 1;
    return size;
}

/* The varint of a number of 8 to 14 bits. */
static inline uint32_t in_two_bytes(uint32_t value) { return (value + (value & ~0x7Fu)) | 0x80; }

/* Both fields of ids have tags of two bytes. */
_Static_assert(RK_TAG_RANK_RESPONSE_IDS >> 7 && !(RK_TAG_RANK_RESPONSE_MISSING_IDS >> 14), "tags");
_Static_assert((int)RK_TAG_RANK_RESPONSE_MISSING_IDS == (int)RK_TAG_SCORE_RESPONSE_MISSING_IDS, "tags");

static uint8_t *put_ids(uint8_t *out, uint32_t tag, const rk_text *ids, const int64_t *indexes, size_t count) {
    const uint16_t two = (uint16_t)in_two_bytes(tag);
    for (size_t i = 0; i < count; i++) {
        rk_text id = ids[indexes[i]];
        memcpy(out, &two, sizeof two);
        if (id.length < 0x80) {
            out[2] = (uint8_t)id.length;
            out += 3;
        } else {
            out = rk_wire_put_varint(out + 2, id.length);
        }
        out = rk_wire_put_bytes(out, id.bytes, id.length);
    }
    return out;
}

/* A packed number that another one follows: up to 14 bits without a branch, for which a byte of the next is overwritten. */
static inline uint8_t *put_followed(uint8_t *out, uint32_t value) {
    if (value >= 1u << 14) return rk_wire_put_varint(out, value);
    uint32_t longer = value >= 1u << 7;
    uint16_t two = (uint16_t)((value + (value & ~0x7Fu)) | longer << 7);
    memcpy(out, &two, sizeof two);
    return out + 1 + longer;
}

/* Bytes of the packed numbers first, first + 1 … */
static size_t run_size(uint32_t first, size_t count) {
    size_t size = 0;
    uint64_t at = first, end = (uint64_t)first + count;
    for (int bytes = 1; at < end; bytes++) {
        uint64_t limit = bytes < 9 ? UINT64_C(1) << 7 * bytes : UINT64_MAX; /* the first number that takes more */
        if (at >= limit) continue;
        size += (size_t)bytes * (size_t)((end < limit ? end : limit) - at);
        at = end < limit ? end : limit;
    }
    return size;
}

static uint8_t *put_run(uint8_t *out, uint32_t first, size_t count) {
    uint64_t at = first, end = at + count;
    for (; at < end && at < 1u << 7; at++) *out++ = (uint8_t)at;
    for (; at < end && at < 1u << 14; at++, out += sizeof(uint16_t)) {
        uint16_t two = (uint16_t)in_two_bytes((uint32_t)at);
        memcpy(out, &two, sizeof two);
    }
    for (; at < end; at++) out = rk_wire_put_varint(out, at);
    return out;
}

/* How many of the positions are at least `bound`. */
static size_t count_from(const int64_t *indexes, size_t count, int64_t bound) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) found += (size_t)((uint64_t)(bound - 1 - indexes[i]) >> 63);
    return found;
}

static size_t indexes_size(const int64_t *indexes, size_t count) {
    int64_t any = 0;
    for (size_t i = 0; i < count; i++) any |= indexes[i];
    size_t size = count;
    for (int bits = 7; bits < 32 && any >> bits; bits += 7) size += count_from(indexes, count, INT64_C(1) << bits);
    return size;
}

static uint8_t *put_indexes(uint8_t *out, const int64_t *indexes, size_t count) {
    for (size_t i = 0; i + 1 < count; i++) out = put_followed(out, (uint32_t)indexes[i]);
    return rk_wire_put_varint(out, (uint32_t)indexes[count - 1]);
}

/* Packed numbers of `width` bytes: field and all. */
static size_t packed_size(uint32_t tag, size_t count, size_t width) {
    return count ? rk_wire_block_size(tag, count * width) : 0;
}

static uint8_t *put_doubles(uint8_t *out, uint32_t tag, const double *values, const int64_t *indexes, size_t count) {
    if (!count) return out;
    out = rk_wire_put_block(out, tag, count * sizeof *values);
    for (size_t i = 0; i < count; i++) memcpy(out + i * sizeof *values, values + place(indexes, i), sizeof *values);
    return out + count * sizeof *values;
}

static uint8_t *put_floats(uint8_t *out, uint32_t tag, const float *values, const int64_t *indexes, size_t count) {
    if (!count) return out;
    out = rk_wire_put_block(out, tag, count * sizeof *values);
    for (size_t i = 0; i < count; i++) memcpy(out + i * sizeof *values, values + place(indexes, i), sizeof *values);
    return out + count * sizeof *values;
}

/* FeatureColumn, SignalAges and ModelOutput have one shape. */
_Static_assert((int)RK_TAG_FEATURE_COLUMN_NAME == (int)RK_TAG_MODEL_OUTPUT_NAME, "name");
_Static_assert((int)RK_TAG_FEATURE_COLUMN_VALUES == (int)RK_TAG_MODEL_OUTPUT_VALUES, "values");
_Static_assert((int)RK_TAG_FEATURE_COLUMN_NAME == (int)RK_TAG_SIGNAL_AGES_NAME, "name");
_Static_assert((int)RK_TAG_FEATURE_COLUMN_VALUES == (int)RK_TAG_SIGNAL_AGES_AGES_S, "values");

static size_t named_size(const rk_wire_named *column, size_t count) {
    return rk_wire_text_size(RK_TAG_FEATURE_COLUMN_NAME, column->name) +
           packed_size(RK_TAG_FEATURE_COLUMN_VALUES, count, column->doubles ? sizeof(double) : sizeof(float));
}

static size_t all_named_size(uint32_t tag, const rk_wire_named *columns, size_t columns_count, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < columns_count; i++) size += rk_wire_block_size(tag, named_size(&columns[i], count));
    return size;
}

static uint8_t *put_all_named(uint8_t *out, uint32_t tag, const rk_wire_named *columns, size_t columns_count,
                              const int64_t *indexes, size_t count) {
    for (size_t i = 0; i < columns_count; i++) {
        const rk_wire_named *column = &columns[i];
        out = rk_wire_put_block(out, tag, named_size(column, count));
        out = rk_wire_put_text(out, RK_TAG_FEATURE_COLUMN_NAME, column->name);
        if (column->doubles)
            out = put_doubles(out, RK_TAG_MODEL_OUTPUT_VALUES, column->doubles, indexes, count);
        else
            out = put_floats(out, RK_TAG_FEATURE_COLUMN_VALUES, column->values, indexes, count);
    }
    return out;
}

/* A zero, but not a negative one, is the default and is left out. */
static int is_default(double value) {
    static const double zero;
    return !memcmp(&value, &zero, sizeof value);
}

static size_t timing_size(const rk_wire_timing *timing) {
    size_t number = is_default(timing->microseconds)
                        ? 0
                        : rk_wire_varint_size(RK_TAG_STAGE_TIMING_MICROSECONDS) + sizeof timing->microseconds;
    return rk_wire_text_size(RK_TAG_STAGE_TIMING_STAGE, timing->stage) + number;
}

static uint8_t *put_timing(uint8_t *out, const rk_wire_timing *timing) {
    out = rk_wire_put_block(out, RK_TAG_RANK_RESPONSE_TIMINGS, timing_size(timing));
    out = rk_wire_put_text(out, RK_TAG_STAGE_TIMING_STAGE, timing->stage);
    if (is_default(timing->microseconds)) return out;
    out = rk_wire_put_varint(out, RK_TAG_STAGE_TIMING_MICROSECONDS);
    memcpy(out, &timing->microseconds, sizeof timing->microseconds);
    return out + sizeof timing->microseconds;
}

/* ---- RankResponse. ---- */

size_t rk_wire_answer_size(const rk_wire_answer *a) {
    size_t count = a->count;
    size_t size = rk_wire_text_size(RK_TAG_RANK_RESPONSE_REQUEST_ID, a->request_id);
    size += rk_wire_block_size(RK_TAG_RANK_RESPONSE_VERSIONS,
                               versions_size(a->profile_version, a->model_version, a->schema_version));
    size += ids_size(RK_TAG_RANK_RESPONSE_IDS, a->ids, a->indexes, count);
    size += packed_size(RK_TAG_RANK_RESPONSE_RANKS, run_size(a->first_rank, count), 1);
    size += packed_size(RK_TAG_RANK_RESPONSE_INDEXES, indexes_size(a->indexes, count), 1);
    if (a->scores) size += packed_size(RK_TAG_RANK_RESPONSE_SCORES, count, sizeof *a->scores);
    if (a->base_scores) size += packed_size(RK_TAG_RANK_RESPONSE_BASE_SCORES, count, sizeof *a->base_scores);
    size += all_named_size(RK_TAG_RANK_RESPONSE_FEATURES, a->features, a->feature_count, count);
    size += all_named_size(RK_TAG_RANK_RESPONSE_SIGNAL_AGES, a->ages, a->age_count, count);
    size += rk_wire_number_size(RK_TAG_RANK_RESPONSE_TOTAL_COUNT, a->total_count);
    size += rk_wire_number_size(RK_TAG_RANK_RESPONSE_RESCORED_COUNT, a->rescored_count);
    size += ids_size(RK_TAG_RANK_RESPONSE_MISSING_IDS, a->ids, a->missing, a->missing_count);
    size += rk_wire_text_size(RK_TAG_RANK_RESPONSE_NEXT_PAGE_TOKEN, a->next_page_token);
    for (size_t i = 0; i < a->timing_count; i++)
        size += rk_wire_block_size(RK_TAG_RANK_RESPONSE_TIMINGS, timing_size(&a->timings[i]));
    return size + a->told.length + a->degradation.length;
}

uint8_t *rk_wire_encode_answer(const rk_wire_answer *a, uint8_t *out) {
    size_t count = a->count;
    out = rk_wire_put_text(out, RK_TAG_RANK_RESPONSE_REQUEST_ID, a->request_id);
    out = put_versions(out, RK_TAG_RANK_RESPONSE_VERSIONS, a->profile_version, a->model_version, a->schema_version);
    if (count) {
        out = put_ids(out, RK_TAG_RANK_RESPONSE_IDS, a->ids, a->indexes, count);
        out = rk_wire_put_block(out, RK_TAG_RANK_RESPONSE_RANKS, run_size(a->first_rank, count));
        out = put_run(out, a->first_rank, count);
        out = rk_wire_put_block(out, RK_TAG_RANK_RESPONSE_INDEXES, indexes_size(a->indexes, count));
        out = put_indexes(out, a->indexes, count);
    }
    if (a->scores) out = put_doubles(out, RK_TAG_RANK_RESPONSE_SCORES, a->scores, a->indexes, count);
    if (a->base_scores) out = put_doubles(out, RK_TAG_RANK_RESPONSE_BASE_SCORES, a->base_scores, a->indexes, count);
    out = put_all_named(out, RK_TAG_RANK_RESPONSE_FEATURES, a->features, a->feature_count, a->indexes, count);
    out = put_all_named(out, RK_TAG_RANK_RESPONSE_SIGNAL_AGES, a->ages, a->age_count, a->indexes, count);
    out = rk_wire_put_number(out, RK_TAG_RANK_RESPONSE_TOTAL_COUNT, a->total_count);
    out = rk_wire_put_number(out, RK_TAG_RANK_RESPONSE_RESCORED_COUNT, a->rescored_count);
    out = put_ids(out, RK_TAG_RANK_RESPONSE_MISSING_IDS, a->ids, a->missing, a->missing_count);
    out = rk_wire_put_text(out, RK_TAG_RANK_RESPONSE_NEXT_PAGE_TOKEN, a->next_page_token);
    for (size_t i = 0; i < a->timing_count; i++) out = put_timing(out, &a->timings[i]);
    out = rk_wire_put_bytes(out, a->told.bytes, a->told.length);
    return rk_wire_put_bytes(out, a->degradation.bytes, a->degradation.length);
}

/* ---- BatchRankResponse{results: [{response: answer}]} ---- */

static size_t result_body_size(size_t answer_size) {
    return rk_wire_block_size(RK_TAG_BATCH_RANK_RESPONSE_RESULT_RESPONSE, answer_size);
}

size_t rk_wire_result_size(const rk_wire_answer *answer) {
    size_t body = result_body_size(rk_wire_answer_size(answer));
    return rk_wire_block_size(RK_TAG_BATCH_RANK_RESPONSE_RESULTS, body);
}

uint8_t *rk_wire_encode_result(const rk_wire_answer *answer, uint8_t *out) {
    size_t size = rk_wire_answer_size(answer);
    out = rk_wire_put_block(out, RK_TAG_BATCH_RANK_RESPONSE_RESULTS, result_body_size(size));
    out = rk_wire_put_block(out, RK_TAG_BATCH_RANK_RESPONSE_RESULT_RESPONSE, size);
    return rk_wire_encode_answer(answer, out);
}

/* ---- ScoreResponse. ---- */

size_t rk_wire_scores_size(const rk_wire_scores *s) {
    size_t size = rk_wire_text_size(RK_TAG_SCORE_RESPONSE_REQUEST_ID, s->request_id);
    size += rk_wire_block_size(RK_TAG_SCORE_RESPONSE_VERSIONS,
                               versions_size(s->profile_version, s->model_version, s->schema_version));
    size += all_named_size(RK_TAG_SCORE_RESPONSE_OUTPUTS, s->outputs, s->output_count, s->count);
    size += all_named_size(RK_TAG_SCORE_RESPONSE_FEATURES, s->features, s->feature_count, s->count);
    size += all_named_size(RK_TAG_SCORE_RESPONSE_SIGNAL_AGES, s->ages, s->age_count, s->count);
    size += ids_size(RK_TAG_SCORE_RESPONSE_MISSING_IDS, s->ids, s->missing, s->missing_count);
    return size + s->told.length;
}

uint8_t *rk_wire_encode_scores(const rk_wire_scores *s, uint8_t *out) {
    out = rk_wire_put_text(out, RK_TAG_SCORE_RESPONSE_REQUEST_ID, s->request_id);
    out = put_versions(out, RK_TAG_SCORE_RESPONSE_VERSIONS, s->profile_version, s->model_version, s->schema_version);
    out = put_all_named(out, RK_TAG_SCORE_RESPONSE_OUTPUTS, s->outputs, s->output_count, NULL, s->count);
    out = put_all_named(out, RK_TAG_SCORE_RESPONSE_FEATURES, s->features, s->feature_count, NULL, s->count);
    out = put_all_named(out, RK_TAG_SCORE_RESPONSE_SIGNAL_AGES, s->ages, s->age_count, NULL, s->count);
    out = put_ids(out, RK_TAG_SCORE_RESPONSE_MISSING_IDS, s->ids, s->missing, s->missing_count);
    return rk_wire_put_bytes(out, s->told.bytes, s->told.length);
}
