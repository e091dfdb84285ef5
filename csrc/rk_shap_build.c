/* From a forest to what the walks read: orientation, shares, steps and curves of every tree. */
#include <stdlib.h>
#include <string.h>

#include "rk_shap_internal.h"

/* What building needs beside the result. */
typedef struct {
    rk_shap *shap;
    const rk_forest_source *source;
    uint32_t *column_of; /* per feature */
    uint32_t *above;     /* per column: the edge of the path that last split on it */
    uint32_t *seen;      /* per column: 1 + the last tree that has it */
    int32_t *order;      /* a tree's nodes, parents first */
    double *weight;      /* per node of the tree */
    double *mean;        /* per node of the tree */
    double *passed;      /* per compiled node of the tree: product of the shares on its feature above it */
    struct frame {
        uint32_t index; /* compiled */
        int32_t node;   /* of the source */
        uint32_t visit;
    } *stack;
    size_t n_nodes; /* compiled so far */
    size_t n_steps;
    size_t n_tree_columns;
    size_t room; /* for curves */
} builder;

static double child_weight(const builder *b, uint32_t tree, int32_t child) {
    const rk_forest_source *s = b->source;
    return child >= 0 ? b->weight[child] : s->leaf_cover[(size_t)s->node_begin[tree] + tree + (uint32_t)~child];
}

/* Every node's weight is its leaves'; the left child's share of it. */
static void weigh(builder *b, uint32_t tree) {
    const rk_forest_source *s = b->source;
    uint32_t begin = s->node_begin[tree], n_nodes = s->node_begin[tree + 1] - begin, n = n_nodes != 0;
    b->order[0] = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t left = s->left[begin + (uint32_t)b->order[i]], right = s->right[begin + (uint32_t)b->order[i]];
        if (left >= 0) {
            b->order[n++] = left;
        }
        if (right >= 0) {
            b->order[n++] = right;
        }
    }
    for (uint32_t i = n_nodes; i-- > 0;) {
        int32_t node = b->order[i];
        double left = child_weight(b, tree, s->left[begin + (uint32_t)node]);
        double right = child_weight(b, tree, s->right[begin + (uint32_t)node]);
        b->weight[node] = left + right;
        b->shap->shares[begin + (uint32_t)node] = left + right > 0.0 ? left / (left + right) : 0.5;
    }
}

/* The tree's expected value of one output, by the same shares. */
static double expect(builder *b, uint32_t tree, uint32_t output) {
    const rk_forest_source *s = b->source;
    uint32_t begin = s->node_begin[tree], n_nodes = s->node_begin[tree + 1] - begin;
    size_t leaf = (size_t)begin + tree, stride = rk_leaf_width(s->flags, s->n_outputs);
    if (n_nodes == 0) {
        return b->shap->leaf_value[leaf * stride + output];
    }
    for (uint32_t i = n_nodes; i-- > 0;) {
        uint32_t node = (uint32_t)b->order[i];
        double means[2];
        for (int side = 0; side < 2; side++) {
            int32_t child = side ? s->right[begin + node] : s->left[begin + node];
            size_t at = child >= 0 ? 0 : (leaf + (uint32_t)~child) * stride + output;
            means[side] = child >= 0 ? b->mean[child] : b->shap->leaf_value[at];
        }
        double share = b->shap->shares[begin + node];
        b->mean[node] = share * means[0] + (1.0 - share) * means[1];
    }
    return b->mean[0];
}

static void add_step(builder *b, uint32_t index, uint32_t what) {
    b->shap->steps[b->n_steps++] = index << RK_SHAP_STEP_BITS | what;
}

/* A compiled node for the source's `node`; its index in the tree. */
static uint32_t enter(builder *b, uint32_t tree, int32_t node, uint32_t depth, uint32_t slot) {
    const rk_forest_source *s = b->source;
    rk_shap_tree *t = &b->shap->trees[tree];
    size_t i = (size_t)s->node_begin[tree] + (uint32_t)node, leaf = (size_t)s->node_begin[tree] + tree;
    uint32_t index = t->n_nodes++, column = b->column_of[s->split_feature[i]], above = b->above[column];
    int32_t first = s->left[i], second = s->right[i];
    rk_shap_node *made = &b->shap->nodes[b->n_nodes++];
    *made = (rk_shap_node){.share = b->shap->shares[i], .condition = b->shap->forest->s.node_condition[i],
                           .column = column, .depth = depth, .slot = slot, .above = above, .flip = 0};
    if (first < 0 && second >= 0) {
        made->share = 1.0 - made->share;
        made->flip = 1;
        first = s->right[i];
        second = s->left[i];
    }
    made->first = first < 0 ? (uint32_t)(leaf + (uint32_t)~first) : 0;
    made->second = second < 0 ? (uint32_t)(leaf + (uint32_t)~second) : 0;
    b->passed[index] = 1.0;
    if (above != RK_SHAP_NONE) {
        double share = b->shap->nodes[t->node + (above >> 1)].share;
        b->passed[index] = b->passed[above >> 1] * (above & 1 ? 1.0 - share : share);
    }
    if (b->seen[column] != tree + 1) {
        b->seen[column] = tree + 1;
        b->shap->tree_columns[b->n_tree_columns++] = column;
        t->n_columns++;
    }
    return index;
}

