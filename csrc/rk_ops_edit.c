/* Edit similarity, by code points: Levenshtein's distance in bit-parallel form, 64 characters of the pattern a word.
 * G. Myers, "A fast bit-vector algorithm for approximate string matching", J. ACM 46 (1999); H. Hyyrö,
 * "Explaining and extending the bit-parallel approximate string matching algorithm" (2001) for the distance of whole
 * texts. The request's text is the pattern, prepared once, whichever argument it is. */
#include "rk_ops.h"
#include "rk_utf8.h"

#include <string.h>

enum {
    MOST_CHARS = 256, /* beyond these, a text is cut */
    WORDS = MOST_CHARS / 64,
    SLOTS = 2 * MOST_CHARS,
};

/* Where each character stands in the pattern, by open addressing; slot `used - 1` of `masks`, 0: not there. */
typedef struct {
    uint32_t points[SLOTS];
    uint16_t used[SLOTS];
    uint64_t masks[MOST_CHARS][WORDS];
    int distinct;
    int length;
} pattern;

static int code_points(const rk_operand *operand, rk_span span, uint32_t *points)
{
    const uint8_t *at = rk_span_text(operand, span), *end = at + span.length;
    int count = 0;
    while (at < end && count < MOST_CHARS)
        points[count++] = rk_utf8_next(&at, end);
    return count;
}

/* The slot that holds a character, or would. */
static uint32_t slot_of(const pattern *p, uint32_t point)
{
    uint32_t i = (point * UINT32_C(2654435761)) >> 23;
    while (p->used[i] && p->points[i] != point)
        i = (i + 1) % SLOTS;
    return i;
}

static void prepare(pattern *p, const uint32_t *points, int count)
{
    memset(p->used, 0, sizeof p->used);
    p->distinct = 0;
    p->length = count;
    for (int j = 0; j < count; j++) {
        uint32_t i = slot_of(p, points[j]);
        if (!p->used[i]) {
            memset(p->masks[p->distinct], 0, sizeof p->masks[0]);
            p->points[i] = points[j];
            p->used[i] = (uint16_t)++p->distinct;
        }
        p->masks[p->used[i] - 1][j / 64] |= UINT64_C(1) << j % 64;
    }
}

/* `up` and `down`: whether the distance grows or shrinks from a row of the table to the next, a bit a row. */
static int distance(const pattern *p, const uint32_t *points, int count)
{
    static const uint64_t nowhere[WORDS];
    uint64_t up[WORDS], down[WORDS] = {0};
    memset(up, 0xFF, sizeof up);
    int words = (p->length + 63) / 64, result = p->length;
    if (p->length == 0)
        return count;
    for (int j = 0; j < count; j++) {
        uint32_t slot = slot_of(p, points[j]);
        const uint64_t *masks = p->used[slot] ? p->masks[p->used[slot] - 1] : nowhere;
        uint64_t grows = 1, shrinks = 0; /* from column to column, at the row above the word */
        for (int w = 0; w < words; w++) {
            uint64_t equal = masks[w];
            uint64_t vertical = equal | down[w];
            equal |= shrinks;
            uint64_t diagonal = (((equal & up[w]) + up[w]) ^ up[w]) | equal;
            uint64_t right = down[w] | ~(diagonal | up[w]);
            uint64_t left = up[w] & diagonal;
            int last = w == words - 1 ? (p->length - 1) % 64 : 63;
            uint64_t grows_below = right >> last & 1, shrinks_below = left >> last & 1;
            right = right << 1 | grows;
            left = left << 1 | shrinks;
            up[w] = left | ~(vertical | right);
            down[w] = right & vertical;
            grows = grows_below;
            shrinks = shrinks_below;
        }
        result += (int)grows - (int)shrinks;
    }
    return result;
}

/* 1 - distance / length of the longer; two empty texts: 0 / 0, missing. */
void rk_run_edit_similarity(const rk_call *call)
{
    int first = call->arg[0].stride && !call->arg[1].stride;
    const rk_operand *a = &call->arg[first], *b = &call->arg[!first];
    uint32_t points[MOST_CHARS];
    pattern p;
    int prepared = 0;
    for (int64_t i = 0; i < call->count; i++) {
        rk_span left = rk_span_at(a, i), right = rk_span_at(b, i);
        if (left.length < 0 || right.length < 0) {
            call->out[i] = NAN;
            continue;
        }
        if (!prepared || a->stride)
            prepare(&p, points, code_points(a, left, points));
        prepared = 1;
        int count = code_points(b, right, points);
        call->out[i] = 1 - (double)distance(&p, points, count) / (double)(p.length > count ? p.length : count);
    }
}
