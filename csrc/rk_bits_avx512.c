/* AVX512: rows as bits in vectors of 512, 256 or 128 bits, or a word. Needs F, BW, DQ and VL (Skylake-X, Zen 4). */
#include "rk_forest_internal.h"

#if defined(__x86_64__)
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,bmi,bmi2")
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* What 16 values are compared with at a step of the search; `at` has their answers so far. The table's levels stand in
 * registers: one permutation a step up to 32 entries, one for every 32 and blends beyond. */
INLINE __m512 pivots(const __m512 *t, uint32_t step, __m512i at) {
    if (step == 0) {
        return t[0];
    }
    if (step <= 4) {
        return _mm512_permutexvar_ps(at, t[step]);
    }
    if (step == 5) {
        return _mm512_permutex2var_ps(t[5], at, t[6]);
    }
    const __m512 *all = step == 6 ? t + 7 : t + 11;
    __mmask16 high = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
    __m512 a = _mm512_mask_blend_ps(high, _mm512_permutex2var_ps(all[0], at, all[1]),
                                    _mm512_permutex2var_ps(all[2], at, all[3]));
    if (step == 6) {
        return a;
    }
    __mmask16 higher = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
    __m512 b = _mm512_mask_blend_ps(high, _mm512_permutex2var_ps(all[4], at, all[5]),
                                    _mm512_permutex2var_ps(all[6], at, all[7]));
    return _mm512_mask_blend_ps(higher, a, b);
}

/* The answers of every step are the bits of the bins, the first the highest: planes come without further ado.
 * `levels` is a constant wherever this is inlined. */
INLINE void quantise_levels(uint32_t levels, const float *table, const float *values, size_t rows, uint64_t *planes,
                            uint64_t *nans) {
    __m512 t[19];
    for (uint32_t i = 1; i < 19; i++) {
        t[i] = _mm512_setzero_ps(); /* those that no step uses cost nothing */
    }
    t[0] = _mm512_set1_ps(table[1]);
    for (uint32_t step = 1; step <= 4 && step < levels; step++) {
        t[step] = _mm512_loadu_ps(table + (1u << step));
    }
    for (uint32_t i = 0; levels > 5 && i < (1u << levels) / 16 - 2; i++) {
        t[5 + i] = _mm512_loadu_ps(table + 32 + 16 * i);
    }
    for (size_t r = 0; r < rows; r += 64) {
        uint64_t above[8] = {0}, nan = 0;
        for (size_t k = 0; k < 64; k += 16) {
            __m512 x = _mm512_loadu_ps(values + r + k);
            __m512i at = _mm512_setzero_si512();
            for (uint32_t step = 0; step < levels; step++) {
                __mmask16 answer = _mm512_cmp_ps_mask(x, pivots(t, step, at), _CMP_GT_OQ);
                at = _mm512_mask_or_epi32(at, answer, at, _mm512_set1_epi32(1 << step));
                above[step] |= (uint64_t)answer << k;
            }
            nan |= (uint64_t)_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) << k;
        }
        for (uint32_t step = 0; step < levels; step++) {
            planes[(levels - 1 - step) * (rows / 64) + r / 64] = above[step];
        }
        nans[r / 64] = nan;
    }
}

static void quantise(const rk_forest *f, const rk_axis *axis, const float *values, size_t rows, uint64_t *planes,
                     uint64_t *nans, uint64_t *zeros) {
    const float *table = f->s.axis_table + axis->table;
    switch (axis->levels) {
    case 1: quantise_levels(1, table, values, rows, planes, nans); break;
    case 2: quantise_levels(2, table, values, rows, planes, nans); break;
    case 3: quantise_levels(3, table, values, rows, planes, nans); break;
    case 4: quantise_levels(4, table, values, rows, planes, nans); break;
    case 5: quantise_levels(5, table, values, rows, planes, nans); break;
    case 6: quantise_levels(6, table, values, rows, planes, nans); break;
    case 7: quantise_levels(7, table, values, rows, planes, nans); break;
    default: quantise_levels(8, table, values, rows, planes, nans); break;
    }
    const __m512 limit = _mm512_set1_ps(rk_zero_limit(f->flags));
    for (size_t r = 0; axis->zeros && r < rows; r += 64) {
        zeros[r / 64] = 0;
        for (size_t k = 0; k < 64; k += 16) {
            __m512 x = _mm512_abs_ps(_mm512_loadu_ps(values + r + k));
            zeros[r / 64] |= (uint64_t)_mm512_cmp_ps_mask(x, limit, _CMP_NGT_UQ) << k;
        }
    }
}

INLINE void codes_of_planes(uint32_t n, const uint64_t *const *planes, size_t rows, uint8_t *codes) {
    for (size_t r = 0; r < rows; r += 64) {
        __m512i v = _mm512_setzero_si512();
        for (uint32_t p = 0; p < n; p++) {
            v = _mm512_mask_add_epi8(v, planes[p][r / 64], v, _mm512_set1_epi8((char)(1 << p)));
        }
        _mm512_storeu_si512(codes + r, v);
    }
}

