/* rk_order: the contract case by case, then radix sort beside the oracle on lists of many kinds and lengths. */
#include "../rk_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

typedef int (*top_fn)(const rk_order_list *, size_t, int64_t *, int *);
static const top_fn ways[] = {rk_order_top, rk_order_top_scalar};

static rk_id text(const char *s) { return (rk_id){(const uint8_t *)s, strlen(s)}; }

static void check_order(rk_order_list list, const int64_t *expected, int ids_decide) {
    for (int w = 0; w < 2; w++) {
        for (size_t k = 0; k <= list.n + 1; k++) {
            int64_t order[16] = {0};
            int tied = -1;
            size_t taken = k < list.n ? k : list.n;
            CHECK(ways[w](&list, k, order, &tied) == 0);
            CHECK(!memcmp(order, expected, taken * sizeof *order));
            CHECK(order[taken] == 0);
            CHECK(k < list.n || tied == ids_decide);
        }
    }
}

static void test_scores(void) {
    const double scores[] = {0.0, NAN, -INFINITY, 1.0, -0.0, INFINITY, -NAN, 5e-324, -5e-324};
    const int64_t expected[] = {5, 3, 7, 0, 4, 8, 2, 1, 6};
    check_order((rk_order_list){.scores = scores, .n = 9}, expected, 1);
    check_order((rk_order_list){.n = 0}, expected, 0);
    const double distinct[] = {1, 3, 2, NAN};
    const int64_t by_value[] = {1, 2, 0, 3};
    check_order((rk_order_list){.scores = distinct, .n = 4}, by_value, 0);
}

static void test_ranks_and_ids(void) {
    const double scores[] = {1, 1, 1, 2, 1, 2, NAN, NAN};
    const int64_t ranks[] = {3, INT64_MIN, 3, 9, INT64_MAX, 8, 2, 1};
    const int64_t by_rank[] = {5, 3, 1, 0, 2, 4, 7, 6};
    check_order((rk_order_list){.scores = scores, .ranks = ranks, .n = 8}, by_rank, 1);
    const rk_id ids[] = {text("b"), text("x"), text("a"), text("d"), text("c"), text("e"), text("z"), text("y")};
    const int64_t by_both[] = {5, 3, 1, 2, 0, 4, 7, 6};
    check_order((rk_order_list){.scores = scores, .ranks = ranks, .ids = ids, .n = 8}, by_both, 1);
    const int64_t by_id[] = {3, 5, 2, 0, 4, 1, 7, 6};
    check_order((rk_order_list){.scores = scores, .ids = ids, .n = 8}, by_id, 1);
}

static void test_id_bytes(void) {
    const double scores[9] = {0};
    const rk_id ids[] = {text("\xf0\x9f\x98\x80"), text("\xef\xbf\xae"), text("a"), {(const uint8_t *)"a\0", 2},
                         {(const uint8_t *)"a\0\0\0\0\0\0\0\0b", 10}, text("aa"), text(""), text("\x7f"), text("a")};
    const int64_t expected[] = {6, 2, 8, 3, 4, 5, 7, 1, 0};
    check_order((rk_order_list){.scores = scores, .ids = ids, .n = 9}, expected, 1);
    CHECK(rk_id_compare(text("a"), text("a")) == 0 && rk_id_compare(text("a"), text("ab")) < 0);
}

static uint64_t next_random(void) {
    static uint64_t state = 7;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 20;
}

/* Kinds of lists, among them those that radix sort cannot part: one far value, few values, geometric steps. */
static double score_of_kind(int kind, size_t i) {
    uint64_t random = next_random();
    double uniform = (double)random * 0x1p-44 - 0.5;
    switch (kind) {
    case 0: return uniform;
    case 1: return (double)(random % 4);
    case 2: return i ? 1.0 + (double)(random % 1000) * 0x1p-52 : 1e300;
    case 3: return random % 3 ? uniform : NAN;
    case 4: return -(double)i;
    case 5: return (double)i;
    case 6: return ldexp(uniform, (int)(random % 2000) - 1000);
    case 7: return random % 2 ? -0.0 : 0.0;
    case 8: return random % 5 ? uniform : random % 2 ? INFINITY : -INFINITY;
    default: return 0.5;
    }
}

enum { MOST = 3000, KINDS = 10 };

static double scores[MOST];
static int64_t ranks[MOST], order[MOST], expected[MOST];
static char names[MOST][40];
static rk_id ids[MOST];

static void test_random(void) {
    static const size_t sizes[] = {1, 2, 3, 23, 24, 25, 33, 100, 257, 1000, MOST};
    for (size_t c = 0; c < sizeof sizes / sizeof sizes[0] * KINDS * 4; c++) {
        size_t n = sizes[c / (KINDS * 4)];
        int kind = (int)(c / 4 % KINDS), wrong = 0;
        for (size_t i = 0; i < n; i++) {
            scores[i] = score_of_kind(kind, i);
            ranks[i] = (int64_t)(next_random() % (c % 8 + 1)) - 2;
            int length = snprintf(names[i], sizeof names[i], c % 3 ? "sku-%llu" : "a-long-shared-beginning-%llu",
                                  (unsigned long long)(next_random() % (2 * n)));
            ids[i] = (rk_id){(const uint8_t *)names[i], (size_t)length};
        }
        rk_order_list list = {scores, c & 1 ? ranks : NULL, c & 2 ? ids : NULL, n};
        const size_t ks[] = {0, 1, n / 10, n / 2, n, n + 5};
        for (size_t j = 0; j < 6; j++) {
            size_t taken = ks[j] < n ? ks[j] : n;
            int tied = 2, expected_tied = 3;
            wrong += rk_order_top_scalar(&list, ks[j], expected, &expected_tied) != 0;
            wrong += rk_order_top(&list, ks[j], order, &tied) != 0;
            wrong += tied != expected_tied || memcmp(order, expected, taken * sizeof *order) != 0;
        }
        CHECK(wrong == 0);
    }
}

static void test_too_many(void) {
    rk_order_list list = {.scores = scores, .n = (size_t)RK_ORDER_MOST + 1};
    for (int w = 0; w < 2; w++) CHECK(ways[w](&list, 1, order, NULL) == -1);
}

int main(void) {
    test_scores();
    test_ranks_and_ids();
    test_id_bytes();
    test_random();
    test_too_many();
    FINISH();
}
