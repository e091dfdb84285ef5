/* The layout of a forest, shared by its builder and its tiers; nobody else includes this. */
#ifndef RK_FOREST_INTERNAL_H
#define RK_FOREST_INTERNAL_H

#include <math.h>

#include "rk_forest.h"

/* The compiled form. docs/kernels.md draws it.
 *
 * An axis is a feature with up to 255 ascending thresholds (a feature with more has several axes). A value's bin on it
 * is the number of thresholds below the value, so that `x <= threshold[i]` is `bin <= i`. Thresholds are float32:
 * `(double)x <= t` is `x <= the largest float32 <= t`, and flushing tiny values to 0 is taken into them, too.
 *
 * A rule is an axis with one way to treat missing values: rows where the value is absent (NaN; for
 * RK_MISSING_ZERO, 0 too) get the bin `missing_bin`: 0 where they go left everywhere, 255 where right, the bin of 0
 * where NaN is 0. That takes missing values out of the nodes. A membership is a categorical condition.
 *
 * Conditions: those of a rule are the thresholds that its nodes use, ascending, from `condition` on. The threshold's
 * index on the axis is kept as cut_low, 8 times its low four bits, and cut_high, 16 times its high four bits.
 * Memberships follow the rules. After them comes one that is always met.
 *
 * Boundaries: leaves are ranked from left to right. Boundary i of a tree stands left of the leaf of rank i; for every row it
 * is known whether its leaf is right of it. Boundary 0 is true for all, boundary n + 1 for none. A node
 * whose leaves lie between the boundaries lo and hi, its left child's ending at `at`, makes
 *     right_of[at] = right_of[lo] & (right_of[hi] | ~condition)
 * and bit k of the rank's Gray code is the XOR of right_of[i] over i = 2^k, 3 * 2^k, 5 * 2^k ...: the boundaries at
 * which this bit changes. One operation a node, one a boundary, whatever the tree's shape.
 * All these are kept as 8 times the index: of masks of W words an index of 8 * i is a distance of 8 * i * W bytes, which is
 * one addressing mode of the processor's. Trees of more than RK_MAX_BOUNDED nodes are left to WALK.
 * Trees are taken in bunches: the nodes of a bunch's trees stand together, by depth, so that many independent ones
 * are under way at a time; each tree has its own boundaries, from `bound` on.
 * An oblivious tree (one condition a level) needs no boundaries: its conditions are the bits; it is a bunch of its own.
 */
typedef struct {
    uint32_t feature;
    uint32_t table; /* the first of its 2^levels (at least 32) floats in axis_table, for a search of so many steps: step k
                       compares with entry 2^k + i, where bit j of i is whether the value was above at step j; the
                       first step gives the highest bit of the bin. There, too, in axis_sorted: the thresholds ascending.
                       Both are filled up with +inf. */
    uint32_t levels; /* 1 .. 8 */
    uint32_t count;  /* thresholds */
    uint32_t zeros;  /* 1: a rule of it takes 0 as missing */
} rk_axis;

typedef struct {
    uint32_t axis;
    uint32_t condition; /* the first */
    uint32_t count;     /* at least 1 */
    uint8_t missing;    /* RK_MISSING_* */
    uint8_t default_left;
    uint8_t missing_bin;
    uint8_t unused;
} rk_rule;

typedef struct {
    uint32_t feature;
    uint32_t set;
    uint32_t nan_in; /* 1: NaN counts as a member */
} rk_membership;

typedef struct {
    uint32_t table;  /* the first of its (1 << planes) * width leaf values, by code, in leaf_table */
    uint32_t planes; /* bits of a code: 0 .. 16 */
    uint32_t oblivious; /* 1: the code's bits are cut_condition[node_begin + level], the root's level the highest */
    uint32_t depth;
    uint32_t bound; /* its boundary 0 among those of its bunch; 1 + (1 << planes) are its own */
} rk_tree;

#define RK_MAX_BOUNDED 8190u
#define RK_BUNCH_TREES 4u
#define RK_BUNCH_BOUNDS 300u /* of more than one tree */
#define RK_FETCH_AHEAD 32u /* cut_condition has so many entries more, which are only fetched early */

