/* rk_forest: the contract on hand-made trees, all tiers on random forests, and hostile builder input. */
#include "../rk_forest.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "minunit.h"

/* Two trees: root x0 <= 1.5 (missing NaN, default left) -> leaf 0 | category of x1 in {0, 33} -> leaf 1 | leaf 2;
 * and a single leaf. */
static uint32_t node_begin[] = {0, 2, 2};
static int32_t split_feature[] = {0, 1};
static uint8_t decision[] = {2 | 2 << 2, 1 | 2 << 2};
static double threshold[] = {1.5, 0};
static int32_t category_set[] = {0, 0};
static int32_t left[] = {~0, ~1};
static int32_t right[] = {1, ~2};
static double leaf_value[] = {1, 2, 4, 100};
static uint32_t set_begin[] = {0, 2};
static uint32_t set_words[] = {1, 2};

static rk_forest_source small(void) {
    return (rk_forest_source){.n_features = 2, .n_outputs = 1, .n_trees = 2, .n_sets = 1,
                              .node_begin = node_begin, .split_feature = split_feature, .decision = decision,
                              .threshold = threshold, .category_set = category_set, .left = left, .right = right,
                              .leaf_value = leaf_value, .set_begin = set_begin, .set_words = set_words,
                              .flags = RK_FOREST_FLUSH_ZERO};
}

static void test_contract(void) {
    rk_forest_source source = small();
    rk_forest_fault fault;
    rk_forest *forest = rk_forest_build(&source, &fault);
    CHECK(forest && fault.status == RK_FOREST_OK);
    const float matrix[] = {1.5f, NAN, 2, 2, 2, 2, 2, 2, INFINITY, /* x0 */
                            7, 7, 0, 33, 1, -0.5f, -1, NAN, 3e9f}; /* x1 */
    const double expected[] = {101, 101, 102, 102, 104, 102, 104, 104, 104};
    double out[9];
    for (int tier = 0; tier < RK_FOREST_N_TIERS; tier++) {
        memset(out, 0, sizeof out);
        if (!rk_forest_has_tier(forest, (rk_forest_tier)tier)) {
            CHECK(rk_forest_score(forest, (rk_forest_tier)tier, matrix, 9, 9, 1, out) == -1);
            continue;
        }
        CHECK(rk_forest_score(forest, (rk_forest_tier)tier, matrix, 9, 9, 1, out) == 0);
        CHECK(memcmp(out, expected, sizeof out) == 0);
    }
    int32_t leaves[18];
    rk_forest_leaf(forest, matrix, 9, 9, 1, leaves);
    CHECK(leaves[0] == 0 && leaves[2] == 1 && leaves[4] == 2 && leaves[9] == 0);
    const rk_forest_source *given = rk_forest_as_source(forest);
    CHECK(given->n_features == 2 && given->n_outputs == 1 && given->n_trees == 2 && given->tree_output[1] == 0);
    rk_forest_free(forest);

    rk_forest_free(NULL);
}

static void refused(rk_forest_source source, rk_forest_status status, uint32_t tree, uint32_t index) {
    rk_forest_fault fault;
    rk_forest *forest = rk_forest_build(&source, &fault);
    CHECK(forest == NULL);
    CHECK(fault.status == status && fault.tree == tree && fault.index == index);
    rk_forest_free(forest);
}

static void test_counts(void) {
    rk_forest_source s = small();
    s.n_features = 0;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    s.n_features = RK_FOREST_MAX_FEATURES + 1;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    s = small();
    s.n_outputs = 0;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    s.n_outputs = 3;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    s = small();
    s.n_trees = 0;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    s.n_trees = RK_FOREST_MAX_TREES + 1;
    refused(s, RK_FOREST_BAD_COUNTS, 0, 0);
    const uint32_t starts_late[] = {1, 2, 2}, falls[] = {0, 2, 1}, huge[] = {0, 2, 4000000000u};
    const uint32_t many[] = {0, RK_FOREST_MAX_LEAVES, RK_FOREST_MAX_LEAVES};
    s = small();
    s.node_begin = starts_late;
    refused(s, RK_FOREST_BAD_NODE_BEGIN, 0, 0);
    s.node_begin = falls;
    refused(s, RK_FOREST_BAD_NODE_BEGIN, 1, 0);
    s.node_begin = huge;
    refused(s, RK_FOREST_BAD_NODE_BEGIN, 1, 0);
    s.node_begin = many;
    refused(s, RK_FOREST_BAD_NODE_BEGIN, 0, 0);
    const uint32_t set_late[] = {1, 2}, set_falls[] = {0, 2, 1};
    s = small();
    s.set_begin = set_late;
    refused(s, RK_FOREST_BAD_SET_BEGIN, 0, 0);
    s.n_sets = 2;
    s.set_begin = set_falls;
    refused(s, RK_FOREST_BAD_SET_BEGIN, 0, 1);
}

