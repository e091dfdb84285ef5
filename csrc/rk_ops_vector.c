/* Embeddings: float vectors, multiplied and summed as doubles. Element i is added in lane i % 8; the lanes are added in
 * a fixed order, so every tier and machine gets the same bits. A lane is never -0 (it starts as 0), so adding the zeros
 * that fill up a last vector changes nothing. */
#include "rk_ops.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LANES = 8 };

static inline const float *row_of(const rk_operand *operand, int64_t i)
{
    return (const float *)operand->column->data + i * operand->stride * operand->dimension;
}

void rk_run_embedding_missing(const rk_call *call)
{
    for (int64_t i = 0; i < call->count; i++)
        call->out[i] = row_of(&call->arg[0], i)[0] != row_of(&call->arg[0], i)[0];
}

/* Gives a . b and, unless NULL, a . a. */
typedef double (*dot_fn)(const float *a, const float *b, int32_t dimension, double *square);

static inline double dot_of(const float *a, const float *b, int32_t dimension)
{
    double sums[LANES] = {0};
    int32_t i = 0;
    for (; i + LANES <= dimension; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += (double)a[i + lane] * (double)b[i + lane];
    for (int lane = 0; i + lane < dimension; lane++)
        sums[lane] += (double)a[i + lane] * (double)b[i + lane];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

static inline __attribute__((always_inline)) double dot_plain(const float *a, const float *b, int32_t dimension,
                                                              double *square)
{
    if (square)
        *square = dot_of(a, a, dimension);
    return dot_of(a, b, dimension);
}

#if defined(__x86_64__)
#define AVX2 static inline __attribute__((target("avx2"), always_inline))

AVX2 double sum_avx2(__m256d low, __m256d high)
{
    __m256d four = _mm256_add_pd(low, high);
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/* Adds eight products to the lanes; u, v and y, z are the halves of eight elements. */
#define ADD(u, v, y, z)                                                    \
    do {                                                                   \
        __m256d left = (u), right = (v);                                   \
        low = _mm256_add_pd(low, _mm256_mul_pd(left, (y)));                \
        high = _mm256_add_pd(high, _mm256_mul_pd(right, (z)));             \
        if (square) {                                                      \
            low_square = _mm256_add_pd(low_square, _mm256_mul_pd(left, left));      \
            high_square = _mm256_add_pd(high_square, _mm256_mul_pd(right, right));  \
        }                                                                  \
    } while (0)

AVX2 double dot_avx2(const float *a, const float *b, int32_t dimension, double *square)
{
    /* From entry 8 - n on, n are all ones: what is left of a row. */
    static const int32_t masks[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1};
    __m256d low = _mm256_setzero_pd(), high = low, low_square = low, high_square = low;
    int32_t i = 0;
    for (; i + LANES <= dimension; i += LANES)
        ADD(_mm256_cvtps_pd(_mm_loadu_ps(a + i)), _mm256_cvtps_pd(_mm_loadu_ps(a + i + 4)),
            _mm256_cvtps_pd(_mm_loadu_ps(b + i)), _mm256_cvtps_pd(_mm_loadu_ps(b + i + 4)));
    if (i < dimension) {
        __m256i mask = _mm256_loadu_si256((const __m256i *)(masks + LANES - (dimension - i)));
        __m256 x = _mm256_maskload_ps(a + i, mask), y = _mm256_maskload_ps(b + i, mask);
        ADD(_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)),
            _mm256_cvtps_pd(_mm256_castps256_ps128(y)), _mm256_cvtps_pd(_mm256_extractf128_ps(y, 1)));
    }
    if (square)
        *square = sum_avx2(low_square, high_square);
    return sum_avx2(low, high);
}
#endif

/* A missing embedding has NaN in it, so the sum is NaN. */
static inline __attribute__((always_inline)) void dot_loop(const rk_call *call, dot_fn dot)
{
    const rk_operand *a = &call->arg[0], *b = &call->arg[1];
    for (int64_t i = 0; i < call->count; i++)
        call->out[i] = dot(row_of(a, i), row_of(b, i), a->dimension, NULL);
}

/* The product of squared norms stays within double for any float32. A zero vector has no direction: 0 / 0, missing. */
static inline __attribute__((always_inline)) void cosine_loop(const rk_call *call, dot_fn dot)
{
    int request_first = !call->arg[0].stride && call->arg[1].stride;
    const rk_operand *a = &call->arg[request_first], *b = &call->arg[!request_first];
    double a_square = 0, b_square = 0;
    for (int64_t i = 0; i < call->count; i++) {
        if (i == 0 || b->stride)
            b_square = dot(row_of(b, i), row_of(b, i), b->dimension, NULL);
        double product = dot(row_of(a, i), row_of(b, i), a->dimension, &a_square);
        call->out[i] = product / sqrt(a_square * b_square);
    }
}

#define TIERS(name)                                                                                          \
    static void name##_of_plain(const rk_call *call) { name##_loop(call, dot_plain); }                       \
    RK_OPS_AVX2_FUNCTION(static void name##_of_avx2(const rk_call *call) { name##_loop(call, dot_avx2); })   \
    void rk_run_##name(const rk_call *call)                                                                  \
    {                                                                                                        \
        (call->tier == RK_OPS_AVX2 ? RK_OPS_AVX2_OR(name##_of_avx2, name##_of_plain) : name##_of_plain)(call); \
    }

TIERS(dot)
TIERS(cosine)
