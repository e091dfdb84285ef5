/* Instructions of rk_forest, per call: building, opening, one row walked, 256 rows as bits. The forest is of a kind
 * LightGBM makes: 100 trees of 31 leaves over 30 features, up to 60 thresholds each, missing values. */
#include "counts.h"

#include "../tests/random_forest.h"

enum { N_FEATURES = 30, ROWS = 256 };

static random_forest *given;
static rk_forest *forest;
static float values[N_FEATURES * ROWS];
static double out[ROWS];

static void prepare(void) {
    const forest_plan plan = {.n_features = N_FEATURES, .n_outputs = 1, .n_trees = 100, .flags = RK_FOREST_FLUSH_ZERO,
                              .grow = GROW_ANY, .least_leaves = 31, .most_leaves = 31, .n_thresholds = 60};
    rk_forest_fault fault;
    given = random_forest_of(&plan);
    forest = rk_forest_build(&given->source, &fault);
    if (!forest) abort();
    for (uint32_t i = 0; i < N_FEATURES * ROWS; i++) values[i] = random_value(given, i / ROWS);
}

static void build(void) {
    rk_forest_fault fault;
    rk_forest_free(rk_forest_build(&given->source, &fault));
}

static void open_image(void) {
    rk_forest_fault fault;
    size_t bytes;
    const void *image = rk_forest_image(forest, &bytes);
    rk_forest_free(rk_forest_open(image, bytes, &fault));
}

/* Without AVX2 the plain tier is counted in its place (and not compared). */
static void score(rk_forest_tier tier, size_t rows) {
    tier = rk_forest_has_tier(forest, tier) ? tier : RK_FOREST_BITS;
    if (rk_forest_score(forest, tier, values, rows, ROWS, 1, out)) abort();
}

static void scalar_row(void) { score(RK_FOREST_SCALAR, 1); }
static void walk_row(void) { score(RK_FOREST_WALK, 1); }
static void bits_256(void) { score(RK_FOREST_BITS, ROWS); }
static void avx2_256(void) { score(RK_FOREST_AVX2, ROWS); }
static void avx2_64(void) { score(RK_FOREST_AVX2, 64); }

static const count_case cases[] = {
    {"build", prepare, build, 2},
    {"open", prepare, open_image, 2},
    {"scalar_1", prepare, scalar_row, 10},
    {"walk_1", prepare, walk_row, 10},
    {"bits_256", prepare, bits_256, 2},
    {"avx2_64", prepare, avx2_64, 4},
    {"avx2_256", prepare, avx2_256, 4},
};

COUNT_MAIN(cases)
