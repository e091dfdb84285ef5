/* rk_shap: known values, every tier against the oracle, additivity, repeated features, zero covers, long paths,
 * outputs, refusals. */
#include "../rk_shap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

enum { MOST_NODES = 1030 };

/* A forest under construction: numeric nodes x <= 0, missing goes right. */
static uint32_t node_begin[5];
static int32_t split_feature[MOST_NODES], category_set[MOST_NODES], left[MOST_NODES], right[MOST_NODES];
static uint8_t decision[MOST_NODES];
static double threshold[MOST_NODES], leaf_value[2 * MOST_NODES], node_cover[MOST_NODES], leaf_cover[MOST_NODES];
static const uint32_t set_begin[] = {0};

static rk_forest_source source_of(uint32_t n_features, uint32_t n_outputs, uint32_t n_trees) {
    for (int i = 0; i < MOST_NODES; i++) decision[i] = RK_MISSING_NAN << RK_DECISION_MISSING_SHIFT;
    return (rk_forest_source){.n_features = n_features, .n_outputs = n_outputs, .n_trees = n_trees,
                              .node_begin = node_begin, .split_feature = split_feature, .decision = decision,
                              .threshold = threshold, .category_set = category_set, .left = left, .right = right,
                              .leaf_value = leaf_value, .set_begin = set_begin, .node_cover = node_cover,
                              .leaf_cover = leaf_cover};
}

/* A chain: node i splits on feature i % period; its left child is leaf i, its right one the next node. */
static rk_forest_source chain(uint32_t nodes, uint32_t period) {
    node_begin[0] = 0;
    node_begin[1] = nodes;
    for (uint32_t i = 0; i < nodes; i++) {
        split_feature[i] = (int32_t)(i % period);
        threshold[i] = -(double)(i / period);
        left[i] = ~(int32_t)i;
        right[i] = i + 1 < nodes ? (int32_t)i + 1 : ~(int32_t)(i + 1);
    }
    for (uint32_t i = 0; i <= nodes; i++) {
        leaf_value[i] = (double)((i * 7) % 11) - 5.0;
        leaf_cover[i] = (double)((i * 5) % 13);
    }
    return source_of(period, 1, 1);
}

static double largest(const double *a, const double *b, size_t n) {
    double most = 0.0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs(a[i] - b[i]);
        most = difference > most || isnan(difference) ? difference : most;
    }
    return most;
}

/* All tiers, with both memory orders of the matrix: values, interactions, sums. */
static void check(const rk_forest_source *source, const float *matrix, size_t rows) {
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(source, &forest_fault);
    rk_shap *shap = rk_shap_build(forest, &fault);
    CHECK(shap && fault.status == RK_SHAP_OK && rk_shap_bytes(shap) > 0);
    size_t width = source->n_features + 1u, n = source->n_outputs * width * rows, n_pairs = n * width;
    double *expected = malloc(n * 8 + 8), *got = malloc(n * 8 + 8), *scores = malloc(n * 8 + 8);
    double *pairs = malloc(n_pairs * 8 + 8), *pairs_got = malloc(n_pairs * 8 + 8);
    CHECK(rk_shap_values(shap, RK_SHAP_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, expected) == 0);
    CHECK(rk_shap_interactions(shap, RK_SHAP_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, pairs) == 0);
    CHECK(rk_forest_score(forest, RK_FOREST_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, scores) == 0);
    for (size_t o = 0; o < source->n_outputs; o++) {
        for (size_t r = 0; r < rows; r++) {
            double sum = 0.0;
            for (size_t f = 0; f < width; f++) {
                sum += expected[(o * width + f) * rows + r];
            }
            CHECK(fabs(sum - scores[o * rows + r]) <= 1e-12 * (100.0 + fabs(sum)));
        }
    }
    for (int tier = 0; tier < RK_SHAP_N_TIERS; tier++) {
        int wanted = rk_shap_has_tier((rk_shap_tier)tier) ? 0 : -1;
        memset(got, 0xff, n * 8);
        memset(pairs_got, 0xff, n_pairs * 8);
        CHECK(rk_shap_values(shap, (rk_shap_tier)tier, matrix, rows, (ptrdiff_t)rows, 1, got) == wanted);
        CHECK(rk_shap_interactions(shap, (rk_shap_tier)tier, matrix, rows, (ptrdiff_t)rows, 1, pairs_got) == wanted);
        CHECK(wanted || largest(got, expected, n) <= 1e-12);
        CHECK(wanted || largest(pairs_got, pairs, n_pairs) <= 1e-12);
    }
    rk_shap_free(shap);
    rk_forest_free(forest);
    free(expected);
    free(got);
    free(scores);
    free(pairs);
    free(pairs_got);
}

