/* rk_gather: missing values of every kind, rows out of bounds, TTLs; then beside the oracle on many tables. */
#include "../rk_gather.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

typedef void (*gather_fn)(const rk_gather_column *, size_t, const int64_t *, size_t, size_t, int64_t);
static const gather_fn ways[] = {rk_gather, rk_gather_scalar};

static void test_kinds(void) {
    const float floats[] = {1.5f, NAN, -0.0f, NAN};
    const int64_t longs[] = {3000, INT64_MIN, -1, INT64_MIN};
    const int8_t bytes[] = {1, -1, 0, -1};
    const int32_t codes[] = {7, -1, 0, -1};
    const int64_t offsets[] = {70, 0, INT64_MIN, 0};
    const float vectors[] = {1, 2, NAN, NAN, 3, NAN, NAN, NAN};
    const int64_t rows[] = {0, 1, 2, -1, 3, INT64_MAX, INT64_MIN};
    for (int w = 0; w < 2; w++) {
        double from_float[7], from_long[7], from_byte[7];
        int32_t code[7];
        int64_t offset[7];
        float vector[14];
        const rk_gather_column columns[] = {
            {.data = floats, .out = from_float, .missing = NAN, .kind = RK_GATHER_FLOAT},
            {.data = longs, .out = from_long, .divisor = 1000, .missing = 9, .kind = RK_GATHER_INT64},
            {.data = bytes, .out = from_byte, .missing = -INFINITY, .kind = RK_GATHER_INT8},
            {.data = codes, .out = code, .kind = RK_GATHER_CODE},
            {.data = offsets, .out = offset, .kind = RK_GATHER_OFFSET},
            {.data = vectors, .out = vector, .kind = RK_GATHER_VECTOR, .width = 2},
        };
        ways[w](columns, 6, rows, 7, 3, 0);
        CHECK(from_float[0] == 1.5 && isnan(from_float[1]) && from_float[2] == 0 && signbit(from_float[2]));
        CHECK(from_long[0] == 3 && from_long[1] == 9 && from_long[2] == -0.001);
        CHECK(from_byte[0] == 1 && from_byte[1] == -INFINITY && from_byte[2] == 0);
        CHECK(code[0] == 7 && code[1] == -1 && code[2] == 0);
        CHECK(offset[0] == 70 && offset[1] == 0 && offset[2] == INT64_MIN);
        CHECK(vector[0] == 1 && vector[1] == 2 && isnan(vector[2]) && vector[4] == 3 && isnan(vector[5]));
        for (int i = 3; i < 7; i++) {
            CHECK(isnan(from_float[i]) && from_long[i] == 9 && from_byte[i] == -INFINITY);
            CHECK(code[i] == -1 && offset[i] == 0 && isnan(vector[2 * i]) && isnan(vector[2 * i + 1]));
        }
    }
}

static void test_time_to_live(void) {
    const float floats[] = {1, 2, 3, NAN};
    const int64_t written_ms[] = {1000, 1001, INT64_MIN, 0};
    const int64_t rows[] = {0, 1, 2, -1};
    for (int w = 0; w < 2; w++) {
        double out[4];
        const rk_gather_column column = {
            .data = floats, .out = out, .written_ms = written_ms, .ttl_ms = 500, .missing = -1, .kind = RK_GATHER_FLOAT};
        ways[w](&column, 1, rows, 4, 3, 1500);
        CHECK(out[0] == -1 && out[1] == 2 && out[2] == 3 && out[3] == -1); /* 1500 - INT64_MIN wraps below 0 */
        ways[w](&column, 1, rows, 4, 3, 1499);
        CHECK(out[0] == 1 && out[1] == 2);
    }
}

static void test_nothing(void) {
    const float missing = NAN;
    double out[2] = {5, 5};
    const int64_t rows[] = {0, 1};
    const rk_gather_column column = {.data = &missing, .out = out, .missing = 4, .kind = RK_GATHER_FLOAT};
    for (int w = 0; w < 2; w++) {
        out[0] = out[1] = 5;
        ways[w](&column, 1, rows, 0, 0, 0);
        ways[w](NULL, 0, rows, 2, 0, 0);
        CHECK(out[0] == 5);
        ways[w](&column, 1, rows, 2, 0, 0); /* a table without rows */
        CHECK(out[0] == 4 && out[1] == 4);
    }
}

static uint64_t next_random(void) {
    static uint64_t state = 3;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 16;
}

enum { MOST_ROWS = 700, COLUMNS = RK_GATHER_KINDS };

static void test_random(void) {
    static const size_t element[COLUMNS] = {4, 8, 1, 4, 8, 4}, result[COLUMNS] = {8, 8, 8, 4, 8, 4};
    for (int round = 0; round < 200; round++) {
        size_t bound = next_random() % 300, n = next_random() % MOST_ROWS, width = 1 + next_random() % 40;
        rk_gather_column columns[COLUMNS], same[COLUMNS];
        int64_t rows[MOST_ROWS], *written_ms = malloc((bound + 1) * sizeof *written_ms);
        for (size_t i = 0; i < n; i++) rows[i] = (int64_t)(next_random() % (bound + 3)) - 1;
        for (size_t i = 0; i <= bound; i++) written_ms[i] = (int64_t)(next_random() % 100);
        for (int c = 0; c < COLUMNS; c++) {
            size_t wide = c == RK_GATHER_VECTOR ? width : 1, bytes = (bound + 1) * element[c] * wide;
            uint8_t *data = malloc(bytes);
            for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)next_random();
            columns[c] = (rk_gather_column){.data = data, .out = malloc(n * result[c] * wide + 1), .divisor = 1000,
                                            .missing = NAN, .kind = c, .width = (int32_t)wide, .ttl_ms = 50,
                                            .written_ms = next_random() % 2 ? written_ms : NULL};
            same[c] = columns[c];
            same[c].out = malloc(n * result[c] * wide + 1);
        }
        rk_gather(columns, COLUMNS, rows, n, bound, 90);
        rk_gather_scalar(same, COLUMNS, rows, n, bound, 90);
        for (int c = 0; c < COLUMNS; c++) {
            size_t wide = c == RK_GATHER_VECTOR ? width : 1;
            CHECK(!memcmp(columns[c].out, same[c].out, n * result[c] * wide));
            free((void *)columns[c].data);
            free(columns[c].out);
            free(same[c].out);
        }
        free(written_ms);
    }
}

int main(void) {
    test_kinds();
    test_time_to_live();
    test_nothing();
    test_random();
    FINISH();
}
