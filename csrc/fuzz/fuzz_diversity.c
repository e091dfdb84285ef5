/* rk_mmr and rk_group_caps choose what their oracles choose. A header of lambda, k, dimension, cap, window, depth; then
 * for each item a relevance, a group, and its embedding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_diversity.h"

enum { HEADER = 6, MOST = 64, MOST_DIMENSION = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    double relevance[MOST];
    float embeddings[MOST * MOST_DIMENSION];
    int32_t groups[MOST];
    int64_t fast[MOST], slow[MOST];
    if (size < HEADER) return 0;
    size_t dimension = data[2] % MOST_DIMENSION + 1u, record = dimension + 2, n = (size - HEADER) / record;
    if (n > MOST) n = MOST;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *item = data + HEADER + i * record;
        relevance[i] = item[0] == 255 ? NAN : item[0] == 254 ? INFINITY : item[0] == 253 ? -INFINITY : item[0] / 16 / 8.0;
        groups[i] = (int8_t)item[1] / 8;
        for (size_t d = 0; d < dimension; d++) {
            int8_t value = (int8_t)item[2 + d];
            embeddings[i * dimension + d] = value == -128 ? NAN : value == 127 ? INFINITY : (float)value / 16;
        }
    }
    rk_mmr_list list = {.relevance = relevance, .embeddings = data[0] & 1 ? embeddings : NULL, .groups = groups,
                        .n = n, .dimension = dimension, .lambda = (data[0] >> 1) / 127.0};
    if (rk_mmr(&list, data[1], fast) || rk_mmr_scalar(&list, data[1], slow)) abort();
    if (memcmp(fast, slow, n * sizeof *fast)) abort();
    size_t fast_placed, slow_placed;
    if (rk_group_caps(groups, n, data[3] % 8, data[4] % 16, data[5], fast, &fast_placed)) abort();
    if (rk_group_caps_scalar(groups, n, data[3] % 8, data[4] % 16, data[5], slow, &slow_placed)) abort();
    if (fast_placed != slow_placed || memcmp(fast, slow, n * sizeof *fast)) abort();
    return 0;
}
