/* A call: decoding, the checks that lists share, the texts to be normalised, and the lists one by one. */
#include <string.h>

#include "rk_rank_internal.h"

enum { OWN_ID_CHARS = 120, NUMBER_BYTES = 24 };

static void *cleared(rk_arena *arena, size_t count, size_t size)
{
    void *made = rk_arena_array(arena, count, size);
    if (made && count) memset(made, 0, count * size);
    return made;
}

/* ---- Decoding ---- */

static rk_wire_status decode(rk_rank_call *call, rk_text bytes, size_t *list_count)
{
    rk_rank_state *s = call->state;
    rk_wire_batch batch;
    *list_count = 1;
    if (s->method == RK_METHOD_RANK) return rk_wire_decode_rank(bytes.bytes, bytes.length, call->arena, &s->request);
    if (s->method == RK_METHOD_SCORE) return rk_wire_decode_score(bytes.bytes, bytes.length, call->arena, &s->request);
    rk_wire_status status = rk_wire_decode_batch(bytes.bytes, bytes.length, call->arena, &batch);
    if (status != RK_WIRE_OK) return status;
    s->request = batch.common;
    s->wire_lists = batch.lists;
    *list_count = batch.list_count;
    return RK_WIRE_OK;
}

static int find_plan(rk_rank_call *call)
{
    const rk_plan_set *set = call->plans;
    rk_text name = call->state->request.profile;
    call->plan_number = rk_names_find(&set->names, name, 0);
    if (call->plan_number < 0)
        return rk_fault_of(&call->fault, (rk_fault){.kind = RK_FAULT_UNKNOWN_PROFILE, .field = RK_FIELD_PROFILE,
                                                    .text = name});
    call->plan = set->plans[call->plan_number];
    return 0;
}

/* ---- Checks of a whole call ---- */

static int check_batch(rk_rank_call *call)
{
    const rk_rank_limits *limits = &call->plans->limits;
    const rk_rank_state *s = call->state;
    if (s->request.has_candidates)
        return rk_fault_of(&call->fault, (rk_fault){.kind = RK_FAULT_BATCH_CANDIDATES, .field = RK_FIELD_CANDIDATES});
    if (s->request.page_token.length)
        return rk_fault_of(&call->fault, (rk_fault){.kind = RK_FAULT_BATCH_TOKEN, .field = RK_FIELD_PAGE_TOKEN});
    if (!call->list_count || call->list_count > limits->batch_lists)
        return rk_fault_of(&call->fault, (rk_fault){.kind = call->list_count ? RK_FAULT_BATCH_LISTS : RK_FAULT_BATCH_EMPTY,
                                                    .field = RK_FIELD_LISTS, .limit = (int64_t)limits->batch_lists,
                                                    .count = (int64_t)call->list_count});
    if (call->candidate_count > limits->batch_candidates)
        return rk_fault_of(&call->fault, (rk_fault){.kind = RK_FAULT_BATCH_TOTAL, .field = RK_FIELD_LISTS,
                                                    .limit = (int64_t)limits->batch_candidates,
                                                    .count = (int64_t)call->candidate_count});
    return 0;
}

static int check_common(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    const rk_plan_set *set = call->plans;
    const rk_plan *plan = call->plan;
    s->sent = cleared(call->arena, plan->contexts.count, sizeof *s->sent);
    s->contexts = cleared(call->arena, plan->contexts.count, sizeof *s->contexts);
    s->context_needs = rk_arena_array(call->arena, plan->contexts.count, sizeof *s->context_needs);
    s->reads = cleared(call->arena, plan->read_count, sizeof *s->reads);
    if (!s->sent || !s->contexts || !s->context_needs || !s->reads) return rk_short_of_memory(&call->fault);
    if (rk_check_common(&s->request, plan, &set->limits, set->seed, s->sent, &call->fault)) return -1;
    s->as_of_s = s->request.has_as_of ? rk_seconds_of(s->request.as_of) : s->options.now_s;
    if (s->method == RK_METHOD_SCORE) return 0;
    return rk_check_page_size(s->request.has_page_size, s->request.page_size, &set->limits, &call->fault) ||
                   rk_check_view(s->request.view, &call->fault)
               ? -1
               : 0;
}

