/* rk_rank: a call of RankingService from request bytes to response bytes.
 *
 *   decode - check - retrieve - features - base - model - page - encode
 *
 * Order: of scores by rk_order's rule. With a model the best `rerank_count` by base rank are scored by it and stand
 * first; equal model scores keep base rank. Base rank is by base score, then id; without any base score it is the
 * order given. Base scores are the profile's expression's, else the caller's, else missing.
 *
 * Use: rk_rank_prepare decodes and checks; then, if `need_count` is not 0, the caller normalises those texts (only
 * ASCII is normalised here) and sets their results; then, where rows are fetched for each call, rk_rank_want_rows says which;
 * then rk_rank_run. All memory of a call is of its two arenas: what is read out of `rk_rank_call` lives until they are
 * reset.
 * Ownership: plans, limits, request bytes and texts are borrowed and must outlive the call.
 * Threads: plans are constant; one call is of one thread at a time; any number of calls may run at once.
 * Limits: those of rk_rank_limits, compared before anything is allocated for what they bound.
 */
#ifndef RK_RANK_H
#define RK_RANK_H

#include <stddef.h>
#include <stdint.h>

#include "rk_arena.h"
#include "rk_program.h"
#include "rk_scorer.h"
#include "rk_table.h"
#include "rk_wire_rank.h"

/* ---- Plans ---- */

typedef enum {
    RK_SOURCE_SIGNAL,   /* column `index` of reading `reading` */
    RK_SOURCE_COLUMN,   /* request column `index` of the declared ones */
    RK_SOURCE_CONTEXT,  /* context feature `index` of the declared ones */
    RK_SOURCE_FEATURE,  /* output `index` of the feature program (of base programs) */
    RK_SOURCE_BASE_SCORE,
    RK_SOURCE_POSITION, /* 1 is the first given */
    RK_SOURCE_NOW,
    RK_SOURCE_QUERY,
    RK_SOURCE_LANGUAGE,
    RK_SOURCE_SURFACE,
    RK_SOURCE_SEGMENTS,
    RK_SOURCES
} rk_source;

/* Where an input of a program comes from. */
typedef struct {
    int32_t source; /* of rk_source */
    int32_t index;
    int32_t reading;
    int32_t kind;   /* of rk_kind, as the program has it */
    int32_t dimension;
} rk_binding;

typedef struct {
    const rk_program *program; /* NULL: none */
    const rk_binding *inputs;
    size_t input_count;
} rk_bound_program;

/* What a row's id is made of. */
typedef enum {
    RK_ID_CANDIDATE, /* the candidate's id */
    RK_ID_USER,      /* the user's id, else the visitor's */
    RK_ID_SESSION,
    RK_ID_QUERY,     /* the query's key */
    RK_ID_CATEGORY,  /* of the candidate: column `column` of the first read */
    RK_ID_SOURCES
} rk_id_source;

typedef struct {
    int32_t source; /* of rk_id_source */
    int32_t column;
} rk_id_part;

/* Signals of an entity; the candidates' stand first, and their ids are the candidates'. An id of several parts is
 * joined as types/text.py's composite_id has it; where a part is missing, so is the row. */
typedef struct {
    const rk_table_reading *reading; /* of column_count columns */
    const rk_table_reading *dated;   /* the same, then the time of each (RK_PART_TIME) */
    const rk_text *names;            /* of the columns, with the entity's: item.price */
    const rk_id_part *parts;
    size_t column_count, part_count;
    int32_t by_key;     /* of candidates: their ids are the texts' keys (the entity `query`) */
    int32_t is_fetched; /* rows are to be brought before the call is run */
} rk_plan_read;

/* Distinct names by their numbers; `sorted`: the numbers, their names ascending byte for byte. */
typedef struct {
    const rk_text *names;
    const int32_t *sorted;
    size_t count;
} rk_names;

/* A declared context feature, by its number; `which` is the field of ContextValue that it is sent in. */
typedef struct {
    int32_t which;
    int32_t dimension; /* of VECTOR */
} rk_declared_context;

typedef struct {
    rk_text name, profile_version, model_version, schema_version;
    rk_bound_program features, base;
    const rk_text *feature_names;
    size_t feature_count;
    const rk_scorer *scorer;   /* NULL: no model */
    const rk_text *output_names;
    const int32_t *model_rows; /* the feature of each input of the model; NULL: they coincide */
    size_t rerank_count;       /* SIZE_MAX: all */
    const rk_plan_read *reads;
    size_t read_count, fetched_count;
    const rk_table_reading *categories; /* the first read's leading `category_count` columns, whatever their age: what
                                           ids of fetched rows are made of; NULL: nothing */
    size_t category_count;
    rk_names columns, contexts;
    const rk_declared_context *declared;
    const rk_table *dictionary;
    double candidate_cost, scored_cost; /* estimated ns of a candidate, and of one that the model scores */
} rk_plan;

