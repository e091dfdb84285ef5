#include "rk_transform.h"

#include <math.h>

/* LightGBM's Common::Softmax: the largest is taken off, sums and quotients in class order. */
static void softmax(size_t outputs, size_t rows, double *values) {
    for (size_t r = 0; r < rows; r++) {
        double largest = values[r], sum = 0.0;
        for (size_t o = 1; o < outputs; o++) {
            double x = values[o * rows + r];
            largest = x > largest ? x : largest;
        }
        for (size_t o = 0; o < outputs; o++) {
            double e = exp(values[o * rows + r] - largest);
            values[o * rows + r] = e;
            sum += e;
        }
        for (size_t o = 0; o < outputs; o++) {
            values[o * rows + r] /= sum;
        }
    }
}

void rk_transform_apply(rk_transform transform, double parameter, size_t outputs, size_t rows, double *values) {
    size_t n = outputs * rows;
    switch (transform) {
    case RK_TRANSFORM_SIGNED_SQUARE:
        for (size_t i = 0; i < n; i++) {
            double x = values[i];
            values[i] = (double)((x > 0) - (x < 0)) * x * x;
        }
        break;
    case RK_TRANSFORM_EXP:
        for (size_t i = 0; i < n; i++) {
            values[i] = exp(values[i]);
        }
        break;
    case RK_TRANSFORM_SIGMOID:
        for (size_t i = 0; i < n; i++) {
            values[i] = 1.0 / (1.0 + exp(-parameter * values[i]));
        }
        break;
    case RK_TRANSFORM_LOG1P_EXP:
        for (size_t i = 0; i < n; i++) {
            values[i] = log1p(exp(values[i]));
        }
        break;
    case RK_TRANSFORM_SOFTMAX:
        softmax(outputs, rows, values);
        break;
    case RK_TRANSFORM_STEP:
        for (size_t i = 0; i < n; i++) {
            values[i] = values[i] > 0.0;
        }
        break;
    case RK_TRANSFORM_IDENTITY:
    case RK_TRANSFORM_N:
        break;
    }
}

float rk_transform_margin(rk_transform transform, float score) {
    if (transform == RK_TRANSFORM_SIGMOID) {
        if (!(score >= 0.0f && score <= 1.0f)) {
            return NAN;
        }
        return -logf(1.0f / fminf(fmaxf(score, 1e-6f), 1.0f - 1e-6f) - 1.0f);
    }
    return transform == RK_TRANSFORM_EXP ? logf(score) : score;
}
