/* From checked nodes to the compiled form that rk_forest_internal.h describes. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

/* A numeric node on its way into a rule. */
typedef struct {
    uint32_t rule; /* feature, missing type and default direction as one number */
    float threshold;
    uint32_t node;
} entry;

/* The largest float32 that is not above t; with it, x <= t decides for float32 x as for doubles. */
static float floor_float(double t) {
    if (t >= FLT_MAX) {
        return isinf(t) ? INFINITY : FLT_MAX;
    }
    if (t < -FLT_MAX) {
        return -INFINITY;
    }
    float rounded = (float)t;
    rounded = (double)rounded > t ? nextafterf(rounded, -INFINITY) : rounded;
    return rounded == 0.0f ? 0.0f : rounded; /* -0 and 0 are one threshold */
}

static int compare(const void *left, const void *right) {
    const entry *a = left, *b = right;
    if (a->rule != b->rule) {
        return a->rule < b->rule ? -1 : 1;
    }
    return (a->threshold > b->threshold) - (a->threshold < b->threshold);
}

static uint32_t rule_number(const rk_node *node) {
    uint32_t missing = node->decision >> RK_DECISION_MISSING_SHIFT;
    uint32_t left = missing != RK_MISSING_NONE && (node->decision & RK_DECISION_DEFAULT_LEFT);
    return (uint32_t)node->feature << 3 | missing << 1 | left;
}

/* Rules, thresholds and memberships; node_value and node_condition tell each node's own. */
static void compile_conditions(rk_forest *forest, entry *entries, uint32_t *node_value, uint32_t *node_condition) {
    rk_compiled *f = &forest->fast;
    uint32_t n_nodes = forest->node_begin[forest->n_trees], n_numeric = 0;
    for (uint32_t i = 0; i < n_nodes; i++) {
        const rk_node *node = &forest->nodes[i];
        if (!(node->decision & RK_DECISION_CATEGORICAL)) {
            entries[n_numeric++] = (entry){rule_number(node), floor_float(node->threshold), i};
        }
    }
    qsort(entries, n_numeric, sizeof *entries, compare);
    for (uint32_t i = 0; i < n_numeric; i++) {
        const entry *e = &entries[i];
        int first = i == 0 || e[-1].rule != e->rule;
        if (first) {
            f->rules[f->n_rules++] = (rk_rule){.feature = e->rule >> 3, .condition = f->n_conditions, .count = 0,
                                               .missing = (e->rule >> 1) & 3, .default_left = e->rule & 1};
        }
        rk_rule *rule = &f->rules[f->n_rules - 1];
        if (first || e[-1].threshold < e->threshold) {
            f->thresholds[rule->condition + rule->count++] = e->threshold;
            f->n_conditions = rule->condition + rule->count + 1;
            f->thresholds[f->n_conditions - 1] = NAN;
        }
        node_value[e->node] = f->n_rules;
        node_condition[e->node] = rule->condition + rule->count - 1;
    }
    for (uint32_t i = 0; i < n_nodes; i++) {
        const rk_node *node = &forest->nodes[i];
        if (node->decision & RK_DECISION_CATEGORICAL) {
            f->memberships[f->n_memberships++] = (rk_membership){(uint32_t)node->feature, node->category_set};
            node_value[i] = f->n_rules + f->n_memberships;
            node_condition[i] = f->n_conditions++;
        }
    }
}

/* What is known of a tree's slots while it is compiled. */
typedef struct {
    int32_t *child;  /* the slot's node or ~leaf, in the source's numbering */
    uint32_t *first; /* rank of its leftmost leaf */
    uint32_t *leaves;
    uint32_t *depth;
    uint32_t *order; /* slot of the c-th node */
    uint8_t *mixed;
} slots;

