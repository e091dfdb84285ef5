/* Group caps with a queue for each group. The groups that may stand at the next place are in a heap by their earliest
 * item; one leaves it at its cap, and is back when an item of it falls out of the window: O(n log n). Items without a
 * group are each a group of their own. */
#include <stdlib.h>
#include <string.h>

#include "rk_diversity_internal.h"

enum { NONE = -1 };

typedef struct {
    int32_t *group_of;  /* by position: the dense number of its group */
    int32_t *next;      /* by position: the next one of the group, or NONE */
    int32_t *first;     /* by group: its earliest position not placed, or NONE */
    int32_t *in_window; /* by group: how many of the last window - 1 places it has */
    int32_t *heap;      /* positions: the first of each group that may stand */
    size_t heap_size;
    void *memory;
} queues;

static void push(queues *q, int32_t position) {
    size_t at = q->heap_size++;
    for (; at > 0 && q->heap[(at - 1) / 2] > position; at = (at - 1) / 2) q->heap[at] = q->heap[(at - 1) / 2];
    q->heap[at] = position;
}

static int32_t pop(queues *q) {
    int32_t least = q->heap[0], last = q->heap[--q->heap_size];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < q->heap_size; at = child) {
        child += child + 1 < q->heap_size && q->heap[child + 1] < q->heap[child];
        if (q->heap[child] >= last) break;
        q->heap[at] = q->heap[child];
    }
    if (q->heap_size) q->heap[at] = last;
    return least;
}

/* Fibonacci hashing of a group's number (D. E. Knuth, TAOCP 3, 6.4). */
static size_t slot_of(int32_t group, int bits) {
    return (size_t)((uint64_t)(uint32_t)group * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits));
}

/* Dense numbers of the groups, queues by walking backwards. `slots` (1 << bits, zeroed) holds 1 + a position. */
static void line_up(queues *q, const int32_t *groups, size_t n, uint32_t *slots, int bits) {
    size_t mask = ((size_t)1 << bits) - 1;
    int32_t count = 0;
    for (size_t i = n; i-- > 0;) {
        size_t slot = slot_of(groups[i], bits);
        if (groups[i] >= 0) {
            while (slots[slot] && groups[slots[slot] - 1] != groups[i]) slot = (slot + 1) & mask;
        }
        int is_new = groups[i] < 0 || !slots[slot];
        int32_t group = is_new ? count++ : q->group_of[slots[slot] - 1];
        q->group_of[i] = group;
        q->next[i] = is_new ? NONE : q->first[group];
        q->first[group] = (int32_t)i;
        q->in_window[group] = 0;
        if (groups[i] >= 0 && is_new) slots[slot] = (uint32_t)i + 1;
    }
}

static int prepare(queues *q, const int32_t *groups, size_t n) {
    int bits = 1;
    while ((size_t)1 << bits < 2 * n) bits++;
    q->memory = malloc((5 * n + 1) * sizeof(int32_t));
    uint32_t *slots = calloc((size_t)1 << bits, sizeof *slots);
    if (!q->memory || !slots) {
        free(q->memory);
        free(slots);
        return -1;
    }
    q->group_of = q->memory;
    q->next = q->group_of + n;
    q->first = q->next + n;
    q->in_window = q->first + n;
    q->heap = q->in_window + n;
    q->heap_size = 0;
    line_up(q, groups, n, slots, bits);
    free(slots);
    return 0;
}

int rk_group_caps(const int32_t *groups, size_t n, size_t cap, size_t window, size_t depth, int64_t *order,
                  size_t *placed) {
    size_t done = 0, rest;
    queues q;
    if (n > RK_DIVERSITY_MOST || prepare(&q, groups, n)) return -1;
    if (window == 0) cap = SIZE_MAX; /* no window holds anything */
    for (size_t i = 0; i < n; i++) {
        if (q.first[q.group_of[i]] == (int32_t)i && (cap > 0 || groups[i] < 0)) push(&q, (int32_t)i);
    }
    for (; done < n && done < depth; done++) {
        /* What stood `window` places before is no longer beside the next one. */
        if (window && done >= window) {
            int32_t left = q.group_of[order[done - window]];
            if ((size_t)q.in_window[left]-- == cap && q.first[left] != NONE) push(&q, q.first[left]);
        }
        if (!q.heap_size) break;
        int32_t position = pop(&q), group = q.group_of[position];
        order[done] = position;
        q.first[group] = q.next[position];
        q.in_window[group]++;
        if (q.first[group] != NONE && (size_t)q.in_window[group] < cap) push(&q, q.first[group]);
    }
    /* From here on `next` says whether a position is placed. */
    memset(q.next, 0, n * sizeof *q.next);
    for (size_t i = 0; i < done; i++) q.next[order[i]] = 1;
    rest = done;
    for (size_t i = 0; i < n; i++) {
        if (!q.next[i]) order[rest++] = (int64_t)i;
    }
    if (placed) *placed = done;
    free(q.memory);
    return 0;
}
