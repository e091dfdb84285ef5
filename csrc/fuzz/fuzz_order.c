/* rk_order: radix sort gives the oracle's permutation. Byte 0 chooses k and what decides besides scores; byte 1 how
 * scores are made of the rest; then 11 bytes a position: a score's eight, a rank's, an id's two. */
#include <stdlib.h>
#include <string.h>

#include "../rk_order.h"

enum { RECORD = 11, MOST = 400 };

/* Any bits, or few values, or neighbours of 1. */
static double score_of(const uint8_t *bytes, int way) {
    uint64_t bits;
    memcpy(&bits, bytes, sizeof bits);
    if (way % 3 == 1) bits = bits % 5 << 52;
    if (way % 3 == 2) bits = UINT64_C(0x3ff0000000000000) + bits % 1000;
    double score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    double scores[MOST];
    int64_t ranks[MOST], fast[MOST], slow[MOST];
    rk_id ids[MOST];
    size_t n = size < 2 ? 0 : (size - 2) / RECORD;
    if (n > MOST) n = MOST;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *record = data + 2 + RECORD * i;
        scores[i] = score_of(record, data[1]);
        ranks[i] = (int8_t)record[8];
        /* An id is a piece of the input: many share beginnings or are equal. */
        size_t start = record[9] % (size / 2), length = record[10] % 20u;
        ids[i] = (rk_id){data + start, length < size - start ? length : size - start};
    }
    int options = size ? data[0] : 0, slow_tied = 2, fast_tied = 3;
    rk_order_list list = {scores, options & 1 ? ranks : NULL, options & 2 ? ids : NULL, n};
    size_t k = options & 4 ? n : n * (size_t)(options >> 3) / 31, taken = k < n ? k : n;
    if (rk_order_top_scalar(&list, k, slow, &slow_tied) || rk_order_top(&list, k, fast, &fast_tied)) abort();
    if (slow_tied != fast_tied || memcmp(slow, fast, taken * sizeof *fast)) abort();
    return 0;
}
