/* Explanations of a forest: exact SHAP values, path dependent (TreeSHAP; LightGBM's pred_contrib), in double.
 *
 * Contract
 *   Values     The value of feature f is its Shapley value in the game v(S) = the forest's expected score when
 *              only the features in S are known: a node that splits on an unknown feature passes on the average
 *              of both children, weighted by the training rows that went there (Lundberg et al., Nature
 *              Machine Intelligence 2, 2020). Values and expected value add up to the row's score.
 *   Weights    leaf_cover. A node's weight is the sum of its leaves', so that values always add up, whatever
 *              node_cover says. Where a node's leaves all weigh 0, both children count the same.
 *   Score      In double, in the space of the forest's sums: base + leaf values. With RK_FOREST_FLOAT_SUMS leaf
 *              values and base are rounded to float32, as scoring does, but added up in double.
 *   Precision  Additive to within 1e-12 of the sizes of the leaf values added up. PLAIN, AVX2 and AVX512 give the
 *              same bits; SCALAR, which works from the definition, agrees within the same 1e-12.
 *   Missing    Rows go where the forest's contract sends them.
 *   Ownership  rk_shap_build borrows the forest, which must outlive the rk_shap. All calls but build and free take
 *              it const, keep no state and may run from several threads at the same time.
 *   Limits     RK_SHAP_MAX_PATH_FEATURES and RK_SHAP_MAX_DEPTH_POINTS. Linear leaves cannot be explained.
 *   Memory     A call takes (2 * depth + 3) * points * 512 bytes beside a column of 512 for every feature used.
 *
 * Method: quadrature TreeSHAP (arXiv 2605.04497). docs/explanations.md derives what rk_shap_walk.h computes.
 */
#ifndef RK_SHAP_H
#define RK_SHAP_H

#include "rk_forest.h"

#define RK_SHAP_MAX_PATH_FEATURES 128u /* distinct features between a root and a leaf */
#define RK_SHAP_MAX_DEPTH_POINTS 65536u /* nodes of the longest path times half its distinct features, over all trees */

typedef enum {
    RK_SHAP_OK = 0,
    RK_SHAP_NO_MEMORY,
    RK_SHAP_NO_COVERS,         /* the forest does not say how many training rows reached its leaves */
    RK_SHAP_LINEAR_LEAVES,     /* the forest has leaves that are linear functions */
    RK_SHAP_TOO_MANY_FEATURES, /* a path of `tree` has more than RK_SHAP_MAX_PATH_FEATURES */
    RK_SHAP_TOO_DEEP,          /* with `tree`, RK_SHAP_MAX_DEPTH_POINTS is passed */
} rk_shap_status;

typedef struct {
    rk_shap_status status;
    uint32_t tree;
} rk_shap_fault;

typedef enum {
    RK_SHAP_AUTO = 0, /* the fastest that the processor has */
    RK_SHAP_SCALAR,   /* the oracle: leaf by leaf, from the definition; slow */
    RK_SHAP_PLAIN,    /* 8 rows a vector, in whatever vectors the compiler targets by default */
    RK_SHAP_AVX2,
    RK_SHAP_AVX512,   /* F and DQ */
    RK_SHAP_N_TIERS
} rk_shap_tier;

typedef struct rk_shap rk_shap;

int rk_shap_has_tier(rk_shap_tier tier); /* 1 if this processor and build have it */

/* NULL and *fault filled in if the forest cannot be explained or memory is short. */
rk_shap *rk_shap_build(const rk_forest *forest, rk_shap_fault *fault);
void rk_shap_free(rk_shap *shap); /* NULL is fine */

size_t rk_shap_bytes(const rk_shap *shap); /* memory held */

/* Values: out[(o * (n_features + 1) + f) * rows + r], f = n_features being the expected value. Matrix and strides as in
 * rk_forest_score. 0, or -1 if memory is short or the tier is not to be had (out is then undefined). */
int rk_shap_values(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                   ptrdiff_t row_stride, double *out);

/* SHAP interaction values: out[((o * F + f) * F + g) * rows + r], F = n_features + 1. Symmetric; [f][f] is what is
 * left of the value of f after its interactions, so that row f adds up to it; [n_features][n_features] is the
 * expected value, the rest of that row and column 0. Returns as above. */
int rk_shap_interactions(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows,
                         ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out);

#endif
