/* rk_forest: on random forests of every shape, every tier gives the bits of the oracle, of the forest as built and of
 * its image opened elsewhere; and writes what it should and nothing else. */
#include "minunit.h"
#include "random_forest.h"

enum { MOST_ROWS = 700, GUARD = 16, LAYOUTS = 4 };

static const size_t row_counts[] = {0,   1,   2,   7,   9,   10,  63,  64,  65,  127, 128,
                                    129, 255, 256, 257, 300, 511, 512, 513, 700};

/* A matrix of exactly the memory it needs, so that ASan sees what is read beside it. */
typedef struct {
    float *memory;
    const float *origin;
    ptrdiff_t feature_stride, row_stride;
} layout;

static layout lay_out(const float *values, uint32_t n_features, size_t rows, unsigned kind) {
    ptrdiff_t n = n_features, m = (ptrdiff_t)rows;
    layout l = {.feature_stride = kind == 0 ? m : kind == 1 ? 1 : kind == 2 ? 3 : -m,
                .row_stride = kind == 0 ? 1 : kind == 1 ? n : kind == 2 ? 3 * n + 2 : 1};
    ptrdiff_t lowest = 0, highest = 0;
    if (rows) {
        lowest = l.feature_stride < 0 ? (n - 1) * l.feature_stride : 0;
        highest = (l.feature_stride > 0 ? (n - 1) * l.feature_stride : 0) + (m - 1) * l.row_stride + 1;
    }
    l.memory = malloc((size_t)(highest - lowest) * sizeof(float));
    l.origin = l.memory - lowest;
    for (size_t i = 0; i < (size_t)(highest - lowest); i++) l.memory[i] = NAN;
    for (ptrdiff_t f = 0; f < n; f++) {
        for (ptrdiff_t r = 0; r < m; r++) {
            l.memory[f * l.feature_stride + r * l.row_stride - lowest] = values[f * MOST_ROWS + r];
        }
    }
    return l;
}

/* One call: `expected` has MOST_ROWS rows an output. */
static void check_call(const rk_forest *forest, rk_forest_tier tier, const layout *l, size_t rows, const double *expected) {
    uint32_t n_outputs = rk_forest_as_source(forest)->n_outputs;
    size_t n = n_outputs * rows;
    double *out = malloc((n + 2 * GUARD) * sizeof *out), guard[GUARD];
    memset(guard, 0x5a, sizeof guard);
    memset(out, 0x5a, (n + 2 * GUARD) * sizeof *out);
    CHECK(rk_forest_score(forest, tier, l->origin, rows, l->feature_stride, l->row_stride, out + GUARD) == 0);
    int same = 1;
    for (uint32_t o = 0; o < n_outputs; o++) {
        same = same && memcmp(out + GUARD + o * rows, expected + o * MOST_ROWS, rows * sizeof *out) == 0;
    }
    CHECK(same);
    CHECK(memcmp(out, guard, sizeof guard) == 0 && memcmp(out + GUARD + n, guard, sizeof guard) == 0);
    free(out);
}

/* Every tier, number of rows and layout; both forests, in turn. */
static void check_tiers(const rk_forest *const forests[2], const float *values, const double *expected, unsigned first) {
    uint32_t n_features = rk_forest_as_source(forests[0])->n_features;
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        layout l = lay_out(values, n_features, row_counts[i], (unsigned)(i + first) % LAYOUTS);
        for (int tier = 0; tier < RK_FOREST_N_TIERS; tier++) {
            const rk_forest *forest = forests[(i + (size_t)tier) % 2];
            if (rk_forest_has_tier(forest, (rk_forest_tier)tier)) {
                check_call(forest, (rk_forest_tier)tier, &l, row_counts[i], expected);
            } else {
                CHECK(rk_forest_score(forest, (rk_forest_tier)tier, l.origin, row_counts[i], l.feature_stride,
                                      l.row_stride, NULL) == -1);
            }
        }
        free(l.memory);
    }
}

/* What the leaves add up to is what the oracle says: forests without linear leaves, in double. */
static void check_leaves(const rk_forest *forest, const float *values, const double *expected) {
    const rk_forest_source *s = rk_forest_as_source(forest);
    if (s->linear_begin || s->flags & (RK_FOREST_FLOAT_SUMS | RK_FOREST_VECTOR_LEAVES)) {
        return;
    }
    const size_t rows = 40;
    int32_t *leaves = malloc(s->n_trees * rows * sizeof *leaves);
    rk_forest_leaf(forest, values, rows, MOST_ROWS, 1, leaves);
    int same = 1;
    for (size_t r = 0; r < rows; r++) {
        for (uint32_t o = 0; o < s->n_outputs; o++) {
            double sum = s->base[o];
            for (uint32_t t = 0; t < s->n_trees; t++) {
                if (s->tree_output[t] == o) sum += s->leaf_value[s->node_begin[t] + t + (uint32_t)leaves[t * rows + r]];
            }
            same = same && memcmp(&sum, &expected[o * MOST_ROWS + r], sizeof sum) == 0;
        }
    }
    CHECK(same);
    free(leaves);
}

