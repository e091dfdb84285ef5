/* rk_forest: several threads score one forest, and forests they open over one image, at the same time. */
#include <pthread.h>

#include "minunit.h"
#include "random_forest.h"

enum { N_THREADS = 4, ROWS = 300, ROUNDS = 6 };

static rk_forest *forest;
static uint8_t *image;
static size_t image_bytes;
static float *values;
static double expected[2 * ROWS];
static int32_t *expected_leaves;

/* NULL if all was right. */
static void *scores(void *argument) {
    double *out = malloc(sizeof expected);
    int32_t *leaves = malloc(rk_forest_as_source(forest)->n_trees * (size_t)ROWS * sizeof *leaves);
    int wrong = 0;
    rk_forest_fault fault;
    for (int round = 0; round < ROUNDS; round++) {
        rk_forest *own = rk_forest_open(image, image_bytes, &fault);
        const rk_forest *both[] = {forest, own};
        for (int i = 0; own && i < 2 * RK_FOREST_N_TIERS; i++) {
            rk_forest_tier tier = (rk_forest_tier)(i / 2);
            if (rk_forest_has_tier(both[i % 2], tier)) {
                wrong |= rk_forest_score(both[i % 2], tier, values, ROWS, ROWS, 1, out) != 0;
                wrong |= memcmp(out, expected, sizeof expected) != 0;
            }
        }
        rk_forest_leaf(forest, values, ROWS, ROWS, 1, leaves);
        wrong |= !own || memcmp(leaves, expected_leaves, rk_forest_as_source(forest)->n_trees * (size_t)ROWS * sizeof *leaves) != 0;
        rk_forest_free(own);
    }
    free(leaves);
    free(out);
    return wrong ? argument : NULL;
}

int main(void) {
    const forest_plan plan = {.n_features = 6, .n_outputs = 2, .n_trees = 10, .flags = RK_FOREST_FLUSH_ZERO, .grow = GROW_MIXED,
                              .least_leaves = 2, .most_leaves = 50, .n_thresholds = 60, .n_sets = 3, .base = 1, .linear = 1};
    random_forest *random = random_forest_of(&plan);
    rk_forest_fault fault;
    forest = rk_forest_build(&random->source, &fault);
    image = image_copy(forest, &image_bytes);
    values = malloc(6 * ROWS * sizeof *values);
    expected_leaves = malloc(10 * ROWS * sizeof *expected_leaves);
    for (uint32_t i = 0; i < 6 * ROWS; i++) values[i] = random_value(random, i / ROWS);
    random_forest_free(random);
    CHECK(rk_forest_score(forest, RK_FOREST_SCALAR, values, ROWS, ROWS, 1, expected) == 0);
    rk_forest_leaf(forest, values, ROWS, ROWS, 1, expected_leaves);
    pthread_t threads[N_THREADS];
    int numbers[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) CHECK(pthread_create(&threads[i], NULL, scores, &numbers[i]) == 0);
    for (int i = 0; i < N_THREADS; i++) {
        void *wrong;
        CHECK(pthread_join(threads[i], &wrong) == 0 && wrong == NULL);
    }
    print_tiers(forest);
    rk_forest_free(forest);
    free(image);
    free(values);
    free(expected_leaves);
    FINISH();
}
