/* Random valid forests and rows that lie close to their thresholds, the same on every machine. */
#ifndef RANDOM_FOREST_H
#define RANDOM_FOREST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../rk_forest.h"

/* How trees grow. MIXED: every tree in another way. */
enum { GROW_ANY, GROW_LEFT, GROW_RIGHT, GROW_ZIGZAG, GROW_COMPLETE, GROW_OBLIVIOUS, GROW_MIXED };

typedef struct {
    uint32_t n_features, n_outputs, n_trees, flags;
    uint32_t grow;
    uint32_t least_leaves, most_leaves; /* of a tree */
    uint32_t n_thresholds;              /* distinct ones of a feature */
    uint32_t n_sets;                    /* 0: no categorical nodes */
    int tree_output, base, linear, cover;
    uint32_t first_leaves; /* of tree 0, if not 0 */
} forest_plan;

typedef struct {
    rk_forest_source source;
    double *pool; /* n_thresholds a feature */
    uint32_t n_thresholds;
    void *kept[24];
    uint32_t n_kept;
} random_forest;

static uint64_t random_state = 88172645463325252u;

/* xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled" (2016). */
static inline uint32_t random_bits(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)((random_state * 0x2545f4914f6cdd1du) >> 32);
}

static inline uint32_t random_below(uint32_t bound) { return random_bits() % bound; }

static inline double random_double(void) { return (double)random_bits() / 2147483648.0 - 1.0; }

static inline void *forest_room(random_forest *f, size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    if (!memory) abort();
    return f->kept[f->n_kept++] = memory;
}

/* Thresholds: plain ones, between float32s, at the edges of float32, zero and the zero threshold. */
static inline double random_threshold(uint32_t i) {
    static const double edges[] = {0.0, -0.0, 1e-35, -1e-35, 1e-36, -1e-36, 1.0000001e-35, -1.0000001e-35, 1e-45, -1e-45,
                                   1e300, -1e300, 3.4028234663852886e38, -3.4028234663852886e38, INFINITY, -INFINITY};
    switch (random_below(8)) {
    case 0: return edges[random_below(sizeof edges / sizeof *edges)];
    case 1: return (double)(float)random_double();
    case 2: return (double)(int)i - 20;
    default: return random_double() * (1.0 + (double)i / 16);
    }
}

static inline void fill_node(const forest_plan *plan, random_forest *f, uint32_t i, int32_t like) {
    rk_forest_source *s = &f->source;
    int32_t *feature = (int32_t *)(uintptr_t)s->split_feature, *set = (int32_t *)(uintptr_t)s->category_set;
    uint8_t *decision = (uint8_t *)(uintptr_t)s->decision;
    double *threshold = (double *)(uintptr_t)s->threshold;
    if (like >= 0) {
        feature[i] = feature[like];
        set[i] = set[like];
        decision[i] = decision[like];
        threshold[i] = threshold[like];
        return;
    }
    feature[i] = (int32_t)random_below(plan->n_features);
    uint32_t how = random_bits();
    decision[i] = (uint8_t)((how & RK_DECISION_DEFAULT_LEFT) | (how >> 8) % 3 << RK_DECISION_MISSING_SHIFT);
    threshold[i] = f->pool[(uint32_t)feature[i] * plan->n_thresholds + random_below(plan->n_thresholds)];
    set[i] = -1;
    if (plan->n_sets && how >> 30 == 0) {
        decision[i] |= RK_DECISION_CATEGORICAL;
        set[i] = (int32_t)random_below(plan->n_sets);
        threshold[i] = NAN;
    }
}

/* Which leaf node n of a growing tree takes the place of; it becomes the node's left leaf, leaf n + 1 its right one. */
static inline uint32_t place_of(uint32_t grow, uint32_t n) {
    uint32_t level = 1;
    switch (grow) {
    case GROW_LEFT: return 0;
    case GROW_RIGHT: return n;
    case GROW_ZIGZAG: return random_below(2) ? n : (n ? n - 1 : 0);
    case GROW_ANY: return random_below(n + 1);
    default:
        while (2 * level <= n + 1) level *= 2;
        return n + 1 - level;
    }
}

