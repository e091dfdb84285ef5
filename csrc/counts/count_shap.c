/* Instructions of rk_shap on one tree of 31 leaves over 12 features, per call: by tier and rows; and of building. */
#include "counts.h"

#include "../rk_shap.h"

enum { NODES = 30, FEATURES = 12, ROWS = 64 };

static uint32_t node_begin[] = {0, NODES};
static int32_t split_feature[NODES], category_set[NODES], left[NODES], right[NODES];
static uint8_t decision[NODES];
static double threshold[NODES], node_cover[NODES], leaf_value[NODES + 1], leaf_cover[NODES + 1];
static const uint32_t set_begin[] = {0};
static float matrix[FEATURES * ROWS];
static double out[(FEATURES + 1) * (FEATURES + 1) * ROWS];
static rk_forest *forest;
static rk_shap *shap;

static void prepare(void) {
    int32_t *child[NODES + 1], root = ~0;
    child[0] = &root;
    for (int n = 0; n < NODES; n++) {
        int leaf = (int)(count_random() % (unsigned)(n + 1));
        *child[leaf] = n;
        left[n] = ~leaf;
        right[n] = ~(n + 1);
        child[leaf] = &left[n];
        child[n + 1] = &right[n];
        split_feature[n] = (int32_t)(count_random() % FEATURES);
        threshold[n] = count_uniform();
        decision[n] = RK_MISSING_NAN << RK_DECISION_MISSING_SHIFT;
    }
    for (int i = 0; i <= NODES; i++) {
        leaf_value[i] = count_uniform();
        leaf_cover[i] = 1 + (double)(count_random() % 100);
    }
    for (int i = 0; i < FEATURES * ROWS; i++) matrix[i] = (float)count_uniform();
    rk_forest_source source = {.n_features = FEATURES, .n_outputs = 1, .n_trees = 1, .node_begin = node_begin,
                               .split_feature = split_feature, .decision = decision, .threshold = threshold,
                               .category_set = category_set, .left = left, .right = right, .leaf_value = leaf_value,
                               .set_begin = set_begin, .node_cover = node_cover, .leaf_cover = leaf_cover};
    rk_forest_fault forest_fault;
    rk_shap_fault fault;
    forest = rk_forest_build(&source, &forest_fault);
    shap = forest ? rk_shap_build(forest, &fault) : NULL;
    if (!shap) exit(2);
}

static void values(rk_shap_tier tier, size_t rows) {
    if (rk_shap_values(shap, tier, matrix, rows, ROWS, 1, out)) exit(2);
}

static void scalar_1(void) { values(RK_SHAP_SCALAR, 1); }
static void plain_64(void) { values(RK_SHAP_PLAIN, ROWS); }
static void auto_1(void) { values(RK_SHAP_AUTO, 1); }
static void auto_64(void) { values(RK_SHAP_AUTO, ROWS); }
static void interactions(void) {
    if (rk_shap_interactions(shap, RK_SHAP_AUTO, matrix, ROWS, ROWS, 1, out)) exit(2);
}
static void build(void) {
    rk_shap_fault fault;
    rk_shap_free(rk_shap_build(forest, &fault));
}

static const count_case cases[] = {
    {"build", prepare, build, 10},        {"scalar_1", prepare, scalar_1, 5}, {"plain_64", prepare, plain_64, 10},
    {"auto_1", prepare, auto_1, 10},      {"auto_64", prepare, auto_64, 10},
    {"auto_interactions_64", prepare, interactions, 5},
};

COUNT_MAIN(cases)
