/* Trigram similarity, by code points. The text of the request is prepared once, whichever argument it is: its
 * trigrams, sorted, behind a filter. A search in it is bounded whatever a caller sends; only the other
 * text's own trigrams are hashed. Bytes that are not UTF-8 count as characters of their own. */
#include "rk_ops.h"
#include "rk_utf8.h"

#include <stdlib.h>
#include <string.h>

enum { FILTER_BITS = 10 };

/* The prepared side: distinct trigrams, ascending. A trigram whose bit in `filter` is 0 is not among them. */
typedef struct {
    uint64_t *keys;
    int64_t count;
    uint64_t filter[(1 << FILTER_BITS) / 64];
} sorted_trigrams;

/* The other side: a set by open addressing. A slot is taken if it carries the current round. */
typedef struct {
    uint64_t *keys;
    uint32_t *rounds;
    uint64_t mask;
    uint32_t round;
} trigram_table;

/* Goes over a text's trigrams, each word with two blanks before it and one behind, as PostgreSQL's pg_trgm.
 * A trigram is three code points of 21 bits. */
typedef struct {
    const uint8_t *at, *end;
    uint64_t window;
    int in_word;
} trigram_reader;

static trigram_reader read_text(const rk_operand *operand, rk_span span)
{
    const uint8_t *start = rk_span_text(operand, span);
    return (trigram_reader){start, start + span.length, 0, 0};
}

/* 0 at the end of the text. */
static int next_trigram(trigram_reader *r, uint64_t *key)
{
    if (!r->in_word) {
        while (r->at < r->end && *r->at == ' ')
            r->at++;
        if (r->at == r->end)
            return 0;
        r->window = (uint64_t)' ' << 21 | ' ';
    }
    r->in_word = r->at < r->end && *r->at != ' ';
    uint64_t point = r->in_word ? rk_utf8_next(&r->at, r->end) : ' ';
    r->window = (r->window << 21 | point) & ((UINT64_C(1) << 63) - 1);
    *key = r->window;
    return 1;
}

/* A word of n letters has n + 1 trigrams and takes n + 1 bytes with its blank, the last of a text one less. */
static size_t most_trigrams(const rk_operand *operand)
{
    return (size_t)operand->column->max_length + 1;
}

static size_t slot_count(const rk_operand *operand)
{
    size_t slots = 16;
    while (slots < 2 * most_trigrams(operand))
        slots *= 2;
    return slots;
}

/* Similarity is symmetric: the request's text, if there is one, comes first. */
static int first_operand(const rk_call *call)
{
    return call->arg[0].stride && !call->arg[1].stride;
}

int rk_scratch_trigrams(const rk_call *call, size_t *bytes)
{
    size_t sorted = most_trigrams(&call->arg[0]) + most_trigrams(&call->arg[1]);
    size_t slots = slot_count(&call->arg[0]) + slot_count(&call->arg[1]); /* whichever comes second */
    *bytes = sorted * sizeof(uint64_t) + slots * (sizeof(uint64_t) + sizeof(uint32_t));
    return 0; /* 31-bit lengths: no overflow */
}

static uint64_t hash_of(uint64_t key)
{
    key *= UINT64_C(0x9E3779B97F4A7C15);
    return key ^ key >> 32;
}

static int compare_keys(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void prepare(sorted_trigrams *set, trigram_reader reader)
{
    set->count = 0;
    memset(set->filter, 0, sizeof set->filter);
    for (uint64_t key; next_trigram(&reader, &key);) {
        uint64_t bit = hash_of(key) >> (32 - FILTER_BITS) & ((1 << FILTER_BITS) - 1);
        set->filter[bit / 64] |= UINT64_C(1) << bit % 64;
        set->keys[set->count++] = key;
    }
    if (set->count == 0)
        return;
    qsort(set->keys, (size_t)set->count, sizeof *set->keys, compare_keys);
    int64_t distinct = 1;
    for (int64_t i = 1; i < set->count; i++)
        if (set->keys[i] != set->keys[distinct - 1])
            set->keys[distinct++] = set->keys[i];
    set->count = distinct;
}

static int is_member(const sorted_trigrams *set, uint64_t key, uint64_t hash)
{
    uint64_t bit = hash >> (32 - FILTER_BITS) & ((1 << FILTER_BITS) - 1);
    if (!(set->filter[bit / 64] >> bit % 64 & 1))
        return 0;
    int64_t low = 0, high = set->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (set->keys[middle] < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->count && set->keys[low] == key;
}

/* Shared trigrams over all distinct trigrams of both. */
static double similarity(const sorted_trigrams *set, trigram_table *table, trigram_reader reader)
{
    int64_t distinct = 0, common = 0;
    table->round++;
    for (uint64_t key; next_trigram(&reader, &key);) {
        uint64_t hash = hash_of(key);
        size_t i = (size_t)(hash & table->mask);
        while (table->rounds[i] == table->round && table->keys[i] != key)
            i = (i + 1) & (size_t)table->mask;
        if (table->rounds[i] == table->round)
            continue;
        table->keys[i] = key;
        table->rounds[i] = table->round;
        distinct++;
        common += is_member(set, key, hash);
    }
    return (double)common / (double)(set->count + distinct - common);
}

/* Jaccard's coefficient of the trigrams; two texts without words: 0 / 0, missing. */
void rk_run_trigrams(const rk_call *call)
{
    const rk_operand *a = &call->arg[first_operand(call)], *b = &call->arg[!first_operand(call)];
    size_t slots = slot_count(b);
    sorted_trigrams set = {.keys = call->scratch};
    uint64_t *keys = set.keys + most_trigrams(a);
    trigram_table table = {keys, (uint32_t *)(keys + slots), slots - 1, 0};
    memset(table.rounds, 0, slots * sizeof *table.rounds);
    int prepared = 0;
    for (int64_t i = 0; i < call->count; i++) {
        rk_span p = rk_span_at(a, i), q = rk_span_at(b, i);
        if (p.length < 0 || q.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        if (!prepared || a->stride)
            prepare(&set, read_text(a, p));
        prepared = 1;
        call->out[i] = similarity(&set, &table, read_text(b, q));
    }
}