/* 0 if every index, kind and count in a plan is within its bounds, else -1. */
int rk_plan_check(const rk_plan *plan);

/* The number of a name, or -1. `hint` is a guess of it, such as the last one plus one. */
int64_t rk_names_find(const rk_names *names, rk_text name, size_t hint);

typedef struct {
    size_t candidates, columns, id_bytes, batch_lists, batch_candidates;
    size_t query_bytes, language_bytes, request_id_bytes, segments, labels, label_bytes, set_members;
} rk_rank_limits;

typedef struct {
    const rk_plan *const *plans; /* by the numbers of `names` */
    rk_names names;
    rk_rank_limits limits;
    uint64_t seed[2]; /* random: of the hash that finds ids sent twice */
} rk_plan_set;

/* ---- Faults ---- */

/* kind, name, and what `limit`, `count`, `other`, `number`, `text` and `name` mean. X(CODE, name) */
#define RK_FAULTS(X)                                                                              \
    X(NONE, "none")                                                                               \
    X(MALFORMED, "malformed")                                                                     \
    X(NO_MEMORY, "no_memory")                                                                     \
    X(INTERNAL, "internal")                                                                       \
    X(DEADLINE, "deadline")                                                                       \
    X(UNKNOWN_PROFILE, "unknown_profile")     /* text: the name sent */                           \
    X(NO_MODEL, "no_model")                                                                       \
    X(MANY_OUTPUTS, "many_outputs")           /* count: of the model */                           \
    X(TOO_LONG, "too_long")                   /* limit, count: bytes */                           \
    X(TOO_MANY, "too_many")                   /* limit, count */                                  \
    X(NO_SURFACE, "no_surface")               /* count: the number sent */                        \
    X(NO_VIEW, "no_view")                     /* count: the number sent */                        \
    X(PAGE_SIZE, "page_size")                 /* limit, count */                                  \
    X(SECONDS, "seconds")                     /* count */                                         \
    X(NANOS, "nanos")                         /* count */                                         \
    X(UNKNOWN_CONTEXT, "unknown_context")     /* name */                                          \
    X(CONTEXT_TYPE, "context_type")           /* name; other: what was sent, of rk_context_case */ \
    X(UNKNOWN_COLUMN, "unknown_column")       /* text */                                          \
    X(REPEATED_COLUMN, "repeated_column")     /* text */                                          \
    X(ONE_PER_ID, "one_per_id")               /* limit: ids, count: sent */                       \
    X(ONE_PER_ID_OR_NONE, "one_per_id_or_none")                                                   \
    X(DIMENSION, "dimension")                 /* limit, count */                                  \
    X(INFINITE, "infinite")                   /* number; missing is allowed */                    \
    X(NOT_FINITE, "not_finite")               /* number */                                        \
    X(EMPTY_ID, "empty_id")                                                                       \
    X(DUPLICATE_ID, "duplicate_id")           /* other: the first one's place; text */            \
    X(REPEATED_MEMBER, "repeated_member")     /* text */                                          \
    X(BATCH_CANDIDATES, "batch_candidates")                                                       \
    X(BATCH_TOKEN, "batch_token")                                                                 \
    X(BATCH_LISTS, "batch_lists")             /* limit, count: too many */                        \
    X(BATCH_EMPTY, "batch_empty")             /* limit, count: 0 */                               \
    X(BATCH_TOTAL, "batch_total")             /* limit, count */                                  \
    X(TOKEN_FORM, "token_form")                                                                   \
    X(TOKEN_DAMAGED, "token_damaged")                                                             \
    X(TOKEN_OTHER, "token_other")                                                                 \
    X(TOKEN_ORDER, "token_order")

/* Paths, below "common." or "lists[i].": {index}, {at} and {name} (quoted) are filled in. */
#define RK_FIELDS(X)                                                  \
    X(NONE, "")                                                       \
    X(REQUEST_ID, "request_id")                                       \
    X(PROFILE, "profile")                                             \
    X(QUERY_TEXT, "query.text")                                       \
    X(LANGUAGE, "query.language_code")                                \
    X(VISITOR_ID, "user.visitor_id")                                  \
    X(USER_ID, "user.user_id")                                        \
    X(SESSION_ID, "user.session_id")                                  \
    X(SEGMENTS, "user.segments")                                      \
    X(SURFACE, "surface")                                             \
    X(LABELS, "labels")                                               \
    X(LABEL, "labels[{name}]")                                        \
    X(AS_OF, "as_of")                                                 \
    X(CONTEXT, "context_features[{name}]")                            \
    X(CONTEXT_NUMBER, "context_features[{name}].number")              \
    X(CONTEXT_TEXT, "context_features[{name}].text")                  \
    X(CONTEXT_TIMESTAMP, "context_features[{name}].timestamp")        \
    X(CONTEXT_SET, "context_features[{name}].set.values")             \
    X(CONTEXT_MEMBER, "context_features[{name}].set.values[{at}]")    \
    X(CONTEXT_VECTOR, "context_features[{name}].vector.values")       \
    X(CONTEXT_ENTRY, "context_features[{name}].vector.values[{at}]")  \
    X(PAGE_SIZE, "page_size")                                         \
    X(PAGE_TOKEN, "page_token")                                       \
    X(VIEW, "view")                                                   \
    X(CANDIDATES, "candidates")                                       \
    X(IDS, "candidates.ids")                                          \
    X(ID, "candidates.ids[{at}]")                                     \
    X(BASE_SCORES, "candidates.base_scores")                          \
    X(BASE_SCORE, "candidates.base_scores[{at}]")                     \
    X(COLUMNS, "candidates.columns")                                  \
    X(COLUMN_NAME, "candidates.columns[{index}].name")                \
    X(COLUMN_VALUES, "candidates.columns[{index}].values")            \
    X(COLUMN_VALUE, "candidates.columns[{index}].values[{at}]")       \
    X(LISTS, "lists")

