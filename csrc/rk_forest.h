/* A forest of decision trees: built once from flat arrays, checked whole, then immutable.
 *
 * Contract
 *   Ownership  rk_forest_build copies all it keeps; the source may be freed at once. rk_forest_open borrows an
 *              image (below) for as long as the forest lives. The forest is the caller's, to be given to
 *              rk_forest_free once. All other calls take it const, keep no state and may run from several
 *              threads at the same time.
 *   Image      A forest is one block of bytes without pointers: rk_forest_image. It may be written to a file, mapped
 *              by several processes and opened in place, on machines of the same byte order and rankd version.
 *   Trust      Source and image are untrusted: build and open check every count, index, boundary and child, and
 *              that every node and leaf of a tree is reached exactly once from its root. What they
 *              accept can be scored with any input without reading out of bounds. An image also carries a checksum:
 *              it guards against damage, not against malice.
 *   Matrix     float32, strided: the value of feature f in row r is matrix[f * feature_stride + r * row_stride].
 *              One of the strides is 1 in all fast uses (feature-major: row_stride 1). Any bits are allowed.
 *   Missing    NaN. How a node treats it is its missing type (below).
 *   Zero       With RK_FOREST_FLUSH_ZERO a value with |x| <= 1e-35f is 0 everywhere (LightGBM's predictor).
 *   Numeric    x goes left if (double)x <= threshold. Missing type NONE: NaN is 0. ZERO: NaN and 0 take
 *              the default direction. NAN: NaN takes the default direction. A library that compares x < t is
 *              expressed by the next smaller float32 threshold, one that compares x > t by the same threshold.
 *   Category   x goes left if it is truncated to an integer >= 0 that is in the node's set. What is below 0 and
 *              2^31 or more is in no set. -0.5 is category 0; with RK_FOREST_NEGATIVE_IN_NO_SET, in no set. NaN goes right,
 *              with RK_DECISION_DEFAULT_LEFT left (the missing type is not looked at).
 *   Sums       Output o starts from base[o]; tree t adds its leaf's value to output tree_output[t], or, with
 *              RK_FOREST_VECTOR_LEAVES, its leaf's n_outputs values to the outputs, in tree order, in double, with
 *              RK_FOREST_FLOAT_SUMS in float32 (base and leaf values are then rounded to float32 first). Every tier
 *              gives the same bits. Averages (random forests), scales and transforms are the caller's.
 *   Linear     A leaf with linear terms adds linear_constant + sum of coefficient * x, in double, terms in order;
 *              its leaf_value if one of these x is NaN. (LightGBM's linear trees.)
 *   Limits     the RK_FOREST_MAX_* below.
 */
#ifndef RK_FOREST_H
#define RK_FOREST_H

#include <stddef.h>
#include <stdint.h>

#define RK_FOREST_MAX_FEATURES 65536u
#define RK_FOREST_MAX_OUTPUTS 1024u
#define RK_FOREST_MAX_TREES 100000u
#define RK_FOREST_MAX_LEAVES 65536u /* of one tree */
#define RK_FOREST_MAX_NODES (1u << 28) /* of all trees; so many leaf values at the most, too */
#define RK_FOREST_MAX_TERMS (1u << 28) /* linear terms of all leaves */

/* A node's `decision`: LightGBM's own decision_type. */
#define RK_DECISION_CATEGORICAL 1u
#define RK_DECISION_DEFAULT_LEFT 2u
#define RK_DECISION_MISSING_SHIFT 2
#define RK_MISSING_NONE 0u
#define RK_MISSING_ZERO 1u
#define RK_MISSING_NAN 2u

/* rk_forest_source.flags */
#define RK_FOREST_FLUSH_ZERO 1u
#define RK_FOREST_NEGATIVE_IN_NO_SET 2u
#define RK_FOREST_FLOAT_SUMS 4u
#define RK_FOREST_VECTOR_LEAVES 8u
#define RK_FOREST_ALL_FLAGS 15u

/* Flat arrays of all trees, one after the other. Tree t has the nodes node_begin[t] .. node_begin[t + 1],
 * and one leaf more than nodes: its leaves start at node_begin[t] + t. A child >= 0 is a node of the same
 * tree, counted from its first (the root); a child < 0 is leaf ~child of the same tree. */
typedef struct {
    uint32_t n_features;
    uint32_t n_outputs;
    uint32_t n_trees; /* at least 1; without tree_output and vector leaves a multiple of n_outputs */
    uint32_t n_sets;
    uint32_t flags;
    const uint32_t *node_begin;    /* n_trees + 1 */
    const int32_t *split_feature;  /* per node */
    const uint8_t *decision;       /* per node */
    const double *threshold;       /* per node; not NaN; unused where categorical */
    const int32_t *category_set;   /* per node; unused where numeric */
    const int32_t *left;           /* per node */
    const int32_t *right;          /* per node */
    const double *leaf_value;      /* per leaf, with vector leaves n_outputs a leaf; finite */
    const uint32_t *set_begin;     /* n_sets + 1, into set_words; may be NULL if n_sets is 0 */
    const uint32_t *set_words;     /* bit c % 32 of word c / 32: category c is in the set */
    const uint32_t *tree_output;   /* n_trees, below n_outputs; NULL: t % n_outputs. Not with vector leaves */
    const double *base;            /* n_outputs, finite; NULL: 0 */
    const uint32_t *linear_begin;  /* leaves + 1, into the terms; NULL: no linear leaves. Not with vector leaves or float sums */
    const int32_t *linear_feature; /* per term */
    const double *linear_coefficient; /* per term, finite */
    const double *linear_constant; /* per leaf, finite; looked at only where the leaf has terms */
    const double *node_cover;      /* per node: weight of the training rows that reached it, finite, >= 0; */
    const double *leaf_cover;      /* per leaf; both or neither. Only explanations look at them */
} rk_forest_source;

