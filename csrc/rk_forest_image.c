/* A forest as one block of bytes: how it is packed, and how a block that may be anything is opened. */
#include <stdlib.h>
#include <string.h>

#include "rk_forest_internal.h"

#define ALIGNMENT 64u
#define VERSION 3u /* of the layout and of what its entries mean; tests/kernels/test_image_layout.py */
#define BYTE_ORDER_MARK 0x01020304u

enum {
#define S(name, type) SECTION_##name,
    RK_SECTIONS(S)
#undef S
        N_SECTIONS
};

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t bytes;
    uint64_t checksum; /* of what follows this field */
    uint32_t n_features, n_outputs, n_trees, flags;
    struct {
        uint64_t offset, count;
    } sections[N_SECTIONS];
} header;

#define CHECKED_FROM offsetof(header, n_features)
static const char MAGIC[8] = "rkforest";

/* Four independent multiplicative hashes of 8-byte words, so that it is as fast as memory. */
static uint64_t checksum_of(const uint8_t *data, size_t bytes) {
    uint64_t lanes[4] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u, 0x27d4eb2f165667c5u}, word;
    size_t at = 0;
    for (; at + 32 <= bytes; at += 32) {
        for (unsigned i = 0; i < 4; i++) {
            memcpy(&word, data + at + 8 * i, 8);
            lanes[i] = (lanes[i] ^ word) * 0x9fb21c651e98df25u;
            lanes[i] ^= lanes[i] >> 32;
        }
    }
    uint64_t sum = bytes;
    for (; at < bytes; at++) {
        lanes[0] = (lanes[0] ^ data[at]) * 0x9fb21c651e98df25u;
        lanes[0] ^= lanes[0] >> 32;
    }
    for (unsigned i = 0; i < 4; i++) {
        sum = (sum ^ lanes[i]) * 0xff51afd7ed558ccdu;
        sum ^= sum >> 32;
    }
    return sum;
}

/* What room the tiers need, and whether they can serve. */
static void measure(rk_forest *f) {
    const rk_sections *s = &f->s;
    f->max_bounds = 0;
    f->bits = 1;
    for (uint32_t t = 0; t < f->n_trees; t++) {
        uint32_t n_nodes = s->node_begin[t + 1] - s->node_begin[t];
        uint32_t bounds = s->tree[t].bound + 1 + (1u << s->tree[t].planes);
        int bounded = n_nodes <= RK_MAX_BOUNDED;
        f->bits = f->bits && (bounded || s->tree[t].oblivious);
        f->max_bounds = bounded && bounds > f->max_bounds ? bounds : f->max_bounds;
    }
}

static void as_source(rk_forest *f) {
    const rk_sections *s = &f->s;
    int vectors = (f->flags & RK_FOREST_VECTOR_LEAVES) != 0;
    f->source = (rk_forest_source){
        .n_features = f->n_features, .n_outputs = f->n_outputs, .n_trees = f->n_trees,
        .n_sets = s->n_set_begin ? (uint32_t)(s->n_set_begin - 1) : 0, .flags = f->flags,
        .node_begin = s->node_begin, .split_feature = s->split_feature, .decision = s->decision,
        .threshold = s->threshold, .category_set = s->category_set, .left = s->left, .right = s->right,
        .leaf_value = s->leaf_value, .set_begin = s->set_begin, .set_words = s->set_words,
        .tree_output = vectors ? NULL : s->tree_output, .base = s->base,
        .linear_begin = s->n_linear_begin ? s->linear_begin : NULL, .linear_feature = s->linear_feature,
        .linear_coefficient = s->linear_coefficient, .linear_constant = s->linear_constant,
        .node_cover = s->n_leaf_cover ? s->node_cover : NULL, .leaf_cover = s->n_leaf_cover ? s->leaf_cover : NULL};
}

