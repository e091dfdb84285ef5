/* From checked nodes to the trees of rk_forest_internal.h: boundaries, codes and slots. */
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

/* Breadth first, the c-th node's children are the slots 2c + 1 and 2c + 2; what is known of each slot: */
typedef struct {
    int32_t *child;   /* its node or ~leaf, in the source's numbering */
    uint32_t *first;  /* rank of its leftmost leaf */
    uint32_t *leaves;
    uint32_t *depth;
    uint32_t *order;  /* slot of the c-th node */
} slots;

typedef struct {
    rk_tree *tree;
    uint32_t *bunch;
    uint32_t *cut_condition;
    uint16_t *cut_lo, *cut_hi, *cut_at;
    double *leaf_table;
    float *float_table;
    uint32_t *table_leaf;
    rk_step *step;
    uint32_t *slot_leaf;
    uint32_t *walk_order;
} arrays;

static void lay_out(const rk_forest_source *source, uint32_t t, slots *s) {
    uint32_t begin = source->node_begin[t], n_nodes = source->node_begin[t + 1] - begin, c = 0;
    s->child[0] = n_nodes ? 0 : ~0;
    s->depth[0] = 0;
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        s->leaves[slot] = 1;
        if (s->child[slot] >= 0) {
            uint32_t node = begin + (uint32_t)s->child[slot];
            s->order[c] = slot;
            s->child[2 * c + 1] = source->left[node];
            s->child[2 * c + 2] = source->right[node];
            s->depth[2 * c + 1] = s->depth[2 * c + 2] = s->depth[slot] + 1;
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
}

/* 1 if the tree is complete and has one condition a level. */
static int is_oblivious(const rk_sections *sections, uint32_t begin, uint32_t n_nodes, const slots *s) {
    if (n_nodes == 0 || (n_nodes & (n_nodes + 1))) {
        return 0;
    }
    for (uint32_t c = 0; c < n_nodes; c++) {
        uint32_t level = s->depth[s->order[c]], head = (1u << level) - 1;
        if (s->order[c] != c || sections->node_condition[begin + (uint32_t)s->child[s->order[c]]] !=
                                    sections->node_condition[begin + (uint32_t)s->child[s->order[head]]]) {
            return 0;
        }
    }
    return 1;
}

/* A node of a bunch before it has its place. */
typedef struct {
    uint32_t depth, condition;
    uint16_t lo, hi, at;
} cut;

static void compile_cuts(const rk_sections *sections, const rk_tree *tree, uint32_t begin, uint32_t n_nodes,
                         const slots *s, cut *cuts) {
    uint32_t bound = tree->bound;
    for (uint32_t c = 0; c < n_nodes; c++) {
        uint32_t slot = s->order[c];
        cuts[c] = (cut){.depth = s->depth[slot],
                        .condition = 8 * sections->node_condition[begin + (uint32_t)s->child[slot]]};
        if (!tree->oblivious && n_nodes <= RK_MAX_BOUNDED) {
            cuts[c].lo = (uint16_t)(8 * (bound + s->first[slot]));
            cuts[c].hi = (uint16_t)(8 * (bound + s->first[slot] + s->leaves[slot]));
            cuts[c].at = (uint16_t)(8 * (bound + s->first[slot] + s->leaves[2 * c + 1]));
        }
    }
    for (uint32_t level = 0; tree->oblivious && (1u << level) <= n_nodes; level++) {
        cuts[level].condition = cuts[(1u << level) - 1].condition;
    }
}

/* Puts the cuts of a bunch, tree after tree and breadth first, in the order of their depth. `starts` has max_depth + 2. */
static void place_cuts(arrays *a, uint32_t begin, const cut *cuts, uint32_t n, uint32_t max_depth, uint32_t *starts) {
    memset(starts, 0, (max_depth + 2) * sizeof *starts);
    for (uint32_t i = 0; i < n; i++) {
        starts[cuts[i].depth + 1]++;
    }
    for (uint32_t depth = 0; depth < max_depth; depth++) {
        starts[depth + 1] += starts[depth];
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = begin + starts[cuts[i].depth]++;
        a->cut_condition[at] = cuts[i].condition;
        a->cut_lo[at] = cuts[i].lo;
        a->cut_hi[at] = cuts[i].hi;
        a->cut_at[at] = cuts[i].at;
    }
}

/* Leaf values by code: the rank's Gray code, or the conditions of an oblivious tree (met is 1, so left is). */
static void compile_table(const rk_forest_source *source, arrays *a, uint32_t t, rk_tree *tree,
                          const slots *s) {
    uint32_t n_nodes = source->node_begin[t + 1] - source->node_begin[t];
    uint32_t width = rk_leaf_width(source->flags, source->n_outputs), codes = 1u << tree->planes;
    size_t leaves = (size_t)source->node_begin[t] + t;
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        if (s->child[slot] >= 0) {
            continue;
        }
        uint32_t rank = s->first[slot], code = tree->oblivious ? codes - 1 - rank : rank ^ rank >> 1;
        size_t leaf = (size_t)~s->child[slot];
        for (uint32_t w = 0; w < width; w++) {
            double value = source->leaf_value[(leaves + leaf) * width + w];
            size_t at = tree->table + (size_t)w * codes + code;
            if (a->float_table) {
                a->float_table[at] = (float)value;
            } else {
                a->leaf_table[at] = value;
            }
        }
        if (a->table_leaf) {
            a->table_leaf[tree->table + code] = (uint32_t)leaf;
        }
    }
}

