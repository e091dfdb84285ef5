/* The walk over one tree, for 8 rows a vector. Included by one source file per tier, which says for which processor
 * and under which name (RK_SHAP_WALK), how long its vectors are (RK_SHAP_VECTOR_BYTES) and how many rows walk together
 * (RK_SHAP_WALK_ROWS); only additions and multiplications, in one order, so that all give the same bits.
 *
 * Per node and quadrature point, F is the first child's factor. P is the product of the factors on the way here,
 * Q the sum of leaf values below, each times the factors between. Down: P1 = P F, P2 = P - P1.
 * Up: X = Q1 - Q2, Q = Q2 + X F; the feature's value grows by w * sum over points of du/dt * P * X.
 * F = share + u w; w = 1 - share for rows that go to the first child, -share for those that go to the second, 0 for
 * rows that failed an earlier condition on the same feature. P starts as the quadrature weights.
 */
#include "rk_shap_internal.h"

#define LANES (RK_SHAP_VECTOR_BYTES / 8)
#define MAX_PARTS (RK_SHAP_WALK_ROWS / LANES) /* vectors that walk together */
_Static_assert(RK_SHAP_WALK_ROWS <= RK_SHAP_MAX_WALK_ROWS, "slots are too small");
#define INLINE static inline __attribute__((always_inline))

typedef double lanes __attribute__((vector_size(RK_SHAP_VECTOR_BYTES)));
typedef int64_t lane_bits __attribute__((vector_size(RK_SHAP_VECTOR_BYTES)));

/* A node as the rows of a walk see it. */
typedef struct {
    lanes direction[MAX_PARTS]; /* w */
    double share;
    const double *u;
    const double *slope; /* du/dt; NULL: 1 */
} view;

/* A value in all lanes: minus 0 changes nothing and is folded away. */
INLINE lanes spread(double value) { return value - (lanes){0}; }

/* 1.0 for the rows whose bit is set, else 0.0. */
INLINE lanes ones_of(uint64_t rows) {
    lane_bits bit = {0};
    for (int i = 0; i < LANES; i++) {
        bit[i] = 1 << i;
    }
    lane_bits all = (int64_t)rows - (lane_bits){0};
    return (lanes)(((all & bit) == bit) & (lane_bits)spread(1.0));
}

INLINE void look(view *v, const rk_shap_job *job, uint32_t index, uint32_t shift, const uint32_t parts) {
    const rk_shap *shap = job->shap;
    const rk_shap_node *node = &shap->nodes[job->tree->node + index];
    const rk_shap_rule *rule = &shap->rules[job->tree->points];
    int fixed = node->column == job->fixed;
    for (uint32_t i = 0; i < parts; i++) {
        v->direction[i] = ones_of(job->first_rows[index] >> (shift + i * LANES)) - node->share;
        if (node->above != RK_SHAP_NONE || fixed) {
            v->direction[i] *= ones_of(job->open_rows[index] >> (shift + i * LANES));
        }
    }
    uint32_t curve = fixed && job->known ? rule->one : node->curve;
    v->share = node->share;
    v->u = shap->curves + curve;
    v->slope = curve == rule->plain ? NULL : v->u + job->tree->points;
}

INLINE void down(const view *v, uint32_t points, const uint32_t parts, const lanes *restrict p, lanes *restrict first,
                 lanes *restrict second) {
    for (uint32_t k = 0; k < points; k++) {
        for (uint32_t i = 0; i < parts; i++) {
            size_t at = (size_t)k * parts + i;
            lanes part = p[at] * (v->share + v->u[k] * v->direction[i]);
            first[at] = part;
            if (second) {
                second[at] = p[at] - part;
            }
        }
    }
}

