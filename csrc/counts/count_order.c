/* Instructions of rk_order, per call: by way, length and what scores look like. */
#include <math.h>

#include "counts.h"

#include "../rk_order.h"

enum { N = 1000 };

static double scores[N];
static char names[N][24];
static rk_id ids[N];
static int64_t order[N];
static rk_order_list list = {.scores = scores, .n = N};

static void prepare_random(void) {
    for (int i = 0; i < N; i++) {
        scores[i] = count_uniform() + count_uniform() + count_uniform() - 1.5;
        int length = snprintf(names[i], sizeof names[i], "product-%d", (int)(count_random() % 1000000));
        ids[i] = (rk_id){(const uint8_t *)names[i], (size_t)length};
    }
}

static void prepare_tied(void) {
    prepare_random();
    for (int i = 0; i < N; i++) scores[i] = floor(scores[i]);
    list.ids = ids;
}

static void prepare_sorted(void) {
    for (int i = 0; i < N; i++) scores[i] = -i;
}

static void scalar(void) { rk_order_top_scalar(&list, N, order, NULL); }
static void top(void) { rk_order_top(&list, N, order, NULL); }
static void top_10(void) { rk_order_top(&list, 10, order, NULL); }

static const count_case cases[] = {
    {"scalar_1000", prepare_random, scalar, 10},
    {"top_1000", prepare_random, top, 10},
    {"top_10_of_1000", prepare_random, top_10, 10},
    {"top_1000_sorted", prepare_sorted, top, 10},
    {"scalar_1000_tied_by_id", prepare_tied, scalar, 10},
    {"top_1000_tied_by_id", prepare_tied, top, 10},
};

COUNT_MAIN(cases)
