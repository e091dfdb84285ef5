/* What rk_shap_build makes and the walks read; nobody else includes this. */
#ifndef RK_SHAP_INTERNAL_H
#define RK_SHAP_INTERNAL_H

#include "rk_forest_internal.h"
#include "rk_shap.h"

#define RK_SHAP_BLOCK_ROWS 64
#define RK_SHAP_MAX_WALK_ROWS 64
#define RK_SHAP_NONE UINT32_MAX

/* A node, its children called first and second: a single leaf is always the second.
 * Curves: `curve` is an offset into rk_shap.curves: u at the tree's `points` points, then as many du/dt. */
typedef struct {
    double share;       /* of the node's weight, the first child's; the second's is 1 - share */
    uint32_t condition; /* of the forest */
    uint32_t column;    /* which of the features used it splits on */
    uint32_t depth;
    uint32_t slot;      /* where its product and later its sum stand; its children's: 2 * depth + 1 and + 2 */
    uint32_t first;     /* leaf, if the child is one: index over all trees' leaves */
    uint32_t second;
    uint32_t above;     /* the nearest node above, in the tree's order, that splits on the same feature: << 1, | 1
                           where the way here leads to its second child; RK_SHAP_NONE: there is none */
    uint32_t curve;
    uint8_t flip;       /* rows that meet the condition go to the second child */
} rk_shap_node;

/* A tree's steps: node << RK_SHAP_STEP_BITS | what to do. The nodes stand in preorder. */
#define RK_SHAP_STEP_BITS 3
enum { RK_SHAP_DOWN_ONE, RK_SHAP_DOWN_BOTH, RK_SHAP_UP_ONE, RK_SHAP_UP_BOTH, RK_SHAP_BOTTOM };

typedef struct {
    uint32_t node; /* the first, in rk_shap.nodes */
    uint32_t n_nodes;
    uint32_t step;
    uint32_t n_steps;
    uint32_t points;
    uint32_t column_begin; /* the distinct columns, in rk_shap.tree_columns */
    uint32_t n_columns;
} rk_shap_tree;

/* For so many points: the curve u = t, du/dt = 1, then the weights; and the curve u = 1, du/dt = 0. */
typedef struct {
    uint32_t plain; /* RK_SHAP_NONE: no tree uses so many */
    uint32_t one;
} rk_shap_rule;

#define RK_SHAP_MAX_POINTS (RK_SHAP_MAX_PATH_FEATURES / 2)

struct rk_shap {
    const rk_forest *forest;
    const rk_forest_source *source;
    uint32_t n_columns;
    uint32_t max_nodes; /* of a tree */
    uint32_t max_depth;
    uint32_t max_points;
    uint32_t *columns; /* feature of every column */
    uint32_t *output_begin; /* n_outputs + 1, into output_trees */
    uint32_t *output_trees; /* trees by output; with vector leaves once all of them */
    double *expected;       /* n_outputs */
    rk_shap_tree *trees;
    rk_shap_node *nodes;
    uint32_t *steps;
    uint32_t *tree_columns;
    double *curves;
    size_t n_curves; /* doubles */
    double *shares;  /* per node of the source: the left child's share */
    const double *leaf_value; /* the source's, or with float sums `rounded` */
    double *rounded;
    rk_shap_rule rules[RK_SHAP_MAX_POINTS + 1];
};

/* One tree, up to 64 rows. `values[leaf * stride]` are leaf values. */
typedef struct {
    const rk_shap *shap;
    const rk_shap_tree *tree;
    const double *values;
    size_t stride;
    uint32_t rows;
    uint64_t *first_rows; /* per node: rows whose condition sends them to the first child */
    uint64_t *open_rows;  /* per node: rows that met all conditions on its feature on the way here */
    double *slots;        /* (2 * max_depth + 3) * points * 16, aligned to 64 bytes */
    double *sums;         /* [column][64 rows], aligned to 64 bytes; added to */
    uint32_t fixed;       /* interactions: this column is known (1) or not (0); RK_SHAP_NONE: plain values */
    int known;
} rk_shap_job;

typedef void (*rk_shap_walk)(const rk_shap_job *job);
void rk_shap_walk_plain(const rk_shap_job *job);
void rk_shap_walk_avx2(const rk_shap_job *job);
void rk_shap_walk_avx512(const rk_shap_job *job);

/* Gauss-Legendre points and weights on [0, 1]: exact for polynomials of degree 2n - 1. */
void rk_shap_quadrature(uint32_t n, double *points, double *weights);

/* The oracle. `conditions` are the block's. sums[column][64 rows], or [column][column][64] with interactions. */
int rk_shap_scalar_tree(const rk_shap *shap, uint32_t tree, uint32_t output, const uint64_t *conditions, size_t rows,
                        int interactions, double *sums);

#endif
