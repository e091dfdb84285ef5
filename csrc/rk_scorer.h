/* rk_scorer: what a model scores rows with: a forest or a weighted sum, and what is done to the raw scores.
 *
 * A forest's raw score of output o is scale * sum + bias[o], each operation rounded; the score is raw / divisor, then
 * transformed. A linear model's raw score is intercept + sum of weight * value, terms added in the order of the
 * features, all of it in double or (SINGLE) rounded to float at every step; a missing (NaN) value's term is
 * weight * substitute, or 0 where there is no substitute (NaN).
 *
 * Ownership: a scorer borrows all it points to. Threads: constant; any number may score at once.
 * NaN and infinities go where forest and formulas lead them. The same bits whatever the batch.
 */
#ifndef RK_SCORER_H
#define RK_SCORER_H

#include <stddef.h>
#include <stdint.h>

#include "rk_forest.h"
#include "rk_transform.h"

typedef struct {
    size_t features, outputs; /* a linear model has one output */
    const rk_forest *forest;  /* NULL: a linear model */
    rk_forest_tier tier;
    double scale;
    const double *bias; /* per output; NULL: nothing is scaled and nothing added */
    double divisor;     /* 1: not divided */
    const double *weights;     /* per feature, of a linear model */
    const double *substitutes; /* per feature; NaN: none */
    double intercept;
    int single;
    rk_transform transform;
    double parameter;
} rk_scorer;

/* out[o * rows + r]; the value of feature f in row r is matrix[f * feature_stride + r * row_stride]. `raw`: neither
 * divided nor transformed. 0, or -1 without memory (out is then undefined). */
int rk_scorer_score(const rk_scorer *scorer, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    ptrdiff_t row_stride, int raw, double *out);

/* The terms of a linear model's sums: out[f * rows + r]. */
void rk_scorer_terms(const rk_scorer *scorer, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                     ptrdiff_t row_stride, double *out);

#endif