static void codes_of(const uint64_t *const *planes, uint32_t n, size_t rows, uint8_t *codes) {
    switch (n) {
    case 5: codes_of_planes(5, planes, rows, codes); break;
    case 6: codes_of_planes(6, planes, rows, codes); break;
    default: codes_of_planes(n, planes, rows, codes);
    }
}

/* 16 entries of 32 bits out of 1, 2, 4 or 8 registers of 16. */
INLINE __m512i look_up(const __m512i *t, uint32_t registers, __m512i code) {
    if (registers == 1) {
        return _mm512_permutexvar_epi32(code, t[0]);
    }
    __m512i a = _mm512_permutex2var_epi32(t[0], code, t[1]);
    if (registers == 2) {
        return a;
    }
    __mmask16 bit5 = _mm512_test_epi32_mask(code, _mm512_set1_epi32(32));
    a = _mm512_mask_blend_epi32(bit5, a, _mm512_permutex2var_epi32(t[2], code, t[3]));
    if (registers == 4) {
        return a;
    }
    __mmask16 bit6 = _mm512_test_epi32_mask(code, _mm512_set1_epi32(64));
    __m512i b = _mm512_permutex2var_epi32(t[4], code, t[5]);
    b = _mm512_mask_blend_epi32(bit5, b, _mm512_permutex2var_epi32(t[6], code, t[7]));
    return _mm512_mask_blend_epi32(bit6, a, b);
}

/* A leaf table in registers, the two halves of its doubles apart. */
typedef struct {
    __m512i low[8], high[8];
} halves;

INLINE uint32_t registers_of(uint32_t planes) { return planes <= 4 ? 1 : 1u << (planes - 4); }

INLINE void load_halves(uint32_t planes, const double *table, halves *h) {
    const uint32_t entries = 1u << planes;
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    for (uint32_t i = 0; i < registers_of(planes); i++) {
        __mmask8 first = entries >= 8 ? 255 : (__mmask8)((1u << entries) - 1), second = entries >= 16 ? 255 : 0;
        __m512i a = _mm512_maskz_loadu_epi64(first, table + 16 * i);
        __m512i b = _mm512_maskz_loadu_epi64(second, table + 16 * i + 8);
        h->low[i] = _mm512_permutex2var_epi32(a, even, b);
        h->high[i] = _mm512_permutex2var_epi32(a, odd, b);
    }
}

/* The doubles of 16 codes; putting halves together leaves rows in the order of double_at. */
INLINE void look_up_doubles(uint32_t planes, const halves *h, const uint8_t *codes, __m512d *x, __m512d *y) {
    __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
    __m512i l = look_up(h->low, registers_of(planes), code), u = look_up(h->high, registers_of(planes), code);
    *x = _mm512_castsi512_pd(_mm512_unpacklo_epi32(l, u));
    *y = _mm512_castsi512_pd(_mm512_unpackhi_epi32(l, u));
}

INLINE void add_doubles_from(uint32_t planes, const double *table, const uint8_t *codes, size_t rows, double *sums) {
    halves h;
    __m512d x, y;
    load_halves(planes, table, &h);
    for (size_t r = 0; r < rows; r += 16) {
        look_up_doubles(planes, &h, codes + r, &x, &y);
        _mm512_storeu_pd(sums + r, _mm512_add_pd(_mm512_loadu_pd(sums + r), x));
        _mm512_storeu_pd(sums + r + 8, _mm512_add_pd(_mm512_loadu_pd(sums + r + 8), y));
    }
}

