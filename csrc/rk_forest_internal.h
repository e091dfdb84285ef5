/* The layout of a forest, shared by its builder and its tiers; nobody else includes this. */
#ifndef RK_FOREST_INTERNAL_H
#define RK_FOREST_INTERNAL_H

#include <math.h>

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

/* The compiled form: missing values taken out of the nodes.
 *
 * A rule is a numeric feature with one way to treat missing values. Its value in a row is a float32: the
 * feature's, or -inf where missing goes left and NaN where it goes right, so that `value <= threshold` decides
 * alone (NaN <= t is false even for t = inf). `(double)x <= t` is `x <= the largest float32 <= t`.
 * A membership is a categorical condition, one per categorical node; its value is 0 (in the set) or NaN.
 *
 * Conditions: those of a rule are its distinct thresholds, ascending, in `thresholds` from `condition` on; one
 * entry more is spare (BITS collects there the rows that meet none). Memberships follow the rules.
 *
 * Slots: tree t has 2n + 1 of them, from 2 * node_begin[t] + t on: its nodes and leaves breadth first, so that
 * the children of the c-th node (of those n, in this order) stand in 2c + 1 and 2c + 2.
 * Leaves are ranked from left to right; leaf values are kept in this order, from node_begin[t] + t on.
 */
typedef struct {
    uint32_t feature;
    uint32_t condition; /* the first */
    uint32_t count;     /* distinct thresholds, at least 1 */
    uint8_t missing;
    uint8_t default_left;
} rk_rule;

typedef struct {
    uint32_t feature;
    uint32_t set;
} rk_membership;

/* A slot as WALK takes it: next = left + !(value <= threshold). A leaf leads to itself: value 0, threshold 0. */
typedef struct {
    float threshold;
    uint32_t value; /* 0: the constant 0; 1 + rule; 1 + n_rules + membership */
    uint32_t left;  /* over all trees' slots */
    uint32_t rank;  /* of a leaf */
} rk_step;

/* A node as BITS takes it, breadth first. */
typedef struct {
    uint32_t condition;
    uint32_t slot; /* its own, within the tree */
} rk_branch;

typedef struct {
    uint32_t n_rules;
    uint32_t n_memberships;
    uint32_t n_conditions; /* with the spare ones and the memberships */
    uint32_t max_slots;    /* of a tree */
    rk_rule *rules;
    rk_membership *memberships;
    float *thresholds; /* per condition of a rule; NaN in the spare one */
    rk_step *steps;
    rk_branch *branches;
    double *ranked_values;
    uint32_t *depths;      /* per tree */
    uint32_t *walk_order;  /* trees by depth */
    uint32_t *plane_begin; /* n_trees + 1: tree t's planes (bits of a leaf's rank) among all */
    uint32_t *cover_begin; /* planes + 1 */
    uint32_t *covers;      /* plane p is the OR of the rows that reach the slots covers[cover_begin[p]] .. */
    uint64_t spread[256];  /* byte i of spread[b] is bit i of b */
} rk_compiled;

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
    rk_compiled fast;
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

/* A rule's value in a row, as above. */
static inline float rk_rule_value(const rk_rule *rule, float value) {
    float x = rk_flush(value);
    int absent = x != x || (rule->missing == RK_MISSING_ZERO && x == 0.0f);
    if (rule->missing == RK_MISSING_NONE) {
        return x != x ? 0.0f : x;
    }
    return absent ? (rule->default_left ? -INFINITY : NAN) : x;
}

static inline size_t rk_slot_begin(const rk_forest *forest, uint32_t tree) {
    return 2 * (size_t)forest->node_begin[tree] + tree;
}

/* Fills forest->fast from the nodes; -1 if memory is short (what was made is freed with the forest). */
int rk_forest_compile(rk_forest *forest);
void rk_forest_free_compiled(rk_forest *forest);

/* The tiers for rows [0, rows) of the matrix; `out` (stride out_rows per output) is zeroed before. `scratch` is of
 * rk_walk_scratch and rk_bits_scratch bytes, aligned for double. */
size_t rk_walk_scratch(const rk_forest *forest);
void rk_walk(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride, double *out,
             size_t out_rows, void *scratch);
#define RK_BLOCK_ROWS 64
size_t rk_bits_scratch(const rk_forest *forest);
void rk_bits_block(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride, double *out,
                   size_t out_rows, void *scratch);

#endif
