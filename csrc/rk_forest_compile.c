/* From checked nodes to axes, rules and memberships: the conditions of rk_forest_internal.h. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

#define AXIS_THRESHOLDS 255u
#define MIN_TABLE 32u /* floats of an axis' table: what the widest load of a small level touches */

/* A node on its way into a rule or a membership. */
typedef struct {
    uint64_t key; /* what it is sorted by */
    uint32_t node;
    float threshold;
} entry;

typedef struct {
    rk_axis *axis;
    float *axis_table;
    float *axis_sorted;
    rk_rule *rule;
    uint8_t *cut_low, *cut_high;
    float *cut_threshold;
    rk_membership *membership;
    uint32_t *node_condition;
    entry *entries;
} compiler;

/* The largest float32 that is not above t; with it, x <= t decides for float32 x as for doubles. */
static float floor_float(double t) {
    if (t >= FLT_MAX) {
        return isinf(t) ? INFINITY : FLT_MAX;
    }
    if (t < -FLT_MAX) {
        return -INFINITY;
    }
    float rounded = (float)t;
    return (double)rounded > t ? nextafterf(rounded, -INFINITY) : rounded;
}

/* The float32 u for which x <= u decides as x <= t does after |x| <= limit was made 0. */
static float take_zero_in(float t, float limit) {
    if (t >= 0.0f) {
        return t > limit ? t : limit;
    }
    return t >= -limit ? nextafterf(-limit, -INFINITY) : t;
}

