/* rankd's forest for the clock: opens an image and scores, beside the kernels as setup.py compiles them. */
#include "rk_forest.h"

#define EXPORT __attribute__((visibility("default")))

/* NULL if it is refused; the image must stay as it is and be aligned to 64 bytes. */
EXPORT void *bench_rankd_open(const void *image, size_t bytes) {
    rk_forest_fault fault;
    return rk_forest_open(image, bytes, &fault);
}

EXPORT void bench_rankd_close(void *forest) { rk_forest_free(forest); }

EXPORT int bench_rankd_has_tier(const void *forest, int tier) {
    return rk_forest_has_tier(forest, (rk_forest_tier)tier);
}

EXPORT int bench_rankd_chosen(const void *forest, size_t rows) { return (int)rk_forest_chosen(forest, rows); }

EXPORT int bench_rankd_score(const void *forest, int tier, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                             ptrdiff_t row_stride, double *out) {
    return rk_forest_score(forest, (rk_forest_tier)tier, matrix, rows, feature_stride, row_stride, out);
}
