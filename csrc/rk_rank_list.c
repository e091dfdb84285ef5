/* One list through all stages. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include <math.h>
#include <string.h>
#include <time.h>

#include "rk_order.h"
#include "rk_page.h"
#include "rk_rank_internal.h"

/* A list while it is ranked. Arrays are by position in the request unless said otherwise. */
typedef struct {
    rk_rank_call *call;
    rk_rank_state *state;
    const rk_plan *plan;
    const rk_list *list;
    rk_bindings bindings;
    size_t n;
    rk_page_cursor cursor; /* of a later page; the first: offset 0, remaining NULL */
    uint8_t *found;
    int64_t *missing;
    size_t missing_count;
    float *matrix;       /* features x n */
    const double *base;  /* base scores */
    double *scores;      /* what decided each place */
    const int64_t *order; /* n - offset positions, best first */
    size_t rescored_count;
    int degraded;
    rk_stage_time times[RK_MOST_STAGES];
    size_t time_count;
    int64_t stage_start_ns;
} list_run;

int64_t rk_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int rk_is_late(const rk_rank_call *call)
{
    int64_t deadline_ns = call->state->options.deadline_ns;
    return deadline_ns != INT64_MAX && rk_now_ns() >= deadline_ns;
}

static int is_timed(const list_run *run)
{
    return run->state->options.with_stages || run->state->request.include_timings;
}

static void begin_stage(list_run *run)
{
    if (is_timed(run)) run->stage_start_ns = rk_now_ns();
}

/* Ends a stage and begins the next. -1 if the deadline has passed. */
static int end_stage(list_run *run, rk_stage stage, size_t count, rk_fault *fault)
{
    if (is_timed(run)) {
        int64_t now_ns = rk_now_ns();
        run->times[run->time_count++] = (rk_stage_time){.stage = stage, .list = run->list->place,
                                                        .start_ns = run->stage_start_ns, .end_ns = now_ns,
                                                        .candidate_count = count, .missing_count = run->missing_count};
        run->stage_start_ns = now_ns;
    }
    return rk_is_late(run->call) ? rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_DEADLINE}) : 0;
}

/* ---- retrieve ---- */

/* Whether features are part of the answer; then the ages of signals are, too. */
static int shows_features(const list_run *run)
{
    return run->state->method == RK_METHOD_SCORE ? run->state->request.include_features
                                                 : run->list->view >= RK_VIEW_FEATURES;
}

/* Later pages are of their first page's time: what they read is theirs alone. */
static int retrieve(list_run *run, rk_fault *fault)
{
    rk_arena *arena = run->call->scratch;
    begin_stage(run);
    run->bindings.reads = rk_arena_array(arena, run->plan->read_count, sizeof *run->bindings.reads);
    run->found = rk_arena_take(arena, run->n);
    run->missing = rk_arena_array(arena, run->n, sizeof *run->missing);
    if (!run->bindings.reads || !run->found || !run->missing ||
        rk_retrieve(&run->bindings, run->cursor.remaining != NULL, shows_features(run), run->found))
        return rk_short_of_memory(fault);
    for (size_t i = 0; i < run->n; i++) {
        run->missing[run->missing_count] = (int64_t)i;
        run->missing_count += !run->found[i];
    }
    return end_stage(run, RK_STAGE_RETRIEVE, run->n, fault);
}

/* ---- features and base ---- */

static int compute_features(list_run *run, rk_fault *fault)
{
    run->matrix = rk_arena_array(run->call->scratch, run->plan->feature_count * run->n, sizeof *run->matrix);
    if (!run->matrix) return rk_short_of_memory(fault);
    if (rk_run_program(&run->bindings, &run->plan->features, 0, run->matrix, fault)) return -1;
    run->bindings.matrix = run->matrix;
    return end_stage(run, RK_STAGE_FEATURES, run->n, fault);
}

static int compute_base(list_run *run, rk_fault *fault)
{
    const rk_wire_candidates *c = run->list->candidates;
    if (!run->plan->base.program && c->base_score_count) {
        run->base = c->base_scores;
        return 0;
    }
    double *base = rk_arena_array(run->call->scratch, run->n, sizeof *base);
    if (!base) return rk_short_of_memory(fault);
    run->base = base;
    if (run->plan->base.program) return rk_run_program(&run->bindings, &run->plan->base, 1, base, fault);
    for (size_t i = 0; i < run->n; i++) base[i] = (double)NAN;
    return 0;
}

/* Positions by base rank. NULL without memory. */
static int64_t *base_order(list_run *run)
{
    int64_t *order = rk_arena_array(run->call->scratch, run->n, sizeof *order);
    if (!order) return NULL;
    if (run->plan->base.program || run->list->candidates->base_score_count) {
        const rk_order_list list = {.scores = run->base, .ids = run->list->candidates->ids, .n = run->n};
        return rk_order_top(&list, run->n, order, NULL) ? NULL : order;
    }
    for (size_t i = 0; i < run->n; i++) order[i] = (int64_t)i;
    return order;
}

