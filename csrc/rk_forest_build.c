/* From untrusted flat arrays to a forest: everything is checked before anything is built. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rk_forest.h"
#include "rk_forest_internal.h"

static int refuse(rk_forest_fault *fault, rk_forest_status status, uint32_t tree, uint32_t index) {
    *fault = (rk_forest_fault){status, tree, index};
    return -1;
}

static int check_counts(const rk_forest_source *s, rk_forest_fault *fault) {
    if (s->n_features == 0 || s->n_features > RK_FOREST_MAX_FEATURES || s->n_outputs == 0 ||
        s->n_outputs > RK_FOREST_MAX_OUTPUTS || s->n_trees == 0 || s->n_trees > RK_FOREST_MAX_TREES ||
        s->n_trees % s->n_outputs != 0) {
        return refuse(fault, RK_FOREST_BAD_COUNTS, 0, 0);
    }
    for (uint32_t t = 0; t < s->n_trees; t++) {
        uint32_t begin = s->node_begin[t], end = s->node_begin[t + 1];
        if ((t == 0 && begin != 0) || end < begin || end - begin >= RK_FOREST_MAX_LEAVES ||
            end > RK_FOREST_MAX_NODES) {
            return refuse(fault, RK_FOREST_BAD_NODE_BEGIN, t, 0);
        }
    }
    for (uint32_t i = 0; i < s->n_sets; i++) {
        if ((i == 0 && s->set_begin[0] != 0) || s->set_begin[i + 1] < s->set_begin[i]) {
            return refuse(fault, RK_FOREST_BAD_SET_BEGIN, 0, i);
        }
    }
    return 0;
}

static int check_node(const rk_forest_source *s, uint32_t tree, uint32_t i, rk_forest_fault *fault) {
    uint32_t node = s->node_begin[tree] + i;
    uint8_t decision = s->decision[node];
    if (s->split_feature[node] < 0 || (uint32_t)s->split_feature[node] >= s->n_features) {
        return refuse(fault, RK_FOREST_BAD_FEATURE, tree, i);
    }
    if (decision > 15 || decision >> RK_DECISION_MISSING_SHIFT == 3) {
        return refuse(fault, RK_FOREST_BAD_DECISION, tree, i);
    }
    if (decision & RK_DECISION_CATEGORICAL) {
        if (s->category_set[node] < 0 || (uint32_t)s->category_set[node] >= s->n_sets) {
            return refuse(fault, RK_FOREST_BAD_CATEGORY_SET, tree, i);
        }
    } else if (isnan(s->threshold[node])) {
        return refuse(fault, RK_FOREST_BAD_THRESHOLD, tree, i);
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
            return refuse(fault, RK_FOREST_BAD_LEFT, tree, i);
        }
        if (visit(s->right[begin + i], n_nodes, seen, stack, &depth)) {
            return refuse(fault, RK_FOREST_BAD_RIGHT, tree, i);
        }
    }
    if (reached != n_nodes) {
        uint32_t lost = 1;
        while (seen[lost] & 1) {
            lost++;
        }
        return refuse(fault, RK_FOREST_UNREACHED, tree, lost);
    }
    return 0;
}

static int check_trees(const rk_forest_source *s, uint8_t *seen, uint32_t *stack, rk_forest_fault *fault) {
    for (uint32_t t = 0; t < s->n_trees; t++) {
        uint32_t n_nodes = s->node_begin[t + 1] - s->node_begin[t];
        for (uint32_t i = 0; i < n_nodes; i++) {
            if (check_node(s, t, i, fault)) {
                return -1;
            }
        }
        if (check_shape(s, t, seen, stack, fault)) {
            return -1;
        }
        for (uint32_t i = 0; i <= n_nodes; i++) {
            if (!isfinite(s->leaf_value[s->node_begin[t] + t + i])) {
                return refuse(fault, RK_FOREST_BAD_LEAF_VALUE, t, i);
            }
        }
    }
    return 0;
}

static int check(const rk_forest_source *s, rk_forest_fault *fault) {
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
    int failed = !seen || !stack ? refuse(fault, RK_FOREST_NO_MEMORY, 0, 0) : check_trees(s, seen, stack, fault);
    free(seen);
    free(stack);
    return failed;
}

static void *copy(const void *data, size_t count, size_t size) {
    void *result = malloc(count * size + 1); /* + 1: malloc(0) may be NULL */
    if (result && count) {
        memcpy(result, data, count * size);
    }
    return result;
}

static int fill(rk_forest *forest, const rk_forest_source *s) {
    size_t n_nodes = s->node_begin[s->n_trees];
    forest->n_features = s->n_features;
    forest->n_outputs = s->n_outputs;
    forest->n_trees = s->n_trees;
    forest->n_sets = s->n_sets;
    forest->node_begin = copy(s->node_begin, (size_t)s->n_trees + 1, sizeof *s->node_begin);
    forest->leaf_value = copy(s->leaf_value, n_nodes + s->n_trees, sizeof *s->leaf_value);
    forest->set_begin = copy(s->set_begin, s->n_sets ? (size_t)s->n_sets + 1 : 0, sizeof *s->set_begin);
    forest->set_words = copy(s->set_words, s->n_sets ? s->set_begin[s->n_sets] : 0, sizeof *s->set_words);
    forest->nodes = malloc(n_nodes * sizeof *forest->nodes + 1);
    if (!forest->node_begin || !forest->leaf_value || !forest->set_begin || !forest->set_words || !forest->nodes) {
        return -1;
    }
    for (size_t i = 0; i < n_nodes; i++) {
        int categorical = (s->decision[i] & RK_DECISION_CATEGORICAL) != 0;
        forest->nodes[i] = (rk_node){
            .threshold = categorical ? 0.0 : s->threshold[i],
            .feature = s->split_feature[i],
            .left = s->left[i],
            .right = s->right[i],
            .category_set = categorical ? (uint32_t)s->category_set[i] : 0,
            .decision = s->decision[i],
        };
    }
    return 0;
}

rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault) {
    *fault = (rk_forest_fault){RK_FOREST_OK, 0, 0};
    if (check(source, fault)) {
        return NULL;
    }
    rk_forest *forest = calloc(1, sizeof *forest);
    if (!forest || fill(forest, source) || rk_forest_compile(forest)) {
        rk_forest_free(forest);
        refuse(fault, RK_FOREST_NO_MEMORY, 0, 0);
        return NULL;
    }
    return forest;
}

void rk_forest_free(rk_forest *forest) {
    if (!forest) {
        return;
    }
    free(forest->node_begin);
    free(forest->nodes);
    free(forest->leaf_value);
    free(forest->set_begin);
    free(forest->set_words);
    rk_forest_free_compiled(forest);
    free(forest);
}
