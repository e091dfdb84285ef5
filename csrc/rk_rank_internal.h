/* What the files of rk_rank share: a call between prepare and run, and one list of it. */
#ifndef RK_RANK_INTERNAL_H
#define RK_RANK_INTERNAL_H

#include "rk_rank.h"

enum { RK_MOST_STAGES = 5, RK_VIEW_BASIC = 1, RK_VIEW_SCORES = 2, RK_VIEW_FEATURES = 3 };

/* One list as checked. */
typedef struct {
    const rk_wire_candidates *candidates;
    const rk_wire_column **columns; /* by the number of the declared column; NULL: not sent */
    size_t page_size;               /* SIZE_MAX: all */
    rk_text page_token, request_id;
    int32_t view;
    int64_t place;     /* in the batch; -1: the only one */
    size_t first_need; /* of its ids' keys */
} rk_list;

struct rk_rank_state {
    rk_method method;
    rk_rank_options options;
    rk_wire_request request; /* what lists share */
    const rk_wire_list *wire_lists;
    rk_list only; /* but in a batch */
    double as_of_s;
    const rk_wire_context **sent; /* by the number of the declared context feature; NULL: not sent */
    rk_column *contexts;          /* the same, of one row */
    rk_column query, language, surface, segments;
    size_t query_need, key_need;      /* SIZE_MAX: none */
    size_t *context_needs, *list_needs;
    rk_text query_key;                /* NULL bytes until it is made */
    rk_column **reads;                /* of what all lists share; an entry is NULL until it is read */
    uint64_t fingerprint;
    int has_fingerprint;
    rk_wire_timing timings[RK_MOST_STAGES];
};

static inline int rk_fault_of(rk_fault *to, rk_fault fault)
{
    *to = fault;
    return -1;
}

static inline int rk_short_of_memory(rk_fault *to) { return rk_fault_of(to, (rk_fault){.kind = RK_FAULT_NO_MEMORY}); }

/* Checks: 0, or -1 and *fault. */
int rk_check_common(const rk_wire_request *request, const rk_plan *plan, const rk_rank_limits *limits,
                    const uint64_t seed[2], const rk_wire_context **sent, rk_fault *fault);
int rk_check_bytes(rk_text text, size_t limit, rk_field field, rk_fault *fault);
int rk_check_page_size(int has_page_size, uint32_t page_size, const rk_rank_limits *limits, rk_fault *fault);
int rk_check_view(int32_t view, rk_fault *fault);

/* Sets `columns` of the list, from `arena`. */
int rk_check_list(rk_list *list, const rk_plan *plan, const rk_rank_limits *limits, const uint64_t seed[2],
                  rk_arena *arena, rk_fault *fault);

double rk_seconds_of(rk_wire_timestamp stamp);

/* Texts. Of the first two `text` is ASCII; NULL bytes without memory. */
int rk_is_ascii(rk_text text);
rk_text rk_words_of(rk_text text, rk_arena *arena);
rk_text rk_query_key_of(rk_text text, rk_arena *arena);
int32_t rk_code_of(const rk_table *dictionary, rk_text text); /* of an unknown text: one of its own */

/* Columns of one row, but for what is said. 0, or -1 without memory. */
int rk_one_number(rk_column *column, double value, rk_arena *arena);
int rk_one_category(rk_column *column, const rk_table *dictionary, rk_text text, rk_arena *arena);
int rk_one_text(rk_column *column, rk_text normal, rk_arena *arena);
int rk_one_set(rk_column *column, const rk_table *dictionary, const rk_text *texts, size_t count, rk_arena *arena);
int rk_one_missing(rk_column *column, const rk_binding *input, rk_arena *arena);

/* Whether a program of the plan has an input of this source (and, unless negative, this index). */
int rk_plan_uses(const rk_plan *plan, rk_source source, int64_t index);

/* Columns of what all lists share, once the needs are answered. 0, or -1 without memory. */
int rk_bind_shared(rk_rank_call *call);

/* ---- rk_rank_retrieve.c ---- */

/* Whether the rows of a read differ from candidate to candidate. */
int rk_is_per_candidate(const rk_plan_read *read);

/* The candidates of a list as they are stored. NULL without memory. */
const rk_text *rk_stored_ids(const rk_rank_call *call, const rk_list *list, rk_arena *arena);

/* Ids of a read's rows, "" where there is none: `n` of them if they differ from candidate to candidate, else one.
 * `candidates` and `columns` are those of the first read. NULL without memory. */
const rk_text *rk_row_ids(const rk_rank_call *call, const rk_plan_read *read, const rk_text *candidates, size_t n,
                          const rk_column *columns, rk_arena *arena);

/* What a list's programs read. */
typedef struct {
    rk_rank_call *call;
    const rk_plan *plan;
    const rk_list *list;
    rk_column **reads; /* by the number of the reading; of `dated` ones, the times of the values after them */
    const float *matrix;
    double now_s;
    size_t count;
    int is_dated;
    const double *nothing; /* missing numbers, once they are made */
} rk_bindings;

/* Reads all rows of a list; those that lists share only once, unless `is_alone`. 0, or -1 without memory. */
int rk_retrieve(rk_bindings *b, int is_alone, int is_dated, uint8_t *found);

/* Of every signal that was read with its time: its age, by candidate, in seconds; NaN: missing. NULL without memory. */
rk_wire_named *rk_signal_ages(const rk_bindings *b, size_t *count);

/* Runs a program over all candidates into `out` (outputs x count). 0, or -1 and *fault. */
int rk_run_program(rk_bindings *b, const rk_bound_program *program, int as_double, void *out, rk_fault *fault);

/* One list from retrieve to its encoded answer: in *answer, from call->arena. 0, or -1 and *fault. */
int rk_rank_list(rk_rank_call *call, const rk_list *list, rk_text *answer, rk_fault *fault);
int rk_score_list(rk_rank_call *call, const rk_list *list, rk_text *answer, rk_fault *fault);

/* Stages of a list, of which a call has RK_MOST_STAGES a list. */
int64_t rk_now_ns(void);
int rk_is_late(const rk_rank_call *call);

#endif
