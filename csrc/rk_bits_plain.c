/* BITS: rows as bits in plain C, 64 rows in a word. */
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

static void quantise(const rk_axis *axis, const float *table, const float *values, size_t rows, float limit,
                     uint8_t *bins, uint64_t *nans, uint64_t *zeros) {
    for (size_t first = 0; first < rows; first += 64) {
        const float *x = values + first;
        uint32_t at[64];
        uint64_t nan = 0, zero = 0;
        for (size_t r = 0; r < 64; r++) {
            at[r] = 1;
            nan |= (uint64_t)(x[r] != x[r]) << r;
            zero |= (uint64_t)(x[r] != x[r] || (x[r] >= -limit && x[r] <= limit)) << r;
        }
        for (uint32_t level = 0; level < axis->levels; level++) {
            for (size_t r = 0; r < 64; r++) {
                at[r] = 2 * at[r] + (x[r] > table[at[r]]);
            }
        }
        for (size_t r = 0; r < 64; r++) {
            bins[first + r] = (uint8_t)(at[r] - (1u << axis->levels));
        }
        nans[first / 64] = nan;
        zeros[first / 64] = zero;
    }
}

/* Bit j of byte i becomes bit i of byte j (Hacker's Delight, 7-3). */
static uint64_t transposed(uint64_t x) {
    uint64_t t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
    return x ^ t ^ t << 28;
}

static uint64_t little_endian(const uint8_t *bytes) {
    uint64_t word = 0;
    for (unsigned i = 0; i < 8; i++) {
        word |= (uint64_t)bytes[i] << (8 * i);
    }
    return word;
}

static void slice(const uint8_t *bins, size_t rows, uint32_t levels, uint64_t *planes) {
    memset(planes, 0, levels * (rows / 8));
    for (size_t r = 0; r < rows; r += 8) {
        uint64_t bits = transposed(little_endian(bins + r));
        for (uint32_t b = 0; b < levels; b++) {
            planes[b * (rows / 64) + r / 64] |= (bits >> (8 * b) & 255) << (r % 64);
        }
    }
}

static void codes_of(const uint64_t *planes, uint32_t n, size_t rows, uint8_t *codes) {
    for (size_t r = 0; r < rows; r += 8) {
        uint64_t bits = 0;
        for (uint32_t p = 0; p < n; p++) {
            bits |= (planes[p * (rows / 64) + r / 64] >> (r % 64) & 255) << (8 * p);
        }
        bits = transposed(bits);
        for (unsigned i = 0; i < 8; i++) {
            codes[r + i] = (uint8_t)(bits >> (8 * i));
        }
    }
}

static void add_doubles(const double *table, uint32_t planes, const uint8_t *codes, size_t rows, double *sums) {
    (void)planes;
    for (size_t r = 0; r < rows; r++) {
        sums[r] += table[codes[r]];
    }
}

static void add_floats(const float *table, uint32_t planes, const uint8_t *codes, size_t rows, float *sums) {
    (void)planes;
    for (size_t r = 0; r < rows; r++) {
        sums[r] += table[codes[r]];
    }
}

static size_t double_at(size_t r) { return r; }

#define NAME(x) x##_64
#define ROWS ((size_t)64)
#define VECTOR uint64_t
#define V_PREFETCH(p) (void)(p)
#define V_LOAD(p) (*(const uint64_t *)(p))
#define V_STORE(p, v) (*(uint64_t *)(p) = (v))
#define V_ZERO ((uint64_t)0)
#define V_ONES (~(uint64_t)0)
#define V_AND(a, b) ((a) & (b))
#define V_ANDNOT(a, b) ((a) & ~(b))
#define V_OR(a, b) ((a) | (b))
#define V_XOR(a, b) ((a) ^ (b))
#define V_BOUND(lo, hi, met) ((lo) & ((hi) | ~(met)))
#include "rk_bits_kernel.h"

int rk_score_bits(const rk_forest *f, const rk_batch *batch) { return score_64(f, batch, 0, batch->rows); }

void rk_forest_conditions(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                          ptrdiff_t row_stride, uint64_t *out) {
    const rk_batch batch = {matrix, feature_stride, row_stride, rows, NULL, 0};
    float column[64];
    block_conditions_64(forest, &batch, 0, rows, column, out);
}