#define RK_FAULT_CODE(code, name) RK_FAULT_##code,
#define RK_FIELD_CODE(code, path) RK_FIELD_##code,
typedef enum { RK_FAULTS(RK_FAULT_CODE) RK_FAULT_KINDS } rk_fault_kind;
typedef enum { RK_FIELDS(RK_FIELD_CODE) RK_FIELD_KINDS } rk_field;

typedef struct {
    rk_fault_kind kind;
    rk_field field;
    int64_t index, at;           /* places in the path */
    int64_t limit, count, other; /* by kind */
    double number;
    rk_text text, name;
} rk_fault;

const char *rk_fault_name(int32_t kind);  /* NULL past the last */
const char *rk_field_path(int32_t field); /* NULL past the last */

/* ---- Calls ---- */

typedef enum { RK_METHOD_RANK, RK_METHOD_BATCH_RANK, RK_METHOD_SCORE } rk_method;

typedef enum { RK_STAGE_RETRIEVE, RK_STAGE_FEATURES, RK_STAGE_BASE, RK_STAGE_MODEL, RK_STAGE_PAGE } rk_stage;
const char *rk_stage_name(int32_t stage); /* NULL past the last */

typedef struct {
    int32_t stage;
    int64_t list; /* of a batch; -1: the only one */
    int64_t start_ns, end_ns;
    size_t candidate_count, missing_count;
} rk_stage_time;

/* What a caller wants of a call, beside its bytes. */
typedef struct {
    rk_text request_id;     /* for callers that sent none */
    double now_s;
    int64_t deadline_ns;    /* of CLOCK_MONOTONIC; INT64_MAX: none */
    size_t max_rescored;    /* SIZE_MAX: as the plan says */
    rk_text degradation;    /* encoded fields of RankResponse, put into answers that max_rescored has changed */
    int with_stages;
} rk_rank_options;

/* A text that is not ASCII; the caller sets `normal`. `is_key`: as a key of the entity `query`, else as words. */
typedef struct {
    rk_text text, normal;
    int is_key;
} rk_text_need;

/* How one list of a batch fared. `offset`: where its Result stands, or would stand, in the answer. */
typedef struct {
    rk_fault fault; /* kind NONE: answered */
    rk_text request_id;
    size_t offset;
} rk_list_result;

/* Rows to be brought, of one read and one list: ids as they are stored, none empty, not all distinct. */
typedef struct {
    size_t read;
    const rk_text *ids;
    size_t count;
} rk_rank_want;

typedef struct rk_rank_state rk_rank_state; /* what lies between prepare and run, in the arena */

typedef struct {
    rk_arena *arena, *scratch; /* of the call; of one list at a time */
    const rk_plan_set *plans;
    const rk_plan *plan; /* NULL: none found */
    int64_t plan_number;
    rk_fault fault;      /* of the whole call; kind NONE: answered */
    rk_text request_id;
    rk_text answer;
    double cost;         /* estimated ns of running */
    rk_text_need *needs;
    size_t need_count;
    const rk_rank_want *wants;
    size_t want_count;
    rk_text told; /* encoded fields of a response, put into every answer; the caller may set them before rk_rank_run */
    rk_list_result *lists; /* of a batch */
    size_t list_count;
    rk_stage_time *stages;
    size_t stage_count;
    size_t candidate_count, missing_count, rescored_count, returned_count;
    int degraded;
    rk_rank_state *state;
} rk_rank_call;

/* Decodes and checks. Sets everything in `call` but arenas and plans, which are the caller's to set. */
void rk_rank_prepare(rk_rank_call *call, rk_method method, rk_text request, const rk_rank_options *options);

/* Sets `wants` of a call that was prepared without a fault and whose needs are answered. */
void rk_rank_want_rows(rk_rank_call *call);

/* Ranks or scores what was prepared without a fault. */
void rk_rank_run(rk_rank_call *call);

#endif
