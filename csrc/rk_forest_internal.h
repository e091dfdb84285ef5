/* The layout of a forest, shared by its builder and its tiers; nobody else includes this. */
#ifndef RK_FOREST_INTERNAL_H
#define RK_FOREST_INTERNAL_H

#include "rk_forest.h"

/* A node as the contract reads; what the oracle walks. Children as in the source. */
typedef struct {
    double threshold;
    int32_t feature;
    int32_t left;
    int32_t right;
    uint32_t category_set;
    uint8_t decision;
} rk_node;

struct rk_forest {
    uint32_t n_features;
    uint32_t n_outputs;
    uint32_t n_trees;
    uint32_t n_sets;
    uint32_t *node_begin; /* n_trees + 1 */
    rk_node *nodes;
    double *leaf_value; /* leaves of tree t start at node_begin[t] + t */
    uint32_t *set_begin; /* n_sets + 1 */
    uint32_t *set_words;
};

/* |x| up to this is 0 to LightGBM (kZeroThreshold). */
#define RK_ZERO_THRESHOLD 1e-35f

static inline float rk_flush(float x) {
    return (x >= -RK_ZERO_THRESHOLD && x <= RK_ZERO_THRESHOLD) ? 0.0f : x;
}

/* 1 if x is a member of the set; NaN, below 0 after truncation and 2^31 or more are in no set. */
static inline int rk_in_set(const rk_forest *forest, uint32_t set, float x) {
    if (!(x > -1.0f && x < 2147483648.0f)) {
        return 0;
    }
    uint32_t category = (uint32_t)(int32_t)x;
    uint32_t begin = forest->set_begin[set];
    uint32_t words = forest->set_begin[set + 1] - begin;
    return category / 32 < words && ((forest->set_words[begin + category / 32] >> (category % 32)) & 1u);
}

#endif
