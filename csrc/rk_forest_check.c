/* Everything about a source that is not so by itself; nothing is built before this. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

int rk_refuse(rk_forest_fault *fault, rk_forest_status status, uint32_t tree, uint32_t index) {
    *fault = (rk_forest_fault){status, tree, index};
    return -1;
}

static int check_counts(const rk_forest_source *s, rk_forest_fault *fault) {
    if (s->n_features == 0 || s->n_features > RK_FOREST_MAX_FEATURES || s->n_outputs == 0 ||
        s->n_outputs > RK_FOREST_MAX_OUTPUTS || s->n_trees == 0 || s->n_trees > RK_FOREST_MAX_TREES) {
        return rk_refuse(fault, RK_FOREST_BAD_COUNTS, 0, 0);
    }
    int vectors = (s->flags & RK_FOREST_VECTOR_LEAVES) != 0;
    if ((s->flags & ~RK_FOREST_ALL_FLAGS) || (vectors && (s->tree_output || s->linear_begin)) ||
        ((s->flags & RK_FOREST_FLOAT_SUMS) && s->linear_begin) || !s->node_cover != !s->leaf_cover) {
        return rk_refuse(fault, RK_FOREST_BAD_FLAGS, 0, 0);
    }
    if (!vectors && !s->tree_output && s->n_trees % s->n_outputs != 0) {
        return rk_refuse(fault, RK_FOREST_BAD_COUNTS, 0, 0);
    }
    for (uint32_t t = 0; t < s->n_trees; t++) {
        uint32_t begin = s->node_begin[t], end = s->node_begin[t + 1];
        uint64_t values = ((uint64_t)end + s->n_trees) * rk_leaf_width(s->flags, s->n_outputs);
        if ((t == 0 && begin != 0) || end < begin || end - begin >= RK_FOREST_MAX_LEAVES || end > RK_FOREST_MAX_NODES ||
            values > RK_FOREST_MAX_NODES) {
            return rk_refuse(fault, RK_FOREST_BAD_NODE_BEGIN, t, 0);
        }
    }
    for (uint32_t i = 0; i < s->n_sets; i++) {
        if ((i == 0 && s->set_begin[0] != 0) || s->set_begin[i + 1] < s->set_begin[i]) {
            return rk_refuse(fault, RK_FOREST_BAD_SET_BEGIN, 0, i);
        }
    }
    return 0;
}

static int check_node(const rk_forest_source *s, uint32_t tree, uint32_t i, rk_forest_fault *fault) {
    uint32_t node = s->node_begin[tree] + i;
    uint8_t decision = s->decision[node];
    if (s->split_feature[node] < 0 || (uint32_t)s->split_feature[node] >= s->n_features) {
        return rk_refuse(fault, RK_FOREST_BAD_FEATURE, tree, i);
    }
    if (decision > 15 || decision >> RK_DECISION_MISSING_SHIFT == 3) {
        return rk_refuse(fault, RK_FOREST_BAD_DECISION, tree, i);
    }
    if (decision & RK_DECISION_CATEGORICAL) {
        if (s->category_set[node] < 0 || (uint32_t)s->category_set[node] >= s->n_sets) {
            return rk_refuse(fault, RK_FOREST_BAD_CATEGORY_SET, tree, i);
        }
    } else if (isnan(s->threshold[node])) {
        return rk_refuse(fault, RK_FOREST_BAD_THRESHOLD, tree, i);
    }
    return 0;
}

/* Takes `child` of the walk below; 0 if it is in range and was not seen before. */
static int visit(int32_t child, uint32_t n_nodes, uint8_t *seen, uint32_t *stack, uint32_t *depth) {
    if (child < 0) {
        uint32_t leaf = (uint32_t)~child;
        if (leaf > n_nodes || (seen[leaf] & 2)) {
            return -1;
        }
        seen[leaf] |= 2;
        return 0;
    }
    if (child == 0 || (uint32_t)child >= n_nodes || (seen[child] & 1)) {
        return -1;
    }
    seen[child] |= 1;
    stack[(*depth)++] = (uint32_t)child;
    return 0;
}

/* Walks a tree from its root. `seen`: bit 1 of entry i is node i, bit 2 is leaf i. As no node and no leaf is
 * taken twice, reaching all n nodes means reaching all n + 1 leaves. */
static int check_shape(const rk_forest_source *s, uint32_t tree, uint8_t *seen, uint32_t *stack,
                       rk_forest_fault *fault) {
    uint32_t begin = s->node_begin[tree], n_nodes = s->node_begin[tree + 1] - begin;
    uint32_t depth = 0, reached = 0;
    if (n_nodes == 0) {
        return 0;
    }
    memset(seen, 0, n_nodes + 1);
    stack[depth++] = 0;
    while (depth > 0) {
        uint32_t i = stack[--depth];
        reached++;
        if (visit(s->left[begin + i], n_nodes, seen, stack, &depth)) {
            return rk_refuse(fault, RK_FOREST_BAD_LEFT, tree, i);
        }
        if (visit(s->right[begin + i], n_nodes, seen, stack, &depth)) {
            return rk_refuse(fault, RK_FOREST_BAD_RIGHT, tree, i);
        }
    }
    if (reached != n_nodes) {
        uint32_t lost = 1;
        while (seen[lost] & 1) {
            lost++;
        }
        return rk_refuse(fault, RK_FOREST_UNREACHED, tree, lost);
    }
    return 0;
}