static void compile_steps(const rk_sections *sections, const rk_forest_source *source, arrays *a, uint32_t t,
                          uint32_t always, const slots *s) {
    uint32_t begin = source->node_begin[t], n_nodes = source->node_begin[t + 1] - begin, c = 0;
    uint32_t base = 2 * begin + t;
    for (uint32_t slot = 0; slot < 2 * n_nodes + 1; slot++) {
        int leaf = s->child[slot] < 0;
        uint32_t condition = leaf ? always : sections->node_condition[begin + (uint32_t)s->child[slot]];
        a->step[base + slot] = (rk_step){leaf ? base + slot : base + 2 * c + 1, condition};
        a->slot_leaf[base + slot] = leaf ? (uint32_t)~s->child[slot] : 0;
        c += !leaf;
    }
}

/* Trees by depth, by counting: WALK keeps trees of like depth together. */
static int order_trees(const rk_forest_source *source, arrays *a) {
    uint32_t *begin = calloc(RK_FOREST_MAX_LEAVES + 1, sizeof *begin);
    if (!begin) {
        return -1;
    }
    for (uint32_t t = 0; t < source->n_trees; t++) {
        begin[a->tree[t].depth + 1]++;
    }
    for (uint32_t d = 0; d < RK_FOREST_MAX_LEAVES; d++) {
        begin[d + 1] += begin[d];
    }
    for (uint32_t t = 0; t < source->n_trees; t++) {
        a->walk_order[begin[a->tree[t].depth]++] = t;
    }
    free(begin);
    return 0;
}

/* Bits of a tree's codes: as many as number its leaves. */
static uint32_t planes_of(uint32_t n_nodes) {
    uint32_t planes = 0;
    while (n_nodes >> planes) {
        planes++;
    }
    return planes;
}

static size_t table_length(const rk_forest_source *source) {
    size_t length = 0, width = rk_leaf_width(source->flags, source->n_outputs);
    for (uint32_t t = 0; t < source->n_trees; t++) {
        length += width << planes_of(source->node_begin[t + 1] - source->node_begin[t]);
    }
    return length;
}