/* Unsigned numbers in the order of the floats; -0 and 0 are one. */
static uint32_t ordered(float x) {
    uint32_t bits;
    x = x == 0.0f ? 0.0f : x;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static int compare(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return (a->node > b->node) - (a->node < b->node);
}

/* Thresholds in order, and level by level: entry 2^level + i is what a value is compared with whose answers so far
 * (1: above) are the bits of i, the first the lowest. */
static void fill_table(rk_sections *s, compiler *c, rk_axis *axis, const float *thresholds) {
    axis->levels = 1;
    while ((1u << axis->levels) <= axis->count) {
        axis->levels++;
    }
    uint32_t size = 1u << axis->levels, room = size > MIN_TABLE ? size : MIN_TABLE;
    float *table = c->axis_table + s->n_axis_table;
    float *sorted = c->axis_sorted + s->n_axis_table;
    axis->table = (uint32_t)s->n_axis_table;
    s->n_axis_sorted = s->n_axis_table += room;
    for (uint32_t i = 0; i < room; i++) {
        table[i] = INFINITY;
        sorted[i] = i < axis->count ? thresholds[i] : INFINITY;
    }
    for (uint32_t level = 0; level < axis->levels; level++) {
        for (uint32_t i = 0; i < (1u << level); i++) {
            uint32_t at = (size >> (level + 1)) - 1;
            for (uint32_t b = 0; b < level; b++) {
                at += (i >> b & 1) * (size >> (b + 1));
            }
            table[(1u << level) + i] = at < axis->count ? thresholds[at] : INFINITY;
        }
    }
}

/* Numeric nodes by feature and threshold to axes; afterwards their key is axis, way with missing values, cut. */
static void compile_axes(rk_sections *s, compiler *c, const rk_forest_source *source, size_t n_numeric) {
    float thresholds[AXIS_THRESHOLDS] = {0};
    rk_axis *axis = NULL;
    for (size_t i = 0; i < n_numeric; i++) {
        entry *e = &c->entries[i];
        uint32_t feature = (uint32_t)(e->key >> 32);
        int same_feature = axis && axis->feature == feature;
        int same = same_feature && thresholds[axis->count - 1] == e->threshold;
        if (!same) {
            if (!same_feature || axis->count == AXIS_THRESHOLDS) {
                if (axis) {
                    fill_table(s, c, axis, thresholds);
                }
                axis = &c->axis[s->n_axis++];
                *axis = (rk_axis){.feature = feature};
            }
            thresholds[axis->count++] = e->threshold;
        }
        uint8_t decision = source->decision[e->node];
        uint32_t missing = decision >> RK_DECISION_MISSING_SHIFT;
        uint32_t left = missing != RK_MISSING_NONE && (decision & RK_DECISION_DEFAULT_LEFT);
        e->key = (uint64_t)(s->n_axis - 1) << 32 | missing << 16 | left << 15 | (axis->count - 1);
    }
    if (axis) {
        fill_table(s, c, axis, thresholds);
    }
}

/* How many thresholds of an axis are below 0: the bin of 0. */
static uint8_t bin_of_zero(const compiler *c, const rk_axis *axis) {
    uint32_t bin = 0;
    while (bin < axis->count && c->axis_sorted[axis->table + bin] < 0.0f) {
        bin++;
    }
    return (uint8_t)bin;
}

static void compile_rules(rk_sections *s, compiler *c, size_t n_numeric) {
    uint64_t rule_key = UINT64_MAX;
    uint32_t n_cuts = 0;
    for (size_t i = 0; i < n_numeric; i++) {
        const entry *e = &c->entries[i];
        int first = e->key >> 15 != rule_key;
        if (first) {
            rk_rule *rule = &c->rule[s->n_rule++];
            rule_key = e->key >> 15;
            *rule = (rk_rule){.axis = (uint32_t)(e->key >> 32), .condition = n_cuts, .missing = (e->key >> 16) & 3,
                              .default_left = (e->key >> 15) & 1};
            c->axis[rule->axis].zeros |= rule->missing == RK_MISSING_ZERO;
            rule->missing_bin = rule->missing == RK_MISSING_NONE ? bin_of_zero(c, &c->axis[rule->axis])
                                : rule->default_left             ? 0
                                                                 : 255;
        }
        if (first || c->entries[i - 1].key != e->key) {
            c->cut_low[n_cuts] = (uint8_t)(8 * (e->key & 15));
            c->cut_high[n_cuts] = (uint8_t)(16 * (e->key >> 4 & 15));
            c->cut_threshold[n_cuts++] = e->threshold;
            c->rule[s->n_rule - 1].count++;
        }
        c->node_condition[e->node] = n_cuts - 1;
    }
    s->n_cut_low = s->n_cut_high = s->n_cut_threshold = n_cuts;
}

static void compile_memberships(rk_sections *s, compiler *c, const rk_forest_source *source, size_t n_nodes) {
    size_t n = 0;
    for (size_t i = 0; i < n_nodes; i++) {
        if (source->decision[i] & RK_DECISION_CATEGORICAL) {
            uint64_t nan_in = (source->decision[i] & RK_DECISION_DEFAULT_LEFT) != 0;
            uint64_t feature = (uint32_t)source->split_feature[i];
            uint64_t key = feature << 33 | nan_in << 32 | (uint32_t)source->category_set[i];
            c->entries[n++] = (entry){key, (uint32_t)i, 0.0f};
        }
    }
    qsort(c->entries, n, sizeof *c->entries, compare);
    for (size_t i = 0; i < n; i++) {
        const entry *e = &c->entries[i];
        if (i == 0 || e[-1].key != e->key) {
            c->membership[s->n_membership++] =
                (rk_membership){(uint32_t)(e->key >> 33), (uint32_t)e->key, (e->key >> 32) & 1};
        }
        c->node_condition[e->node] = (uint32_t)(s->n_cut_threshold + s->n_membership - 1);
    }
}

static size_t numeric_entries(compiler *c, const rk_forest_source *source, size_t n_nodes) {
    size_t n = 0;
    float limit = rk_zero_limit(source->flags);
    for (size_t i = 0; i < n_nodes; i++) {
        if (!(source->decision[i] & RK_DECISION_CATEGORICAL)) {
            float threshold = take_zero_in(floor_float(source->threshold[i]), limit);
            uint64_t key = (uint64_t)(uint32_t)source->split_feature[i] << 32 | ordered(threshold);
            c->entries[n++] = (entry){key, (uint32_t)i, threshold};
        }
    }
    return n;
}

int rk_compile_conditions(rk_sections *s, const rk_forest_source *source) {
    size_t n_nodes = source->node_begin[source->n_trees], room = n_nodes + 1;
    compiler c = {.axis = malloc(room * sizeof(rk_axis)),
                  .axis_table = malloc((room * MIN_TABLE) * sizeof(float)),
                  .axis_sorted = malloc((room * MIN_TABLE) * sizeof(float)),
                  .rule = malloc(room * sizeof(rk_rule)),
                  .cut_low = malloc(room),
                  .cut_high = malloc(room),
                  .cut_threshold = malloc(room * sizeof(float)),
                  .membership = malloc(room * sizeof(rk_membership)),
                  .node_condition = malloc(room * sizeof(uint32_t)),
                  .entries = malloc(room * sizeof(entry))};
    int failed = !c.axis || !c.axis_table || !c.axis_sorted || !c.rule || !c.cut_low || !c.cut_high ||
                 !c.cut_threshold || !c.membership || !c.node_condition || !c.entries;
    s->axis = c.axis;
    s->axis_table = c.axis_table;
    s->axis_sorted = c.axis_sorted;
    s->rule = c.rule;
    s->cut_low = c.cut_low;
    s->cut_high = c.cut_high;
    s->cut_threshold = c.cut_threshold;
    s->membership = c.membership;
    s->node_condition = c.node_condition;
    s->n_node_condition = n_nodes;
    if (!failed) {
        size_t n_numeric = numeric_entries(&c, source, n_nodes);
        qsort(c.entries, n_numeric, sizeof(entry), compare);
        compile_axes(s, &c, source, n_numeric);
        qsort(c.entries, n_numeric, sizeof(entry), compare);
        compile_rules(s, &c, n_numeric);
        compile_memberships(s, &c, source, n_nodes);
    }
    free(c.entries);
    return failed ? -1 : 0;
}