/* ---- model ---- */

/* All outputs for the candidates at `positions` (NULL: all, in the order given): outputs x count. */
static double *model_outputs(list_run *run, const int64_t *positions, size_t count, int raw)
{
    const rk_scorer *scorer = run->plan->scorer;
    const int32_t *rows = run->plan->model_rows;
    rk_arena *arena = run->call->scratch;
    const float *matrix = run->matrix;
    double *out = rk_arena_array(arena, scorer->outputs * count, sizeof *out);
    if (out && (rows || positions)) {
        float *gathered = rk_arena_array(arena, scorer->features * count, sizeof *gathered);
        if (!gathered) return NULL;
        for (size_t f = 0; f < scorer->features; f++) {
            const float *from = run->matrix + (rows ? (size_t)rows[f] : f) * run->n;
            float *to = gathered + f * count;
            if (!positions && count) memcpy(to, from, count * sizeof *to);
            for (size_t i = 0; positions && i < count; i++) to[i] = from[positions[i]];
        }
        matrix = gathered;
    }
    return out && !rk_scorer_score(scorer, matrix, count, (ptrdiff_t)count, 1, raw, out) ? out : NULL;
}

/* All re-scored: by score, then base rank, which is worked out only if scores are equal. */
static int order_all(list_run *run, int64_t *order)
{
    rk_order_list list = {.scores = run->scores, .n = run->n};
    int tied;
    if (rk_order_top(&list, run->n, order, &tied)) return -1;
    if (!tied || !(run->plan->base.program || run->list->candidates->base_score_count)) return 0;
    const int64_t *by_base = base_order(run);
    int64_t *ranks = rk_arena_array(run->call->scratch, run->n, sizeof *ranks);
    if (!by_base || !ranks) return -1;
    for (size_t i = 0; i < run->n; i++) ranks[by_base[i]] = (int64_t)i;
    list.ranks = ranks;
    return rk_order_top(&list, run->n, order, NULL);
}

/* The best by base are re-scored; the others follow in base order with their base scores. */
static int order_best(list_run *run, size_t best, int64_t *order)
{
    const int64_t *by_base = base_order(run);
    int64_t *places = rk_arena_array(run->call->scratch, best, sizeof *places);
    if (!by_base || !places) return -1;
    double *by_best = model_outputs(run, by_base, best, 0);
    const rk_order_list list = {.scores = by_best, .n = best};
    if (!by_best || rk_order_top(&list, best, places, NULL)) return -1;
    memcpy(run->scores, run->base, run->n * sizeof *run->scores);
    for (size_t i = 0; i < best; i++) {
        run->scores[by_base[i]] = by_best[i];
        order[i] = by_base[places[i]];
    }
    memcpy(order + best, by_base + best, (run->n - best) * sizeof *order);
    return 0;
}

static int score_and_order(list_run *run, rk_fault *fault)
{
    const rk_plan *plan = run->plan;
    size_t wanted = !plan->scorer ? 0 : plan->rerank_count < run->n ? plan->rerank_count : run->n;
    size_t most = run->state->options.max_rescored;
    run->rescored_count = most < wanted ? most : wanted;
    run->degraded = most < wanted;
    if (!run->rescored_count) {
        run->scores = (double *)run->base; /* only read */
        run->order = base_order(run);
        return run->order ? 0 : rk_short_of_memory(fault);
    }
    int64_t *order = rk_arena_array(run->call->scratch, run->n, sizeof *order);
    int failed = !order;
    if (run->rescored_count == run->n) {
        run->scores = model_outputs(run, NULL, run->n, 0);
        failed = failed || !run->scores || order_all(run, order);
    } else {
        run->scores = rk_arena_array(run->call->scratch, run->n, sizeof *run->scores);
        failed = failed || !run->scores || order_best(run, run->rescored_count, order);
    }
    run->order = order;
    return failed ? rk_short_of_memory(fault) : 0;
}

/* Of a later page: the model's scores of those on it that it had re-scored; the others keep base scores. */
static int score_page(list_run *run, size_t page_count, rk_fault *fault)
{
    size_t offset = run->cursor.offset, rescored = run->cursor.rescored_count;
    size_t left = rescored > offset ? rescored - offset : 0, here = left < page_count ? left : page_count;
    run->scores = rk_arena_array(run->call->scratch, run->n, sizeof *run->scores);
    if (!run->scores) return rk_short_of_memory(fault);
    if (run->n) memcpy(run->scores, run->base, run->n * sizeof *run->scores);
    if (!run->plan->scorer || !here) return 0;
    const double *scores = model_outputs(run, run->order, here, 0);
    if (!scores) return rk_short_of_memory(fault);
    for (size_t i = 0; i < here; i++) run->scores[run->order[i]] = scores[i];
    return 0;
}