static int check_only_list(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    s->only = (rk_list){
        .candidates = &s->request.candidates, .page_token = s->request.page_token, .request_id = call->request_id,
        .page_size = s->request.has_page_size ? s->request.page_size : SIZE_MAX, .view = s->request.view, .place = -1,
    };
    return rk_check_list(&s->only, call->plan, &call->plans->limits, call->plans->seed, call->arena, &call->fault);
}

/* ---- Texts that are not ASCII ---- */

static size_t need(rk_rank_call *call, rk_text text, int is_key)
{
    if (rk_is_ascii(text)) return SIZE_MAX;
    call->needs[call->need_count] = (rk_text_need){.text = text, .is_key = is_key};
    return call->need_count++;
}

static const rk_wire_candidates *candidates_of(const rk_rank_state *s, size_t list)
{
    return s->wire_lists ? &s->wire_lists[list].candidates : &s->request.candidates;
}

static int reads_by(const rk_plan *plan, rk_id_source source)
{
    for (size_t i = 1; i < plan->read_count; i++) {
        for (size_t k = 0; k < plan->reads[i].part_count; k++) {
            if (plan->reads[i].parts[k].source == (int32_t)source) return 1;
        }
    }
    return 0;
}

static int collect_needs(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    const rk_plan *plan = call->plan;
    size_t lists = call->list_count ? call->list_count : 1, ids = plan->reads[0].by_key ? call->candidate_count : 0;
    call->needs = rk_arena_array(call->arena, 2 + plan->contexts.count + ids, sizeof *call->needs);
    s->list_needs = rk_arena_array(call->arena, lists, sizeof *s->list_needs);
    if (!call->needs || !s->list_needs) return rk_short_of_memory(&call->fault);
    s->query_need = s->key_need = SIZE_MAX;
    if (rk_plan_uses(plan, RK_SOURCE_QUERY, -1)) s->query_need = need(call, s->request.query_text, 0);
    if (reads_by(plan, RK_ID_QUERY)) s->key_need = need(call, s->request.query_text, 1);
    for (size_t i = 0; i < plan->contexts.count; i++) {
        const rk_wire_context *sent = s->sent[i];
        s->context_needs[i] = SIZE_MAX;
        if (sent && sent->which == RK_CONTEXT_TEXT && rk_plan_uses(plan, RK_SOURCE_CONTEXT, (int64_t)i))
            s->context_needs[i] = need(call, sent->text, 0);
    }
    for (size_t list = 0; list < lists; list++) {
        const rk_wire_candidates *c = candidates_of(s, list);
        s->list_needs[list] = call->need_count;
        for (size_t i = 0; ids && i < c->id_count; i++) need(call, c->ids[i], 1);
    }
    s->only.first_need = s->list_needs[0];
    return 0;
}

/* ---- Prepare ---- */

static double cost_of(const rk_rank_call *call)
{
    const rk_plan *plan = call->plan;
    const rk_rank_state *s = call->state;
    double cost = 0;
    size_t lists = call->list_count ? call->list_count : 1;
    for (size_t i = 0; i < lists; i++) {
        size_t n = candidates_of(s, i)->id_count, scored = n < plan->rerank_count ? n : plan->rerank_count;
        scored = scored < s->options.max_rescored ? scored : s->options.max_rescored;
        cost += (double)n * plan->candidate_cost + (double)scored * plan->scored_cost;
    }
    return cost;
}