/* Nodes and steps of a tree, depth first; returns the most distinct features on a path. */
static uint32_t compile_tree(builder *b, uint32_t tree) {
    const rk_forest_source *s = b->source;
    rk_shap_tree *t = &b->shap->trees[tree];
    size_t begin = s->node_begin[tree];
    uint32_t height = 0, distinct = 0, most = 0;
    *t = (rk_shap_tree){.node = (uint32_t)b->n_nodes, .step = (uint32_t)b->n_steps,
                        .column_begin = (uint32_t)b->n_tree_columns};
    if (s->node_begin[tree + 1] == begin) {
        return 0;
    }
    b->stack[height++] = (struct frame){enter(b, tree, 0, 0, 0), 0, 0};
    while (height) {
        struct frame *top = &b->stack[height - 1];
        rk_shap_node *node = &b->shap->nodes[t->node + top->index];
        int32_t left = s->left[begin + (uint32_t)top->node], right = s->right[begin + (uint32_t)top->node];
        int32_t first = node->flip ? right : left, second = node->flip ? left : right;
        if (top->visit == 0) {
            distinct += node->above == RK_SHAP_NONE;
            most = distinct > most ? distinct : most;
            b->shap->max_depth = node->depth > b->shap->max_depth ? node->depth : b->shap->max_depth;
            add_step(b, top->index, first < 0 ? RK_SHAP_BOTTOM : second < 0 ? RK_SHAP_DOWN_ONE : RK_SHAP_DOWN_BOTH);
        }
        if (top->visit < 2) {
            uint32_t side = top->visit++;
            int32_t child = side ? second : first;
            if (child >= 0) {
                b->above[node->column] = top->index << 1 | side;
                uint32_t index = enter(b, tree, child, node->depth + 1, 2 * node->depth + 1 + side);
                b->stack[height++] = (struct frame){index, child, 0};
            }
            continue;
        }
        if (first >= 0) {
            add_step(b, top->index, second < 0 ? RK_SHAP_UP_ONE : RK_SHAP_UP_BOTH);
        }
        b->above[node->column] = node->above;
        distinct -= node->above == RK_SHAP_NONE;
        height--;
    }
    t->n_steps = (uint32_t)b->n_steps - t->step;
    return most;
}

/* Room for `n` doubles more in the curves; their offset, or RK_SHAP_NONE. */
static uint32_t add_curves(builder *b, size_t n) {
    rk_shap *shap = b->shap;
    if (b->room - shap->n_curves < n) {
        size_t room = 2 * b->room + n;
        double *grown = room > UINT32_MAX ? NULL : realloc(shap->curves, room * sizeof *grown);
        if (!grown) {
            return RK_SHAP_NONE;
        }
        shap->curves = grown;
        b->room = room;
    }
    uint32_t offset = (uint32_t)shap->n_curves;
    shap->n_curves += n;
    return offset;
}

static int make_rule(builder *b, uint32_t points) {
    rk_shap_rule *rule = &b->shap->rules[points];
    uint32_t offset = add_curves(b, 5 * (size_t)points);
    if (offset == RK_SHAP_NONE) {
        return -1;
    }
    *rule = (rk_shap_rule){offset, offset + 3 * points};
    double *curve = b->shap->curves + offset;
    rk_shap_quadrature(points, curve, curve + 2 * (size_t)points);
    for (uint32_t k = 0; k < points; k++) {
        curve[points + k] = 1.0;
        curve[3 * (size_t)points + k] = 1.0;
        curve[4 * (size_t)points + k] = 0.0;
    }
    return 0;
}

