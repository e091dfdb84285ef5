/* BITS: rows as bits in plain C, 64 rows in a word. */
#include <stdlib.h>
#include <string.h>

#include "rk_bits_portable.h"
#include "rk_forest_internal.h"

static void quantise(const rk_forest *f, const rk_axis *axis, const float *x, size_t rows, uint64_t *planes,
                     uint64_t *nans, uint64_t *zeros) {
    const float *table = f->s.axis_table + axis->table;
    const float limit = rk_zero_limit(f->flags);
    uint32_t at[64] = {0}, bin[64] = {0};
    uint8_t bins[64];
    for (uint32_t step = 0; step < axis->levels; step++) {
        for (size_t r = 0; r < rows; r++) {
            uint32_t above = x[r] > table[(1u << step) + at[r]];
            at[r] |= above << step;
            bin[r] = 2 * bin[r] + above;
        }
    }
    *nans = *zeros = 0;
    for (size_t r = 0; r < rows; r++) {
        bins[r] = (uint8_t)bin[r];
        *nans |= (uint64_t)(x[r] != x[r]) << r;
        *zeros |= (uint64_t)(x[r] != x[r] || (x[r] >= -limit && x[r] <= limit)) << r;
    }
    slice(bins, rows, axis->levels, planes);
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
