/* AVX2: rows as bits in vectors of 256 or 128 bits, or a word. */
#include "rk_forest_internal.h"

#if defined(__x86_64__)
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,popcnt"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2,popcnt")
#include <immintrin.h>
#endif

#include "rk_bits_rows.h"

#define INLINE static inline __attribute__((always_inline))

/* Bit b of every bin as rows / 64 words at planes + b * rows / 64. */
static void slice(const uint8_t *bins, size_t rows, uint32_t levels, uint64_t *planes) {
    for (size_t r = 0; r < rows; r += 64) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(bins + r));
        __m256i high = _mm256_loadu_si256((const __m256i *)(bins + r + 32));
        for (uint32_t b = 0; b < levels; b++) {
            __m128i to_top = _mm_cvtsi32_si128((int)(7 - b));
            uint32_t first = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(low, to_top));
            uint32_t second = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(high, to_top));
            planes[b * (rows / 64) + r / 64] = first | (uint64_t)second << 32;
        }
    }
}

/* How many of 16 ascending thresholds are below x. */
INLINE uint32_t below(__m256 x, __m256 first, __m256 second) {
    __m256i a = _mm256_castps_si256(_mm256_cmp_ps(x, first, _CMP_GT_OQ));
    __m256i b = _mm256_castps_si256(_mm256_cmp_ps(x, second, _CMP_GT_OQ));
    return (uint32_t)__builtin_popcount((unsigned)_mm256_movemask_epi8(_mm256_packs_epi32(a, b))) / 2;
}

/* Two steps of 16 ways: the thresholds in sixteens, found by the last of each, then one sixteen. */
static void quantise(const rk_forest *f, const rk_axis *axis, const float *values, size_t rows, uint64_t *planes,
                     uint64_t *nans, uint64_t *zeros) {
    uint8_t bins[256];
    float pivots[16];
    const float *sorted = rk_axis_pivots(f, axis, pivots);
    const __m256 first = _mm256_loadu_ps(pivots), second = _mm256_loadu_ps(pivots + 8);
    for (size_t r = 0; r < rows; r++) {
        __m256 x = _mm256_broadcast_ss(values + r);
        uint32_t sixteen = axis->count < 16 ? 0 : 16 * below(x, first, second);
        const float *own = sorted + sixteen;
        bins[r] = (uint8_t)(sixteen + below(x, _mm256_loadu_ps(own), _mm256_loadu_ps(own + 8)));
    }
    const __m256 limit = _mm256_set1_ps(rk_zero_limit(f->flags));
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    for (size_t r = 0; r < rows; r += 64) {
        uint64_t nan = 0, zero = 0;
        for (size_t k = 0; k < 64; k += 8) {
            __m256 x = _mm256_loadu_ps(values + r + k);
            nan |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) << k;
            if (axis->zeros) {
                __m256 small = _mm256_cmp_ps(_mm256_and_ps(x, magnitude), limit, _CMP_NGT_UQ);
                zero |= (uint64_t)(unsigned)_mm256_movemask_ps(small) << k;
            }
        }
        nans[r / 64] = nan;
        zeros[r / 64] = zero;
    }
    slice(bins, rows, axis->levels, planes);
}

/* 32 bits become 32 bytes: the byte of each bit is spread, the bit picked out. */
static void codes_of(const uint64_t *const *planes, uint32_t n, size_t rows, uint8_t *codes) {
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    for (size_t r = 0; r < rows; r += 32) {
        __m256i code = _mm256_setzero_si256();
        for (uint32_t p = 0; p < n; p++) {
            uint32_t word = (uint32_t)(planes[p][r / 64] >> (r % 64));
            __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)word), spread);
            __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            code = _mm256_or_si256(code, _mm256_and_si256(set, _mm256_set1_epi8((char)(1 << p))));
        }
        _mm256_storeu_si256((__m256i *)(codes + r), code);
    }
}

static void add_doubles(const double *table, uint32_t planes, const uint8_t *codes, size_t rows, double *sums) {
    (void)planes;
    for (size_t r = 0; r < rows; r += 4) {
        const uint8_t *c = codes + r;
        __m256d x = _mm256_setr_pd(table[c[0]], table[c[1]], table[c[2]], table[c[3]]);
        _mm256_storeu_pd(sums + r, _mm256_add_pd(_mm256_loadu_pd(sums + r), x));
    }
}

static void add_floats(const float *table, uint32_t planes, const uint8_t *codes, size_t rows, float *sums) {
    (void)planes;
    for (size_t r = 0; r < rows; r += 4) {
        const uint8_t *c = codes + r;
        __m128 x = _mm_setr_ps(table[c[0]], table[c[1]], table[c[2]], table[c[3]]);
        _mm_storeu_ps(sums + r, _mm_add_ps(_mm_loadu_ps(sums + r), x));
    }
}

INLINE size_t double_at(size_t r) { return r; }

#define X86_BOUND_256(lo, hi, met) _mm256_andnot_si256(_mm256_andnot_si256(hi, met), lo)
#define X86_BOUND_128(lo, hi, met) _mm_andnot_si128(_mm_andnot_si128(hi, met), lo)
#include "rk_bits_256.h"

#include "rk_bits_128.h"

#include "rk_bits_word.h"

/* Blocks of 256 rows, and for the rest the narrowest that holds it: a block costs nearly the same however few its
 * rows. */
int rk_score_avx2(const rk_forest *f, const rk_batch *batch) {
    size_t whole = batch->rows - batch->rows % 256, rest = batch->rows - whole;
    if (whole && score_256(f, batch, 0, whole)) {
        return -1;
    }
    return rest == 0     ? 0
           : rest <= 64  ? score_64(f, batch, whole, rest)
           : rest <= 128 ? score_128(f, batch, whole, rest)
                         : score_256(f, batch, whole, rest);
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
