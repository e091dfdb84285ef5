/* The oracle, and the one place where a tier is chosen. */
#include "rk_forest.h"

#include <math.h>
#include <string.h>

#include "rk_forest_internal.h"

static int goes_left(const rk_forest *forest, uint32_t node, float value) {
    const rk_forest_source *s = &forest->source;
    uint8_t decision = s->decision[node];
    unsigned missing = decision >> RK_DECISION_MISSING_SHIFT;
    int default_left = (decision & RK_DECISION_DEFAULT_LEFT) != 0;
    float x = rk_flush(value, rk_zero_limit(s->flags));
    if (decision & RK_DECISION_CATEGORICAL) {
        return rk_is_member(forest, (uint32_t)s->category_set[node], default_left, x);
    }
    if (isnan(x) && missing != RK_MISSING_NAN) {
        x = 0.0f;
    }
    if ((missing == RK_MISSING_ZERO && x == 0.0f) || (missing == RK_MISSING_NAN && isnan(x))) {
        return default_left;
    }
    return (double)x <= s->threshold[node];
}

static int32_t find_leaf(const rk_forest *forest, uint32_t tree, const float *row, ptrdiff_t feature_stride) {
    const rk_forest_source *s = &forest->source;
    uint32_t begin = s->node_begin[tree];
    int32_t k = s->node_begin[tree + 1] > begin ? 0 : ~0;
    while (k >= 0) {
        uint32_t node = begin + (uint32_t)k;
        k = goes_left(forest, node, row[s->split_feature[node] * feature_stride]) ? s->left[node] : s->right[node];
    }
    return ~k;
}

void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    ptrdiff_t row_stride, int32_t *out) {
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        for (size_t r = 0; r < rows; r++) {
            out[(size_t)t * rows + r] = find_leaf(forest, t, matrix + (ptrdiff_t)r * row_stride, feature_stride);
        }
    }
}

double rk_linear_leaf(const rk_forest *forest, size_t leaf, const float *row, ptrdiff_t feature_stride) {
    const rk_forest_source *s = &forest->source;
    uint32_t begin = s->linear_begin[leaf], end = s->linear_begin[leaf + 1];
    double sum = s->linear_constant[leaf];
    float limit = rk_zero_limit(s->flags);
    for (uint32_t k = begin; k < end; k++) {
        float x = row[s->linear_feature[k] * feature_stride];
        if (isnan(x)) {
            return s->leaf_value[leaf];
        }
        sum += s->linear_coefficient[k] * (double)rk_flush(x, limit);
    }
    return begin == end ? s->leaf_value[leaf] : sum;
}

int rk_score_scalar(const rk_forest *forest, const rk_batch *batch) {
    for (size_t r = 0; r < batch->rows; r++) {
        const float *row = batch->matrix + (ptrdiff_t)r * batch->row_stride;
        rk_begin_sums(forest, batch->out + r, batch->out_rows);
        for (uint32_t t = 0; t < forest->n_trees; t++) {
            size_t first = (size_t)forest->s.node_begin[t] + t;
            size_t leaf = first + (size_t)find_leaf(forest, t, row, batch->feature_stride);
            rk_add_leaf(forest, t, leaf, row, batch->feature_stride, batch->out + r, batch->out_rows);
        }
    }
    return 0;
}

int rk_forest_has_tier(const rk_forest *forest, rk_forest_tier tier) {
    switch (tier) {
    case RK_FOREST_AUTO:
    case RK_FOREST_SCALAR:
    case RK_FOREST_WALK:
        return 1;
    case RK_FOREST_BITS:
        return (int)forest->bits;
#if defined(__x86_64__)
    case RK_FOREST_AVX2:
        return forest->bits && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
    case RK_FOREST_AVX512:
        return forest->bits && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("bmi2");
#elif defined(__aarch64__)
    case RK_FOREST_NEON:
        return (int)forest->bits;
#endif
    default:
        return 0;
    }
}

uint32_t rk_forest_describe(const rk_forest *forest, uint32_t *thresholds, uint32_t *axes, uint32_t *depth,
                            uint8_t *oblivious) {
    const rk_sections *s = &forest->s;
    memset(thresholds, 0, forest->n_features * sizeof *thresholds);
    memset(axes, 0, forest->n_features * sizeof *axes);
    for (size_t i = 0; i < s->n_axis; i++) {
        thresholds[s->axis[i].feature] += s->axis[i].count;
        axes[s->axis[i].feature]++;
    }
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        depth[t] = s->tree[t].depth;
        oblivious[t] = s->tree[t].oblivious != 0;
    }
    return forest->n_conditions;
}

/* The rows from which on a block of rows as bits costs less than walking them (measured: docs/kernels.md; NEON, which
 * could only be emulated, is taken as AVX2). */
static const struct {
    rk_forest_tier tier;
    size_t rows;
} by_speed[] = {{RK_FOREST_AVX512, 9}, {RK_FOREST_AVX2, 11}, {RK_FOREST_NEON, 11}, {RK_FOREST_BITS, 22}};

rk_forest_tier rk_forest_chosen(const rk_forest *forest, size_t rows) {
    for (unsigned i = 0; i < sizeof by_speed / sizeof *by_speed; i++) {
        if (rk_forest_has_tier(forest, by_speed[i].tier)) {
            return rows >= by_speed[i].rows ? by_speed[i].tier : RK_FOREST_WALK;
        }
    }
    return RK_FOREST_WALK;
}

int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                    ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out) {
    static const rk_score_function tiers[RK_FOREST_N_TIERS] = {
        [RK_FOREST_SCALAR] = rk_score_scalar,
        [RK_FOREST_WALK] = rk_score_walk,
        [RK_FOREST_BITS] = rk_score_bits,
#if defined(__x86_64__)
        [RK_FOREST_AVX2] = rk_score_avx2,
        [RK_FOREST_AVX512] = rk_score_avx512,
#elif defined(__aarch64__)
        [RK_FOREST_NEON] = rk_score_neon,
#endif
    };
    const rk_batch batch = {matrix, feature_stride, row_stride, rows, out, rows};
    if (!rk_forest_has_tier(forest, tier)) {
        return -1;
    }
    return tiers[tier == RK_FOREST_AUTO ? rk_forest_chosen(forest, rows) : tier](forest, &batch);
}