/* A slot of WALK: next = left + outcome[condition]. A leaf leads to itself. */
typedef struct {
    uint32_t left; /* over all trees' slots: tree t's 2n + 1 slots stand from 2 * node_begin[t] + t on */
    uint32_t condition;
} rk_step;

/* All arrays of a forest, name and type, in their order in the image. Lengths: rk_forest_image.c checks them. */
#define RK_SECTIONS(S)             \
    S(node_begin, uint32_t)        \
    S(split_feature, int32_t)      \
    S(decision, uint8_t)           \
    S(threshold, double)           \
    S(category_set, int32_t)       \
    S(left, int32_t)               \
    S(right, int32_t)              \
    S(leaf_value, double)          \
    S(set_begin, uint32_t)         \
    S(set_words, uint32_t)         \
    S(tree_output, uint32_t)       \
    S(base, double)                \
    S(linear_begin, uint32_t)      \
    S(linear_feature, int32_t)     \
    S(linear_coefficient, double)  \
    S(linear_constant, double)     \
    S(node_cover, double)          \
    S(leaf_cover, double)          \
    S(axis, rk_axis)               \
    S(axis_table, float)           \
    S(axis_sorted, float)          \
    S(rule, rk_rule)               \
    S(cut_low, uint8_t)            \
    S(cut_high, uint8_t)           \
    S(cut_threshold, float)        \
    S(membership, rk_membership)   \
    S(node_condition, uint32_t)    \
    S(tree, rk_tree)               \
    S(bunch, uint32_t)             \
    S(cut_condition, uint32_t)     \
    S(cut_lo, uint16_t)            \
    S(cut_hi, uint16_t)            \
    S(cut_at, uint16_t)            \
    S(leaf_table, double)          \
    S(float_table, float)          \
    S(table_leaf, uint32_t)        \
    S(step, rk_step)               \
    S(slot_leaf, uint32_t)         \
    S(walk_order, uint32_t)

/* `bunch` has the first tree of each and, last, n_trees; cut_condition .. cut_at are per node. leaf_table is used without float sums,
 * float_table with them, table_leaf (leaf of the tree by code) with linear leaves; the others of these are empty. */
typedef struct {
#define S(name, type) const type *name;
    RK_SECTIONS(S)
#undef S
#define S(name, type) size_t n_##name;
    RK_SECTIONS(S)
#undef S
} rk_sections;

struct rk_forest {
    uint32_t n_features;
    uint32_t n_outputs;
    uint32_t n_trees;
    uint32_t flags;
    uint32_t width;        /* values of a leaf: n_outputs with vector leaves, else 1 */
    uint32_t n_conditions; /* without the one that is always met */
    uint32_t max_bounds;   /* of a bunch */
    uint32_t bits;         /* 0: a tree has more than RK_MAX_BOUNDED nodes; only SCALAR and WALK serve */
    rk_sections s;
    rk_forest_source source; /* the same arrays as they were given */
    const void *image;
    size_t image_bytes;
    void *owned; /* the image, if it is the forest's own */
};

/* |x| up to this is 0 to LightGBM (kZeroThreshold). */
#define RK_ZERO_THRESHOLD 1e-35f

static inline float rk_zero_limit(uint32_t flags) { return flags & RK_FOREST_FLUSH_ZERO ? RK_ZERO_THRESHOLD : 0.0f; }

/* The contract's Zero. */
static inline float rk_flush(float x, float zero_limit) { return x >= -zero_limit && x <= zero_limit ? 0.0f : x; }

/* How many values a leaf has. */
static inline uint32_t rk_leaf_width(uint32_t flags, uint32_t n_outputs) {
    return flags & RK_FOREST_VECTOR_LEAVES ? n_outputs : 1;
}

