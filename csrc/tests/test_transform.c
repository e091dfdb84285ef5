/* rk_transform: every transform where its formula is plain, at the edges, and margins as the inverse of it. */
#include "../rk_transform.h"

#include <math.h>

#include "minunit.h"

static double one(rk_transform transform, double parameter, double x) {
    rk_transform_apply(transform, parameter, 1, 1, &x);
    return x;
}

static void test_plain(void) {
    CHECK(one(RK_TRANSFORM_IDENTITY, 1.0, -2.5) == -2.5);
    CHECK(one(RK_TRANSFORM_SIGNED_SQUARE, 1.0, -3.0) == -9.0);
    CHECK(one(RK_TRANSFORM_EXP, 1.0, 0.0) == 1.0);
    CHECK(one(RK_TRANSFORM_SIGMOID, 2.0, 0.0) == 0.5);
    CHECK(one(RK_TRANSFORM_LOG1P_EXP, 1.0, 0.0) == log(2.0));
    CHECK(one(RK_TRANSFORM_STEP, 1.0, 1e-300) == 1.0);
    CHECK(one(RK_TRANSFORM_STEP, 1.0, 0.0) == 0.0);
    CHECK(one(RK_TRANSFORM_STEP, 1.0, -1.0) == 0.0);
    CHECK(one(RK_TRANSFORM_STEP, 1.0, (double)NAN) == 0.0);
    CHECK(isnan(one(RK_TRANSFORM_SIGMOID, 1.0, (double)NAN)));
    CHECK(one(RK_TRANSFORM_SIGMOID, 1.0, (double)-INFINITY) == 0.0);
}

static void test_softmax(void) {
    double values[6] = {1.0, 1000.0, 1.0, 1000.0, 1.0, -1000.0}; /* three outputs of two rows */
    rk_transform_apply(RK_TRANSFORM_SOFTMAX, 1.0, 3, 2, values);
    CHECK(values[0] == values[2] && values[2] == values[4]);
    CHECK(values[1] == 0.5 && values[3] == 0.5 && values[5] == 0.0);
    rk_transform_apply(RK_TRANSFORM_SOFTMAX, 1.0, 0, 0, NULL);
}

static void test_margin(void) {
    CHECK(rk_transform_margin(RK_TRANSFORM_IDENTITY, -3.5f) == -3.5f);
    CHECK(rk_transform_margin(RK_TRANSFORM_SOFTMAX, 0.25f) == 0.25f);
    CHECK(rk_transform_margin(RK_TRANSFORM_EXP, 1.0f) == 0.0f);
    CHECK(isnan(rk_transform_margin(RK_TRANSFORM_EXP, -1.0f)));
    CHECK(rk_transform_margin(RK_TRANSFORM_SIGMOID, 0.5f) == 0.0f);
    CHECK(rk_transform_margin(RK_TRANSFORM_SIGMOID, 0.0f) == rk_transform_margin(RK_TRANSFORM_SIGMOID, 1e-6f));
    CHECK(rk_transform_margin(RK_TRANSFORM_SIGMOID, 1.0f) == rk_transform_margin(RK_TRANSFORM_SIGMOID, 1.0f - 1e-6f));
    CHECK(isnan(rk_transform_margin(RK_TRANSFORM_SIGMOID, 1.5f)) && isnan(rk_transform_margin(RK_TRANSFORM_SIGMOID, NAN)));
    for (int i = 1; i < 100; i++) {
        float score = (float)i / 100.0f;
        CHECK(fabs(one(RK_TRANSFORM_SIGMOID, 1.0, rk_transform_margin(RK_TRANSFORM_SIGMOID, score)) - score) < 1e-6);
        CHECK(fabs(one(RK_TRANSFORM_EXP, 1.0, rk_transform_margin(RK_TRANSFORM_EXP, score)) - score) < 1e-6);
    }
}

int main(void) {
    test_plain();
    test_softmax();
    test_margin();
    FINISH();
}
