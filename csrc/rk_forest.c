#include "rk_forest.h"

#include <math.h>
#include <stdlib.h>

#include "rk_forest_internal.h"

uint32_t rk_forest_features(const rk_forest *forest) { return forest->n_features; }
uint32_t rk_forest_outputs(const rk_forest *forest) { return forest->n_outputs; }
uint32_t rk_forest_trees(const rk_forest *forest) { return forest->n_trees; }

static int goes_left(const rk_forest *forest, const rk_node *node, float value) {
    float x = rk_flush(value);
    if (node->decision & RK_DECISION_CATEGORICAL) {
        return rk_in_set(forest, node->category_set, x);
    }
    unsigned missing = node->decision >> RK_DECISION_MISSING_SHIFT;
    if (isnan(x) && missing != RK_MISSING_NAN) {
        x = 0.0f;
    }
    if ((missing == RK_MISSING_ZERO && x == 0.0f) || (missing == RK_MISSING_NAN && isnan(x))) {
        return (node->decision & RK_DECISION_DEFAULT_LEFT) != 0;
    }
    return (double)x <= node->threshold;
}

static int32_t find_leaf(const rk_forest *forest, uint32_t tree, const float *matrix, size_t row,
                         ptrdiff_t feature_stride) {
    uint32_t begin = forest->node_begin[tree];
    int32_t k = forest->node_begin[tree + 1] > begin ? 0 : ~0;
    while (k >= 0) {
        const rk_node *node = &forest->nodes[begin + (uint32_t)k];
        float value = matrix[(ptrdiff_t)node->feature * feature_stride + (ptrdiff_t)row];
        k = goes_left(forest, node, value) ? node->left : node->right;
    }
    return ~k;
}

void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    int32_t *out) {
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        for (size_t r = 0; r < rows; r++) {
            out[(size_t)t * rows + r] = find_leaf(forest, t, matrix, r, feature_stride);
        }
    }
}

static void score_scalar(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                         double *out) {
    for (size_t i = 0; i < rows * forest->n_outputs; i++) {
        out[i] = 0.0;
    }
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        const double *leaf_value = forest->leaf_value + forest->node_begin[t] + t;
        double *sums = out + (size_t)(t % forest->n_outputs) * rows;
        for (size_t r = 0; r < rows; r++) {
            sums[r] += leaf_value[find_leaf(forest, t, matrix, r, feature_stride)];
        }
    }
}

/* Below this many rows a block of BITS costs more than walking (measured: docs/models.md). */
#define BITS_MIN_ROWS 10

/* The one place where a tier is chosen. */
int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                    ptrdiff_t feature_stride, double *out) {
    if (tier == RK_FOREST_SCALAR) {
        score_scalar(forest, matrix, rows, feature_stride, out);
        return 0;
    }
    size_t walk_bytes = rk_walk_scratch(forest), bits_bytes = rk_bits_scratch(forest);
    void *scratch = malloc(walk_bytes > bits_bytes ? walk_bytes : bits_bytes);
    if (!scratch) {
        return -1;
    }
    for (size_t i = 0; i < rows * forest->n_outputs; i++) {
        out[i] = 0.0;
    }
    for (size_t r = 0; r < rows; r += RK_BLOCK_ROWS) {
        size_t count = rows - r < RK_BLOCK_ROWS ? rows - r : RK_BLOCK_ROWS;
        int walk = tier == RK_FOREST_WALK || (tier == RK_FOREST_AUTO && count < BITS_MIN_ROWS);
        (walk ? rk_walk : rk_bits_block)(forest, matrix + r, count, feature_stride, out + r, rows, scratch);
    }
    free(scratch);
    return 0;
}