static float *random_rows(uint32_t n_features, size_t rows) {
    static uint32_t state = 1;
    float *matrix = malloc(n_features * rows * sizeof *matrix + 1);
    for (size_t i = 0; i < n_features * rows; i++) {
        state = state * 1664525u + 1013904223u;
        matrix[i] = state >> 28 == 0 ? NAN : (float)((int)(state >> 24) % 9 - 6);
    }
    return matrix;
}

/* 3 of 4 training rows go left to 1, the others right to 5: expected 2. */
static void test_stump(void) {
    rk_forest_source source = chain(1, 1);
    const double base = 10.0;
    leaf_value[0] = 1;
    leaf_value[1] = 5;
    leaf_cover[0] = 3;
    leaf_cover[1] = 1;
    source.base = &base;
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(&source, &forest_fault);
    rk_shap *shap = rk_shap_build(forest, &fault);
    const float matrix[] = {-1, 1, NAN};
    double out[6], pairs[12];
    for (int tier = 0; tier < RK_SHAP_N_TIERS; tier++) {
        if (!rk_shap_has_tier((rk_shap_tier)tier)) continue;
        CHECK(rk_shap_values(shap, (rk_shap_tier)tier, matrix, 3, 3, 1, out) == 0);
        CHECK(largest(out, (const double[]){-1, 3, 3, 12, 12, 12}, 6) < 1e-14);
        CHECK(rk_shap_interactions(shap, (rk_shap_tier)tier, matrix, 3, 3, 1, pairs) == 0);
        CHECK(largest(pairs, (const double[]){-1, 3, 3, 0, 0, 0, 0, 0, 0, 12, 12, 12}, 12) < 1e-14);
    }
    CHECK(rk_shap_values(shap, RK_SHAP_AUTO, matrix, 0, 3, 1, out) == 0);
    CHECK(rk_shap_values(shap, RK_SHAP_N_TIERS, matrix, 3, 3, 1, out) == -1);
    rk_shap_free(shap);
    rk_forest_free(forest);
    rk_shap_free(NULL);
}

/* The score is x0 AND x1 (each left half the time): both get half of what is not expected, 3/8 each. */
static void test_and(void) {
    rk_forest_source source = chain(2, 2);
    left[0] = 1;
    right[0] = ~0;
    left[1] = ~1;
    right[1] = ~2;
    for (int i = 0; i < 3; i++) leaf_value[i] = i == 1;
    leaf_cover[0] = 2;
    leaf_cover[1] = leaf_cover[2] = 1;
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(&source, &forest_fault);
    rk_shap *shap = rk_shap_build(forest, &fault);
    const float matrix[] = {-1, 1, -1, -1}; /* x0 -1, 1; x1 -1, -1 */
    double out[6], pairs[18];
    CHECK(rk_shap_values(shap, RK_SHAP_AUTO, matrix, 2, 2, 1, out) == 0);
    CHECK(largest(out, (const double[]){0.375, -0.375, 0.375, 0.125, 0.25, 0.25}, 6) < 1e-14);
    CHECK(rk_shap_interactions(shap, RK_SHAP_AUTO, matrix, 2, 2, 1, pairs) == 0);
    CHECK(fabs(pairs[2] - 0.125) < 1e-14 && fabs(pairs[3] + 0.125) < 1e-14 && fabs(pairs[0] - 0.25) < 1e-14);
    /* The same rows, row by row in memory. */
    double turned[6];
    CHECK(rk_shap_values(shap, RK_SHAP_AUTO, (const float[]){-1, -1, 1, -1}, 2, 1, 2, turned) == 0);
    CHECK(memcmp(out, turned, sizeof out) == 0);
    rk_shap_free(shap);
    rk_forest_free(forest);
    check(&source, matrix, 2);
}

