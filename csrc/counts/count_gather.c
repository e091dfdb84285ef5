/* Instructions of rk_gather, per call: ten columns of 1,000 rows out of 20,000. */
#include <math.h>

#include "counts.h"

#include "../rk_gather.h"

enum { BOUND = 20000, ROWS = 1000, COLUMNS = 10, WIDTH = 32 };

static float table[(BOUND + 1) * WIDTH];
static int64_t written_ms[BOUND + 1], rows[ROWS];
static double out[ROWS * WIDTH];
static rk_gather_column columns[COLUMNS];

static void prepare(void) {
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) table[i] = (float)count_uniform();
    for (int i = 0; i <= BOUND; i++) written_ms[i] = (int64_t)(count_random() % 1000);
    for (int i = 0; i < ROWS; i++) rows[i] = (int64_t)(count_random() % (BOUND + 1)) - 1;
    for (int c = 0; c < COLUMNS; c++) {
        columns[c] = (rk_gather_column){
            .data = table, .out = out, .missing = NAN, .kind = RK_GATHER_FLOAT, .divisor = 1, .width = 1};
    }
}

static void prepare_expiring(void) {
    prepare();
    for (int c = 0; c < COLUMNS; c++) columns[c].written_ms = written_ms, columns[c].ttl_ms = 500;
}

static void prepare_vectors(void) {
    prepare();
    for (int c = 0; c < COLUMNS; c++) columns[c].kind = RK_GATHER_VECTOR, columns[c].width = WIDTH;
}

static void scalar(void) { rk_gather_scalar(columns, COLUMNS, rows, ROWS, BOUND, 1000); }
static void fast(void) { rk_gather(columns, COLUMNS, rows, ROWS, BOUND, 1000); }

static const count_case cases[] = {
    {"scalar_float", prepare, scalar, 3},
    {"float", prepare, fast, 3},
    {"float_expiring", prepare_expiring, fast, 3},
    {"vector_32", prepare_vectors, fast, 3},
};

COUNT_MAIN(cases)