/* 1 if the forest can be scored as bits. */
static int check_plan(const forest_plan *plan, unsigned first) {
    random_forest *random = random_forest_of(plan);
    rk_forest_fault fault;
    size_t bytes;
    rk_forest *forest = rk_forest_build(&random->source, &fault);
    CHECK(forest && fault.status == RK_FOREST_OK);
    if (!forest) return -1;
    float *values = malloc((size_t)plan->n_features * MOST_ROWS * sizeof *values);
    double *expected = malloc((size_t)plan->n_outputs * MOST_ROWS * sizeof *expected);
    for (uint32_t f = 0; f < plan->n_features; f++) {
        for (size_t r = 0; r < MOST_ROWS; r++) values[f * (size_t)MOST_ROWS + r] = random_value(random, f);
    }
    random_forest_free(random);
    CHECK(rk_forest_score(forest, RK_FOREST_SCALAR, values, MOST_ROWS, MOST_ROWS, 1, expected) == 0);
    check_leaves(forest, values, expected);
    uint8_t *image = image_copy(forest, &bytes);
    rk_forest *opened = rk_forest_open(image, bytes, &fault);
    CHECK(opened && fault.status == RK_FOREST_OK);
    if (opened) check_tiers((const rk_forest *const[]){forest, opened}, values, expected, first);
    int bits = rk_forest_has_tier(forest, RK_FOREST_BITS);
    for (int tier = RK_FOREST_AVX2; tier < RK_FOREST_N_TIERS; tier++) {
        CHECK(bits || !rk_forest_has_tier(forest, (rk_forest_tier)tier));
    }
    CHECK(rk_forest_chosen(forest, 1) == RK_FOREST_WALK);
    CHECK((rk_forest_chosen(forest, 1000) == RK_FOREST_WALK) == !bits);
#if defined(__aarch64__)
    CHECK(rk_forest_has_tier(forest, RK_FOREST_NEON) == bits);
#endif
    static int said;
    if (bits && !said++) print_tiers(forest);
    rk_forest_free(opened);
    rk_forest_free(forest);
    free(image);
    free(values);
    free(expected);
    return bits;
}

static void test_plans(void) {
    const uint32_t zero = RK_FOREST_FLUSH_ZERO, none = RK_FOREST_NEGATIVE_IN_NO_SET, floats = RK_FOREST_FLOAT_SUMS,
                   vectors = RK_FOREST_VECTOR_LEAVES;
    const forest_plan plans[] = {
        /* features, outputs, trees, flags, growth, least and most leaves, thresholds, sets, output, base, linear, cover, first */
        {1, 1, 1, 0, GROW_ANY, 1, 1, 1, 0, 0, 0, 0, 0, 0},                   /* a single leaf */
        {1, 1, 1, zero, GROW_ANY, 2, 2, 1, 0, 0, 1, 0, 1, 0},               /* a stump */
        {3, 1, 9, 0, GROW_ANY, 1, 2, 3, 0, 0, 1, 0, 0, 0},                  /* stumps and leaves */
        {40, 1, 30, zero, GROW_ANY, 2, 31, 40, 0, 0, 0, 0, 1, 0},           /* LightGBM's usual */
        {12, 1, 17, zero, GROW_ANY, 60, 68, 255, 0, 0, 0, 0, 0, 0},         /* 6 and 7 planes */
        {2, 1, 12, 0, GROW_ANY, 2, 300, 700, 0, 0, 1, 0, 0, 0},             /* several axes a feature */
        {1, 1, 8, zero, GROW_COMPLETE, 100, 300, 256, 0, 0, 0, 0, 0, 0},
        {5, 1, 6, 0, GROW_LEFT, 65, 70, 30, 0, 0, 0, 0, 0, 0},              /* as deep as 64, and deeper */
        {5, 1, 6, zero, GROW_RIGHT, 60, 200, 30, 3, 0, 0, 0, 0, 0},
        {6, 2, 8, none, GROW_ZIGZAG, 2, 90, 100, 4, 0, 1, 0, 0, 0},
        {8, 3, 20, zero | none, GROW_MIXED, 1, 40, 16, 12, 1, 1, 0, 1, 0},  /* categories, outputs at will */
        {4, 5, 6, vectors, GROW_MIXED, 1, 40, 60, 0, 0, 1, 0, 0, 0},
        {4, 3, 5, vectors | floats | zero, GROW_MIXED, 1, 300, 60, 2, 0, 1, 0, 1, 0},
        {7, 1, 25, floats, GROW_ANY, 1, 128, 100, 5, 0, 1, 0, 0, 0},        /* XGBoost's sums */
        {7, 4, 24, floats | none, GROW_MIXED, 1, 64, 20, 0, 1, 1, 0, 0, 0},
        {9, 1, 10, zero, GROW_ANY, 1, 33, 50, 3, 0, 1, 1, 1, 0},            /* linear leaves */
        {9, 2, 10, 0, GROW_MIXED, 1, 300, 15, 0, 1, 1, 1, 0, 0},
        {6, 1, 20, 0, GROW_OBLIVIOUS, 2, 64, 40, 0, 0, 1, 0, 0, 0},         /* CatBoost's */
        {6, 3, 6, vectors, GROW_OBLIVIOUS, 64, 512, 40, 0, 0, 1, 0, 0, 0},
        {3, 1, 4, floats, GROW_OBLIVIOUS, 512, 1024, 20, 2, 0, 0, 0, 0, 0}, /* codes of more than a byte */
        {3, 1, 3, 0, GROW_ANY, 250, 300, 20, 0, 0, 0, 0, 0, 1000},
    };
    for (unsigned i = 0; i < sizeof plans / sizeof *plans; i++) {
        CHECK(check_plan(&plans[i], i) == 1);
    }
}