static int bad_number(const rk_forest_source *s, double value) {
    return !isfinite(value) || ((s->flags & RK_FOREST_FLOAT_SUMS) && !isfinite((float)value));
}

static int bad_cover(double value) { return !(value >= 0.0 && isfinite(value)); }

static int check_leaves(const rk_forest_source *s, uint32_t tree, rk_forest_fault *fault) {
    uint32_t n_nodes = s->node_begin[tree + 1] - s->node_begin[tree];
    size_t first = (size_t)s->node_begin[tree] + tree;
    uint32_t width = rk_leaf_width(s->flags, s->n_outputs);
    for (uint32_t i = 0; i <= n_nodes; i++) {
        for (uint32_t w = 0; w < width; w++) {
            if (bad_number(s, s->leaf_value[(first + i) * width + w])) {
                return rk_refuse(fault, RK_FOREST_BAD_LEAF_VALUE, tree, i);
            }
        }
        if (s->leaf_cover && bad_cover(s->leaf_cover[first + i])) {
            return rk_refuse(fault, RK_FOREST_BAD_COVER, tree, n_nodes + i);
        }
        if (s->linear_begin) {
            uint32_t begin = s->linear_begin[first + i], end = s->linear_begin[first + i + 1];
            if ((first + i == 0 && begin != 0) || end < begin || end > RK_FOREST_MAX_TERMS) {
                return rk_refuse(fault, RK_FOREST_BAD_LINEAR_BEGIN, tree, i);
            }
        }
    }
    return 0;
}

static int check_terms(const rk_forest_source *s, uint32_t tree, rk_forest_fault *fault) {
    uint32_t n_nodes = s->node_begin[tree + 1] - s->node_begin[tree];
    size_t first = (size_t)s->node_begin[tree] + tree;
    for (uint32_t i = 0; i <= n_nodes; i++) {
        if (s->linear_begin[first + i] == s->linear_begin[first + i + 1]) {
            continue;
        }
        int bad = !isfinite(s->linear_constant[first + i]);
        for (uint32_t k = s->linear_begin[first + i]; k < s->linear_begin[first + i + 1]; k++) {
            bad = bad || s->linear_feature[k] < 0 || (uint32_t)s->linear_feature[k] >= s->n_features ||
                  !isfinite(s->linear_coefficient[k]);
        }
        if (bad) {
            return rk_refuse(fault, RK_FOREST_BAD_LINEAR_TERM, tree, i);
        }
    }
    return 0;
}

static int check_tree(const rk_forest_source *s, uint32_t t, uint8_t *seen, uint32_t *stack, rk_forest_fault *fault) {
    uint32_t n_nodes = s->node_begin[t + 1] - s->node_begin[t];
    for (uint32_t i = 0; i < n_nodes; i++) {
        if (check_node(s, t, i, fault)) {
            return -1;
        }
        if (s->node_cover && bad_cover(s->node_cover[s->node_begin[t] + i])) {
            return rk_refuse(fault, RK_FOREST_BAD_COVER, t, i);
        }
    }
    if (s->tree_output && s->tree_output[t] >= s->n_outputs) {
        return rk_refuse(fault, RK_FOREST_BAD_TREE_OUTPUT, t, 0);
    }
    return check_shape(s, t, seen, stack, fault) || check_leaves(s, t, fault);
}

static int check_trees(const rk_forest_source *s, uint8_t *seen, uint32_t *stack, rk_forest_fault *fault) {
    for (uint32_t t = 0; t < s->n_trees; t++) {
        if (check_tree(s, t, seen, stack, fault)) {
            return -1;
        }
    }
    for (uint32_t t = 0; s->linear_begin && t < s->n_trees; t++) {
        if (check_terms(s, t, fault)) {
            return -1;
        }
    }
    for (uint32_t o = 0; s->base && o < s->n_outputs; o++) {
        if (bad_number(s, s->base[o])) {
            return rk_refuse(fault, RK_FOREST_BAD_BASE, 0, o);
        }
    }
    return 0;
}

int rk_forest_check(const rk_forest_source *s, rk_forest_fault *fault) {
    if (check_counts(s, fault)) {
        return -1;
    }
    uint32_t largest = 0;
    for (uint32_t t = 0; t < s->n_trees; t++) {
        uint32_t n_nodes = s->node_begin[t + 1] - s->node_begin[t];
        largest = n_nodes > largest ? n_nodes : largest;
    }
    uint8_t *seen = malloc((size_t)largest + 1);
    uint32_t *stack = malloc(((size_t)largest + 1) * sizeof *stack);
    int failed = !seen || !stack ? rk_refuse(fault, RK_FOREST_NO_MEMORY, 0, 0) : check_trees(s, seen, stack, fault);
    free(seen);
    free(stack);
    return failed;
}
