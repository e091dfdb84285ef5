/* Instructions of rk_diversity, per call over 1,000 items. */
#include "counts.h"

#include "../rk_diversity.h"

enum { N = 1000, K = 50, DIMENSION = 128 };

static double relevance[N];
static float embeddings[N * DIMENSION];
static int32_t groups[N];
static int64_t order[N];
static const rk_mmr_list by_cosine = {relevance, embeddings, NULL, N, DIMENSION, 0.7};
static const rk_mmr_list by_group = {relevance, NULL, groups, N, 0, 0.7};

static void prepare(void) {
    for (int i = 0; i < N; i++) relevance[i] = count_uniform();
    for (int i = 0; i < N; i++) groups[i] = (int32_t)(count_random() % 20);
    for (int i = 0; i < N * DIMENSION; i++) embeddings[i] = (float)(count_uniform() - 0.5);
}

static void mmr_cosine(void) { rk_mmr(&by_cosine, K, order); }
static void mmr_group(void) { rk_mmr(&by_group, K, order); }
static void mmr_scalar(void) { rk_mmr_scalar(&by_cosine, K, order); }
static void caps(void) { rk_group_caps(groups, N, 2, 10, N, order, NULL); }
static void caps_scalar(void) { rk_group_caps_scalar(groups, N, 2, 10, N, order, NULL); }

static const count_case cases[] = {
    {"mmr_cosine_50_of_1000x128", prepare, mmr_cosine, 3},
    {"mmr_scalar_50_of_1000x128", prepare, mmr_scalar, 1},
    {"mmr_group_50_of_1000", prepare, mmr_group, 3},
    {"group_caps_1000", prepare, caps, 3},
    {"group_caps_scalar_1000", prepare, caps_scalar, 3},
};

COUNT_MAIN(cases)
