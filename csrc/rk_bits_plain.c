/* BITS: rows as bits in plain C, 64 rows in a word. */
#include <stdlib.h>
#include <string.h>

#include "rk_bits_portable.h"
#include "rk_forest_internal.h"

static void quantise(const rk_forest *f, const rk_axis *axis, const float *values, size_t rows, uint8_t *bins,
                     uint64_t *nans, uint64_t *zeros) {
    const float *table = f->s.axis_table + axis->table;
    const float limit = rk_zero_limit(f->flags);
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

#include "rk_bits_word.h"

int rk_score_bits(const rk_forest *f, const rk_batch *batch) { return score_64(f, batch, 0, batch->rows); }

void rk_forest_conditions(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                          ptrdiff_t row_stride, uint64_t *out) {
    const rk_batch batch = {matrix, feature_stride, row_stride, rows, NULL, 0};
    float column[64];
    block_conditions_64(forest, &batch, 0, rows, column, out);
}
