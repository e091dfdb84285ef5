/* rk_forest_build: arrays made of the input's bytes, some of them hostile, are refused or make a forest that every tier
 * scores as the oracle does, and whose image opens again to the same. When the bytes run out, zeros follow. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_forest.h"

enum { MOST_TREES = 6, MOST_NODES = 160, MOST_LEAVES = MOST_NODES + MOST_TREES, MOST_OUTPUTS = 3, MOST_FEATURES = 6 };
enum { MOST_SETS = 3, MOST_WORDS = 12, MOST_TERMS = 2 * MOST_LEAVES, MOST_ROWS = 300 };

static const uint8_t *input, *input_end;

static uint8_t take(void) { return input < input_end ? *input++ : 0; }

static uint32_t take_word(void) {
    uint32_t low = take(), high = take();
    return low | high << 8 | (uint32_t)take() << 16 | (uint32_t)take() << 24;
}

static void must(int so) {
    if (!so) abort();
}

typedef struct {
    uint32_t node_begin[MOST_TREES + 1], set_begin[MOST_SETS + 1], set_words[MOST_WORDS], tree_output[MOST_TREES];
    int32_t split_feature[MOST_NODES], category_set[MOST_NODES], left[MOST_NODES], right[MOST_NODES];
    uint8_t decision[MOST_NODES];
    double threshold[MOST_NODES], node_cover[MOST_NODES], leaf_value[MOST_LEAVES * MOST_OUTPUTS], leaf_cover[MOST_LEAVES];
    double base[MOST_OUTPUTS], linear_coefficient[MOST_TERMS], linear_constant[MOST_LEAVES];
    uint32_t linear_begin[MOST_LEAVES + 1];
    int32_t linear_feature[MOST_TERMS];
} arrays;

/* A double of one byte; rarely of eight: any bits. */
static double take_double(void) {
    static const double edges[] = {0.0, -0.0, 1e-35, -1e-35, 1.0000001e-35, 1e-45, -1e-45, 0.1, -0.1, 1e300, -1e300,
                                   3.4028234663852886e38, INFINITY, -INFINITY, 2147483648.0, 0.3};
    uint8_t how = take();
    if (how < 200) return ((int)how - 100) / 4.0;
    if (how < 248) return edges[how % 16];
    uint64_t bits = take_word();
    double value;
    bits = bits << 32 | take_word();
    memcpy(&value, &bits, sizeof value);
    return value;
}

static double take_finite(void) {
    double value = take_double();
    return fabs(value) <= 1e30 ? value : 1.0; /* false of NaN */
}

/* Splits leaves in an order of the input's, or breadth first with one condition a level. */
static void grow(arrays *a, uint32_t begin, uint32_t nodes, uint32_t n_features, int oblivious) {
    int32_t *child[MOST_NODES + 1];
    uint32_t width = 1;
    for (uint32_t n = 0; n < nodes; n++) {
        uint32_t i = begin + n, place;
        while (2 * width <= n + 1) width *= 2;
        place = oblivious ? n + 1 - width : take() % (n + 1);
        if (n > 0) *child[place] = (int32_t)n;
        a->left[i] = ~(int32_t)place;
        a->right[i] = ~(int32_t)(n + 1);
        child[place] = &a->left[i];
        child[n + 1] = &a->right[i];
        if (oblivious && place > 0) {
            a->split_feature[i] = a->split_feature[i - 1];
            a->category_set[i] = a->category_set[i - 1];
            a->decision[i] = a->decision[i - 1];
            a->threshold[i] = a->threshold[i - 1];
            continue;
        }
        uint8_t how = take();
        a->split_feature[i] = (int32_t)(how / 32 % n_features);
        a->decision[i] = (uint8_t)((how & 2) | (how / 4 & 1 & how / 8) | how % 3 << RK_DECISION_MISSING_SHIFT);
        a->category_set[i] = how % 5 % MOST_SETS;
        a->threshold[i] = take_double();
    }
}