/* 1 if x is a member: the contract's Category. */
static inline int rk_is_member(const rk_forest *forest, uint32_t set, int nan_in, float x) {
    if (isnan(x)) {
        return nan_in;
    }
    float limit = rk_zero_limit(forest->flags), above = forest->flags & RK_FOREST_NEGATIVE_IN_NO_SET ? 0.0f : -1.0f;
    if (!(x > above || x >= -limit) || x >= 2147483648.0f) {
        return 0;
    }
    uint32_t category = (uint32_t)(int32_t)x, begin = forest->s.set_begin[set];
    uint32_t words = forest->s.set_begin[set + 1] - begin;
    return category / 32 < words && ((forest->s.set_words[begin + category / 32] >> (category % 32)) & 1u);
}

/* The value of a leaf (over all trees) with linear terms in a row; `row` points at the row's feature 0. */
double rk_linear_leaf(const rk_forest *forest, size_t leaf, const float *row, ptrdiff_t feature_stride);

/* The contract's Sums for one row, kept at sums[o * out_rows]: before the first tree, and with a leaf of tree t added. */
static inline void rk_begin_sums(const rk_forest *forest, double *sums, size_t out_rows) {
    for (uint32_t o = 0; o < forest->n_outputs; o++) {
        double base = forest->source.base[o];
        sums[o * out_rows] = forest->flags & RK_FOREST_FLOAT_SUMS ? (double)(float)base : base;
    }
}

static inline void rk_add_leaf(const rk_forest *forest, uint32_t t, size_t leaf, const float *row,
                               ptrdiff_t feature_stride, double *sums, size_t out_rows) {
    const rk_forest_source *s = &forest->source;
    for (uint32_t w = 0; w < forest->width; w++) {
        double *sum = sums + (s->tree_output ? s->tree_output[t] : w) * out_rows;
        double value = s->linear_begin ? rk_linear_leaf(forest, leaf, row, feature_stride)
                                       : s->leaf_value[leaf * forest->width + w];
        *sum = s->flags & RK_FOREST_FLOAT_SUMS ? (double)((float)*sum + (float)value) : *sum + value;
    }
}

/* Thresholds of an axis, ascending; and the last of each sixteen of them, +inf where a sixteen is not full. */
static inline const float *rk_axis_pivots(const rk_forest *forest, const rk_axis *axis, float *pivots) {
    const float *sorted = forest->s.axis_sorted + axis->table;
    for (uint32_t i = 0; i < 16; i++) {
        pivots[i] = 16 * i + 15 < axis->count ? sorted[16 * i + 15] : INFINITY;
    }
    return sorted;
}

/* build: rk_forest_check.c, rk_forest_compile.c (conditions), rk_forest_trees.c (trees), rk_forest_image.c */
int rk_forest_check(const rk_forest_source *source, rk_forest_fault *fault);
int rk_compile_conditions(rk_sections *s, const rk_forest_source *source);
int rk_compile_trees(rk_sections *s, const rk_forest_source *source, uint32_t n_conditions);
int rk_refuse(rk_forest_fault *fault, rk_forest_status status, uint32_t tree, uint32_t index);

/* The masks of the first `rows` (at most 64) rows that meet every condition: bit r of out[condition]. */
void rk_forest_conditions(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                          ptrdiff_t row_stride, uint64_t *out);

/* A batch on its way through a tier; sums are out[o * out_rows + r]. */
typedef struct {
    const float *matrix;
    ptrdiff_t feature_stride;
    ptrdiff_t row_stride;
    size_t rows;
    double *out;
    size_t out_rows;
} rk_batch;

/* A tier scores a batch; -1 if memory is short. */
typedef int (*rk_score_function)(const rk_forest *forest, const rk_batch *batch);
int rk_score_scalar(const rk_forest *forest, const rk_batch *batch);
int rk_score_walk(const rk_forest *forest, const rk_batch *batch);
int rk_score_bits(const rk_forest *forest, const rk_batch *batch);
int rk_score_avx2(const rk_forest *forest, const rk_batch *batch);
int rk_score_avx512(const rk_forest *forest, const rk_batch *batch);
int rk_score_neon(const rk_forest *forest, const rk_batch *batch);

#endif