/* 16 rows of 16 features: pairs, fours, then lanes of 128 bits change places. */
INLINE void transpose_16(const float *from, ptrdiff_t row_stride, size_t rows, __mmask16 columns, size_t stride,
                         float *out) {
    __m512 a[16], b[16];
    for (uint32_t i = 0; i < 16; i++) {
        a[i] = i < rows ? _mm512_maskz_loadu_ps(columns, from + (ptrdiff_t)i * row_stride) : _mm512_setzero_ps();
    }
    for (uint32_t i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (uint32_t i = 0; i < 16; i += 4) {
        for (uint32_t k = 0; k < 2; k++) {
            __m512d x = _mm512_castps_pd(b[i + k]), y = _mm512_castps_pd(b[i + 2 + k]);
            a[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            a[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    for (uint32_t c = 0; c < 4; c++) { /* a[c + 4 * q]: lane l is feature 4 * l + c of the rows 4 * q .. 4 * q + 3 */
        __m512 even = _mm512_shuffle_f32x4(a[c], a[c + 4], 0x88), odd = _mm512_shuffle_f32x4(a[c], a[c + 4], 0xdd);
        __m512 even2 = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0x88);
        __m512 odd2 = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0xdd);
        b[c] = _mm512_shuffle_f32x4(even, even2, 0x88);
        b[c + 8] = _mm512_shuffle_f32x4(even, even2, 0xdd);
        b[c + 4] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
        b[c + 12] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
    }
    for (uint32_t i = 0; i < 16; i++) {
        _mm512_storeu_ps(out + i * stride, b[i]);
    }
}

static void transpose(const float *from, ptrdiff_t row_stride, size_t rows, uint32_t columns, size_t stride,
                      float *out) {
    const __mmask16 some = (__mmask16)((1u << columns) - 1);
    for (size_t r = 0; r < rows; r += 16) {
        transpose_16(from + (ptrdiff_t)r * row_stride, row_stride, rows - r, some, stride, out + r);
    }
}

INLINE size_t double_at(size_t r) { return (r & ~(size_t)15) | (r & 2) << 2 | (r & 12) >> 1 | (r & 1); }

static void add_doubles(const double *table, uint32_t planes, const uint8_t *codes, size_t rows, double *sums) {
    switch (planes) {
    case 0: add_doubles_from(0, table, codes, rows, sums); break;
    case 1: add_doubles_from(1, table, codes, rows, sums); break;
    case 2: add_doubles_from(2, table, codes, rows, sums); break;
    case 3: add_doubles_from(3, table, codes, rows, sums); break;
    case 4: add_doubles_from(4, table, codes, rows, sums); break;
    case 5: add_doubles_from(5, table, codes, rows, sums); break;
    case 6: add_doubles_from(6, table, codes, rows, sums); break;
    case 7: add_doubles_from(7, table, codes, rows, sums); break;
    default:
        for (size_t r = 0; r < rows; r++) {
            sums[double_at(r)] += table[codes[r]];
        }
    }
}

INLINE void add_floats_from(uint32_t planes, const float *table, const uint8_t *codes, size_t rows, float *sums) {
    const uint32_t registers = registers_of(planes), entries = 1u << planes;
    __m512i t[8];
    for (uint32_t i = 0; i < registers; i++) {
        t[i] = _mm512_maskz_loadu_epi32(entries >= 16 ? 0xffff : (__mmask16)((1u << entries) - 1), table + 16 * i);
    }
    for (size_t r = 0; r < rows; r += 16) {
        __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(codes + r)));
        __m512 x = _mm512_castsi512_ps(look_up(t, registers, code));
        _mm512_storeu_ps(sums + r, _mm512_add_ps(_mm512_loadu_ps(sums + r), x));
    }
}

static void add_floats(const float *table, uint32_t planes, const uint8_t *codes, size_t rows, float *sums) {
    switch (planes) {
    case 0: case 1: case 2: case 3: add_floats_from(planes, table, codes, rows, sums); break;
    case 4: add_floats_from(4, table, codes, rows, sums); break;
    case 5: add_floats_from(5, table, codes, rows, sums); break;
    case 6: add_floats_from(6, table, codes, rows, sums); break;
    case 7: add_floats_from(7, table, codes, rows, sums); break;
    default:
        for (size_t r = 0; r < rows; r++) {
            sums[r] += table[codes[r]];
        }
    }
}

#define NAME(x) x##_512
#define V_PREFETCH(p) __builtin_prefetch(p)
#define ROWS ((size_t)512)
#define VECTOR __m512i
#define V_LOAD(p) _mm512_load_si512(p)
#define V_STORE(p, v) _mm512_store_si512(p, v)
#define V_ZERO _mm512_setzero_si512()
#define V_ONES _mm512_set1_epi32(-1)
#define V_AND(a, b) _mm512_and_si512(a, b)
#define V_ANDNOT(a, b) _mm512_andnot_si512(b, a)
#define V_OR(a, b) _mm512_or_si512(a, b)
#define V_XOR(a, b) _mm512_xor_si512(a, b)
#define V_BOUND(lo, hi, met) _mm512_ternarylogic_epi64(lo, hi, met, 0xd0)
#include "rk_bits_kernel.h"

#define X86_BOUND_256(lo, hi, met) _mm256_ternarylogic_epi64(lo, hi, met, 0xd0)
#define X86_BOUND_128(lo, hi, met) _mm_ternarylogic_epi64(lo, hi, met, 0xd0)
#include "rk_bits_256.h"

#include "rk_bits_128.h"

#include "rk_bits_word.h"

/* Blocks of 512 rows, and for the rest the narrowest that holds it: a block costs nearly the same however few its
 * rows. */
int rk_score_avx512(const rk_forest *f, const rk_batch *batch) {
    size_t whole = batch->rows - batch->rows % 512, rest = batch->rows - whole;
    if (whole && score_512(f, batch, 0, whole)) {
        return -1;
    }
    return rest == 0      ? 0
           : rest <= 64   ? score_64(f, batch, whole, rest)
           : rest <= 128  ? score_128(f, batch, whole, rest)
           : rest <= 256  ? score_256(f, batch, whole, rest)
                          : score_512(f, batch, whole, rest);
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