/* Chains of 1 to 40 nodes over 1 to 36 features: repeated features, zero covers, any number of points. */
static void test_chains(void) {
    static const uint32_t shapes[][2] = {{1, 1}, {2, 1}, {3, 2}, {9, 3}, {16, 16}, {17, 17}, {40, 7}, {36, 36}};
    static const size_t rows[] = {1, 7, 8, 9, 17, 63, 64, 65};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        rk_forest_source source = chain(shapes[i][0], shapes[i][1]);
        float *matrix = random_rows(shapes[i][1], rows[i]);
        check(&source, matrix, rows[i]);
        memset(leaf_cover, 0, sizeof leaf_cover);
        check(&source, matrix, rows[i]);
        free(matrix);
    }
}

/* Three trees, the second one leaf: outputs, vector leaves, float sums. */
static void test_outputs(void) {
    chain(10, 4);
    node_begin[1] = 6;
    node_begin[2] = 6;
    node_begin[3] = 10;
    for (int i = 0; i < 10; i++) {
        int last = i == 5 || i == 9, first = i < 6 ? 0 : 6;
        left[i] = ~(i - first);
        right[i] = last ? ~(i - first + 1) : i - first + 1;
    }
    for (int i = 0; i < 39; i++) leaf_value[i] = (double)(i % 7) - 2.9;
    for (int i = 0; i < 13; i++) leaf_cover[i] = i % 3;
    const uint32_t outputs[] = {2, 0, 2};
    const double base[] = {0.5, -1, 3};
    float *matrix = random_rows(4, 20);
    rk_forest_source source = source_of(4, 3, 3);
    check(&source, matrix, 20);
    source.tree_output = outputs;
    source.base = base;
    check(&source, matrix, 20);
    source.tree_output = NULL;
    source.flags = RK_FOREST_VECTOR_LEAVES;
    check(&source, matrix, 20);
    free(matrix);
}

static void refused(const rk_forest_source *source, rk_shap_status status) {
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(source, &forest_fault);
    CHECK(forest && !rk_shap_build(forest, &fault) && fault.status == status && fault.tree == 0);
    rk_forest_free(forest);
}

static void test_refusals(void) {
    rk_forest_source source = chain(RK_SHAP_MAX_PATH_FEATURES, RK_SHAP_MAX_PATH_FEATURES);
    float *matrix = random_rows(RK_SHAP_MAX_PATH_FEATURES, 3);
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(&source, &forest_fault);
    rk_shap *shap = rk_shap_build(forest, &fault);
    CHECK(shap != NULL);
    enum { N = (RK_SHAP_MAX_PATH_FEATURES + 1) * 3 };
    double expected[N], got[N];
    CHECK(rk_shap_values(shap, RK_SHAP_SCALAR, matrix, 3, 3, 1, expected) == 0);
    CHECK(rk_shap_values(shap, RK_SHAP_AUTO, matrix, 3, 3, 1, got) == 0);
    CHECK(largest(expected, got, N) <= 1e-12);
    rk_shap_free(shap);
    rk_forest_free(forest);
    free(matrix);
    source = chain(RK_SHAP_MAX_PATH_FEATURES + 1, RK_SHAP_MAX_PATH_FEATURES + 1);
    refused(&source, RK_SHAP_TOO_MANY_FEATURES);
    source = chain(1024, RK_SHAP_MAX_PATH_FEATURES); /* 64 points: as deep as can be */
    forest = rk_forest_build(&source, &forest_fault);
    shap = rk_shap_build(forest, &fault);
    CHECK(shap != NULL);
    rk_shap_free(shap);
    rk_forest_free(forest);
    source = chain(1025, RK_SHAP_MAX_PATH_FEATURES);
    refused(&source, RK_SHAP_TOO_DEEP);
    source = chain(3, 2);
    source.node_cover = source.leaf_cover = NULL;
    refused(&source, RK_SHAP_NO_COVERS);
    const uint32_t linear_begin[] = {0, 1, 1, 1, 1};
    const int32_t linear_feature[] = {1};
    const double linear_coefficient[] = {2}, linear_constant[] = {1, 0, 0, 0};
    source = chain(3, 2);
    source.linear_begin = linear_begin;
    source.linear_feature = linear_feature;
    source.linear_coefficient = linear_coefficient;
    source.linear_constant = linear_constant;
    refused(&source, RK_SHAP_LINEAR_LEAVES);
}

int main(void) {
    test_stump();
    test_and();
    test_chains();
    test_outputs();
    test_refusals();
    FINISH();
}
