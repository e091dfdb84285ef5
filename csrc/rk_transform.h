/* What an objective does to raw sums, as LightGBM's ConvertOutput does it: in place, in double.
 *
 * exp and log1p are the C library's, called once an element: the same bits whatever the batch. They are
 * the very functions LightGBM calls, so where both are linked with the same libm results are bit-equal.
 * NaN and infinities go where the formulas lead them; nothing is clipped.
 */
#ifndef RK_TRANSFORM_H
#define RK_TRANSFORM_H

#include <stddef.h>

typedef enum {
    RK_TRANSFORM_IDENTITY = 0,
    RK_TRANSFORM_SIGNED_SQUARE, /* sign(x) * x * x */
    RK_TRANSFORM_EXP,           /* exp(x) */
    RK_TRANSFORM_SIGMOID,       /* 1 / (1 + exp(-parameter * x)) */
    RK_TRANSFORM_LOG1P_EXP,     /* log1p(exp(x)) */
    RK_TRANSFORM_SOFTMAX,       /* over the outputs of a row */
    RK_TRANSFORM_STEP,          /* 1 if x > 0, else 0 */
    RK_TRANSFORM_N
} rk_transform;

/* values[o * rows + r], overwritten. */
void rk_transform_apply(rk_transform transform, double parameter, size_t outputs, size_t rows, double *values);

/* The raw sum that a score stands for, in float and with the C library's logf, as XGBoost 3.2 computes it from a base
 * score: of SIGMOID -log(1 / p - 1), p the score held between 1e-6 and 1 - 1e-6 (NaN if it is not from 0 to 1);
 * of EXP its logarithm; of all others the score itself. */
float rk_transform_margin(rk_transform transform, float score);

#endif
