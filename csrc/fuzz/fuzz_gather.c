/* rk_gather gives its oracle's bytes, whatever rows, values and write times. A header says how many rows the table
 * has, what kind and width the column is of and whether it expires; a piece of the input is the table, the rest rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_gather.h"

enum { HEADER = 4, MOST_WIDTH = 16 };

/* Memory of exactly its size, so that a read beyond is seen; filled from the input as far as that goes. */
static void *filled(size_t bytes, const uint8_t *data, size_t size) {
    uint8_t *memory = calloc(bytes + 1, 1);
    uint8_t *exact = malloc(bytes ? bytes : 1);
    if (!memory || !exact) abort();
    memcpy(memory, data, size < bytes ? size : bytes);
    memcpy(exact, memory, bytes);
    free(memory);
    return exact;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t element[RK_GATHER_KINDS] = {4, 8, 1, 4, 8, 4}, result[RK_GATHER_KINDS] = {8, 8, 8, 4, 8, 4};
    if (size < HEADER) return 0;
    int kind = data[0] % RK_GATHER_KINDS;
    size_t bound = data[1], width = kind == RK_GATHER_VECTOR ? data[2] % MOST_WIDTH + 1u : 1;
    const uint8_t *rest = data + HEADER;
    size_t left = size - HEADER, n = left / 2, out_bytes = n * result[kind] * width;
    void *table = filled((bound + 1) * element[kind] * width, rest, left);
    int64_t *written_ms = filled((bound + 1) * sizeof *written_ms, rest + left / 3, left - left / 3);
    int64_t *rows = malloc((n + 1) * sizeof *rows);
    void *fast = malloc(out_bytes + 1), *slow = malloc(out_bytes + 1);
    if (!rows || !fast || !slow) abort();
    for (size_t i = 0; i < n; i++) rows[i] = (int16_t)(rest[2 * i] | rest[2 * i + 1] << 8) % 300;
    int64_t now_ms = written_ms[data[3] % (bound + 1)];
    rk_gather_column column = {.data = table, .out = fast, .written_ms = data[3] & 1 ? written_ms : NULL,
                               .ttl_ms = data[3] * 1000, .divisor = data[3] & 2 ? 1000 : 1, .missing = NAN,
                               .kind = kind, .width = (int32_t)width};
    rk_gather(&column, 1, rows, n, bound, now_ms);
    column.out = slow;
    rk_gather_scalar(&column, 1, rows, n, bound, now_ms);
    if (memcmp(fast, slow, out_bytes)) abort();
    free(table);
    free(written_ms);
    free(rows);
    free(fast);
    free(slow);
    return 0;
}
