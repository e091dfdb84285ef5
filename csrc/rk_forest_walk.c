/* WALK: one row, eight trees at a time, no branch that depends on the data.
 *
 * Trees of like depth walk together, each for as many steps as the deepest of them needs; who is at a leaf
 * stays there. Eight independent chains of loads hide each other's latency. Leaf values are put
 * aside and added in tree order.
 */
#include "rk_forest_internal.h"

#define LANES 8

size_t rk_walk_scratch(const rk_forest *forest) {
    const rk_compiled *f = &forest->fast;
    return forest->n_trees * sizeof(double) + (1 + (size_t)f->n_rules + f->n_memberships) * sizeof(float);
}

static void row_values(const rk_forest *forest, const float *row, ptrdiff_t feature_stride, float *values) {
    const rk_compiled *f = &forest->fast;
    *values++ = 0.0f;
    for (uint32_t i = 0; i < f->n_rules; i++) {
        *values++ = rk_rule_value(&f->rules[i], row[(ptrdiff_t)f->rules[i].feature * feature_stride]);
    }
    for (uint32_t i = 0; i < f->n_memberships; i++) {
        const rk_membership *m = &f->memberships[i];
        *values++ = rk_in_set(forest, m->set, row[(ptrdiff_t)m->feature * feature_stride]) ? 0.0f : NAN;
    }
}

/* Walks the trees walk_order[first] .. [first + lanes] and puts their leaf values aside. */
static void walk_trees(const rk_forest *forest, uint32_t first, uint32_t lanes, const float *values, double *leaves) {
    const rk_compiled *f = &forest->fast;
    const uint32_t *order = f->walk_order + first;
    uint32_t at[LANES];
    for (uint32_t i = 0; i < LANES; i++) {
        at[i] = (uint32_t)rk_slot_begin(forest, order[i < lanes ? i : 0]);
    }
    uint32_t depth = f->depths[order[lanes - 1]];
    for (uint32_t d = 0; d < depth; d++) {
        for (uint32_t i = 0; i < LANES; i++) {
            const rk_step *step = &f->steps[at[i]];
            at[i] = step->left + !(values[step->value] <= step->threshold);
        }
    }
    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t tree = order[i];
        leaves[tree] = f->ranked_values[forest->node_begin[tree] + tree + f->steps[at[i]].rank];
    }
}

void rk_walk(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride, double *out,
             size_t out_rows, void *scratch) {
    double *leaves = scratch;
    float *values = (float *)(leaves + forest->n_trees);
    for (size_t r = 0; r < rows; r++) {
        row_values(forest, matrix + r, feature_stride, values);
        for (uint32_t t = 0; t < forest->n_trees; t += LANES) {
            uint32_t left = forest->n_trees - t;
            walk_trees(forest, t, left < LANES ? left : LANES, values, leaves);
        }
        for (uint32_t t = 0, o = 0; t < forest->n_trees; t++) {
            out[o * out_rows + r] += leaves[t];
            o = o + 1 == forest->n_outputs ? 0 : o + 1;
        }
    }
}
