/* rk_diversity: small cases by hand, refusals, then both ways beside each other. */
#include "../rk_diversity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

typedef int (*mmr_fn)(const rk_mmr_list *, size_t, int64_t *);
typedef int (*caps_fn)(const int32_t *, size_t, size_t, size_t, size_t, int64_t *, size_t *);
static const mmr_fn mmrs[] = {rk_mmr, rk_mmr_scalar};
static const caps_fn caps[] = {rk_group_caps, rk_group_caps_scalar};

static void check_mmr(rk_mmr_list list, size_t k, const int64_t *expected) {
    for (int w = 0; w < 2; w++) {
        int64_t order[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
        CHECK(mmrs[w](&list, k, order) == 0);
        CHECK(!memcmp(order, expected, list.n * sizeof *order));
    }
}

static void test_mmr(void) {
    const double relevance[] = {1.0, 0.9, 0.8, NAN, 0.1};
    const float embeddings[] = {1, 0, 2, 0, 0, 1, 0.5f, 0.5f, -1, 0};
    rk_mmr_list list = {.relevance = relevance, .embeddings = embeddings, .n = 5, .dimension = 2, .lambda = 1};
    const int64_t by_relevance[] = {0, 1, 2, 4, 3};
    check_mmr(list, 5, by_relevance);
    list.lambda = 0.5; /* after 0: .45 - .5, .4 - 0, .05 + .5; after 4: .45 - .5, .4 - 0; */
    const int64_t diverse[] = {0, 4, 2, 1, 3};
    check_mmr(list, 5, diverse);
    const int64_t two[] = {0, 4, 1, 2, 3};
    check_mmr(list, 2, two);
    const int64_t none[] = {0, 1, 2, 3, 4};
    check_mmr(list, 0, none);
    list.lambda = 0; /* ties: the earlier; the first place knows no similarity, the missing relevance stays missing */
    const int64_t apart[] = {0, 4, 2, 1, 3};
    check_mmr(list, 9, apart);
}

static void test_mmr_by_group_and_missing(void) {
    const double relevance[] = {1.0, 0.9, 0.8, 0.7, 0.6};
    const int32_t groups[] = {3, 3, -1, -1, 3};
    const rk_mmr_list by_group = {.relevance = relevance, .groups = groups, .n = 5, .lambda = 0.5};
    const int64_t expected[] = {0, 2, 3, 1, 4};
    check_mmr(by_group, 5, expected);
    const float embeddings[] = {1, 0, NAN, 0, 0, 0, INFINITY, 1, 1, 0};
    const rk_mmr_list by_cosine = {
        .relevance = relevance, .embeddings = embeddings, .n = 5, .dimension = 2, .lambda = 0.5};
    const int64_t all_but_the_last[] = {0, 1, 2, 3, 4};
    check_mmr(by_cosine, 5, all_but_the_last);
    const double more[] = {1.0, 0.2, 0.1, 0.0, 0.9}; /* the last is 0's twin: .45 - .5 is less than 0 */
    const rk_mmr_list twins = {.relevance = more, .embeddings = embeddings, .n = 5, .dimension = 2, .lambda = 0.5};
    check_mmr(twins, 5, all_but_the_last);
}

static void test_refusals(void) {
    int64_t order[1] = {77};
    const double relevance[] = {1};
    const float embedding[] = {1};
    const rk_mmr_list bad[] = {
        {.relevance = relevance, .embeddings = embedding, .n = 1, .dimension = 1, .lambda = 1.1},
        {.relevance = relevance, .embeddings = embedding, .n = 1, .dimension = 1, .lambda = NAN},
        {.relevance = relevance, .embeddings = embedding, .n = 1, .dimension = 0, .lambda = 1},
        {.relevance = relevance, .embeddings = embedding, .n = 1, .dimension = SIZE_MAX, .lambda = 1},
        {.relevance = relevance, .n = (size_t)RK_DIVERSITY_MOST + 1, .lambda = 1},
    };
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < 5; i++) CHECK(mmrs[w](&bad[i], 1, order) == -1 && order[0] == 77);
        CHECK(caps[w](NULL, (size_t)RK_DIVERSITY_MOST + 1, 1, 1, 1, order, NULL) == -1);
        const rk_mmr_list empty = {.lambda = 0.5};
        CHECK(mmrs[w](&empty, 3, order) == 0 && order[0] == 77);
        CHECK(caps[w](NULL, 0, 1, 1, 1, order, NULL) == 0 && order[0] == 77);
    }
}