/* ---- page and answer ---- */

static uint64_t fingerprint_of(list_run *run)
{
    rk_rank_state *s = run->state;
    if (!s->has_fingerprint) s->fingerprint = rk_page_fingerprint(&s->request);
    s->has_fingerprint = 1;
    return rk_page_list_fingerprint(s->fingerprint, run->list->candidates);
}

static int open_page(list_run *run, rk_fault *fault)
{
    static const rk_fault_kind faults[] = {
        [RK_PAGE_NO_MEMORY] = RK_FAULT_NO_MEMORY, [RK_PAGE_FORM] = RK_FAULT_TOKEN_FORM,
        [RK_PAGE_DAMAGED] = RK_FAULT_TOKEN_DAMAGED, [RK_PAGE_OTHER] = RK_FAULT_TOKEN_OTHER,
        [RK_PAGE_ORDER] = RK_FAULT_TOKEN_ORDER,
    };
    if (!run->list->page_token.length) return 0;
    rk_page_status status =
        rk_page_decode(run->list->page_token, run->n, fingerprint_of(run), run->call->scratch, &run->cursor);
    if (status != RK_PAGE_OK) return rk_fault_of(fault, (rk_fault){.kind = faults[status], .field = RK_FIELD_PAGE_TOKEN});
    run->bindings.now_s = run->cursor.as_of_s;
    run->order = run->cursor.remaining;
    run->rescored_count = run->cursor.rescored_count;
    return 0;
}

static int check_outputs(const rk_plan *plan, rk_fault *fault)
{
    if (!plan->scorer || plan->scorer->outputs == 1) return 0;
    return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_MANY_OUTPUTS, .field = RK_FIELD_PROFILE,
                                         .count = (int64_t)plan->scorer->outputs});
}

static rk_wire_named *named_features(list_run *run)
{
    rk_wire_named *features = rk_arena_array(run->call->scratch, run->plan->feature_count, sizeof *features);
    for (size_t f = 0; features && f < run->plan->feature_count; f++)
        features[f] = (rk_wire_named){.name = run->plan->feature_names[f], .values = run->matrix + f * run->n};
    return features;
}

static int encode_answer(list_run *run, const rk_wire_answer *answer, rk_text *out, rk_fault *fault)
{
    int is_batch = run->state->method == RK_METHOD_BATCH_RANK;
    size_t size = is_batch ? rk_wire_result_size(answer) : rk_wire_answer_size(answer);
    uint8_t *bytes = rk_arena_take(run->call->arena, size);
    if (!bytes) return rk_short_of_memory(fault);
    if (is_batch) rk_wire_encode_result(answer, bytes);
    else rk_wire_encode_answer(answer, bytes);
    *out = (rk_text){bytes, size};
    return 0;
}

static int write_page(list_run *run, size_t page_count, rk_text *out, rk_fault *fault)
{
    const rk_plan *plan = run->plan;
    rk_rank_state *s = run->state;
    size_t offset = run->cursor.offset, shown = offset + page_count;
    int view = run->list->view;
    rk_wire_answer answer = {
        .request_id = run->list->request_id, .profile_version = plan->profile_version,
        .model_version = plan->model_version, .schema_version = plan->schema_version,
        .ids = run->list->candidates->ids, .indexes = run->order, .count = page_count,
        .first_rank = (uint32_t)offset + 1, .total_count = (uint32_t)run->n,
        .rescored_count = (uint32_t)run->rescored_count, .missing = run->missing, .missing_count = run->missing_count,
    };
    if (shown < run->n) {
        rk_page_cursor rest = {run->bindings.now_s, shown, run->rescored_count, run->order + page_count};
        answer.next_page_token = rk_page_encode(&rest, run->n, fingerprint_of(run), run->call->scratch);
        if (!answer.next_page_token.bytes) return rk_short_of_memory(fault);
    }
    if (view >= RK_VIEW_SCORES) {
        answer.scores = run->scores;
        answer.base_scores = run->base;
    }
    if (view >= RK_VIEW_FEATURES) {
        answer.features = named_features(run);
        answer.feature_count = plan->feature_count;
        answer.ages = rk_signal_ages(&run->bindings, &answer.age_count);
        if (!answer.features || !answer.ages) return rk_short_of_memory(fault);
    }
    answer.told = run->call->told;
    if (run->degraded) answer.degradation = s->options.degradation;
    if (end_stage(run, RK_STAGE_PAGE, page_count, fault)) return -1;
    for (size_t i = 0; s->request.include_timings && i < run->time_count; i++) {
        const char *name = rk_stage_name(run->times[i].stage);
        s->timings[i] = (rk_wire_timing){{(const uint8_t *)name, strlen(name)},
                                         (double)(run->times[i].end_ns - run->times[i].start_ns) / 1e3};
        answer.timings = s->timings;
        answer.timing_count = run->time_count;
    }
    return encode_answer(run, &answer, out, fault);
}

