/* Order by radix sort. Scores become 64-bit keys whose unsigned order is the contract's. The top 24 or
 * 32 bits of what the keys of a list differ in are sorted with their positions, byte by byte from the least (a stable counting sort each:
 * H. H. Seward, 1954); the few runs equal in those bits are then sorted by comparing keys. Runs of equal scores are
 * sorted in the same way by rank, and then by the eight bytes of the ids that follow those all ids of the run share.
 * For the first k of many, a histogram of the keys leaves out those that cannot be among them. */
#include <stdlib.h>
#include <string.h>

#include "rk_order.h"

enum {
    RADIX = 256,
    DIGITS = 4,          /* of which lists up to LONG need one less */
    SHORT = 24,          /* insertion sort is best up to here */
    LONG = 8192,         /* beyond, a digit more keeps most keys apart */
    SELECT_BITS = 12,
    PREFIX_BYTES = 8,
};

typedef struct {
    const rk_order_list *list;
    uint64_t *keys;            /* by position: what is compared now */
    uint64_t *pairs, *spare;   /* (top bits of a key) << 32 | position */
    uint32_t *order;           /* positions */
} sorter;

static inline uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Ascending keys for descending scores: x + 0.0 makes one zero of two; a missing score gets the largest. */
static inline uint64_t key_of_score(double x) {
    uint64_t bits = bits_of(x + 0.0);
    uint64_t key = bits ^ (~(uint64_t)((int64_t)bits >> 63) & INT64_MAX);
    return x != x ? UINT64_MAX : key;
}

static inline uint64_t key_of_rank(int64_t rank) { return (uint64_t)rank ^ UINT64_C(1) << 63; }

/* Stable: an element moves only past greater ones. */
static void insert_by_key(uint32_t *run, size_t n, const uint64_t *keys) {
    for (size_t i = 1; i < n; i++) {
        uint32_t moving = run[i];
        size_t j = i;
        for (; j > 0 && keys[run[j - 1]] > keys[moving]; j--) run[j] = run[j - 1];
        run[j] = moving;
    }
}

/* Whether b must not stand before a. With `ids` they are compared, else keys. */
static inline int in_order(const sorter *s, uint32_t a, uint32_t b, int by_ids) {
    return by_ids ? rk_id_compare(s->list->ids[a], s->list->ids[b]) <= 0 : s->keys[a] <= s->keys[b];
}

/* Merge sort, for runs that radix sort cannot part, unless they are in order; `spare` has room. */
static void merge_sort(const sorter *s, uint32_t *run, size_t n, int by_ids) {
    uint32_t *from = run, *to = (uint32_t *)s->spare;
    size_t sorted_from = 1;
    while (sorted_from < n && in_order(s, run[sorted_from - 1], run[sorted_from], by_ids)) sorted_from++;
    if (sorted_from >= n) return;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t middle = start + width < n ? start + width : n;
            size_t stop = middle + width < n ? middle + width : n;
            size_t left = start, right = middle;
            for (size_t i = start; i < stop; i++) {
                int take_left = right == stop || (left < middle && in_order(s, from[left], from[right], by_ids));
                to[i] = take_left ? from[left++] : from[right++];
            }
        }
        uint32_t *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != run) memcpy(run, from, n * sizeof *run);
}

/* One digit of n pairs, stably; `counts` becomes the places of its values. */
static void sort_by_digit(const uint64_t *restrict from, uint64_t *restrict to, size_t n, int shift, uint32_t *counts) {
    uint32_t place = 0;
    for (int i = 0; i < RADIX; i++) {
        uint32_t count = counts[i];
        counts[i] = place;
        place += count;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t pair = from[i];
        to[counts[(uint8_t)(pair >> shift)]++] = pair;
    }
}

/* Sorts pairs by their upper halves; digits that are the same in all are passed over. */
static void radix_sort(sorter *s, size_t n, int digits) {
    uint32_t counts[DIGITS][RADIX] = {{0}};
    const uint64_t *pairs = s->pairs;
    for (size_t i = 0; i < n; i++) {
        uint64_t pair = pairs[i];
        counts[0][(uint8_t)(pair >> 32)]++;
        counts[1][(uint8_t)(pair >> 40)]++;
        counts[2][(uint8_t)(pair >> 48)]++;
        counts[3][(uint8_t)(pair >> 56)]++;
    }
    for (int d = 0; d < digits; d++) {
        int shift = 32 + 8 * d;
        if (counts[d][(uint8_t)(s->pairs[0] >> shift)] == n) continue;
        sort_by_digit(s->pairs, s->spare, n, shift, counts[d]);
        uint64_t *sorted = s->spare;
        s->spare = s->pairs;
        s->pairs = sorted;
    }
}

/* How far keys are shifted for their differences to fit `width` bits. Missing scores would waste the range: they
 * are left out of it. */
static int shift_for(uint64_t least, uint64_t most, int width) {
    int bits = most > least ? 64 - __builtin_clzll(most - least) : 0;
    return bits > width ? bits - width : 0;
}

static inline uint64_t upper_bits(uint64_t key, uint64_t least, int shift, int width) {
    return key == UINT64_MAX ? (UINT64_C(1) << width) - 1 : (key - least) >> shift;
}