static void test_nodes(void) {
    const int32_t feature_high[] = {0, 2}, feature_low[] = {-1, 1}, no_set[] = {0, 1}, low_set[] = {0, -1};
    const uint8_t type3[] = {12, 1}, bits[] = {16, 1};
    const double nan_threshold[] = {NAN, 0}, inf_leaf[] = {1, 2, 4, INFINITY}, nan_leaf[] = {1, NAN, 4, 100};
    rk_forest_source s = small();
    s.split_feature = feature_high;
    refused(s, RK_FOREST_BAD_FEATURE, 0, 1);
    s.split_feature = feature_low;
    refused(s, RK_FOREST_BAD_FEATURE, 0, 0);
    s = small();
    s.category_set = no_set;
    refused(s, RK_FOREST_BAD_CATEGORY_SET, 0, 1);
    s.category_set = low_set;
    refused(s, RK_FOREST_BAD_CATEGORY_SET, 0, 1);
    s = small();
    s.n_sets = 0;
    refused(s, RK_FOREST_BAD_CATEGORY_SET, 0, 1);
    s = small();
    s.decision = type3;
    refused(s, RK_FOREST_BAD_DECISION, 0, 0);
    s.decision = bits;
    refused(s, RK_FOREST_BAD_DECISION, 0, 0);
    s = small();
    s.threshold = nan_threshold;
    refused(s, RK_FOREST_BAD_THRESHOLD, 0, 0);
    s = small();
    s.leaf_value = inf_leaf;
    refused(s, RK_FOREST_BAD_LEAF_VALUE, 1, 0);
    s.leaf_value = nan_leaf;
    refused(s, RK_FOREST_BAD_LEAF_VALUE, 0, 1);
}

static void test_shapes(void) {
    const int32_t self[] = {1, ~2}, root[] = {0, ~2}, far[] = {2, ~2}, leaf_far[] = {1, ~3};
    const int32_t lowest[] = {1, INT32_MIN}, highest[] = {INT32_MAX, ~2}, leaf_twice[] = {1, ~1}, to_self[] = {1, 1};
    struct {
        const int32_t *right;
        uint32_t index;
    } cases[] = {{root, 0}, {far, 0}, {leaf_far, 1}, {lowest, 1}, {highest, 0}, {leaf_twice, 1}, {to_self, 1}};
    rk_forest_source s = small();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        s.right = cases[i].right;
        refused(s, RK_FOREST_BAD_RIGHT, 0, cases[i].index);
    }
    s.right = self;
    const int32_t left_root[] = {~0, 0};
    s.left = left_root;
    refused(s, RK_FOREST_BAD_LEFT, 0, 1);

    /* Nodes 1 and 2 lead to each other; the root has leaves only. */
    const uint32_t begin[] = {0, 3};
    const int32_t features[] = {0, 0, 0}, lefts[] = {~0, 2, 1}, rights[] = {~1, ~2, ~3}, sets[] = {0, 0, 0};
    const uint8_t decisions[] = {0, 0, 0};
    const double thresholds[] = {0, 0, 0};
    s = small();
    s.n_trees = 1;
    s.node_begin = begin;
    s.split_feature = features;
    s.decision = decisions;
    s.threshold = thresholds;
    s.category_set = sets;
    s.left = lefts;
    s.right = rights;
    refused(s, RK_FOREST_UNREACHED, 0, 1);
}

/* Random bytes in every array: build must refuse or give what can be scored; the sanitizers watch. */
static uint32_t state = 1;
static uint32_t next(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static const double borders[] = {-2, -1, -0.0, 0, 1, 2, 0.1, -0.1, 1e-36, -1e-36, 1e300, -1e300, INFINITY, -INFINITY};

static void test_random_arrays(void) {
    int accepted = 0;
    for (int round = 0; round < 20000; round++) {
        uint32_t begin[3] = {0, next() % 4, 0};
        begin[2] = begin[1] + next() % 3;
        int32_t feature[8], set[8], lefts[8], rights[8];
        uint8_t decisions[8];
        double thresholds[8], leaves[10];
        for (int i = 0; i < 8; i++) {
            feature[i] = (int32_t)(next() % 32 ? next() % 2 : next());
            set[i] = (int32_t)(next() % 32 ? 0 : next());
            lefts[i] = (int32_t)(next() % 32 ? next() % 6 : next()) - 3;
            rights[i] = (int32_t)(next() % 7) - 4;
            decisions[i] = (uint8_t)(next() % 12);
            thresholds[i] = borders[next() % (sizeof borders / sizeof *borders)];
        }
        for (int i = 0; i < 10; i++) {
            leaves[i] = next() % 10;
        }
        rk_forest_source s = small();
        s.node_begin = begin;
        s.split_feature = feature;
        s.category_set = set;
        s.left = lefts;
        s.right = rights;
        s.decision = decisions;
        s.threshold = thresholds;
        s.leaf_value = leaves;
        s.flags = next() % 8;
        rk_forest_fault fault;
        rk_forest *forest = rk_forest_build(&s, &fault);
        CHECK((forest != NULL) == (fault.status == RK_FOREST_OK));
        if (forest) {
            accepted++;
            float matrix[2 * 70];
            double expected[70], out[70];
            for (int i = 0; i < 140; i++) {
                uint32_t bits = next();
                float small_value = (float)(bits % 7) - 3;
                memcpy(&matrix[i], &bits, sizeof bits);
                matrix[i] = next() % 2 ? small_value : matrix[i];
                matrix[i] = next() % 4 ? matrix[i] : (float)borders[next() % (sizeof borders / sizeof *borders)];
                matrix[i] = next() % 8 ? matrix[i] : nextafterf((float)0.1, (float)(next() % 2));
                matrix[i] = next() % 8 ? matrix[i] : NAN;
            }
            size_t rows = next() % 71;
            rk_forest_score(forest, RK_FOREST_SCALAR, matrix, rows, 70, 1, expected);
            for (int tier = 0; tier < RK_FOREST_N_TIERS; tier++) {
                if (rk_forest_has_tier(forest, (rk_forest_tier)tier)) {
                    CHECK(rk_forest_score(forest, (rk_forest_tier)tier, matrix, rows, 70, 1, out) == 0);
                    CHECK(memcmp(out, expected, rows * sizeof *out) == 0);
                }
            }
            rk_forest_free(forest);
        }
    }
    CHECK(accepted > 100);
}

int main(void) {
    test_contract();
    test_counts();
    test_nodes();
    test_shapes();
    test_random_arrays();
    FINISH();
}