/* u(t) = t / (t + (1 - t) z) and its slope z / (t + (1 - t) z)^2, z being what `passed` says. t > 0: no zero below. */
static int make_curves(builder *b, uint32_t tree) {
    const rk_shap_tree *t = &b->shap->trees[tree];
    uint32_t plain = b->shap->rules[t->points].plain;
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        rk_shap_node *node = &b->shap->nodes[t->node + i];
        node->curve = plain;
        if (node->above == RK_SHAP_NONE) {
            continue;
        }
        node->curve = add_curves(b, 2 * (size_t)t->points);
        if (node->curve == RK_SHAP_NONE) {
            return -1;
        }
        for (uint32_t k = 0; k < t->points; k++) {
            double at = b->shap->curves[plain + k], below = at + (1.0 - at) * b->passed[i];
            b->shap->curves[node->curve + k] = at / below;
            b->shap->curves[node->curve + t->points + k] = b->passed[i] / (below * below);
        }
    }
    return 0;
}

static rk_shap_status compile_trees(builder *b, uint32_t *bad_tree) {
    rk_shap *shap = b->shap;
    int vector = (b->source->flags & RK_FOREST_VECTOR_LEAVES) != 0;
    int floats = (b->source->flags & RK_FOREST_FLOAT_SUMS) != 0;
    for (uint32_t o = 0; o < b->source->n_outputs; o++) {
        shap->expected[o] = floats ? (double)(float)b->source->base[o] : b->source->base[o];
    }
    for (uint32_t t = 0; t < b->source->n_trees; t++) {
        weigh(b, t);
        for (uint32_t o = 0; o < (vector ? b->source->n_outputs : 1); o++) {
            shap->expected[vector ? o : b->source->tree_output[t]] += expect(b, t, o);
        }
        uint32_t most = compile_tree(b, t), points = most < 2 ? 1 : (most + 1) / 2;
        *bad_tree = t;
        if (most > RK_SHAP_MAX_PATH_FEATURES) {
            return RK_SHAP_TOO_MANY_FEATURES;
        }
        shap->trees[t].points = points;
        shap->max_points = points > shap->max_points ? points : shap->max_points;
        shap->max_nodes = shap->trees[t].n_nodes > shap->max_nodes ? shap->trees[t].n_nodes : shap->max_nodes;
        if ((uint64_t)(shap->max_depth + 1) * shap->max_points > RK_SHAP_MAX_DEPTH_POINTS) {
            return RK_SHAP_TOO_DEEP;
        }
        if ((shap->rules[points].plain == RK_SHAP_NONE && make_rule(b, points)) || make_curves(b, t)) {
            return RK_SHAP_NO_MEMORY;
        }
    }
    return RK_SHAP_OK;
}

/* Trees by output, in their order. */
static void order_trees(rk_shap *shap, const rk_forest_source *s) {
    int vector = (s->flags & RK_FOREST_VECTOR_LEAVES) != 0;
    memset(shap->output_begin, 0, (s->n_outputs + (size_t)1) * sizeof *shap->output_begin);
    for (uint32_t t = 0; t < s->n_trees && !vector; t++) {
        shap->output_begin[s->tree_output[t] + 1]++;
    }
    for (uint32_t o = 0; o < s->n_outputs; o++) {
        shap->output_begin[o + 1] += shap->output_begin[o];
    }
    for (uint32_t t = 0; t < s->n_trees; t++) {
        shap->output_trees[vector ? t : shap->output_begin[s->tree_output[t]]++] = t;
    }
    for (uint32_t o = s->n_outputs; o-- > 0;) {
        shap->output_begin[o + 1] = shap->output_begin[o];
    }
    shap->output_begin[0] = 0;
}

/* Leaf values as scoring rounds them. */
static int round_leaves(rk_shap *shap, const rk_forest_source *s) {
    shap->leaf_value = s->leaf_value;
    if (!(s->flags & RK_FOREST_FLOAT_SUMS)) {
        return 0;
    }
    size_t width = rk_leaf_width(s->flags, s->n_outputs);
    size_t n = ((size_t)s->node_begin[s->n_trees] + s->n_trees) * width;
    shap->leaf_value = shap->rounded = malloc(n * sizeof *shap->rounded);
    for (size_t i = 0; i < n && shap->rounded; i++) {
        shap->rounded[i] = (double)(float)s->leaf_value[i];
    }
    return shap->rounded ? 0 : -1;
}

