/* NEON: rows as bits in vectors of 128 bits, or a word (aarch64). */
#include "rk_forest_internal.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <stdlib.h>
#include <string.h>

#include "rk_bits_portable.h"

/* How many of 16 ascending thresholds are below x. */
static inline uint32_t below(float32x4_t x, const float *t) {
    uint32x4_t a = vaddq_u32(vcgtq_f32(x, vld1q_f32(t)), vcgtq_f32(x, vld1q_f32(t + 4)));
    uint32x4_t b = vaddq_u32(vcgtq_f32(x, vld1q_f32(t + 8)), vcgtq_f32(x, vld1q_f32(t + 12)));
    return 0u - vaddvq_u32(vaddq_u32(a, b)); /* true is -1 */
}

/* Two steps of 16 ways: the thresholds in sixteens, found by the last of each, then one sixteen. */
static void quantise(const rk_forest *f, const rk_axis *axis, const float *values, size_t rows, uint64_t *planes,
                     uint64_t *nans, uint64_t *zeros) {
    uint8_t bins[256];
    const float limit = rk_zero_limit(f->flags);
    float pivots[16];
    const float *sorted = rk_axis_pivots(f, axis, pivots);
    memset(nans, 0, rows / 8);
    memset(zeros, 0, rows / 8);
    for (size_t r = 0; r < rows; r++) {
        float value = values[r];
        float32x4_t x = vdupq_n_f32(value);
        uint32_t sixteen = axis->count < 16 ? 0 : 16 * below(x, pivots);
        bins[r] = (uint8_t)(sixteen + below(x, sorted + sixteen));
        nans[r / 64] |= (uint64_t)(value != value) << (r % 64);
        zeros[r / 64] |= (uint64_t)!(fabsf(value) > limit) << (r % 64);
    }
    slice(bins, rows, axis->levels, planes);
}

#define NAME(x) x##_128
#define ROWS ((size_t)128)
#define VECTOR uint64x2_t
#define V_LOAD(p) vld1q_u64((const uint64_t *)(p))
#define V_STORE(p, v) vst1q_u64((uint64_t *)(p), v)
#define V_ZERO vdupq_n_u64(0)
#define V_ONES vdupq_n_u64(~(uint64_t)0)
#define V_AND(a, b) vandq_u64(a, b)
#define V_ANDNOT(a, b) vbicq_u64(a, b)
#define V_OR(a, b) vorrq_u64(a, b)
#define V_XOR(a, b) veorq_u64(a, b)
#define V_BOUND(lo, hi, met) vbicq_u64(lo, vbicq_u64(met, hi))
#define V_PREFETCH(p) (void)(p)
#include "rk_bits_kernel.h"

#include "rk_bits_word.h"

/* Blocks of 128 rows; a rest of up to 64 in one of 64. */
int rk_score_neon(const rk_forest *f, const rk_batch *batch) {
    size_t rest = batch->rows % 128, whole = rest > 64 ? batch->rows : batch->rows - rest;
    if (whole && score_128(f, batch, 0, whole)) {
        return -1;
    }
    return whole == batch->rows ? 0 : score_64(f, batch, whole, rest);
}
#endif
