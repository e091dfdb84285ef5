/* The tiers of feature operations beside RK_OPS_PLAIN, which is C alone: every operation on numbers and embeddings, at
 * lengths around those of vectors and blocks, on values among which are NaN, zeros of both signs and infinities. */
#include "../rk_ops.h"

#include <stdlib.h>
#include <string.h>

#include "minunit.h"

enum { MOST = 2 * RK_BLOCK + 9, DIMENSION = 40 };

static double columns[RK_PROGRAM_ARITY][MOST], plain[MOST], wide[MOST];
static double broadcast[RK_PROGRAM_ARITY][RK_BLOCK];
static const int64_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 31, 255, 256, 257, 300, MOST};

static uint64_t next_random(void) {
    static uint64_t state = 11;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 24;
}

static double random_value(void) {
    static const double special[] = {0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1e308, 5e-324, -1e-310, 3e9};
    switch (next_random() % 8) {
    case 0: return NAN;
    case 1: return next_random() % 2 ? INFINITY : -INFINITY;
    case 2: case 3: return special[next_random() % (sizeof special / sizeof special[0])];
    default: return (double)(next_random() % 2000001) / 1000 - 1000;
    }
}

/* All NaNs are one; zeros are two. */
static int same(const double *a, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (a[i] != a[i] && b[i] != b[i]) continue;
        if (memcmp(&a[i], &b[i], sizeof *a)) return 0;
    }
    return 1;
}

static void compare(const rk_op_info *info, rk_call call) {
    call.tier = RK_OPS_PLAIN;
    call.out = plain;
    info->run(&call);
    call.tier = rk_ops_widest();
    call.out = wide;
    info->run(&call);
    CHECK(same(plain, wide, call.count));
}

static void test_numbers(void) {
    int tried = 0;
    for (int32_t code = 0; code < RK_OP_COUNT; code++) {
        const rk_op_info *info = rk_op_lookup(code);
        int numeric = info->run && !info->scratch && info->shape == RK_SHAPE_EACH;
        for (int k = 0; k < info->arity; k++) numeric &= info->kinds[k] == RK_KIND_NUMBER;
        if (!numeric) continue;
        tried++;
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            /* Every combination of columns and values of the request, but for none of them a column. */
            for (int request = 0; request < (1 << info->arity) - 1; request++) {
                rk_call call = {.count = lengths[l], .length = lengths[l], .broadcast = broadcast};
                for (int k = 0; k < info->arity; k++) {
                    for (int64_t i = 0; i < MOST; i++) columns[k][i] = random_value();
                    call.arg[k] = (rk_operand){.values = columns[k], .stride = !(request >> k & 1)};
                }
                compare(info, call);
            }
        }
    }
    CHECK(tried > 25);
}

static void test_embeddings(void) {
    static const int32_t codes[] = {RK_OP_dot, RK_OP_cosine};
    for (int round = 0; round < 300; round++) {
        int32_t dimension = 1 + round % DIMENSION;
        rk_column held[2];
        rk_call call = {.count = 30, .length = 30};
        for (int k = 0; k < 2; k++) {
            /* Exactly as long as it is: a read beyond is seen. */
            size_t bytes = 30 * (size_t)dimension * sizeof(float);
            float *data = malloc(bytes);
            for (int i = 0; i < 30 * dimension; i++) data[i] = (float)(next_random() % 2001) / 1000 - 1;
            for (int i = 0; i < 30; i += 7) data[i * dimension] = i % 2 ? NAN : INFINITY;
            for (int d = 0; d < dimension; d++) data[dimension + d] = -0.0f;
            held[k] = (rk_column){.data = data, .rows = 30};
            call.arg[k] = (rk_operand){.column = &held[k], .stride = round % 3 != k, .dimension = dimension};
        }
        for (int c = 0; c < 2; c++) compare(rk_op_lookup(codes[c]), call);
        for (int k = 0; k < 2; k++) free((void *)held[k].data);
    }
}

static void test_moves(void) {
    static float floats[2][MOST];
    static int32_t codes[MOST];
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        int64_t n = lengths[l];
        for (int64_t i = 0; i < n; i++) {
            columns[0][i] = random_value();
            codes[i] = (int32_t)(next_random() % 9) - 2;
        }
        if (n) codes[0] = INT32_MIN, codes[n - 1] = INT32_MAX;
        for (int tier = 0; tier < 2; tier++) {
            double *out = tier ? wide : plain;
            rk_load_codes(codes, n, out, tier ? rk_ops_widest() : RK_OPS_PLAIN);
            rk_write_floats(columns[0], n, floats[tier], tier ? rk_ops_widest() : RK_OPS_PLAIN);
        }
        CHECK(same(plain, wide, n) && !memcmp(floats[0], floats[1], (size_t)n * sizeof(float)));
        for (int64_t i = 0; i < n; i++) {
            CHECK(codes[i] < 0 ? plain[i] != plain[i] : plain[i] == codes[i]);
            CHECK(columns[0][i] != columns[0][i] ? floats[0][i] != floats[0][i] : floats[0][i] == (float)columns[0][i]);
        }
        rk_write_doubles(columns[0], n, plain, RK_OPS_PLAIN);
        rk_write_doubles(columns[0], n, wide, rk_ops_widest());
        CHECK(!memcmp(plain, wide, (size_t)n * sizeof(double)) && same(plain, columns[0], n));
    }
}

int main(void) {
    printf("tier %d; ", rk_ops_widest());
    test_numbers();
    test_embeddings();
    test_moves();
    FINISH();
}
