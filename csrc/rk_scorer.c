/* Forests are summed by rk_forest; linear models feature by feature here. */
#include "rk_scorer.h"

/* A double, rounded to float where the model is SINGLE. */
static inline double rounded(const rk_scorer *s, double x) { return s->single ? (double)(float)x : x; }

/* A value's term. The product of two floats is exact in double, so that rounding it once is float's own product. */
static inline double term_of(const rk_scorer *s, double weight, double absent, float value)
{
    return value != value ? absent : rounded(s, (double)value * weight);
}

static inline double weight_of(const rk_scorer *s, size_t feature) { return rounded(s, s->weights[feature]); }

static inline double absent_of(const rk_scorer *s, size_t feature)
{
    double substitute = s->substitutes[feature];
    return substitute != substitute ? 0.0 : rounded(s, s->weights[feature] * substitute);
}

static void score_linear(const rk_scorer *s, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                         ptrdiff_t row_stride, double *out)
{
    double start = rounded(s, s->intercept);
    for (size_t r = 0; r < rows; r++) out[r] = start;
    for (size_t f = 0; f < s->features; f++) {
        const float *values = matrix + (ptrdiff_t)f * feature_stride;
        double weight = weight_of(s, f), absent = absent_of(s, f);
        for (size_t r = 0; r < rows; r++)
            out[r] = rounded(s, out[r] + term_of(s, weight, absent, values[(ptrdiff_t)r * row_stride]));
    }
}

void rk_scorer_terms(const rk_scorer *s, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                     ptrdiff_t row_stride, double *out)
{
    for (size_t f = 0; f < s->features; f++) {
        const float *values = matrix + (ptrdiff_t)f * feature_stride;
        double weight = weight_of(s, f), absent = absent_of(s, f);
        for (size_t r = 0; r < rows; r++)
            out[f * rows + r] = term_of(s, weight, absent, values[(ptrdiff_t)r * row_stride]);
    }
}

int rk_scorer_score(const rk_scorer *s, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                    ptrdiff_t row_stride, int raw, double *out)
{
    if (!rows) return 0;
    if (!s->forest) {
        score_linear(s, matrix, rows, feature_stride, row_stride, out);
    } else if (rk_forest_score(s->forest, s->tier, matrix, rows, feature_stride, row_stride, out)) {
        return -1;
    }
    for (size_t o = 0; s->bias && o < s->outputs; o++) {
        for (size_t r = 0; r < rows; r++) {
            double scaled = out[o * rows + r] * s->scale;
            out[o * rows + r] = scaled + s->bias[o];
        }
    }
    if (raw) return 0;
    for (size_t i = 0; s->divisor != 1 && i < s->outputs * rows; i++) out[i] /= s->divisor;
    rk_transform_apply(s->transform, s->parameter, s->outputs, rows, out);
    return 0;
}