static void prepare(rk_rank_call *call, rk_text bytes)
{
    rk_rank_state *s = call->state;
    size_t list_count = 0;
    rk_wire_status status = decode(call, bytes, &list_count);
    if (status != RK_WIRE_OK) {
        call->fault.kind = status == RK_WIRE_MALFORMED ? RK_FAULT_MALFORMED : RK_FAULT_NO_MEMORY;
        return;
    }
    call->list_count = s->method == RK_METHOD_BATCH_RANK ? list_count : 0;
    for (size_t i = 0; i < list_count; i++) call->candidate_count += candidates_of(s, i)->id_count;
    if (rk_check_bytes(s->request.request_id, call->plans->limits.request_id_bytes, RK_FIELD_REQUEST_ID, &call->fault))
        return;
    if (s->request.request_id.length) call->request_id = s->request.request_id;
    if (find_plan(call) || (s->method == RK_METHOD_BATCH_RANK && check_batch(call)) || check_common(call)) return;
    if (s->method != RK_METHOD_BATCH_RANK && check_only_list(call)) return;
    if (collect_needs(call)) return;
    call->cost = cost_of(call);
    if (rk_is_late(call)) call->fault.kind = RK_FAULT_DEADLINE;
}

void rk_rank_prepare(rk_rank_call *call, rk_method method, rk_text request, const rk_rank_options *options)
{
    rk_arena *arena = call->arena, *scratch = call->scratch;
    *call = (rk_rank_call){.arena = arena, .scratch = scratch, .plans = call->plans, .plan_number = -1,
                           .request_id = options->request_id};
    call->state = cleared(arena, 1, sizeof *call->state);
    if (!call->state) {
        rk_short_of_memory(&call->fault);
        return;
    }
    call->state->method = method;
    call->state->options = *options;
    prepare(call, request);
}

/* ---- Rows to be brought ---- */

/* Of one list: those of the candidates' own entity first, whose ids are at hand. */
static int want_of_list(rk_rank_call *call, const rk_list *list, rk_rank_want *wants)
{
    const rk_plan *plan = call->plan;
    size_t n = list->candidates->id_count;
    /* A later page without scores is answered from its token. */
    size_t read_count = list->page_token.length && list->view < RK_VIEW_SCORES ? 1 : plan->read_count;
    const rk_text *candidates = rk_stored_ids(call, list, call->arena);
    rk_column *columns = rk_arena_array(call->arena, plan->category_count, sizeof *columns);
    uint8_t *found = rk_arena_take(call->arena, n);
    if (!candidates || !columns || !found) return -1;
    if (plan->categories && rk_table_read(plan->categories, candidates, n, 0, call->arena, columns, found)) return -1;
    for (size_t i = 0; i < read_count; i++) {
        const rk_plan_read *read = &plan->reads[i];
        if (!read->is_fetched || (list->place > 0 && !rk_is_per_candidate(read))) continue;
        size_t most = rk_is_per_candidate(read) ? n : 1, count = 0;
        rk_text *kept = rk_arena_array(call->arena, most, sizeof *kept);
        const rk_text *ids = rk_row_ids(call, read, candidates, n, columns, call->arena);
        if (!kept || !ids) return -1;
        for (size_t k = 0; k < most; k++) {
            kept[count] = ids[k];
            count += ids[k].length != 0;
        }
        if (count) wants[call->want_count++] = (rk_rank_want){i, kept, count};
    }
    return 0;
}

void rk_rank_want_rows(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    size_t lists = call->list_count ? call->list_count : 1;
    rk_rank_want *wants = rk_arena_array(call->arena, lists * call->plan->fetched_count, sizeof *wants);
    call->wants = wants;
    int failed = !wants;
    for (size_t i = 0; !failed && i < lists; i++) {
        rk_list list = s->only;
        if (s->wire_lists)
            list = (rk_list){.candidates = &s->wire_lists[i].candidates, .page_token = s->wire_lists[i].page_token,
                             .view = s->request.view, .place = (int64_t)i, .first_need = s->list_needs[i]};
        failed = want_of_list(call, &list, wants);
    }
    if (failed) rk_short_of_memory(&call->fault);
}

/* ---- Run ---- */

