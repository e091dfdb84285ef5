/* WALK: one row, sixteen trees at a time, no branch that depends on the data.
 *
 * First every condition of the forest is evaluated for the row: a byte each, 1 where it is not met, so that a step is
 * slot = left + outcome[condition]. Trees of like depth walk together, each for as many steps as the deepest of
 * them needs; who is at a leaf stays there, on the condition that is always met. Independent chains of
 * loads hide each other's latency. Leaves are put aside and added in tree order.
 */
#include <stdlib.h>

#include "rk_forest_internal.h"

#define LANES 16

/* The value of a rule's feature so that value <= threshold decides: -inf where missing goes left, NaN where right. */
static float rule_value(const rk_rule *rule, float x, float zero_limit) {
    int absent = isnan(x) || (rule->missing == RK_MISSING_ZERO && x >= -zero_limit && x <= zero_limit);
    if (!absent) {
        return x;
    }
    return rule->missing == RK_MISSING_NONE ? 0.0f : rule->default_left ? -INFINITY : NAN;
}

static void row_outcomes(const rk_forest *f, const float *row, ptrdiff_t feature_stride, uint8_t *outcome) {
    const rk_sections *s = &f->s;
    float limit = rk_zero_limit(f->flags);
    for (size_t i = 0; i < s->n_rule; i++) {
        const rk_rule *rule = &s->rule[i];
        float value = rule_value(rule, row[s->axis[rule->axis].feature * feature_stride], limit);
        const float *thresholds = s->cut_threshold + rule->condition;
        uint8_t *out = outcome + rule->condition;
        for (uint32_t k = 0; k < rule->count; k++) {
            out[k] = !(value <= thresholds[k]);
        }
    }
    for (size_t i = 0; i < s->n_membership; i++) {
        const rk_membership *m = &s->membership[i];
        outcome[s->n_cut_threshold + i] = !rk_is_member(f, m->set, (int)m->nan_in, row[m->feature * feature_stride]);
    }
    outcome[f->n_conditions] = 0;
}

/* The leaves (over all trees) of the trees walk_order[first] .. [first + lanes]. */
static void walk_trees(const rk_forest *f, uint32_t first, uint32_t lanes, const uint8_t *outcome, uint32_t *leaves) {
    const rk_sections *s = &f->s;
    const uint32_t *order = s->walk_order + first;
    const rk_step *steps = s->step;
    uint32_t at[LANES];
    for (uint32_t i = 0; i < LANES; i++) {
        uint32_t tree = order[i < lanes ? i : 0];
        at[i] = 2 * s->node_begin[tree] + tree;
    }
    uint32_t depth = s->tree[order[lanes - 1]].depth;
    for (uint32_t d = 0; d < depth; d++) {
        for (uint32_t i = 0; i < LANES; i++) {
            at[i] = steps[at[i]].left + outcome[steps[at[i]].condition];
        }
    }
    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t tree = order[i];
        leaves[tree] = s->node_begin[tree] + tree + s->slot_leaf[at[i]];
    }
}

int rk_score_walk(const rk_forest *f, const rk_batch *batch) {
    uint32_t *leaves = malloc(f->n_trees * sizeof *leaves + f->n_conditions + 1);
    if (!leaves) {
        return -1;
    }
    uint8_t *outcome = (uint8_t *)(leaves + f->n_trees);
    for (size_t r = 0; r < batch->rows; r++) {
        const float *row = batch->matrix + (ptrdiff_t)r * batch->row_stride;
        row_outcomes(f, row, batch->feature_stride, outcome);
        for (uint32_t t = 0; t < f->n_trees; t += LANES) {
            uint32_t left = f->n_trees - t;
            walk_trees(f, t, left < LANES ? left : LANES, outcome, leaves);
        }
        rk_begin_sums(f, batch->out + r, batch->out_rows);
        for (uint32_t t = 0; t < f->n_trees; t++) {
            rk_add_leaf(f, t, leaves[t], row, batch->feature_stride, batch->out + r, batch->out_rows);
        }
    }
    free(leaves);
    return 0;
}
