/* rk_shap: every tier gives the oracle's values and interactions, and they add up to the score. The input's bytes make
 * a small forest, covers and rows; when they run out, zeros follow. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_shap.h"

enum { MOST_TREES = 4, MOST_LEAVES = 24, MOST_FEATURES = 12, MOST_ROWS = 20, MOST_OUTPUTS = 3 };
enum { MOST_NODES = MOST_TREES * MOST_LEAVES, WIDTH = MOST_FEATURES + 1 };

static const uint8_t *input, *input_end;

static uint8_t take(void) { return input < input_end ? *input++ : 0; }

static double absolute_sum;

/* Leaf values of any size up to 1e6; the tolerance follows what they add up to. */
static double take_value(void) {
    double value = ((int)take() - 128) * pow(10.0, take() % 13 - 6);
    absolute_sum += fabs(value);
    return value;
}

typedef struct {
    uint32_t node_begin[MOST_TREES + 1], set_begin[3], set_words[2];
    int32_t split_feature[MOST_NODES], category_set[MOST_NODES], left[MOST_NODES], right[MOST_NODES];
    uint8_t decision[MOST_NODES];
    double threshold[MOST_NODES], node_cover[MOST_NODES];
    double leaf_value[(MOST_NODES + MOST_TREES) * MOST_OUTPUTS], leaf_cover[MOST_NODES + MOST_TREES];
} arrays;

/* A tree grown by splitting random leaves; node n turns one leaf into itself, whose right child is a new leaf. */
static void grow(arrays *a, uint32_t begin, uint32_t nodes, uint32_t n_features) {
    int32_t *child[MOST_LEAVES + 1];
    int32_t root = ~0;
    child[0] = &root;
    for (uint32_t n = 0; n < nodes; n++) {
        uint32_t i = begin + n, leaf = take() % (n + 1u);
        *child[leaf] = (int32_t)n;
        a->left[i] = ~(int32_t)leaf;
        a->right[i] = ~(int32_t)(n + 1);
        child[leaf] = &a->left[i];
        child[n + 1] = &a->right[i];
        a->split_feature[i] = take() % n_features;
        uint8_t how = take();
        a->decision[i] = (uint8_t)((how & 3) | how % 3 << RK_DECISION_MISSING_SHIFT);
        a->threshold[i] = how % 7 - 3;
        a->category_set[i] = how >> 7;
    }
}

static void must(int so) {
    if (!so) abort();
}

static void compare(const double *a, const double *b, size_t n) {
    for (size_t i = 0; i < n; i++) must(fabs(a[i] - b[i]) <= 1e-12 * (absolute_sum + 1.0));
}

static void explain(const rk_forest *forest, const rk_shap *shap, const float *matrix, size_t rows) {
    static double expected[MOST_OUTPUTS * WIDTH * MOST_ROWS], got[MOST_OUTPUTS * WIDTH * MOST_ROWS];
    static double pairs[MOST_OUTPUTS * WIDTH * WIDTH * MOST_ROWS], pairs_got[MOST_OUTPUTS * WIDTH * WIDTH * MOST_ROWS];
    const rk_forest_source *s = rk_forest_as_source(forest);
    size_t width = s->n_features + 1u, n = s->n_outputs * width * rows;
    double scores[MOST_OUTPUTS * MOST_ROWS];
    must(!rk_shap_values(shap, RK_SHAP_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, expected));
    must(!rk_shap_interactions(shap, RK_SHAP_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, pairs));
    must(!rk_forest_score(forest, RK_FOREST_SCALAR, matrix, rows, (ptrdiff_t)rows, 1, scores));
    for (size_t o = 0; o < s->n_outputs; o++) {
        for (size_t r = 0; r < rows; r++) {
            double sum = 0.0;
            for (size_t f = 0; f < width; f++) sum += expected[(o * width + f) * rows + r];
            compare(&sum, &scores[o * rows + r], 1);
        }
    }
    for (int tier = RK_SHAP_PLAIN; tier < RK_SHAP_N_TIERS; tier++) {
        if (!rk_shap_has_tier((rk_shap_tier)tier)) continue;
        must(!rk_shap_values(shap, (rk_shap_tier)tier, matrix, rows, (ptrdiff_t)rows, 1, got));
        must(!rk_shap_interactions(shap, (rk_shap_tier)tier, matrix, rows, (ptrdiff_t)rows, 1, pairs_got));
        compare(got, expected, n);
        compare(pairs_got, pairs, n * width);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static arrays a;
    input = data;
    input_end = data + size;
    absolute_sum = 0.0;
    uint32_t n_trees = 1 + take() % MOST_TREES, n_features = 1 + take() % MOST_FEATURES, how = take();
    uint32_t n_outputs = how & 1 ? 1 : 1 + how / 2 % MOST_OUTPUTS, vector = n_outputs > 1 && how & 64;
    if (!vector && n_trees % n_outputs) n_outputs = 1;
    for (uint32_t t = 0; t < n_trees; t++) {
        uint32_t nodes = take() % MOST_LEAVES;
        a.node_begin[t + 1] = a.node_begin[t] + nodes;
        grow(&a, a.node_begin[t], nodes, n_features);
    }
    uint32_t leaves = a.node_begin[n_trees] + n_trees;
    for (uint32_t i = 0; i < leaves; i++) a.leaf_cover[i] = take() % 16;
    for (uint32_t i = 0; i < leaves * (vector ? n_outputs : 1); i++) a.leaf_value[i] = take_value();
    a.set_begin[1] = 1;
    a.set_begin[2] = 2;
    a.set_words[0] = take();
    a.set_words[1] = take();
    rk_forest_source source = {
        .n_features = n_features, .n_outputs = n_outputs, .n_trees = n_trees, .n_sets = 2,
        .flags = vector ? RK_FOREST_VECTOR_LEAVES : 0, .node_begin = a.node_begin, .split_feature = a.split_feature,
        .decision = a.decision, .threshold = a.threshold, .category_set = a.category_set, .left = a.left,
        .right = a.right, .leaf_value = a.leaf_value, .set_begin = a.set_begin, .set_words = a.set_words,
        .node_cover = a.node_cover, .leaf_cover = a.leaf_cover};
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    rk_forest *forest = rk_forest_build(&source, &forest_fault);
    must(forest != NULL);
    rk_shap *shap = rk_shap_build(forest, &fault);
    must(shap != NULL);
    size_t rows = 1 + take() % MOST_ROWS;
    float matrix[MOST_FEATURES * MOST_ROWS];
    for (size_t i = 0; i < n_features * rows; i++) {
        uint8_t x = take();
        matrix[i] = x % 8 == 7 ? NAN : (float)(x % 8) - 3.5f + (float)(x / 128) / 2;
    }
    explain(forest, shap, matrix, rows);
    rk_shap_free(shap);
    rk_forest_free(forest);
    return 0;
}