static void check_caps(size_t cap, size_t window, size_t depth, const int64_t *expected, size_t expected_placed) {
    static const int32_t groups[] = {5, 5, 5, 2, 5, -1, 2, -7};
    for (int w = 0; w < 2; w++) {
        int64_t order[8];
        size_t placed = 99;
        CHECK(caps[w](groups, 8, cap, window, depth, order, &placed) == 0);
        CHECK(!memcmp(order, expected, sizeof order));
        CHECK(placed == expected_placed);
    }
}

static void test_caps(void) {
    const int64_t as_given[] = {0, 1, 2, 3, 4, 5, 6, 7};
    check_caps(1, 0, 8, as_given, 8);
    check_caps(1, 1, 8, as_given, 8);
    check_caps(4, 8, 8, as_given, 8);
    check_caps(1, 2, 0, as_given, 0);
    const int64_t not_beside[] = {0, 3, 1, 5, 2, 6, 4, 7};
    check_caps(1, 2, 8, not_beside, 8);
    const int64_t one_in_three[] = {0, 3, 5, 1, 6, 7, 2, 4}; /* nothing but 4 of group 5 is left, too near to 2 */
    check_caps(1, 3, 8, one_in_three, 7);
    const int64_t two_in_first_four[] = {0, 1, 3, 5, 2, 4, 6, 7};
    check_caps(2, 4, 4, two_in_first_four, 4);
    const int64_t only_without_group[] = {5, 7, 0, 1, 2, 3, 4, 6};
    check_caps(0, 2, 8, only_without_group, 2);
}

static uint64_t next_random(void) {
    static uint64_t state = 5;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 24;
}

enum { MOST = 120, DIMENSION = 35 };

static void test_random(void) {
    static double relevance[MOST];
    static float embeddings[MOST * DIMENSION];
    static int32_t groups[MOST];
    int64_t fast[MOST], slow[MOST];
    for (int round = 0; round < 400; round++) {
        size_t n = next_random() % MOST, k = next_random() % (n + 2), wrong = 0, placed[2];
        size_t dimension = 1 + next_random() % DIMENSION;
        int coarse = round % 3; /* few values, so that there are ties */
        for (size_t i = 0; i < n; i++) {
            relevance[i] = coarse ? (double)(next_random() % 4) / 4 : (double)(next_random() % 10000) / 10000;
            if (next_random() % 20 == 0) relevance[i] = NAN;
            groups[i] = (int32_t)(next_random() % (coarse ? 4 : 30)) - 1;
        }
        for (size_t i = 0; i < n * dimension; i++) {
            embeddings[i] = coarse == 1 ? (float)(next_random() % 3) - 1 : (float)(next_random() % 2001) / 1000 - 1;
        }
        for (size_t i = 0; i < n; i += 7) embeddings[i * dimension] = NAN;
        rk_mmr_list list = {.relevance = relevance, .embeddings = round & 1 ? embeddings : NULL, .groups = groups,
                            .n = n, .dimension = dimension, .lambda = (double)(round % 11) / 10};
        wrong += rk_mmr(&list, k, fast) || rk_mmr_scalar(&list, k, slow) || memcmp(fast, slow, n * sizeof *fast);
        size_t cap = next_random() % 4, window = next_random() % 12, depth = next_random() % (n + 5);
        wrong += rk_group_caps(groups, n, cap, window, depth, fast, &placed[0]) != 0;
        wrong += rk_group_caps_scalar(groups, n, cap, window, depth, slow, &placed[1]) != 0;
        wrong += placed[0] != placed[1] || memcmp(fast, slow, n * sizeof *fast);
        CHECK(wrong == 0);
    }
}

int main(void) {
    test_mmr();
    test_mmr_by_group_and_missing();
    test_refusals();
    test_caps();
    test_random();
    FINISH();
}
