/* BITS: rows as bits in plain C, 64 rows in a word. */
#include <stdlib.h>
#include <string.h>

#include "rk_bits_portable.h"
#include "rk_forest_internal.h"

static void quantise(const rk_forest *f, const rk_axis *axis, const float *values, size_t rows, uint64_t *planes,
                     uint64_t *nans, uint64_t *zeros) {
    const float *table = f->s.axis_table + axis->table;
    const float limit = rk_zero_limit(f->flags);
    for (size_t first = 0; first < rows; first += 64) {
        const float *x = values + first;
        uint32_t at[64] = {0};
        uint64_t nan = 0, zero = 0;
        for (size_t r = 0; r < 64; r++) {
            nan |= (uint64_t)(x[r] != x[r]) << r;
            zero |= (uint64_t)(x[r] != x[r] || (x[r] >= -limit && x[r] <= limit)) << r;
        }
        for (uint32_t step = 0; step < axis->levels; step++) {
            uint64_t above = 0;
            for (size_t r = 0; r < 64; r++) {
                uint32_t bit = x[r] > table[(1u << step) + at[r]];
                at[r] |= bit << step;
                above |= (uint64_t)bit << r;
            }
            planes[(axis->levels - 1 - step) * (rows / 64) + first / 64] = above;
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
    float panel[16 * 64] = {0};
    scratch_64 scratch = {.conditions = out, .panel = panel, .loaded = UINT32_MAX};
    block_conditions_64(forest, &batch, 0, rows, &scratch);
}
