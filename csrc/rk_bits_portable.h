/* The steps of rk_bits_kernel.h between bytes and bits and the sums, in plain C. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "rk_bits_rows.h"

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

/* Bit b of every bin as rows / 64 words at planes + b * rows / 64. */
static void slice(const uint8_t *bins, size_t rows, uint32_t levels, uint64_t *planes) {
    memset(planes, 0, levels * (rows / 8));
    for (size_t r = 0; r < rows; r += 8) {
        uint64_t bits = transposed(little_endian(bins + r));
        for (uint32_t b = 0; b < levels; b++) {
            planes[b * (rows / 64) + r / 64] |= (bits >> (8 * b) & 255) << (r % 64);
        }
    }
}

static void codes_of(const uint64_t *const *planes, uint32_t n, size_t rows, uint8_t *codes) {
    for (size_t r = 0; r < rows; r += 8) {
        uint64_t bits = 0;
        for (uint32_t p = 0; p < n; p++) {
            bits |= (planes[p][r / 64] >> (r % 64) & 255) << (8 * p);
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
