/* rk_wire_rank: the messages of rankd.v1.RankingService, from and to protobuf's wire format.
 *
 * Decoding accepts exactly what protobuf's own parser (upb) accepts, and gives what it would give: unknown fields and
 * groups are skipped, a later scalar wins, sub-messages that come twice are merged, repeated fields go on, packed or not,
 * map entries with one key: the later wins (one with a field besides key and value is no entry), oneof: the later wins
 * (or merges, if it is the same message), strings are checked to be UTF-8, varints may be overlong to ten bytes, nesting
 * is bounded at 100. No meaning is checked here: no limits, no names. Views point into the request's bytes, which must
 * outlive them; arrays that need a copy (split or unpacked fields, unaligned numbers) are in the arena.
 * After a fault what a message has is not defined, but it points nowhere else.
 */
#ifndef RK_WIRE_RANK_H
#define RK_WIRE_RANK_H

#include <stddef.h>
#include <stdint.h>

#include "rk_arena.h"
#include "rk_id_index.h"

typedef rk_id rk_text; /* UTF-8 */

typedef struct {
    int64_t seconds;
    int32_t nanos;
} rk_wire_timestamp;

typedef enum { /* the oneof of ContextValue; 0 is none */
    RK_CONTEXT_NONE,
    RK_CONTEXT_NUMBER,
    RK_CONTEXT_CATEGORY,
    RK_CONTEXT_TEXT,
    RK_CONTEXT_VECTOR,
    RK_CONTEXT_SET,
    RK_CONTEXT_TIMESTAMP,
    RK_CONTEXT_FLAG
} rk_context_case;

typedef struct {
    rk_text name;
    rk_context_case which;
    double number;
    rk_text text;         /* of CATEGORY and TEXT */
    const float *vector;  /* of VECTOR: `count` of them */
    const rk_text *set;   /* of SET: `count` of them */
    size_t count;
    rk_wire_timestamp timestamp;
    int flag;
} rk_wire_context;

typedef struct {
    rk_text key, value;
} rk_wire_label;

typedef struct {
    rk_text name;
    const float *values;
    size_t count;
} rk_wire_column;

/* Candidates. A list that was not sent has no ids. */
typedef struct {
    const rk_text *ids;
    const double *base_scores;
    const rk_wire_column *columns;
    size_t id_count, base_score_count, column_count;
} rk_wire_candidates;

/* RankRequest, ScoreRequest and the `common` of BatchRankRequest. What a message does not have stays 0. */
typedef struct {
    rk_text profile, request_id, query_text, language_code, visitor_id, user_id, session_id, page_token;
    int32_t surface, view;
    const rk_text *segments;
    const rk_wire_context *context; /* distinct names, in the order each name first came */
    const rk_wire_label *labels;    /* distinct keys */
    size_t segment_count, context_count, label_count;
    rk_wire_candidates candidates;
    int has_candidates, has_as_of, has_page_size, include_timings; /* booleans */
    int raw, include_features;                                     /* of ScoreRequest */
    uint32_t page_size;
    rk_wire_timestamp as_of;
} rk_wire_request;

/* BatchRankRequest.List */
typedef struct {
    rk_text request_id, page_token;
    rk_wire_candidates candidates;
    int has_page_size;
    uint32_t page_size;
} rk_wire_list;

typedef struct {
    rk_wire_request common;
    const rk_wire_list *lists;
    size_t list_count;
} rk_wire_batch;

typedef enum { RK_WIRE_OK, RK_WIRE_MALFORMED, RK_WIRE_NO_MEMORY } rk_wire_status;

rk_wire_status rk_wire_decode_rank(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_request *request);
rk_wire_status rk_wire_decode_score(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_request *request);
rk_wire_status rk_wire_decode_batch(const uint8_t *bytes, size_t length, rk_arena *arena, rk_wire_batch *batch);

/* A named column of numbers to be written. */
typedef struct {
    rk_text name;
    const float *values;
    const double *doubles; /* of ScoreResponse.outputs, instead of `values`; else NULL */
} rk_wire_named;

typedef struct {
    rk_text stage;
    double microseconds;
} rk_wire_timing;

/* RankResponse. Columns are written through `indexes`: position p of the page is candidate indexes[p]. */
typedef struct {
    rk_text request_id, profile_version, model_version, schema_version, next_page_token;
    const rk_text *ids;      /* of the request's candidates */
    const int64_t *indexes;  /* `count` positions in the request, best first */
    size_t count;
    uint32_t first_rank, total_count, rescored_count;
    const double *scores, *base_scores; /* by candidate, or NULL: not asked for */
    const rk_wire_named *features;      /* by candidate */
    const rk_wire_named *ages;          /* of signals, by candidate */
    size_t feature_count, age_count;
    const int64_t *missing; /* positions of the whole list */
    size_t missing_count;
    const rk_wire_timing *timings;
    size_t timing_count;
    rk_text told, degradation; /* further fields, encoded by the caller, put at the end in this order */
} rk_wire_answer;

/* ScoreResponse: outputs and features are in the order given. */
typedef struct {
    rk_text request_id, profile_version, model_version, schema_version;
    const rk_text *ids;
    size_t count;
    const rk_wire_named *outputs, *features, *ages;
    size_t output_count, feature_count, age_count;
    const int64_t *missing;
    size_t missing_count;
    rk_text told; /* as in rk_wire_answer */
} rk_wire_scores;

/* The exact size of the encoded message, then the message itself to `out`, which has that many bytes; it returns its end.
 * Fields are written in the order of their numbers, repeated numbers packed, defaults left out, `versions` always there:
 * the bytes are those that protobuf itself would write (`told` and `degradation` come last, whatever their
 * numbers). Texts are not checked
 * to be UTF-8. Positions are below 2^32 and inside `ids`; answers are of at most INT32_MAX bytes, as protobuf's. */
size_t rk_wire_answer_size(const rk_wire_answer *answer);
uint8_t *rk_wire_encode_answer(const rk_wire_answer *answer, uint8_t *out);
size_t rk_wire_scores_size(const rk_wire_scores *scores);
uint8_t *rk_wire_encode_scores(const rk_wire_scores *scores, uint8_t *out);

/* The same as BatchRankResponse{results: [{response: answer}]}: pieces joined end to end are one message. */
size_t rk_wire_result_size(const rk_wire_answer *answer);
uint8_t *rk_wire_encode_result(const rk_wire_answer *answer, uint8_t *out);

#endif