static void fill_numbers(arrays *a, rk_forest_source *s, uint32_t leaves) {
    for (uint32_t i = 0; i < MOST_SETS; i++) a->set_begin[i + 1] = a->set_begin[i] + take() % (MOST_WORDS / MOST_SETS + 1);
    for (uint32_t i = 0; i < MOST_WORDS; i++) a->set_words[i] = (uint32_t)take() * 0x01010101u;
    for (uint32_t i = 0; i < leaves * MOST_OUTPUTS; i++) a->leaf_value[i] = take_finite();
    for (uint32_t o = 0; o < MOST_OUTPUTS; o++) a->base[o] = take_finite();
    for (uint32_t t = 0; t < MOST_TREES; t++) a->tree_output[t] = take() % s->n_outputs;
    for (uint32_t i = 0; i < leaves && s->linear_begin; i++) {
        a->linear_begin[i + 1] = a->linear_begin[i] + take() % 3;
        a->linear_constant[i] = take_finite();
    }
    for (uint32_t i = 0; s->linear_begin && i < a->linear_begin[leaves]; i++) {
        a->linear_feature[i] = take() % s->n_features;
        a->linear_coefficient[i] = take_finite();
    }
}

/* Overwrites an entry of an array with what may be anything. Counts that say how long arrays are, and the last
 * entries of the arrays of beginnings, stay: that they are true is the caller's to see to. */
static void spoil(arrays *a, rk_forest_source *s) {
    uint8_t what = take();
    uint32_t n = take(), word = take_word(), node = n % MOST_NODES, leaf = n % MOST_LEAVES;
    word = what & 128 ? word % 256 : word;
    switch (what % 16) {
    case 0: if (n % s->n_trees > 0) a->node_begin[n % s->n_trees] = word; break;
    case 1: a->split_feature[node] = (int32_t)word; break;
    case 2: a->decision[node] = (uint8_t)word; break;
    case 3: a->threshold[node] = take_double(); break;
    case 4: a->category_set[node] = (int32_t)word; break;
    case 5: a->left[node] = (int32_t)word; break;
    case 6: a->right[node] = ~(int32_t)word; break;
    case 7: a->leaf_value[n % (MOST_LEAVES * MOST_OUTPUTS)] = take_double(); break;
    case 8: a->set_begin[n % MOST_SETS] = word; break;
    case 9: a->tree_output[n % MOST_TREES] = word; break;
    case 10: a->base[n % MOST_OUTPUTS] = take_double(); break;
    case 11: a->linear_feature[n] = (int32_t)word; break;
    case 12: a->linear_coefficient[n] = take_double(); break;
    case 13: a->linear_constant[leaf] = take_double(); break;
    case 14: a->leaf_cover[leaf] = take_double(); break;
    default: s->flags = word; break;
    }
}

/* The source; afterwards its arrays may be spoilt. */
static rk_forest_source source_of(arrays *a) {
    uint32_t how = take(), more = take(), n_trees = 1 + how % MOST_TREES, n_features = 1 + how / 8 % MOST_FEATURES;
    rk_forest_source s = {
        .n_features = n_features, .n_outputs = 1 + more % MOST_OUTPUTS, .n_trees = n_trees, .n_sets = MOST_SETS,
        .flags = take() & RK_FOREST_ALL_FLAGS, .node_begin = a->node_begin, .split_feature = a->split_feature,
        .decision = a->decision, .threshold = a->threshold, .category_set = a->category_set, .left = a->left,
        .right = a->right, .leaf_value = a->leaf_value, .set_begin = a->set_begin, .set_words = a->set_words};
    int vectors = (s.flags & RK_FOREST_VECTOR_LEAVES) != 0, floats = (s.flags & RK_FOREST_FLOAT_SUMS) != 0;
    memset(a, 0, sizeof *a);
    for (uint32_t t = 0; t < n_trees; t++) {
        uint32_t begin = a->node_begin[t], nodes = take() % (t ? 26 : 101), whole = 1;
        int oblivious = (more >> (t % 6 + 2) & 1) && take() % 2;
        while (oblivious && 2 * whole - 1 <= nodes) whole *= 2;
        nodes = oblivious ? whole - 1 : nodes;
        nodes = nodes > MOST_NODES - begin ? 0 : nodes;
        a->node_begin[t + 1] = begin + nodes;
        grow(a, begin, nodes, n_features, oblivious);
    }
    if (more & 64 && !vectors) s.tree_output = a->tree_output;
    if (!s.tree_output && !vectors && n_trees % s.n_outputs) s.n_outputs = 1;
    if (more & 128) s.base = a->base;
    if (how & 64 && !vectors && !floats) {
        s.linear_begin = a->linear_begin;
        s.linear_feature = a->linear_feature;
        s.linear_coefficient = a->linear_coefficient;
        s.linear_constant = a->linear_constant;
    }
    if (how & 128) {
        s.node_cover = a->node_cover;
        s.leaf_cover = a->leaf_cover;
    }
    fill_numbers(a, &s, a->node_begin[n_trees] + n_trees);
    for (uint32_t n = take() % 8; n > 5; n--) spoil(a, &s);
    return s;
}