/* Oblivious trees of every depth from 1 to 9, one forest each. */
static void test_oblivious_depths(void) {
    for (uint32_t depth = 1; depth <= 9; depth++) {
        const forest_plan plan = {.n_features = 4, .n_outputs = 1, .n_trees = 3, .flags = depth % 2, .grow = GROW_OBLIVIOUS,
                                  .least_leaves = 1u << depth, .most_leaves = 1u << depth, .n_thresholds = 10};
        CHECK(check_plan(&plan, depth) == 1);
    }
}

/* The largest tree that boundaries can hold, and one node more: the tiers of rows as bits say no, AUTO walks. */
static void test_large_trees(void) {
    forest_plan plan = {.n_features = 3, .n_outputs = 1, .n_trees = 2, .grow = GROW_ANY, .least_leaves = 2, .most_leaves = 60,
                        .n_thresholds = 300, .first_leaves = 8191};
    CHECK(check_plan(&plan, 0) == 1);
    plan.first_leaves++;
    CHECK(check_plan(&plan, 1) == 0);
    plan.first_leaves = 12000;
    plan.flags = RK_FOREST_FLOAT_SUMS;
    CHECK(check_plan(&plan, 2) == 0);
    plan.grow = GROW_OBLIVIOUS; /* needs no boundaries */
    plan.first_leaves = 8192;
    CHECK(check_plan(&plan, 3) == 1);
}

/* Plans at random. */
static void test_random_plans(void) {
    for (unsigned i = 0; i < 40; i++) {
        uint32_t n_outputs = random_below(3) ? 1 : 1 + random_below(4), flags = random_bits() & RK_FOREST_ALL_FLAGS;
        uint32_t most = 1 + random_below(random_below(3) ? 64 : 300);
        int vectors = (flags & RK_FOREST_VECTOR_LEAVES) != 0, floats = (flags & RK_FOREST_FLOAT_SUMS) != 0;
        const forest_plan plan = {
            .n_features = 1 + random_below(40), .n_outputs = n_outputs, .n_trees = n_outputs * (1 + random_below(12)),
            .flags = flags, .grow = random_below(GROW_MIXED + 1), .least_leaves = 1 + random_below(most), .most_leaves = most,
            .n_thresholds = 1 + random_below(random_below(2) ? 20 : 700), .n_sets = random_below(2) ? 0 : 1 + random_below(9),
            .tree_output = !vectors && random_below(2), .base = random_below(2) != 0,
            .linear = !vectors && !floats && random_below(3) == 0, .cover = random_below(2) != 0};
        CHECK(check_plan(&plan, i) == 1);
    }
}

int main(void) {
    test_plans();
    test_random_plans();
    test_oblivious_depths();
    test_large_trees();
    FINISH();
}
