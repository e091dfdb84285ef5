/* Tokens of a query in a text. Tokens are what stands between blanks; the text was normalised when it
 * was stored, so bytes are compared as they are. The first argument, the query, is prepared once where it
 * belongs to the request: its distinct tokens, sorted by hash. */
#include "rk_ops.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *start;
    uint64_t hash;
    int64_t seen; /* the number of the last text that had it */
    int32_t length;
} token;

typedef struct {
    token *tokens; /* distinct */
    int64_t count;
    token last; /* the last one typed; length 0: the query has no token */
} query_tokens;

/* The next token of [*at, end), length 0 if there is none. FNV-1a: only to be quick, ties are compared in full. */
static token next_token(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *s = *at;
    while (s < end && *s == ' ')
        s++;
    token t = {s, UINT64_C(0xcbf29ce484222325), 0, 0};
    while (s < end && *s != ' ')
        t.hash = (t.hash ^ *s++) * UINT64_C(0x100000001b3);
    t.length = (int32_t)(s - t.start);
    *at = s;
    return t;
}

static int compare_tokens(const void *left, const void *right)
{
    const token *a = left, *b = right;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return memcmp(a->start, b->start, (size_t)a->length);
}

/* One token takes at least a byte and the blank after it. */
int rk_scratch_tokens(const rk_call *call, size_t *bytes)
{
    size_t most = (size_t)call->arg[0].column->max_length / 2 + 1;
    return __builtin_mul_overflow(most, sizeof(token), bytes) ? -1 : 0;
}

/* With `but_last`, the last token is kept apart and is no member of `tokens`. */
static query_tokens prepare(const rk_call *call, rk_span span, int but_last)
{
    query_tokens query = {call->scratch, 0, {0}};
    const uint8_t *at = rk_span_text(&call->arg[0], span), *end = at + span.length;
    for (token t = next_token(&at, end); t.length; t = next_token(&at, end)) {
        if (query.last.length || !but_last)
            query.tokens[query.count++] = but_last ? query.last : t;
        query.last = t;
    }
    if (query.count == 0)
        return query;
    qsort(query.tokens, (size_t)query.count, sizeof(token), compare_tokens);
    int64_t distinct = 1;
    for (int64_t i = 1; i < query.count; i++)
        if (compare_tokens(&query.tokens[distinct - 1], &query.tokens[i]))
            query.tokens[distinct++] = query.tokens[i];
    query.count = distinct;
    return query;
}

static token *find_token(const query_tokens *query, const token *wanted)
{
    int64_t low = 0, high = query->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = compare_tokens(&query->tokens[middle], wanted);
        if (order == 0)
            return &query->tokens[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* How many distinct tokens of the query the text has, and whether one of the text starts with the query's last. */
static int64_t match(const query_tokens *query, const rk_call *call, rk_span span, int64_t number, int *starts)
{
    int64_t matched = 0;
    const uint8_t *at = rk_span_text(&call->arg[1], span), *end = at + span.length;
    *starts = 0;
    for (token t = next_token(&at, end); t.length; t = next_token(&at, end)) {
        token *found = find_token(query, &t);
        if (found && found->seen != number) {
            found->seen = number;
            matched++;
        }
        if (t.length >= query->last.length && !memcmp(t.start, query->last.start, (size_t)query->last.length))
            *starts = 1;
    }
    return matched;
}

static void match_each(const rk_call *call, int by_prefix)
{
    query_tokens query = {0};
    for (int64_t i = 0; i < call->count; i++) {
        rk_span asked = rk_span_at(&call->arg[0], i), text = rk_span_at(&call->arg[1], i);
        if (asked.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        if (i == 0 || call->arg[0].stride)
            query = prepare(call, asked, by_prefix);
        if (text.length < 0 || query.last.length == 0) {
            call->out[i] = NAN;
            continue;
        }
        int starts;
        int64_t matched = match(&query, call, text, i + 1, &starts);
        call->out[i] = by_prefix ? starts && matched == query.count : (double)matched / (double)query.count;
    }
}

/* The share of the query's distinct tokens that the text has; missing if the query has none. */
void rk_run_token_overlap(const rk_call *call) { match_each(call, 0); }

/* 1 if the text has every token of the query but the last, and one that starts with the last; else 0. */
void rk_run_prefix_match(const rk_call *call) { match_each(call, 1); }

void rk_run_token_count(const rk_call *call)
{
    for (int64_t i = 0; i < call->count; i++) {
        rk_span span = rk_span_at(&call->arg[0], i);
        if (span.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        const uint8_t *s = rk_span_text(&call->arg[0], span);
        int64_t tokens = 0;
        for (int32_t k = 0; k < span.length; k++)
            tokens += s[k] != ' ' && (k == 0 || s[k - 1] == ' ');
        call->out[i] = (double)tokens;
    }
}