typedef enum {
    RK_FOREST_OK = 0,
    RK_FOREST_NO_MEMORY,
    RK_FOREST_BAD_COUNTS,        /* a count is zero, above its limit, or n_trees is no multiple of n_outputs */
    RK_FOREST_BAD_FLAGS,         /* unknown flags, or arrays and flags that exclude each other or miss one another */
    RK_FOREST_BAD_NODE_BEGIN,    /* node_begin does not start at 0, falls, or a tree has too many leaves */
    RK_FOREST_BAD_SET_BEGIN,     /* set_begin does not start at 0 or falls */
    RK_FOREST_BAD_FEATURE,       /* split_feature is no feature */
    RK_FOREST_BAD_DECISION,      /* decision has unknown bits or missing type 3 */
    RK_FOREST_BAD_THRESHOLD,     /* threshold is NaN */
    RK_FOREST_BAD_CATEGORY_SET,  /* category_set is no set */
    RK_FOREST_BAD_LEFT,          /* left child out of range, the root, or the child of two nodes */
    RK_FOREST_BAD_RIGHT,         /* the same of the right child */
    RK_FOREST_UNREACHED,         /* nodes that the root does not lead to (a cycle) */
    RK_FOREST_BAD_LEAF_VALUE,    /* not finite (in float32, with float sums) */
    RK_FOREST_BAD_TREE_OUTPUT,   /* tree_output is no output */
    RK_FOREST_BAD_BASE,          /* not finite (in float32, with float sums); index is the output */
    RK_FOREST_BAD_LINEAR_BEGIN,  /* linear_begin does not start at 0, falls or goes too far; index is the leaf */
    RK_FOREST_BAD_LINEAR_TERM,   /* a term's feature is no feature, or a coefficient or constant not finite */
    RK_FOREST_BAD_COVER,         /* negative or not finite; index is the node, or nodes + leaf */
    RK_FOREST_BAD_IMAGE          /* open: not an image, cut, damaged, of another version or byte order */
} rk_forest_status;

/* Where build stopped: `index` is the node, leaf or set, counted within the tree (sets: over all). */
typedef struct {
    rk_forest_status status;
    uint32_t tree;
    uint32_t index;
} rk_forest_fault;

typedef struct rk_forest rk_forest;

/* The ways to score; all give the same bits. AUTO chooses by the number of rows and the processor. */
typedef enum {
    RK_FOREST_AUTO = 0,
    RK_FOREST_SCALAR, /* the oracle: one row, one tree, one node at a time, as the contract reads */
    RK_FOREST_WALK,   /* a row at a time, trees interleaved, without branches; for few rows */
    RK_FOREST_BITS,   /* rows as the bits of a vector, a condition evaluated once a block; plain C, 64 rows a word */
    RK_FOREST_AVX2,   /* the same with 256-bit vectors */
    RK_FOREST_AVX512, /* the same with 512-bit vectors (F, BW, DQ, VL) */
    RK_FOREST_NEON,   /* the same with 128-bit vectors (aarch64) */
    RK_FOREST_N_TIERS
} rk_forest_tier;

/* 1 if this processor and this forest can use the tier. SCALAR and AUTO always can. */
int rk_forest_has_tier(const rk_forest *forest, rk_forest_tier tier);

/* The tier that AUTO takes for so many rows. */
rk_forest_tier rk_forest_chosen(const rk_forest *forest, size_t rows);

/* NULL and *fault filled in if the source is refused or memory is short; else a forest. `fault` may not be NULL. */
rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault);

/* A forest over an image, which must be aligned to 64 bytes and stay unchanged; NULL and *fault if it is refused. */
rk_forest *rk_forest_open(const void *image, size_t bytes, rk_forest_fault *fault);

/* The forest's image; it lives as long as the forest. */
const void *rk_forest_image(const rk_forest *forest, size_t *bytes);

void rk_forest_free(rk_forest *forest); /* NULL is fine */

/* The forest as it was given: the arrays live as long as the forest. tree_output is never NULL then. */
const rk_forest_source *rk_forest_as_source(const rk_forest *forest);

/* What the compiled forest is like, to be told to people. Fills, per feature, how many distinct thresholds its nodes have
 * and how many axes of 255 they take, per tree its depth and whether it is scored as an oblivious one. Returns the
 * number of conditions that are evaluated once a block: (threshold, way with missing values) and category sets. */
uint32_t rk_forest_describe(const rk_forest *forest, uint32_t *thresholds, uint32_t *axes, uint32_t *depth,
                            uint8_t *oblivious);

/* Sums of all rows: out[o * rows + r]. 0, or -1 if memory is short or the tier is not to be had (out is then undefined). */
int rk_forest_score(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows,
                    ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out);

/* The leaf each row ends in, in the source's numbering: out[(size_t)t * rows + r]. */
void rk_forest_leaf(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    ptrdiff_t row_stride, int32_t *out);

#endif
