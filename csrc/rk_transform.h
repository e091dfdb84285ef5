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
    RK_TRANSFORM_N
} rk_transform;

/* values[o * rows + r], overwritten. */
void rk_transform_apply(rk_transform transform, double parameter, size_t outputs, size_t rows, double *values);

#endif