static int locate(rk_forest *f, const header *h, const uint8_t *image) {
#define S(name, type)                                                                                      \
    {                                                                                                      \
        uint64_t offset = h->sections[SECTION_##name].offset, count = h->sections[SECTION_##name].count;   \
        if (offset % ALIGNMENT || offset > h->bytes || count > (h->bytes - offset) / sizeof(type)) {       \
            return -1;                                                                                     \
        }                                                                                                  \
        f->s.name = (const type *)(const void *)(image + offset);                                          \
        f->s.n_##name = count;                                                                             \
    }
    RK_SECTIONS(S)
#undef S
    return 0;
}

/* The lengths of the sections agree with each other. */
static int check_lengths(const rk_forest *f) {
    const rk_sections *s = &f->s;
    if (f->n_trees == 0 || f->n_trees > RK_FOREST_MAX_TREES || f->n_outputs == 0 ||
        f->n_outputs > RK_FOREST_MAX_OUTPUTS || s->n_node_begin != (size_t)f->n_trees + 1) {
        return -1;
    }
    size_t n = s->node_begin[f->n_trees], leaves = n + f->n_trees, terms = s->n_linear_feature;
    int linear = s->n_linear_begin != 0, cover = s->n_leaf_cover != 0, floats = (f->flags & RK_FOREST_FLOAT_SUMS) != 0;
    size_t codes = floats ? s->n_float_table : s->n_leaf_table;
    return n > RK_FOREST_MAX_NODES || s->n_split_feature != n || s->n_decision != n || s->n_threshold != n ||
           s->n_category_set != n || s->n_left != n || s->n_right != n || s->n_leaf_value != leaves * f->width ||
           s->n_set_begin == 0 || s->n_set_begin > UINT32_MAX || s->set_begin[s->n_set_begin - 1] != s->n_set_words ||
           s->n_tree_output != f->n_trees || s->n_base != f->n_outputs || (linear && s->n_linear_begin != leaves + 1) ||
           (linear && s->linear_begin[leaves] != terms) || s->n_linear_coefficient != terms ||
           s->n_linear_constant != (linear ? leaves : 0) || s->n_node_cover != (cover ? n : 0) ||
           (cover && s->n_leaf_cover != leaves) || s->n_axis_sorted != s->n_axis_table ||
           s->n_cut_low != s->n_cut_threshold ||
           s->n_cut_high != s->n_cut_threshold || s->n_node_condition != n ||
           s->n_tree != f->n_trees || s->n_bunch < 2 || s->n_bunch > (size_t)f->n_trees + 1 ||
           s->n_cut_condition != n + RK_FETCH_AHEAD || s->n_cut_lo != n || s->n_cut_hi != n ||
           s->n_cut_at != n || s->n_step != n + leaves || s->n_slot_leaf != n + leaves || s->n_walk_order != f->n_trees ||
           (floats && s->n_leaf_table) || (!floats && s->n_float_table) || s->n_table_leaf != (linear ? codes : 0) ||
           s->n_cut_threshold + s->n_membership > n;
}

/* No index of the compiled form leads out of its array. */
static int check_rules(const rk_forest *f) {
    const rk_sections *s = &f->s;
    for (size_t i = 0; i < s->n_axis; i++) {
        const rk_axis *a = &s->axis[i];
        size_t room = a->levels < 5 ? 32 : (size_t)1 << (a->levels & 15);
        if (a->levels == 0 || a->levels > 8 || a->count >> a->levels || a->feature >= f->n_features ||
            a->table > s->n_axis_table || s->n_axis_table - a->table < room) {
            return -1;
        }
    }
    size_t cuts = 0; /* rules follow each other, so that every condition is computed */
    for (size_t i = 0; i < s->n_rule; i++) {
        const rk_rule *r = &s->rule[i];
        if (r->axis >= s->n_axis || r->condition != cuts || s->n_cut_threshold - cuts < r->count) {
            return -1;
        }
        for (size_t end = cuts + r->count; cuts < end; cuts++) {
            uint32_t low = s->cut_low[cuts], high = s->cut_high[cuts];
            if (low % 8 || low > 120 || high % 16 || (low / 8 | high) >> s->axis[r->axis].levels) {
                return -1;
            }
        }
    }
    return cuts != s->n_cut_threshold;
}

static int check_conditions(const rk_forest *f) {
    const rk_sections *s = &f->s;
    if (check_rules(f)) {
        return -1;
    }
    for (size_t i = 0; i < s->n_membership; i++) {
        if (s->membership[i].feature >= f->n_features || s->membership[i].set >= s->n_set_begin - 1) {
            return -1;
        }
    }
    for (size_t i = 0; i < s->n_node_condition; i++) {
        if (s->node_condition[i] >= f->n_conditions || s->cut_condition[i] / 8 >= f->n_conditions ||
            s->cut_condition[i] % 8) {
            return -1;
        }
    }
    return 0;
}

/* The bunches are all trees in order, and the boundaries of their cuts are their own. */
static int check_bunches(const rk_forest *f) {
    const rk_sections *s = &f->s;
    if (s->bunch[0] != 0 || s->bunch[s->n_bunch - 1] != f->n_trees) {
        return -1;
    }
    for (size_t b = 0; b + 1 < s->n_bunch; b++) {
        uint32_t first = s->bunch[b], end = s->bunch[b + 1];
        if (first >= end || end > f->n_trees) {
            return -1;
        }
        const rk_tree *last = &s->tree[end - 1];
        uint32_t limit = 8 * (last->bound + 1 + (1u << last->planes));
        for (uint32_t t = first; t < end; t++) {
            if (s->tree[t].bound > last->bound || (s->tree[t].oblivious && end - first > 1)) {
                return -1;
            }
        }
        for (uint32_t i = s->node_begin[first]; i < s->node_begin[end]; i++) {
            uint32_t lo = s->cut_lo[i], hi = s->cut_hi[i], at = s->cut_at[i];
            if ((lo | hi | at) % 8 || lo >= limit || hi >= limit || at >= limit) {
                return -1;
            }
        }
    }
    return 0;
}

static int check_trees(const rk_forest *f) {
    const rk_sections *s = &f->s;
    size_t codes = f->flags & RK_FOREST_FLOAT_SUMS ? s->n_float_table : s->n_leaf_table;
    for (uint32_t t = 0; t < f->n_trees; t++) {
        const rk_tree *tree = &s->tree[t];
        uint32_t begin = s->node_begin[t], n_nodes = s->node_begin[t + 1] - begin;
        if (tree->planes > 16 || n_nodes >> tree->planes || tree->table > codes || tree->bound > RK_BUNCH_BOUNDS ||
            (codes - tree->table) >> tree->planes < f->width ||
            tree->depth > n_nodes || s->tree_output[t] >= f->n_outputs ||
            (tree->oblivious && n_nodes != (1u << tree->planes) - 1)) {
            return -1;
        }
        size_t first = 2 * (size_t)begin + t, end = first + 2 * (size_t)n_nodes + 1;
        for (size_t i = first; i < end; i++) {
            int inner = s->step[i].condition < f->n_conditions;
            if (s->step[i].condition > f->n_conditions || s->step[i].left < first || s->slot_leaf[i] > n_nodes ||
                s->step[i].left >= end - (inner ? 1 : 0)) {
                return -1;
            }
        }
        for (uint32_t i = 0; s->n_table_leaf && i < 1u << tree->planes; i++) {
            if (s->table_leaf[tree->table + i] > n_nodes) {
                return -1;
            }
        }
    }
    return 0;
}

/* WALK takes every tree exactly once. */
static int check_walk_order(const rk_forest *f, rk_forest_fault *fault) {
    uint8_t *seen = calloc(f->n_trees, 1);
    if (!seen) {
        return rk_refuse(fault, RK_FOREST_NO_MEMORY, 0, 0);
    }
    int bad = 0;
    for (uint32_t i = 0; i < f->n_trees && !bad; i++) {
        uint32_t t = f->s.walk_order[i];
        bad = t >= f->n_trees || seen[t]++;
    }
    free(seen);
    return bad ? rk_refuse(fault, RK_FOREST_BAD_IMAGE, 0, 0) : 0;
}

/* Fuzzing looks behind the checksum: random changes never have the right one. */
static int is_whole(const header *h, const uint8_t *image, size_t bytes) {
#if defined(FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
    (void)h, (void)image, (void)bytes;
    return 1;
#else
    return h->checksum == checksum_of(image + CHECKED_FROM, bytes - CHECKED_FROM);
#endif
}

static int open_checked(rk_forest *f, const uint8_t *image, size_t bytes, rk_forest_fault *fault) {
    const header *h = (const header *)(const void *)image;
    if ((uintptr_t)image % ALIGNMENT || bytes < sizeof *h || memcmp(h->magic, MAGIC, sizeof MAGIC) ||
        h->version != VERSION || h->byte_order != BYTE_ORDER_MARK || h->bytes != bytes ||
        !is_whole(h, image, bytes) || locate(f, h, image)) {
        return rk_refuse(fault, RK_FOREST_BAD_IMAGE, 0, 0);
    }
    f->n_features = h->n_features;
    f->n_outputs = h->n_outputs;
    f->n_trees = h->n_trees;
    f->flags = h->flags;
    f->width = rk_leaf_width(f->flags, f->n_outputs);
    f->image = image;
    f->image_bytes = bytes;
    if (check_lengths(f)) {
        return rk_refuse(fault, RK_FOREST_BAD_IMAGE, 0, 0);
    }
    as_source(f);
    if (rk_forest_check(&f->source, fault)) {
        return -1;
    }
    f->n_conditions = (uint32_t)(f->s.n_cut_threshold + f->s.n_membership);
    if (check_conditions(f) || check_trees(f) || check_bunches(f)) {
        return rk_refuse(fault, RK_FOREST_BAD_IMAGE, 0, 0);
    }
    measure(f);
    return check_walk_order(f, fault);
}

rk_forest *rk_forest_open(const void *image, size_t bytes, rk_forest_fault *fault) {
    *fault = (rk_forest_fault){RK_FOREST_OK, 0, 0};
    rk_forest *forest = calloc(1, sizeof *forest);
    if (!forest) {
        rk_refuse(fault, RK_FOREST_NO_MEMORY, 0, 0);
    } else if (open_checked(forest, image, bytes, fault)) {
        free(forest);
        forest = NULL;
    }
    return forest;
}

static uint64_t aligned(uint64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* The sections in one block that is given to free(); NULL if memory is short. */
static uint8_t *pack(const rk_sections *s, const rk_forest_source *source, size_t *bytes) {
    header h = {.version = VERSION, .byte_order = BYTE_ORDER_MARK, .n_features = source->n_features,
                .n_outputs = source->n_outputs, .n_trees = source->n_trees, .flags = source->flags};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    uint64_t at = aligned(sizeof h);
#define S(name, type)                                \
    h.sections[SECTION_##name].offset = at;          \
    h.sections[SECTION_##name].count = s->n_##name;  \
    at = aligned(at + s->n_##name * sizeof(type));
    RK_SECTIONS(S)
#undef S
    h.bytes = at;
    uint8_t *image = aligned_alloc(ALIGNMENT, at);
    if (!image) {
        return NULL;
    }
    memset(image, 0, at);
#define S(name, type)                                                                              \
    if (s->n_##name) {                                                                             \
        memcpy(image + h.sections[SECTION_##name].offset, s->name, s->n_##name * sizeof(type));    \
    }
    RK_SECTIONS(S)
#undef S
    memcpy(image, &h, sizeof h);
    h.checksum = checksum_of(image + CHECKED_FROM, at - CHECKED_FROM);
    memcpy(image, &h, sizeof h);
    *bytes = at;
    return image;
}

/* The source's own arrays as sections; `outputs` and `base` stand in for what it leaves out. */
static void borrow_source(rk_sections *s, const rk_forest_source *source, const uint32_t *outputs, const double *base) {
    static const uint32_t no_sets[1] = {0};
    size_t n = source->node_begin[source->n_trees], leaves = n + source->n_trees;
    size_t width = rk_leaf_width(source->flags, source->n_outputs);
    size_t terms = source->linear_begin ? source->linear_begin[leaves] : 0;
#define BORROW(name, array, count) \
    s->name = (array);             \
    s->n_##name = (count);
    BORROW(node_begin, source->node_begin, (size_t)source->n_trees + 1)
    BORROW(split_feature, source->split_feature, n)
    BORROW(decision, source->decision, n)
    BORROW(threshold, source->threshold, n)
    BORROW(category_set, source->category_set, n)
    BORROW(left, source->left, n)
    BORROW(right, source->right, n)
    BORROW(leaf_value, source->leaf_value, leaves * width)
    BORROW(set_begin, source->n_sets ? source->set_begin : no_sets, (size_t)source->n_sets + 1)
    BORROW(set_words, source->set_words, source->n_sets ? source->set_begin[source->n_sets] : 0)
    BORROW(tree_output, outputs, source->n_trees)
    BORROW(base, base, source->n_outputs)
    BORROW(linear_begin, source->linear_begin, source->linear_begin ? leaves + 1 : 0)
    BORROW(linear_feature, source->linear_feature, terms)
    BORROW(linear_coefficient, source->linear_coefficient, terms)
    BORROW(linear_constant, source->linear_constant, source->linear_begin ? leaves : 0)
    BORROW(node_cover, source->node_cover, source->node_cover ? n : 0)
    BORROW(leaf_cover, source->leaf_cover, source->node_cover ? leaves : 0)
#undef BORROW
}

static uint8_t *compile(const rk_forest_source *source, size_t *bytes) {
    rk_sections s = {0};
    uint8_t *image = NULL;
    uint32_t *outputs = calloc(source->n_trees, sizeof *outputs);
    double *base = calloc(source->n_outputs, sizeof *base);
    if (outputs && base) {
        for (uint32_t t = 0; t < source->n_trees && !(source->flags & RK_FOREST_VECTOR_LEAVES); t++) {
            outputs[t] = source->tree_output ? source->tree_output[t] : t % source->n_outputs;
        }
        for (uint32_t o = 0; source->base && o < source->n_outputs; o++) {
            base[o] = source->base[o];
        }
        borrow_source(&s, source, outputs, base);
        if (!rk_compile_conditions(&s, source) &&
            !rk_compile_trees(&s, source, (uint32_t)(s.n_cut_threshold + s.n_membership))) {
            image = pack(&s, source, bytes);
        }
    }
    free(outputs);
    free(base);
    /* From `axis` on the sections are the compiler's own. */
#define S(name, type)               \
    if (SECTION_##name >= SECTION_axis) { \
        free((void *)(uintptr_t)s.name);  \
    }
    RK_SECTIONS(S)
#undef S
    return image;
}

rk_forest *rk_forest_build(const rk_forest_source *source, rk_forest_fault *fault) {
    *fault = (rk_forest_fault){RK_FOREST_OK, 0, 0};
    if (rk_forest_check(source, fault)) {
        return NULL;
    }
    size_t bytes = 0;
    uint8_t *image = compile(source, &bytes);
    if (!image) {
        rk_refuse(fault, RK_FOREST_NO_MEMORY, 0, 0);
        return NULL;
    }
    rk_forest *forest = rk_forest_open(image, bytes, fault);
    if (forest) {
        forest->owned = image;
    } else {
        free(image);
    }
    return forest;
}

void rk_forest_free(rk_forest *forest) {
    if (forest) {
        free(forest->owned);
        free(forest);
    }
}

const void *rk_forest_image(const rk_forest *forest, size_t *bytes) {
    *bytes = forest->image_bytes;
    return forest->image;
}

const rk_forest_source *rk_forest_as_source(const rk_forest *forest) { return &forest->source; }