static int allocate(builder *b, size_t largest) {
    const rk_forest_source *s = b->source;
    rk_shap *shap = b->shap;
    size_t n_nodes = s->node_begin[s->n_trees], n_columns = 0;
    b->column_of = malloc(s->n_features * sizeof *b->column_of);
    shap->columns = malloc(s->n_features * sizeof *shap->columns);
    if (!b->column_of || !shap->columns) {
        return -1;
    }
    memset(b->column_of, 0, s->n_features * sizeof *b->column_of);
    for (size_t i = 0; i < n_nodes; i++) {
        b->column_of[s->split_feature[i]] = 1;
    }
    for (uint32_t f = 0; f < s->n_features; f++) {
        if (b->column_of[f]) {
            shap->columns[n_columns] = f;
            b->column_of[f] = (uint32_t)n_columns++;
        }
    }
    shap->n_columns = (uint32_t)n_columns;
    b->above = malloc(n_columns * sizeof *b->above + 1);
    b->seen = calloc(n_columns + 1, sizeof *b->seen);
    b->order = malloc(largest * sizeof *b->order + 4);
    b->weight = malloc(largest * sizeof *b->weight + 1);
    b->mean = malloc(largest * sizeof *b->mean + 1);
    b->passed = malloc(largest * sizeof *b->passed + 1);
    b->stack = malloc(largest * sizeof *b->stack + 1);
    shap->output_begin = malloc((s->n_outputs + (size_t)1) * sizeof *shap->output_begin);
    shap->output_trees = malloc(s->n_trees * sizeof *shap->output_trees);
    shap->expected = malloc(s->n_outputs * sizeof *shap->expected);
    shap->trees = malloc(s->n_trees * sizeof *shap->trees);
    shap->nodes = malloc(n_nodes * sizeof *shap->nodes + 1);
    shap->steps = malloc(2 * n_nodes * sizeof *shap->steps + 1);
    shap->tree_columns = malloc(n_nodes * sizeof *shap->tree_columns + 1);
    shap->shares = malloc(n_nodes * sizeof *shap->shares + 1);
    if (!b->above || !b->seen || !b->order || !b->weight || !b->mean || !b->passed || !b->stack ||
        !shap->output_begin || !shap->output_trees || !shap->expected || !shap->trees || !shap->nodes ||
        !shap->steps || !shap->tree_columns || !shap->shares) {
        return -1;
    }
    memset(b->above, 0xff, n_columns * sizeof *b->above);
    memset(shap->rules, 0xff, sizeof shap->rules);
    return 0;
}

rk_shap *rk_shap_build(const rk_forest *forest, rk_shap_fault *fault) {
    const rk_forest_source *s = rk_forest_as_source(forest);
    if (!s->leaf_cover || s->linear_begin) {
        *fault = (rk_shap_fault){s->linear_begin ? RK_SHAP_LINEAR_LEAVES : RK_SHAP_NO_COVERS, 0};
        return NULL;
    }
    uint32_t largest = 0;
    for (uint32_t t = 0; t < s->n_trees; t++) {
        uint32_t n = s->node_begin[t + 1] - s->node_begin[t];
        largest = n > largest ? n : largest;
    }
    builder b = {.shap = calloc(1, sizeof(rk_shap)), .source = s};
    *fault = (rk_shap_fault){RK_SHAP_NO_MEMORY, 0};
    if (b.shap) {
        b.shap->forest = forest;
        b.shap->source = s;
        if (!allocate(&b, largest) && !round_leaves(b.shap, s)) {
            order_trees(b.shap, s);
            fault->status = compile_trees(&b, &fault->tree);
        }
    }
    free(b.column_of);
    free(b.above);
    free(b.seen);
    free(b.order);
    free(b.weight);
    free(b.mean);
    free(b.passed);
    free(b.stack);
    if (fault->status != RK_SHAP_OK) {
        rk_shap_free(b.shap);
        return NULL;
    }
    return b.shap;
}

void rk_shap_free(rk_shap *shap) {
    if (!shap) {
        return;
    }
    free(shap->columns);
    free(shap->output_begin);
    free(shap->output_trees);
    free(shap->expected);
    free(shap->trees);
    free(shap->nodes);
    free(shap->steps);
    free(shap->tree_columns);
    free(shap->curves);
    free(shap->shares);
    free(shap->rounded);
    free(shap);
}

size_t rk_shap_bytes(const rk_shap *shap) {
    const rk_forest_source *s = shap->source;
    size_t node = sizeof *shap->nodes + 2 * sizeof *shap->steps + sizeof *shap->tree_columns + sizeof *shap->shares;
    size_t output = sizeof *shap->output_begin + sizeof *shap->expected;
    size_t rounded = shap->rounded ? s->node_begin[s->n_trees] + (size_t)s->n_trees : 0;
    rounded *= rk_leaf_width(s->flags, s->n_outputs);
    size_t tree = sizeof *shap->output_trees + sizeof *shap->trees;
    return sizeof *shap + rounded * sizeof *shap->rounded + s->n_features * sizeof *shap->columns +
           s->n_outputs * output + s->n_trees * tree + s->node_begin[s->n_trees] * node +
           shap->n_curves * sizeof *shap->curves;
}