static float take_value(const arrays *a, uint32_t n_nodes) {
    uint8_t how = take();
    uint32_t word;
    float value = n_nodes ? (float)a->threshold[take() % n_nodes] : 0.0f;
    switch (how % 8) {
    case 0: return NAN;
    case 1: return nextafterf(value, INFINITY);
    case 2: return nextafterf(value, -INFINITY);
    case 3: return (float)take() - 2.5f;
    case 4: return (float)take() - 2.0f;
    case 5: word = take_word(); memcpy(&value, &word, sizeof value); return value;
    default: return value;
    }
}

static void compare(const rk_forest *forest, rk_forest_tier tier, const float *matrix, size_t rows, int by_row,
                    const double *expected) {
    static double out[MOST_OUTPUTS * MOST_ROWS];
    const rk_forest_source *s = rk_forest_as_source(forest);
    ptrdiff_t feature_stride = by_row ? 1 : (ptrdiff_t)rows, row_stride = by_row ? (ptrdiff_t)s->n_features : 1;
    memset(out, 0xff, sizeof out);
    must(rk_forest_score(forest, tier, matrix, rows, feature_stride, row_stride, out) == 0);
    must(memcmp(out, expected, s->n_outputs * rows * sizeof *out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static arrays a;
    static double expected[MOST_OUTPUTS * MOST_ROWS];
    static const size_t row_counts[] = {1, 5, 20, 64, 65, 100, 129, MOST_ROWS};
    rk_forest_fault fault;
    input = data;
    input_end = data + size;
    rk_forest_source source = source_of(&a);
    rk_forest *forest = rk_forest_build(&source, &fault);
    must((forest != NULL) == (fault.status == RK_FOREST_OK));
    if (!forest) return 0;
    size_t rows = row_counts[take() % 8], bytes;
    int by_row = take() & 1;
    float *matrix = malloc(source.n_features * rows * sizeof *matrix);
    must(matrix != NULL);
    for (size_t i = 0; i < source.n_features * rows; i++) matrix[i] = i < 96 ? take_value(&a, a.node_begin[source.n_trees]) : matrix[i - 89];
    const void *image = rk_forest_image(forest, &bytes);
    uint8_t *copy = aligned_alloc(64, bytes);
    must(copy != NULL);
    memcpy(copy, image, bytes);
    rk_forest *opened = rk_forest_open(copy, bytes, &fault);
    must(opened != NULL);
    ptrdiff_t feature_stride = by_row ? 1 : (ptrdiff_t)rows, row_stride = by_row ? (ptrdiff_t)source.n_features : 1;
    must(rk_forest_score(forest, RK_FOREST_SCALAR, matrix, rows, feature_stride, row_stride, expected) == 0);
    for (int tier = 0; tier < RK_FOREST_N_TIERS; tier++) {
        if (rk_forest_has_tier(forest, (rk_forest_tier)tier)) {
            compare(tier % 2 ? forest : opened, (rk_forest_tier)tier, matrix, rows, by_row, expected);
        }
    }
    rk_forest *again = rk_forest_build(rk_forest_as_source(opened), &fault); /* what it gives back is what it was given */
    must(again != NULL && memcmp(rk_forest_image(again, &bytes), copy, bytes) == 0);
    rk_forest_free(again);
    rk_forest_free(opened);
    rk_forest_free(forest);
    free(copy);
    free(matrix);
    return 0;
}