/* Breadth first: slots, branches, steps, ranks and ranked values of a tree. Returns its depth. */
static uint32_t compile_tree(rk_forest *forest, uint32_t tree, slots *s, const uint32_t *node_value,
                             const uint32_t *node_condition) {
    rk_compiled *f = &forest->fast;
    uint32_t begin = forest->node_begin[tree], n_nodes = forest->node_begin[tree + 1] - begin;
    uint32_t base = (uint32_t)rk_slot_begin(forest, tree), c = 0;
    const rk_node *nodes = forest->nodes + begin;
    s->child[0] = n_nodes ? 0 : ~0;
    s->depth[0] = 0;
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        s->leaves[slot] = 1;
        f->steps[base + slot] = (rk_step){0.0f, 0, base + slot, 0};
        if (s->child[slot] >= 0) {
            uint32_t node = (uint32_t)s->child[slot], i = begin + node;
            int categorical = (nodes[node].decision & RK_DECISION_CATEGORICAL) != 0;
            float threshold = categorical ? 0.0f : f->thresholds[node_condition[i]];
            s->order[c] = slot;
            s->child[2 * c + 1] = nodes[node].left;
            s->child[2 * c + 2] = nodes[node].right;
            s->depth[2 * c + 1] = s->depth[2 * c + 2] = s->depth[slot] + 1;
            f->branches[begin + c] = (rk_branch){node_condition[i], slot};
            f->steps[base + slot] = (rk_step){threshold, node_value[i], base + 2 * c + 1, 0};
            c++;
        }
    }
    for (uint32_t i = n_nodes; i-- > 0;) {
        s->leaves[s->order[i]] = s->leaves[2 * i + 1] + s->leaves[2 * i + 2];
    }
    s->first[0] = 0;
    for (uint32_t i = 0; i < n_nodes; i++) {
        s->first[2 * i + 1] = s->first[s->order[i]];
        s->first[2 * i + 2] = s->first[s->order[i]] + s->leaves[2 * i + 1];
    }
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        if (s->child[slot] < 0) {
            f->steps[base + slot].rank = s->first[slot];
            f->ranked_values[begin + tree + s->first[slot]] = forest->leaf_value[begin + tree + (uint32_t)~s->child[slot]];
        }
    }
    return s->depth[2 * n_nodes]; /* breadth first: the last slot is the deepest */
}

/* Appends the cover of one bit of the ranks: the largest subtrees all of whose leaves have it. */
static int compile_cover(rk_compiled *f, const slots *s, uint32_t n_nodes, uint32_t bit, size_t *used, size_t *room) {
    if (*room - *used < (size_t)n_nodes + 1) {
        size_t wanted = 2 * *room + n_nodes + 1;
        uint32_t *grown = wanted > UINT32_MAX ? NULL : realloc(f->covers, wanted * sizeof *grown);
        if (!grown) {
            return -1;
        }
        f->covers = grown;
        *room = wanted;
    }
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        int open = slot == 0 || s->mixed[s->order[(slot - 1) / 2]];
        uint32_t low = s->first[slot] >> bit, high = (s->first[slot] + s->leaves[slot] - 1) >> bit;
        s->mixed[slot] = open && low != high;
        if (open && low == high && (low & 1)) {
            f->covers[(*used)++] = slot;
        }
    }
    return 0;
}

static int compile_trees(rk_forest *forest, slots *s, const uint32_t *node_value, const uint32_t *node_condition) {
    rk_compiled *f = &forest->fast;
    size_t used = 0, room = 0, planes = 0;
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        uint32_t n_nodes = forest->node_begin[t + 1] - forest->node_begin[t];
        f->depths[t] = compile_tree(forest, t, s, node_value, node_condition);
        f->max_slots = 2 * n_nodes + 1 > f->max_slots ? 2 * n_nodes + 1 : f->max_slots;
        f->plane_begin[t] = (uint32_t)planes;
        for (uint32_t bit = 0; n_nodes >> bit; bit++) {
            f->cover_begin[planes++] = (uint32_t)used;
            if (compile_cover(f, s, n_nodes, bit, &used, &room)) {
                return -1;
            }
        }
    }
    f->plane_begin[forest->n_trees] = (uint32_t)planes;
    f->cover_begin[planes] = (uint32_t)used;
    return 0;
}