/* A list's own id, or one made of the call's, so that the two are found together. NULL bytes without memory. */
static rk_text list_id(rk_rank_call *call, size_t place, rk_text own)
{
    rk_text whole = call->request_id;
    if (own.length) return own;
    size_t length = 0, chars = 0;
    for (; length < whole.length; length++) {
        chars += (whole.bytes[length] & 0xC0) != 0x80;
        if (chars > OWN_ID_CHARS) break;
    }
    uint8_t *made = rk_arena_take(call->arena, length + NUMBER_BYTES), digits[NUMBER_BYTES];
    if (!made) return (rk_text){NULL, 0};
    if (length) memcpy(made, whole.bytes, length);
    made[length++] = '-';
    size_t count = 0;
    do digits[count++] = (uint8_t)('0' + place % 10);
    while (place /= 10);
    while (count) made[length++] = digits[--count];
    return (rk_text){made, length};
}

/* One list of a batch, its checks included. */
static int run_batch_list(rk_rank_call *call, size_t place, rk_text *answer)
{
    rk_rank_state *s = call->state;
    const rk_wire_list *sent = &s->wire_lists[place];
    const rk_rank_limits *limits = &call->plans->limits;
    rk_list_result *result = &call->lists[place];
    rk_fault *fault = &result->fault;
    result->request_id = list_id(call, place, sent->request_id);
    if (!result->request_id.bytes) return rk_short_of_memory(fault);
    if (rk_check_bytes(sent->request_id, limits->request_id_bytes, RK_FIELD_REQUEST_ID, fault) ||
        rk_check_page_size(sent->has_page_size, sent->page_size, limits, fault))
        return -1;
    size_t common = s->request.has_page_size ? s->request.page_size : SIZE_MAX;
    rk_list list = {
        .candidates = &sent->candidates, .page_token = sent->page_token, .request_id = result->request_id,
        .page_size = sent->has_page_size ? sent->page_size : common, .view = s->request.view,
        .place = (int64_t)place, .first_need = s->list_needs[place],
    };
    if (rk_check_list(&list, call->plan, limits, call->plans->seed, call->scratch, fault)) return -1;
    return rk_rank_list(call, &list, answer, fault);
}

/* The lists' answers, end to end. */
static void join(rk_rank_call *call, const rk_text *pieces)
{
    size_t length = 0;
    for (size_t i = 0; i < call->list_count; i++) {
        call->lists[i].offset = length;
        length += pieces[i].length;
    }
    uint8_t *bytes = rk_arena_take(call->arena, length);
    if (!bytes) {
        rk_short_of_memory(&call->fault);
        return;
    }
    for (size_t i = 0; i < call->list_count; i++) {
        if (pieces[i].length) memcpy(bytes + call->lists[i].offset, pieces[i].bytes, pieces[i].length);
    }
    call->answer = (rk_text){bytes, length};
}

static void run_batch(rk_rank_call *call)
{
    rk_text *pieces = cleared(call->arena, call->list_count, sizeof *pieces);
    call->lists = cleared(call->arena, call->list_count, sizeof *call->lists);
    if (!pieces || !call->lists) {
        rk_short_of_memory(&call->fault);
        return;
    }
    for (size_t i = 0; i < call->list_count; i++) {
        rk_fault *fault = &call->lists[i].fault;
        if (rk_is_late(call)) call->fault.kind = RK_FAULT_DEADLINE;
        else run_batch_list(call, i, &pieces[i]);
        if (fault->kind == RK_FAULT_DEADLINE) call->fault.kind = RK_FAULT_DEADLINE;
        if (call->fault.kind != RK_FAULT_NONE) return;
        rk_arena_reset(call->scratch);
    }
    join(call, pieces);
}

void rk_rank_run(rk_rank_call *call)
{
    rk_rank_state *s = call->state;
    size_t stages = s->options.with_stages ? RK_MOST_STAGES * (call->list_count ? call->list_count : 1) : 0;
    call->stages = rk_arena_array(call->arena, stages, sizeof *call->stages);
    if (!call->stages || rk_bind_shared(call)) rk_short_of_memory(&call->fault);
    else if (rk_is_late(call)) call->fault.kind = RK_FAULT_DEADLINE;
    else if (s->method == RK_METHOD_BATCH_RANK) run_batch(call);
    else if (s->method == RK_METHOD_SCORE) rk_score_list(call, &s->only, &call->answer, &call->fault);
    else rk_rank_list(call, &s->only, &call->answer, &call->fault);
}
