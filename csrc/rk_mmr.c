/* MMR, lazily. What an item is worth only falls as others are placed (its greatest similarity only grows, and rounding
 * keeps order), but for the first place, before which there is none. So a value computed some places ago is a bound,
 * and only items whose bound is on top are looked at again: M. Minoux, "Accelerated greedy algorithms for maximizing
 * submodular set functions" (1978). */
#include <math.h>
#include <stdlib.h>

#include "rk_diversity_internal.h"

int rk_mmr_is_sound(const rk_mmr_list *list) {
    size_t cells;
    if (list->n > RK_DIVERSITY_MOST || !(list->lambda >= 0 && list->lambda <= 1)) return 0;
    if (!list->embeddings) return 1;
    return list->dimension >= 1 && list->dimension <= RK_DIVERSITY_MOST &&
           !__builtin_mul_overflow(list->n + 1, rk_mmr_stride(list) * sizeof(float), &cells);
}

/* In lanes, as the contract says. */
static double square_sum(const float *from, size_t dimension) {
    double sums[RK_DIVERSITY_LANES] = {0};
    size_t d = 0;
    for (; d + RK_DIVERSITY_LANES <= dimension; d += RK_DIVERSITY_LANES)
        for (int lane = 0; lane < RK_DIVERSITY_LANES; lane++)
            sums[lane] += (double)from[d + lane] * (double)from[d + lane];
    for (size_t lane = 0; d + lane < dimension; lane++) sums[lane] += (double)from[d + lane] * (double)from[d + lane];
    for (int half = RK_DIVERSITY_LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}

float *rk_mmr_units(const rk_mmr_list *list) {
    size_t stride = rk_mmr_stride(list);
    if (!list->embeddings) return calloc(1, sizeof(float));
    float *units = calloc((list->n + 1) * stride, sizeof(float));
    if (!units) return NULL;
    for (size_t i = 0; i < list->n; i++) {
        const float *from = list->embeddings + i * list->dimension;
        double square = square_sum(from, list->dimension);
        if (!(square > 0 && square < INFINITY)) continue;
        double scale = 1 / sqrt(square);
        for (size_t d = 0; d < list->dimension; d++) units[i * stride + d] = (float)((double)from[d] * scale);
    }
    return units;
}

/* What is known of items that are not placed. */
typedef struct {
    double *values; /* by position: what it was worth when last looked at; NaN comes last */
    float *most;    /* its greatest similarity to the first `seen` places */
    size_t *seen;
    size_t *heap;   /* positions: the one of greatest value, of equal ones the earliest, on top */
    size_t size;
    float *units;
    void *memory;
} knowledge;

/* Whether position a is before b by what is known. */
static inline int is_before(const knowledge *known, size_t a, size_t b) {
    double x = known->values[a], y = known->values[b];
    if (x > y) return 1;
    if (x < y) return 0;
    if ((x != x) != (y != y)) return y != y;
    return a < b;
}

static void sift_down(knowledge *known, size_t at) {
    size_t moving = known->heap[at];
    for (size_t child; (child = 2 * at + 1) < known->size; at = child) {
        child += child + 1 < known->size && is_before(known, known->heap[child + 1], known->heap[child]);
        if (!is_before(known, known->heap[child], moving)) break;
        known->heap[at] = known->heap[child];
    }
    known->heap[at] = moving;
}

static void heapify(knowledge *known) {
    for (size_t at = known->size / 2; at-- > 0;) sift_down(known, at);
}

static int remember(const rk_mmr_list *list, knowledge *known) {
    size_t n = list->n;
    known->units = rk_mmr_units(list);
    known->memory = malloc((n + 1) * (sizeof(double) + 2 * sizeof(size_t) + sizeof(float)));
    if (!known->units || !known->memory) {
        free(known->units);
        free(known->memory);
        return -1;
    }
    known->values = known->memory;
    known->seen = (size_t *)(known->values + n);
    known->heap = known->seen + n;
    known->most = (float *)(known->heap + n);
    known->size = n;
    for (size_t i = 0; i < n; i++) {
        known->values[i] = rk_mmr_value(list, i, 0);
        known->seen[i] = 0;
        known->heap[i] = i;
        known->most[i] = -INFINITY;
    }
    heapify(known);
    return 0;
}

/* Brings an item's value up to date with the first `placed` places. */
static void look_at(const rk_mmr_list *list, knowledge *known, size_t i, const int64_t *order, size_t placed) {
    float most = known->most[i];
    for (size_t j = known->seen[i]; j < placed; j++) {
        float similarity = (float)rk_mmr_similarity(list, known->units, i, (size_t)order[j]);
        most = similarity > most ? similarity : most;
    }
    known->most[i] = most;
    known->seen[i] = placed;
    known->values[i] = rk_mmr_value(list, i, (double)most);
}

int rk_mmr(const rk_mmr_list *list, size_t k, int64_t *order) {
    size_t n = list->n, placed = 0;
    knowledge known;
    if (!rk_mmr_is_sound(list) || remember(list, &known)) return -1;
    while (placed < n && placed < k) {
        size_t best = known.heap[0];
        if (known.seen[best] < placed) {
            look_at(list, &known, best, order, placed);
            sift_down(&known, 0);
            continue;
        }
        order[placed++] = (int64_t)best;
        known.heap[0] = known.heap[--known.size];
        if (known.size) sift_down(&known, 0);
        if (placed > 1) continue;
        /* Beside the first, a value may rise (a similarity below 0): bounds hold from here on. */
        for (size_t at = 0; at < known.size; at++) look_at(list, &known, known.heap[at], order, 1);
        heapify(&known);
    }
    /* From here on `seen` says whether a position is placed. */
    for (size_t i = 0; i < n; i++) known.seen[i] = 1;
    for (size_t at = 0; at < known.size; at++) known.seen[known.heap[at]] = 0;
    for (size_t i = 0; i < n; i++) {
        if (!known.seen[i]) order[placed++] = (int64_t)i;
    }
    free(known.units);
    free(known.memory);
    return 0;
}
