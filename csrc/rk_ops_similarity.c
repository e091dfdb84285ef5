/* How alike two texts are, by code points: trigrams and edit distance. A text of the request is prepared
 * once. Bytes that are not UTF-8 count as characters of their own. */
#include "rk_ops.h"
#include "rk_utf8.h"

#include <string.h>

/* A set of trigrams, three 21-bit code points each, by open addressing. Emptied by a new `round`. */
typedef struct {
    uint64_t *keys;
    uint32_t *rounds; /* a slot is taken if it carries the current round */
    uint64_t mask;
    uint32_t round;
    int64_t count;
} trigram_set;

/* Slots for the trigrams of a text of `bytes` bytes, at most half full: a word of n letters has n + 1
 * and takes n + 1 bytes with its blank, the last one of the text a blank less. */
static size_t slots_for(int32_t bytes)
{
    size_t slots = 16;
    while (slots < 2 * ((size_t)bytes + 1))
        slots *= 2;
    return slots;
}

int rk_scratch_trigrams(const rk_call *call, size_t *bytes)
{
    size_t slots = slots_for(call->arg[0].column->max_length) + slots_for(call->arg[1].column->max_length);
    return __builtin_mul_overflow(slots, sizeof(uint64_t) + sizeof(uint32_t), bytes) ? -1 : 0;
}

static size_t slot_of(const trigram_set *set, uint64_t key)
{
    uint64_t h = key * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)((h ^ h >> 32) & set->mask);
}

/* 1 if the key was not there. */
static int insert(trigram_set *set, uint64_t key)
{
    size_t i = slot_of(set, key);
    while (set->rounds[i] == set->round) {
        if (set->keys[i] == key)
            return 0;
        i = (i + 1) & (size_t)set->mask;
    }
    set->keys[i] = key;
    set->rounds[i] = set->round;
    set->count++;
    return 1;
}

static int has(const trigram_set *set, uint64_t key)
{
    for (size_t i = slot_of(set, key); set->rounds[i] == set->round; i = (i + 1) & (size_t)set->mask)
        if (set->keys[i] == key)
            return 1;
    return 0;
}

/* Fills `set` with the trigrams of a text, each word with two blanks before it and one behind, as
 * PostgreSQL's pg_trgm; returns how many of them `other` has (NULL: 0). */
static int64_t fill(trigram_set *set, const uint8_t *at, int32_t length, const trigram_set *other)
{
    const uint64_t trigram_bits = (UINT64_C(1) << 63) - 1;
    const uint8_t *end = at + length;
    int64_t common = 0;
    set->round++;
    set->count = 0;
    while (at < end) {
        if (*at == ' ') {
            at++;
            continue;
        }
        uint64_t window = (uint64_t)' ' << 21 | ' ';
        for (int more = 1; more;) {
            more = at < end && *at != ' ';
            uint64_t point = more ? rk_utf8_next(&at, end) : ' ';
            window = (window << 21 | point) & trigram_bits;
            if (insert(set, window) && other)
                common += has(other, window);
        }
    }
    return common;
}

/* Shared trigrams / all distinct trigrams of both (Jaccard); two texts without words: 0 / 0, missing. */
void rk_run_trigrams(const rk_call *call)
{
    const rk_operand *a = &call->arg[0], *b = &call->arg[1];
    size_t a_slots = slots_for(a->column->max_length), b_slots = slots_for(b->column->max_length);
    uint64_t *keys = call->scratch;
    uint32_t *rounds = (uint32_t *)(keys + a_slots + b_slots);
    memset(rounds, 0, (a_slots + b_slots) * sizeof *rounds);
    trigram_set first = {keys, rounds, a_slots - 1, 0, 0};
    trigram_set second = {keys + a_slots, rounds + a_slots, b_slots - 1, 0, 0};
    for (int64_t i = 0; i < call->count; i++) {
        rk_span p = rk_span_at(a, i), q = rk_span_at(b, i);
        if (p.length < 0 || q.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        if (first.round == 0 || a->stride)
            fill(&first, rk_span_text(a, p), p.length, NULL);
        double common = (double)fill(&second, rk_span_text(b, q), q.length, &first);
        call->out[i] = common / ((double)first.count + (double)second.count - common);
    }
}

enum { EDIT_CHARS = 256 }; /* beyond these, texts are cut */

static int code_points(const rk_operand *operand, rk_span span, uint32_t *points)
{
    const uint8_t *at = rk_span_text(operand, span), *end = at + span.length;
    int count = 0;
    while (at < end && count < EDIT_CHARS)
        points[count++] = rk_utf8_next(&at, end);
    return count;
}

/* Levenshtein's distance, one row at a time (Wagner and Fischer, 1974). */
static int edit_distance(const uint32_t *a, int a_count, const uint32_t *b, int b_count)
{
    int row[EDIT_CHARS + 1];
    for (int j = 0; j <= b_count; j++)
        row[j] = j;
    for (int i = 1; i <= a_count; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= b_count; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            int shifted = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < shifted ? replaced : shifted;
        }
    }
    return row[b_count];
}

/* 1 - distance / length of the longer; two empty texts: 0 / 0, missing. */
void rk_run_edit_similarity(const rk_call *call)
{
    uint32_t a[EDIT_CHARS], b[EDIT_CHARS];
    int a_count = -1;
    for (int64_t i = 0; i < call->count; i++) {
        rk_span p = rk_span_at(&call->arg[0], i), q = rk_span_at(&call->arg[1], i);
        if (p.length < 0 || q.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        if (a_count < 0 || call->arg[0].stride)
            a_count = code_points(&call->arg[0], p, a);
        int b_count = code_points(&call->arg[1], q, b);
        double longer = a_count > b_count ? a_count : b_count;
        call->out[i] = 1 - edit_distance(a, a_count, b, b_count) / longer;
    }
}