/* Trees by depth, by counting: WALK keeps trees of like depth together. */
static int order_trees(rk_forest *forest) {
    rk_compiled *f = &forest->fast;
    uint32_t *begin = calloc(RK_FOREST_MAX_LEAVES + 1, sizeof *begin);
    if (!begin) {
        return -1;
    }
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        begin[f->depths[t] + 1]++;
    }
    for (uint32_t d = 0; d < RK_FOREST_MAX_LEAVES; d++) {
        begin[d + 1] += begin[d];
    }
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        f->walk_order[begin[f->depths[t]]++] = t;
    }
    free(begin);
    return 0;
}

static int allocate(rk_forest *forest) {
    rk_compiled *f = &forest->fast;
    size_t n_nodes = forest->node_begin[forest->n_trees], n_trees = forest->n_trees;
    f->rules = malloc(n_nodes * sizeof *f->rules + 1);
    f->memberships = malloc(n_nodes * sizeof *f->memberships + 1);
    f->thresholds = malloc(2 * n_nodes * sizeof *f->thresholds + 1);
    f->steps = malloc((2 * n_nodes + n_trees) * sizeof *f->steps);
    f->branches = malloc(n_nodes * sizeof *f->branches + 1);
    f->ranked_values = malloc((n_nodes + n_trees) * sizeof *f->ranked_values);
    f->depths = malloc(n_trees * sizeof *f->depths);
    f->walk_order = malloc(n_trees * sizeof *f->walk_order);
    f->plane_begin = malloc((n_trees + 1) * sizeof *f->plane_begin);
    f->cover_begin = malloc((16 * n_trees + 1) * sizeof *f->cover_begin);
    return f->rules && f->memberships && f->thresholds && f->steps && f->branches && f->ranked_values && f->depths &&
                   f->walk_order && f->plane_begin && f->cover_begin
               ? 0
               : -1;
}

static size_t largest_tree(const rk_forest *forest) {
    size_t slots_of_largest = 1;
    for (uint32_t t = 0; t < forest->n_trees; t++) {
        size_t n = 2 * (size_t)(forest->node_begin[t + 1] - forest->node_begin[t]) + 1;
        slots_of_largest = n > slots_of_largest ? n : slots_of_largest;
    }
    return slots_of_largest;
}

int rk_forest_compile(rk_forest *forest) {
    size_t n_nodes = forest->node_begin[forest->n_trees], n_slots = largest_tree(forest);
    entry *entries = malloc(n_nodes * sizeof *entries + 1);
    uint32_t *node_value = malloc(n_nodes * sizeof *node_value + 1);
    uint32_t *node_condition = malloc(n_nodes * sizeof *node_condition + 1);
    slots s = {malloc(n_slots * sizeof *s.child),  malloc(n_slots * sizeof *s.first), malloc(n_slots * sizeof *s.leaves),
               malloc(n_slots * sizeof *s.depth), malloc(n_slots * sizeof *s.order), malloc(n_slots)};
    int failed = -1;
    for (uint32_t b = 0; b < 256; b++) {
        uint8_t bytes[8];
        for (uint32_t i = 0; i < 8; i++) {
            bytes[i] = (b >> i) & 1;
        }
        memcpy(&forest->fast.spread[b], bytes, sizeof bytes);
    }
    if (entries && node_value && node_condition && s.child && s.first && s.leaves && s.depth && s.order && s.mixed &&
        !allocate(forest)) {
        compile_conditions(forest, entries, node_value, node_condition);
        failed = compile_trees(forest, &s, node_value, node_condition) || order_trees(forest);
    }
    free(entries);
    free(node_value);
    free(node_condition);
    free(s.child);
    free(s.first);
    free(s.leaves);
    free(s.depth);
    free(s.order);
    free(s.mixed);
    return failed ? -1 : 0;
}

void rk_forest_free_compiled(rk_forest *forest) {
    rk_compiled *f = &forest->fast;
    free(f->rules);
    free(f->memberships);
    free(f->thresholds);
    free(f->steps);
    free(f->branches);
    free(f->ranked_values);
    free(f->depths);
    free(f->walk_order);
    free(f->plane_begin);
    free(f->cover_begin);
    free(f->covers);
}