static int allocate(rk_sections *sections, const rk_forest_source *source, arrays *a) {
    size_t n_nodes = source->node_begin[source->n_trees], n_trees = source->n_trees, codes = table_length(source);
    int floats = (source->flags & RK_FOREST_FLOAT_SUMS) != 0, linear = source->linear_begin != NULL;
    if (codes > 2 * (size_t)RK_FOREST_MAX_NODES) {
        return -1;
    }
#define ROOM(name, count)                                         \
    sections->n_##name = (count);                                 \
    a->name = calloc(sections->n_##name + 1, sizeof *a->name);    \
    sections->name = a->name;                                     \
    if (!a->name) {                                               \
        return -1;                                                \
    }
    ROOM(tree, n_trees)
    ROOM(bunch, n_trees + 1)
    ROOM(cut_condition, n_nodes + RK_FETCH_AHEAD)
    ROOM(cut_lo, n_nodes)
    ROOM(cut_hi, n_nodes)
    ROOM(cut_at, n_nodes)
    ROOM(step, 2 * n_nodes + n_trees)
    ROOM(slot_leaf, 2 * n_nodes + n_trees)
    ROOM(walk_order, n_trees)
    if (floats) {
        ROOM(float_table, codes)
    } else {
        ROOM(leaf_table, codes)
    }
    if (linear) {
        ROOM(table_leaf, codes)
    }
#undef ROOM
    return 0;
}

/* Everything of tree t but the place of its cuts. `table` is where its leaf table starts. */
static void compile_tree(const rk_sections *sections, const rk_forest_source *source, arrays *a, uint32_t t,
                         size_t table, uint32_t n_conditions, slots *s) {
    uint32_t begin = source->node_begin[t], n_nodes = source->node_begin[t + 1] - begin;
    rk_tree *tree = &a->tree[t];
    lay_out(source, t, s);
    *tree = (rk_tree){.table = (uint32_t)table, .depth = s->depth[2 * n_nodes],
                      .oblivious = (uint32_t)is_oblivious(sections, begin, n_nodes, s),
                      .planes = planes_of(n_nodes)};
    compile_table(source, a, t, tree, s);
    compile_steps(sections, source, a, t, n_conditions, s);
}

/* 1 if tree t may stand in the bunch that starts with `first` and has so many boundaries. */
static int fits(const arrays *a, uint32_t first, uint32_t t, uint32_t bounds) {
    return !a->tree[first].oblivious && !a->tree[t].oblivious && t - first < RK_BUNCH_TREES &&
           bounds + 1 + (1u << a->tree[t].planes) <= RK_BUNCH_BOUNDS;
}

static void compile_all(rk_sections *sections, const rk_forest_source *source, arrays *a, uint32_t n_conditions,
                        slots *s, cut *cuts, uint32_t *starts) {
    size_t table = 0, width = rk_leaf_width(source->flags, source->n_outputs);
    uint32_t n_bunches = 0, first = 0, bounds = 0, depth = 0, n_cuts = 0;
    for (uint32_t t = 0; t < source->n_trees; t++) {
        uint32_t begin = source->node_begin[t], n_nodes = source->node_begin[t + 1] - begin;
        rk_tree *tree = &a->tree[t];
        compile_tree(sections, source, a, t, table, n_conditions, s);
        table += ((size_t)1 << tree->planes) * width;
        if (t == 0 || !fits(a, first, t, bounds)) {
            place_cuts(a, source->node_begin[first], cuts, n_cuts, depth, starts);
            a->bunch[n_bunches++] = first = t;
            bounds = depth = n_cuts = 0;
        }
        tree->bound = bounds;
        bounds += 1 + (1u << tree->planes);
        depth = tree->depth > depth ? tree->depth : depth;
        compile_cuts(sections, tree, begin, n_nodes, s, cuts + n_cuts);
        n_cuts += n_nodes;
    }
    place_cuts(a, source->node_begin[first], cuts, n_cuts, depth, starts);
    a->bunch[n_bunches] = source->n_trees;
    sections->n_bunch = n_bunches + 1;
}

int rk_compile_trees(rk_sections *sections, const rk_forest_source *source, uint32_t n_conditions) {
    size_t room = 1;
    for (uint32_t t = 0; t < source->n_trees; t++) {
        size_t n = 2 * (size_t)(source->node_begin[t + 1] - source->node_begin[t]) + 1;
        room = n > room ? n : room;
    }
    arrays a = {0};
    slots s = {malloc(room * sizeof *s.child), malloc(room * sizeof *s.first), malloc(room * sizeof *s.leaves),
               malloc(room * sizeof *s.depth), malloc(room * sizeof *s.order)};
    cut *cuts = malloc((room + RK_BUNCH_BOUNDS) * sizeof *cuts);
    uint32_t *starts = malloc((room + 2) * sizeof *starts);
    int failed = !s.child || !s.first || !s.leaves || !s.depth || !s.order || !cuts || !starts ||
                 allocate(sections, source, &a);
    if (!failed) {
        compile_all(sections, source, &a, n_conditions, &s, cuts, starts);
        failed = order_trees(source, &a);
    }
    free(s.child);
    free(s.first);
    free(s.leaves);
    free(s.depth);
    free(s.order);
    free(cuts);
    free(starts);
    return failed ? -1 : 0;
}