static list_run run_of(rk_rank_call *call, const rk_list *list)
{
    return (list_run){
        .call = call, .state = call->state, .plan = call->plan, .list = list, .n = list->candidates->id_count,
        .bindings = {.call = call, .plan = call->plan, .list = list, .now_s = call->state->as_of_s,
                     .count = list->candidates->id_count},
    };
}

/* What a list has come to, whether it was answered or not. */
static void note(const list_run *run, size_t returned_count)
{
    rk_rank_call *call = run->call;
    call->missing_count += run->missing_count;
    call->rescored_count += run->rescored_count;
    call->returned_count += returned_count;
    call->degraded |= run->degraded || call->told.length;
    if (!run->state->options.with_stages) return;
    for (size_t i = 0; i < run->time_count; i++) call->stages[call->stage_count++] = run->times[i];
}

/* features, base and model of a page; of a later one in the order it was given. */
static int rank_features(list_run *run, size_t page_count, rk_fault *fault)
{
    if (compute_features(run, fault) || compute_base(run, fault)) return -1;
    if (end_stage(run, RK_STAGE_BASE, run->n, fault)) return -1;
    if (run->cursor.remaining ? score_page(run, page_count, fault) : score_and_order(run, fault)) return -1;
    return end_stage(run, RK_STAGE_MODEL, run->rescored_count, fault);
}

int rk_rank_list(rk_rank_call *call, const rk_list *list, rk_text *answer, rk_fault *fault)
{
    list_run run = run_of(call, list);
    if (open_page(&run, fault) || check_outputs(run.plan, fault)) return -1;
    size_t left = run.n - run.cursor.offset, page_count = list->page_size < left ? list->page_size : left;
    int failed = retrieve(&run, fault);
    if (!failed && !(run.cursor.remaining && list->view < RK_VIEW_SCORES)) failed = rank_features(&run, page_count, fault);
    if (!failed) failed = write_page(&run, page_count, answer, fault);
    note(&run, failed ? 0 : page_count);
    return failed;
}

static int write_scores(list_run *run, const double *outputs, rk_text *out, rk_fault *fault)
{
    const rk_plan *plan = run->plan;
    size_t output_count = plan->scorer->outputs;
    rk_wire_named *named = rk_arena_array(run->call->scratch, output_count, sizeof *named);
    rk_wire_scores scores = {
        .request_id = run->list->request_id, .profile_version = plan->profile_version,
        .model_version = plan->model_version, .schema_version = plan->schema_version,
        .ids = run->list->candidates->ids, .count = run->n, .outputs = named, .output_count = output_count,
        .missing = run->missing, .missing_count = run->missing_count, .told = run->call->told,
    };
    for (size_t o = 0; named && o < output_count; o++)
        named[o] = (rk_wire_named){.name = plan->output_names[o], .doubles = outputs + o * run->n};
    if (run->state->request.include_features) {
        scores.features = named_features(run);
        scores.feature_count = plan->feature_count;
        scores.ages = rk_signal_ages(&run->bindings, &scores.age_count);
        if (!scores.features || !scores.ages) return rk_short_of_memory(fault);
    }
    if (!named) return rk_short_of_memory(fault);
    size_t size = rk_wire_scores_size(&scores);
    uint8_t *bytes = rk_arena_take(run->call->arena, size);
    if (!bytes) return rk_short_of_memory(fault);
    rk_wire_encode_scores(&scores, bytes);
    *out = (rk_text){bytes, size};
    return 0;
}

int rk_score_list(rk_rank_call *call, const rk_list *list, rk_text *answer, rk_fault *fault)
{
    list_run run = run_of(call, list);
    if (!run.plan->scorer) return rk_fault_of(fault, (rk_fault){.kind = RK_FAULT_NO_MODEL, .field = RK_FIELD_PROFILE});
    int failed = retrieve(&run, fault) || compute_features(&run, fault);
    if (!failed) {
        const double *outputs = model_outputs(&run, NULL, run.n, run.state->request.raw);
        failed = outputs ? end_stage(&run, RK_STAGE_MODEL, run.n, fault) : rk_short_of_memory(fault);
        if (!failed) failed = write_scores(&run, outputs, answer, fault);
    }
    note(&run, 0);
    return failed ? -1 : 0;
}