/* Node numbers but the root's are shuffled: `number` has room for them. */
static inline void grow_tree(const forest_plan *plan, random_forest *f, uint32_t begin, uint32_t n_nodes, uint32_t grow,
                             int32_t **child, uint32_t *number) {
    int32_t *left = (int32_t *)(uintptr_t)f->source.left, *right = (int32_t *)(uintptr_t)f->source.right;
    for (uint32_t n = 0; n < n_nodes; n++) number[n] = n;
    for (uint32_t n = n_nodes; n > 2 && random_below(4); n--) {
        uint32_t other = 1 + random_below(n - 1), kept = number[n - 1];
        number[n - 1] = number[other];
        number[other] = kept;
    }
    uint32_t level = 0;
    for (uint32_t n = 0; n < n_nodes; n++) {
        uint32_t place = place_of(grow, n), i = begin + number[n];
        if (n > 0) *child[place] = (int32_t)number[n];
        left[i] = ~(int32_t)place;
        right[i] = ~(int32_t)(n + 1);
        child[place] = &left[i];
        child[n + 1] = &right[i];
        if (grow == GROW_OBLIVIOUS && place > 0) {
            fill_node(plan, f, i, (int32_t)(begin + number[level]));
        } else {
            level = n;
            fill_node(plan, f, i, -1);
        }
    }
}

static inline uint32_t tree_nodes(const forest_plan *plan, uint32_t t, uint32_t grow) {
    uint32_t leaves = plan->least_leaves + random_below(plan->most_leaves - plan->least_leaves + 1), whole = 1;
    if (t == 0 && plan->first_leaves) leaves = plan->first_leaves;
    while (grow == GROW_OBLIVIOUS && 2 * whole <= leaves) whole *= 2;
    return (grow == GROW_OBLIVIOUS ? whole : leaves) - 1;
}

static inline void fill_sets(const forest_plan *plan, random_forest *f) {
    uint32_t *begin = forest_room(f, plan->n_sets + 1, sizeof *begin);
    uint32_t *words = forest_room(f, 5 * (size_t)plan->n_sets, sizeof *words);
    for (uint32_t i = 0; i < plan->n_sets; i++) {
        begin[i + 1] = begin[i] + random_below(6);
        for (uint32_t k = begin[i]; k < begin[i + 1]; k++) words[k] = random_bits() & random_bits();
    }
    f->source.n_sets = plan->n_sets;
    f->source.set_begin = begin;
    f->source.set_words = words;
}

static inline void fill_leaves(const forest_plan *plan, random_forest *f, size_t leaves, size_t n_nodes) {
    rk_forest_source *s = &f->source;
    size_t width = plan->flags & RK_FOREST_VECTOR_LEAVES ? plan->n_outputs : 1;
    double *value = forest_room(f, leaves * width, sizeof *value);
    for (size_t i = 0; i < leaves * width; i++) value[i] = ldexp(random_double(), (int)random_below(40) - 20);
    s->leaf_value = value;
    if (plan->cover) {
        double *node_cover = forest_room(f, n_nodes, sizeof *node_cover);
        double *leaf_cover = forest_room(f, leaves, sizeof *leaf_cover);
        for (size_t i = 0; i < leaves; i++) leaf_cover[i] = random_below(100);
        s->node_cover = node_cover;
        s->leaf_cover = leaf_cover;
    }
    if (plan->linear) {
        uint32_t *begin = forest_room(f, leaves + 1, sizeof *begin);
        int32_t *feature = forest_room(f, 3 * leaves, sizeof *feature);
        double *coefficient = forest_room(f, 3 * leaves, sizeof *coefficient);
        double *constant = forest_room(f, leaves, sizeof *constant);
        for (size_t i = 0; i < leaves; i++) begin[i + 1] = begin[i] + random_below(4);
        for (size_t i = 0; i < begin[leaves]; i++) {
            feature[i] = (int32_t)random_below(plan->n_features);
            coefficient[i] = random_double();
        }
        for (size_t i = 0; i < leaves; i++) constant[i] = random_double();
        s->linear_begin = begin;
        s->linear_feature = feature;
        s->linear_coefficient = coefficient;
        s->linear_constant = constant;
    }
}

static inline void fill_trees(const forest_plan *plan, random_forest *f, const uint32_t *grow) {
    rk_forest_source *s = &f->source;
    size_t n = s->node_begin[plan->n_trees];
    s->split_feature = forest_room(f, n, sizeof(int32_t));
    s->category_set = forest_room(f, n, sizeof(int32_t));
    s->decision = forest_room(f, n, 1);
    s->threshold = forest_room(f, n, sizeof(double));
    s->left = forest_room(f, n, sizeof(int32_t));
    s->right = forest_room(f, n, sizeof(int32_t));
    int32_t **child = malloc((n + 2) * sizeof *child);
    uint32_t *number = malloc((n + 2) * sizeof *number);
    if (!child || !number) abort();
    for (uint32_t t = 0; t < plan->n_trees; t++) {
        grow_tree(plan, f, s->node_begin[t], s->node_begin[t + 1] - s->node_begin[t], grow[t], child, number);
    }
    free(child);
    free(number);
}

