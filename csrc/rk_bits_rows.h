/* The transposition of rk_bits_kernel.h in plain C. */
#include <stddef.h>
#include <stdint.h>

/* `columns` <= 16 features of rows that stand side by side in memory, from `from` on, to out[c * stride + r]. */
static void transpose(const float *from, ptrdiff_t row_stride, size_t rows, uint32_t columns, size_t stride,
                      float *out) {
    for (size_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < columns; c++) {
            out[c * stride + r] = from[(ptrdiff_t)r * row_stride + c];
        }
    }
}
