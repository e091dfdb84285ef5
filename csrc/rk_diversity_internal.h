/* What both ways of rk_diversity share: what similarity and value are. */
#ifndef RK_DIVERSITY_INTERNAL_H
#define RK_DIVERSITY_INTERNAL_H

#include "rk_diversity.h"

/* Whether a list is within the contract's limits. */
int rk_mmr_is_sound(const rk_mmr_list *list);

/* Embeddings of length 1, each padded with zeros to a multiple of RK_DIVERSITY_LANES; a missing one is all zeros, so
 * that its similarity to all is 0. A block to free even where the list has none; NULL without memory. */
float *rk_mmr_units(const rk_mmr_list *list);

static inline size_t rk_mmr_stride(const rk_mmr_list *list) {
    return (list->dimension + RK_DIVERSITY_LANES - 1) / RK_DIVERSITY_LANES * RK_DIVERSITY_LANES;
}

/* The dot product of two vectors of whole lanes, in the contract's order. */
static inline float rk_mmr_dot(const float *restrict a, const float *restrict b, size_t stride) {
    float sums[RK_DIVERSITY_LANES] = {0};
    for (size_t i = 0; i < stride; i += RK_DIVERSITY_LANES)
        for (int lane = 0; lane < RK_DIVERSITY_LANES; lane++) sums[lane] += a[i + lane] * b[i + lane];
    for (int half = RK_DIVERSITY_LANES / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++) sums[lane] += sums[lane + half];
    return sums[0];
}

static inline double rk_mmr_similarity(const rk_mmr_list *list, const float *units, size_t i, size_t j) {
    size_t stride = rk_mmr_stride(list);
    if (!list->embeddings) return list->groups[i] >= 0 && list->groups[i] == list->groups[j];
    return (double)rk_mmr_dot(units + i * stride, units + j * stride, stride);
}

static inline double rk_mmr_value(const rk_mmr_list *list, size_t i, double most_similar) {
    return list->lambda * list->relevance[i] - (1 - list->lambda) * most_similar;
}

void rk_diversity_finish(const uint8_t *is_placed, size_t n, size_t placed, int64_t *order);

#endif