/* Q of a node whose second child is a leaf if `second` is NULL; what the node adds to its feature goes to `sums`. */
INLINE void up(const view *v, uint32_t points, const uint32_t parts, lanes *restrict p, const lanes *restrict first,
               const lanes *restrict second, double leaf, lanes *restrict sums) {
    lanes added[MAX_PARTS] = {{0}};
    for (uint32_t k = 0; k < points; k++) {
        for (uint32_t i = 0; i < parts; i++) {
            size_t at = (size_t)k * parts + i;
            lanes other = second ? second[at] : spread(leaf);
            lanes difference = first[at] - other, weighted = p[at] * difference;
            added[i] += v->slope ? weighted * v->slope[k] : weighted;
            p[at] = other + difference * (v->share + v->u[k] * v->direction[i]);
        }
    }
    for (uint32_t i = 0; i < parts; i++) {
        sums[i] += added[i] * v->direction[i];
    }
}

/* The same of a node above two leaves. */
INLINE void bottom(const view *v, uint32_t points, const uint32_t parts, lanes *restrict p, double first, double second,
                   lanes *restrict sums) {
    lanes added[MAX_PARTS] = {{0}}, along[MAX_PARTS];
    double difference = first - second, base = second + difference * v->share;
    for (uint32_t i = 0; i < parts; i++) {
        along[i] = difference * v->direction[i];
    }
    for (uint32_t k = 0; k < points; k++) {
        for (uint32_t i = 0; i < parts; i++) {
            size_t at = (size_t)k * parts + i;
            added[i] += v->slope ? p[at] * v->slope[k] : p[at];
            p[at] = base + v->u[k] * along[i];
        }
    }
    for (uint32_t i = 0; i < parts; i++) {
        sums[i] += added[i] * along[i];
    }
}

INLINE void walk_rows(const rk_shap_job *job, uint32_t shift, const uint32_t parts) {
    const rk_shap *shap = job->shap;
    const rk_shap_tree *tree = job->tree;
    const rk_shap_node *nodes = shap->nodes + tree->node;
    const uint32_t points = tree->points;
    const size_t slot = (size_t)points * parts;
    lanes *slots = (lanes *)job->slots;
    const double *weights = shap->curves + shap->rules[points].plain + 2 * points;
    for (uint32_t k = 0; k < points; k++) {
        for (uint32_t i = 0; i < parts; i++) {
            slots[k * parts + i] = spread(weights[k]);
        }
    }
    for (uint32_t s = 0; s < tree->n_steps; s++) {
        uint32_t step = shap->steps[tree->step + s], index = step >> RK_SHAP_STEP_BITS;
        const rk_shap_node *node = &nodes[index];
        lanes *p = slots + node->slot * slot, *first = slots + (2 * (size_t)node->depth + 1) * slot;
        lanes *sums = (lanes *)(job->sums + (size_t)node->column * RK_SHAP_BLOCK_ROWS + shift);
        view v;
        look(&v, job, index, shift, parts);
        switch (step & ((1u << RK_SHAP_STEP_BITS) - 1)) {
        case RK_SHAP_DOWN_ONE:
            down(&v, points, parts, p, first, NULL);
            break;
        case RK_SHAP_DOWN_BOTH:
            down(&v, points, parts, p, first, first + slot);
            break;
        case RK_SHAP_UP_ONE:
            up(&v, points, parts, p, first, NULL, job->values[node->second * job->stride], sums);
            break;
        case RK_SHAP_UP_BOTH:
            up(&v, points, parts, p, first, first + slot, 0.0, sums);
            break;
        default:
            bottom(&v, points, parts, p, job->values[node->first * job->stride],
                   job->values[node->second * job->stride], sums);
        }
    }
}

void RK_SHAP_WALK(const rk_shap_job *job) {
    for (uint32_t shift = 0; shift < job->rows; shift += RK_SHAP_WALK_ROWS) {
        uint32_t parts = MAX_PARTS;
        while (parts > 1 && parts / 2 * LANES >= job->rows - shift) {
            parts /= 2;
        }
        switch (parts) {
#if MAX_PARTS >= 8
        case 8:
            walk_rows(job, shift, 8);
            break;
#endif
        case 4:
            walk_rows(job, shift, 4);
            break;
        case 2:
            walk_rows(job, shift, 2);
            break;
        default:
            walk_rows(job, shift, 1);
        }
    }
}
