/* A forest of decision trees: built once from flat arrays, checked whole, then immutable.
 *
 * Contract
 *   Ownership  rk_forest_build copies all it keeps; the source may be freed at once. The forest is the
 *              caller's, to be given to rk_forest_free once. All other calls take it const, keep no
 *              state and may run from several threads at the same time.
 *   Trust      The source is untrusted: build checks every count, index, boundary and child, and that
 *              every node and leaf of a tree is reached exactly once from its root. What build
 *              accepts can be scored with any input without reading out of bounds.
 *   Matrix     float32, feature-major: the value of feature f in row r is
 *              matrix[(ptrdiff_t)f * feature_stride + r]. Any bits are allowed in it.
 *   Missing    NaN. How a node treats it is its missing type (below). Before any comparison a value
 *              with |x| <= 1e-35f becomes 0, as LightGBM's predictor does; NaN stays NaN.
 *   Numeric    x goes left if (double)x <= threshold. Missing type NONE: NaN is 0. ZERO: NaN and 0 take
 *              the default direction. NAN: NaN takes the default direction.
 *   Category   x goes left if it is truncated to an integer >= 0 that is in the node's set. NaN, what
 *              truncates to less than 0 (so -0.5 is category 0) and 2^31 or more go right.
 *   Sums       Tree t adds its leaf value to output t % n_outputs, in double, in tree order, starting from
 *              0.0: LightGBM's raw scores, bit for bit, and every tier gives the same bits. Averages
 *              (random forests) and transforms are the caller's.
 *   Limits     the RK_FOREST_MAX_* below.
 *
 * Adding a comparison of another library (XGBoost's x < t, an oblivious tree) is a matter of the source:
 * thresholds and shapes can be rewritten into this one; only linear leaves need a new field.
 */
#ifndef RK_FOREST_H
#define RK_FOREST_H

#include <stddef.h>
#include <stdint.h>

#define RK_FOREST_MAX_FEATURES 65536u
#define RK_FOREST_MAX_OUTPUTS 1024u
#define RK_FOREST_MAX_TREES 100000u
#define RK_FOREST_MAX_LEAVES 65536u /* of one tree */
#define RK_FOREST_MAX_NODES (1u << 30) /* of all trees */

/* A node's `decision`: LightGBM's own decision_type. */
#define RK_DECISION_CATEGORICAL 1u
#define RK_DECISION_DEFAULT_LEFT 2u
#define RK_DECISION_MISSING_SHIFT 2
#define RK_MISSING_NONE 0u
#define RK_MISSING_ZERO 1u
#define RK_MISSING_NAN 2u

/* Flat arrays of all trees, one after the other. Tree t has the nodes node_begin[t] .. node_begin[t + 1],
 * and one leaf more than nodes: its leaves start at node_begin[t] + t. A child >= 0 is a node of the same
 * tree, counted from its first (the root); a child < 0 is leaf ~child of the same tree. */
typedef struct {
    uint32_t n_features;
    uint32_t n_outputs;
    uint32_t n_trees; /* a multiple of n_outputs, at least one each */
    uint32_t n_sets;
    const uint32_t *node_begin;    /* n_trees + 1 */
    const int32_t *split_feature;  /* per node */
    const uint8_t *decision;       /* per node */
    const double *threshold;       /* per node; not NaN; unused where categorical */
    const int32_t *category_set;   /* per node; unused where numeric */
    const int32_t *left;           /* per node */
    const int32_t *right;          /* per node */
    const double *leaf_value;      /* per leaf; finite */
    const uint32_t *set_begin;     /* n_sets + 1, into set_words; may be NULL if n_sets is 0 */
    const uint32_t *set_words;     /* bit c % 32 of word c / 32: category c is in the set */
} rk_forest_source;

typedef enum {
    RK_FOREST_OK = 0,
    RK_FOREST_NO_MEMORY,
    RK_FOREST_BAD_COUNTS,        /* a count is zero, above its limit, or n_trees is no multiple of n_outputs */
    RK_FOREST_BAD_NODE_BEGIN,    /* node_begin does not start at 0, falls, or a tree has too many leaves */
    RK_FOREST_BAD_SET_BEGIN,     /* set_begin does not start at 0 or falls */
    RK_FOREST_BAD_FEATURE,       /* split_feature is no feature */
    RK_FOREST_BAD_DECISION,      /* decision has unknown bits or missing type 3 */
    RK_FOREST_BAD_THRESHOLD,     /* threshold is NaN */
    RK_FOREST_BAD_CATEGORY_SET,  /* category_set is no set */
    RK_FOREST_BAD_LEFT,          /* left child out of range, the root, or the child of two nodes */
    RK_FOREST_BAD_RIGHT,         /* the same of the right child */
    RK_FOREST_UNREACHED,         /* nodes that the root does not lead to (a cycle) */
    RK_FOREST_BAD_LEAF_VALUE     /* not finite */
} rk_forest_status;

/* Where build stopped: `index` is the node, leaf or set, counted within the tree (sets: over all). */
typedef struct {
    rk_forest_status status;
    uint32_t tree;
    uint32_t index;
} rk_forest_fault;

typedef struct rk_forest rk_forest;

/* The ways to score; all give the same bits. AUTO chooses by the number of rows. */
typedef enum {
    RK_FOREST_AUTO = 0,
    RK_FOREST_SCALAR, /* the oracle: one row, one tree, one node at a time, as the contract reads */
    RK_FOREST_WALK,   /* a row at a time, eight trees interleaved, without branches; for few rows */
    RK_FOREST_BITS,   /* 64 rows at a time as the bits of a word, a condition evaluated once a block; for many */
    RK_FOREST_N_TIERS
} rk_forest_tier;

/* NULL and *fault filled in if the source is refused or memory is short; else a forest. `fault` may not be NULL. */
rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault);
void rk_forest_free(rk_forest *forest); /* NULL is fine */

uint32_t rk_forest_features(const rk_forest *forest);
uint32_t rk_forest_outputs(const rk_forest *forest);
uint32_t rk_forest_trees(const rk_forest *forest);

/* Sums of all rows: out[o * rows + r]. 0, or -1 if memory is short (out is then undefined). */
int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                    ptrdiff_t feature_stride, double *out);

/* The leaf each row ends in, in the source's numbering: out[(size_t)t * rows + r]. */
void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    int32_t *out);

#endif