/* Sorts a run of positions by their keys, stably. */
static void sort_by_keys(sorter *s, uint32_t *run, size_t n) {
    uint64_t least = UINT64_MAX, most = 0, last = 0;
    int is_sorted = 1;
    if (n <= SHORT) {
        insert_by_key(run, n, s->keys);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t key = s->keys[run[i]], finite = key == UINT64_MAX ? 0 : key;
        is_sorted &= last <= key;
        last = key;
        least = key < least ? key : least;
        most = finite > most ? finite : most;
    }
    if (is_sorted) return;
    int digits = n <= LONG ? DIGITS - 1 : DIGITS, shift = shift_for(least, most, 8 * digits);
    for (size_t i = 0; i < n; i++) {
        s->pairs[i] = upper_bits(s->keys[run[i]], least, shift, 8 * digits) << 32 | run[i];
    }
    radix_sort(s, n, digits);
    const uint64_t *pairs = s->pairs;
    for (size_t i = 0; i < n; i++) run[i] = (uint32_t)pairs[i];
    for (size_t start = 0, stop = 1; start < n; start = stop++) {
        while (stop < n && pairs[stop] >> 32 == pairs[start] >> 32) stop++;
        if (stop - start > SHORT) merge_sort(s, run + start, stop - start, 0);
        else if (stop - start > 1) insert_by_key(run + start, stop - start, s->keys);
    }
}

/* The end of the run of equal keys that begins at `start`. */
static size_t end_of_run(const sorter *s, const uint32_t *run, size_t start, size_t n) {
    size_t stop = start + 1;
    while (stop < n && s->keys[run[stop]] == s->keys[run[start]]) stop++;
    return stop;
}

/* The bytes that all ids of a run begin with. */
static size_t shared_bytes(const rk_id *ids, const uint32_t *run, size_t n) {
    rk_id first = ids[run[0]];
    size_t shared = first.length;
    for (size_t i = 1; i < n; i++) {
        rk_id id = ids[run[i]];
        size_t j = 0;
        shared = id.length < shared ? id.length : shared;
        while (j < shared && id.bytes[j] == first.bytes[j]) j++;
        shared = j;
    }
    return shared;
}

/* The next bytes as a number; a shorter id is filled with zeros, and compared in full with those it then equals. */
static uint64_t key_of_id(rk_id id, size_t from) {
    uint64_t key = 0;
    for (size_t i = from; i < from + PREFIX_BYTES; i++) key = key << 8 | (i < id.length ? id.bytes[i] : 0);
    return key;
}

/* A run of equal score and rank, by ids. */
static void sort_by_ids(sorter *s, uint32_t *run, size_t n) {
    const rk_id *ids = s->list->ids;
    size_t shared = shared_bytes(ids, run, n);
    for (size_t i = 0; i < n; i++) s->keys[run[i]] = key_of_id(ids[run[i]], shared);
    sort_by_keys(s, run, n);
    for (size_t start = 0, stop; start < n; start = stop) {
        stop = end_of_run(s, run, start, n);
        if (stop - start > 1) merge_sort(s, run + start, stop - start, 1);
    }
}

/* A run of equal score, by rank and then ids, of which `wanted` are asked for. Whether ids decided. */
static int sort_equal_scores(sorter *s, uint32_t *run, size_t n, size_t wanted) {
    int tied = 0;
    if (s->list->ranks) {
        for (size_t i = 0; i < n; i++) s->keys[run[i]] = key_of_rank(s->list->ranks[run[i]]);
        sort_by_keys(s, run, n);
    }
    for (size_t start = 0, stop; start < n && start < wanted; start = stop) {
        stop = end_of_run(s, run, start, n);
        if (stop - start == 1) continue;
        tied = 1;
        if (s->list->ids) sort_by_ids(s, run + start, stop - start);
    }
    return tied;
}

/* Puts into `order` the positions that may be among the first k, and at least k; how many. */
static size_t select_first(sorter *s, size_t k) {
    size_t n = s->list->n, kept = 0, counted = 0;
    uint32_t counts[1 << SELECT_BITS] = {0};
    uint64_t least = UINT64_MAX, most = 0, bound = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = s->keys[i], finite = key == UINT64_MAX ? 0 : key;
        least = key < least ? key : least;
        most = finite > most ? finite : most;
    }
    int shift = shift_for(least, most, SELECT_BITS);
    for (size_t i = 0; i < n; i++) counts[upper_bits(s->keys[i], least, shift, SELECT_BITS)]++;
    while (counted + counts[bound] < k) counted += counts[bound++];
    for (size_t i = 0; i < n; i++) {
        s->order[kept] = (uint32_t)i;
        kept += upper_bits(s->keys[i], least, shift, SELECT_BITS) <= bound;
    }
    return kept;
}

int rk_order_top(const rk_order_list *list, size_t k, int64_t *order, int *tied) {
    size_t n = list->n, taken = k < n ? k : n, kept = n;
    if (n > RK_ORDER_MOST) return -1;
    uint64_t *memory = malloc((3 * n + 1) * sizeof *memory + n * sizeof(uint32_t));
    if (!memory) return -1;
    sorter s = {list, memory, memory + n, memory + 2 * n, (uint32_t *)(memory + 3 * n + 1)};
    int decided = 0;
    for (size_t i = 0; i < n; i++) s.keys[i] = key_of_score(list->scores[i]);
    if (taken && taken < n / 2) kept = select_first(&s, taken);
    for (size_t i = 0; i < n && kept == n; i++) s.order[i] = (uint32_t)i;
    sort_by_keys(&s, s.order, kept);
    for (size_t start = 0, stop; start < taken; start = stop) {
        stop = end_of_run(&s, s.order, start, kept);
        if (stop - start > 1) decided |= sort_equal_scores(&s, s.order + start, stop - start, taken - start);
    }
    for (size_t i = 0; i < taken; i++) order[i] = s.order[i];
    if (tied) *tied = decided;
    free(memory);
    return 0;
}