static inline random_forest *random_forest_of(const forest_plan *plan) {
    random_forest *f = calloc(1, sizeof *f);
    if (!f) abort();
    rk_forest_source *s = &f->source;
    *s = (rk_forest_source){.n_features = plan->n_features, .n_outputs = plan->n_outputs, .n_trees = plan->n_trees,
                            .flags = plan->flags};
    f->n_thresholds = plan->n_thresholds;
    f->pool = forest_room(f, (size_t)plan->n_features * plan->n_thresholds, sizeof *f->pool);
    for (uint32_t i = 0; i < plan->n_features * plan->n_thresholds; i++) f->pool[i] = random_threshold(i);
    uint32_t *begin = forest_room(f, plan->n_trees + 1, sizeof *begin), *grow = forest_room(f, plan->n_trees, sizeof *grow);
    for (uint32_t t = 0; t < plan->n_trees; t++) {
        grow[t] = plan->grow == GROW_MIXED ? random_below(GROW_MIXED) : plan->grow;
        begin[t + 1] = begin[t] + tree_nodes(plan, t, grow[t]);
    }
    s->node_begin = begin;
    fill_sets(plan, f);
    fill_trees(plan, f, grow);
    fill_leaves(plan, f, (size_t)begin[plan->n_trees] + plan->n_trees, begin[plan->n_trees]);
    if (plan->tree_output) {
        uint32_t *outputs = forest_room(f, plan->n_trees, sizeof *outputs);
        for (uint32_t t = 0; t < plan->n_trees; t++) outputs[t] = random_below(plan->n_outputs);
        s->tree_output = outputs;
    }
    if (plan->base) {
        double *base = forest_room(f, plan->n_outputs, sizeof *base);
        for (uint32_t o = 0; o < plan->n_outputs; o++) base[o] = random_double();
        s->base = base;
    }
    return f;
}

static inline void random_forest_free(random_forest *f) {
    for (uint32_t i = 0; i < f->n_kept; i++) free(f->kept[i]);
    free(f);
}

/* A value of a feature: most lie at a threshold or its neighbour. */
static inline float random_value(const random_forest *f, uint32_t feature) {
    static const float edges[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-35f, -1e-35f, 1.0000001e-35f, -1.0000001e-35f,
                                  9.9999994e-36f, -9.9999994e-36f, 1e-45f, -1e-45f, 2147483648.0f, 2147483520.0f, -1.0f, -0.5f};
    uint32_t how = random_below(16), bits = random_bits();
    float value = (float)f->pool[feature * f->n_thresholds + random_below(f->n_thresholds)];
    switch (how) {
    case 0: case 1: return edges[bits % (sizeof edges / sizeof *edges)];
    case 2: memcpy(&value, &bits, sizeof value); return value;
    case 3: case 4: return (float)(bits % 170);
    case 5: return (float)(bits % 170) - 4.5f;
    case 6: case 7: case 8: return value;
    case 9: case 10: return nextafterf(value, INFINITY);
    case 11: case 12: return nextafterf(value, -INFINITY);
    default: return (float)random_double();
    }
}

static const char *const tier_names[RK_FOREST_N_TIERS] = {"auto", "scalar", "walk", "bits", "avx2", "avx512", "neon"};

/* "tiers tested: scalar walk bits; not here: avx2": of a forest that every tier can take. */
static inline void print_tiers(const rk_forest *forest) {
    for (int here = 1; here >= 0; here--) {
        fputs(here ? "tiers tested:" : "; not here:", stdout);
        for (int tier = RK_FOREST_SCALAR; tier < RK_FOREST_N_TIERS; tier++) {
            if (rk_forest_has_tier(forest, (rk_forest_tier)tier) == here) printf(" %s", tier_names[tier]);
        }
    }
    putchar('\n');
}

/* A copy of the forest's image, aligned to 64 bytes, of exactly its size; to be given to free(). */
static inline uint8_t *image_copy(const rk_forest *forest, size_t *bytes) {
    const void *image = rk_forest_image(forest, bytes);
    void *copy = aligned_alloc(64, *bytes); /* images are a multiple of 64 bytes */
    if (!copy) abort();
    return memcpy(copy, image, *bytes);
}

#endif
