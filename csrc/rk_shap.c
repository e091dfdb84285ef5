/* Tiers, blocks of rows and outputs of explanations; and the quadrature rule. */
#include "rk_shap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rk_shap_internal.h"

static rk_shap_walk walk_of(rk_shap_tier tier) {
    switch (tier) {
    case RK_SHAP_PLAIN:
        return rk_shap_walk_plain;
#if defined(__x86_64__)
    case RK_SHAP_AVX2:
        return __builtin_cpu_supports("avx2") ? rk_shap_walk_avx2 : NULL;
    case RK_SHAP_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? rk_shap_walk_avx512 : NULL;
#endif
    default:
        return NULL;
    }
}

int rk_shap_has_tier(rk_shap_tier tier) {
    return tier == RK_SHAP_AUTO || tier == RK_SHAP_SCALAR || walk_of(tier) != NULL;
}

static rk_shap_walk fastest(void) {
    rk_shap_walk walk = walk_of(RK_SHAP_AVX512);
    walk = walk ? walk : walk_of(RK_SHAP_AVX2);
    return walk ? walk : rk_shap_walk_plain;
}

/* Newton's method on the Legendre polynomial, from Tricomi's guess; the points are symmetric about 1/2. */
void rk_shap_quadrature(uint32_t n, double *points, double *weights) {
    for (uint32_t i = 0; i < (n + 1) / 2; i++) {
        double x = 2 * i + 1 == n ? 0.0 : cos(3.14159265358979323846 * (i + 0.75) / (n + 0.5)), slope = 1.0;
        for (int round = 0; round < 8; round++) {
            double before = 1.0, here = x;
            for (uint32_t k = 2; k <= n; k++) {
                double next = ((2.0 * k - 1.0) * x * here - (k - 1.0) * before) / k;
                before = here;
                here = next;
            }
            slope = n * (before - x * here) / (1.0 - x * x);
            x -= here / slope;
        }
        double weight = 1.0 / ((1.0 - x * x) * slope * slope);
        points[i] = 0.5 - 0.5 * x;
        points[n - 1 - i] = 0.5 + 0.5 * x;
        weights[i] = weights[n - 1 - i] = weight;
    }
}

/* A block's working memory, one allocation. */
typedef struct {
    rk_shap_job job;
    rk_shap_walk walk; /* NULL: SCALAR */
    uint64_t *conditions;
    size_t rows; /* of the block, at most 64 */
    int interactions;
    size_t n_sums;
    double *product; /* interactions: plain values of one tree with a column fixed */
    void *memory;
} block;

static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

static int open_block(block *b, const rk_shap *shap) {
    size_t n_columns = shap->n_columns, row_sums = RK_SHAP_BLOCK_ROWS * sizeof(double);
    b->n_sums = (b->interactions ? n_columns : 1) * n_columns * RK_SHAP_BLOCK_ROWS;
    size_t conditions = aligned((shap->forest->n_conditions + (size_t)1) * sizeof(uint64_t));
    size_t masks = aligned(shap->max_nodes * sizeof(uint64_t));
    size_t slots = (2 * (size_t)shap->max_depth + 3) * shap->max_points * RK_SHAP_MAX_WALK_ROWS * sizeof(double);
    size_t product = b->interactions ? n_columns * row_sums : 0;
    size_t bytes = conditions + 2 * masks + slots + product + b->n_sums * sizeof(double);
    char *memory = b->memory = aligned_alloc(64, aligned(bytes + 64));
    if (!memory) {
        return -1;
    }
    b->job.shap = shap;
    b->job.sums = (double *)memory;
    memory += b->n_sums * sizeof(double);
    b->product = (double *)memory;
    memory += product;
    b->job.slots = (double *)memory;
    memory += slots;
    b->conditions = (uint64_t *)memory;
    memory += conditions;
    b->job.first_rows = (uint64_t *)memory;
    b->job.open_rows = (uint64_t *)(memory + masks);
    return 0;
}

/* Which rows go to the first child, and which have met all conditions on the node's feature so far. */
static void direct_rows(const rk_shap_job *job, const uint64_t *conditions) {
    const rk_shap_node *nodes = job->shap->nodes + job->tree->node;
    for (uint32_t i = 0; i < job->tree->n_nodes; i++) {
        const rk_shap_node *node = &nodes[i];
        uint64_t open = ~(uint64_t)0;
        if (node->above != RK_SHAP_NONE) {
            uint32_t above = node->above >> 1;
            open = job->open_rows[above] & (node->above & 1 ? ~job->first_rows[above] : job->first_rows[above]);
        }
        job->first_rows[i] = conditions[node->condition] ^ (node->flip ? ~(uint64_t)0 : 0);
        job->open_rows[i] = open;
    }
}

/* Half the difference that knowing a column makes to the values of all others, column by column of the tree. */
static void interact(block *b) {
    rk_shap_job job = b->job;
    const rk_shap *shap = job.shap;
    const rk_shap_node *nodes = shap->nodes + job.tree->node;
    const uint32_t *columns = shap->tree_columns + job.tree->column_begin;
    size_t n_columns = shap->n_columns;
    job.sums = b->product;
    for (uint32_t c = 0; c < job.tree->n_columns; c++) {
        job.fixed = columns[c];
        for (job.known = 1; job.known >= 0; job.known--) {
            for (uint32_t d = 0; d < job.tree->n_columns; d++) {
                memset(b->product + (size_t)columns[d] * RK_SHAP_BLOCK_ROWS, 0, RK_SHAP_BLOCK_ROWS * sizeof(double));
            }
            for (uint32_t i = 0; i < job.tree->n_nodes && !job.known; i++) {
                job.open_rows[i] = nodes[i].column == job.fixed ? 0 : job.open_rows[i];
            }
            b->walk(&job);
            for (uint32_t d = 0; d < job.tree->n_columns; d++) {
                const double *values = b->product + (size_t)columns[d] * RK_SHAP_BLOCK_ROWS;
                double *sums = b->job.sums + ((size_t)job.fixed * n_columns + columns[d]) * RK_SHAP_BLOCK_ROWS;
                for (size_t r = 0; r < b->rows && columns[d] != job.fixed; r++) {
                    sums[r] += job.known ? 0.5 * values[r] : -0.5 * values[r];
                }
            }
        }
        direct_rows(&job, b->conditions);
    }
}

/* The values of a tree, added to the sums. */
static int explain_tree(block *b, uint32_t tree, uint32_t output) {
    const rk_shap *shap = b->job.shap;
    if (!b->walk) {
        return rk_shap_scalar_tree(shap, tree, output, b->conditions, b->rows, b->interactions, b->job.sums);
    }
    b->job.tree = &shap->trees[tree];
    direct_rows(&b->job, b->conditions);
    if (b->interactions) {
        interact(b);
    } else {
        b->walk(&b->job);
    }
    return 0;
}

/* out[f * rows] of `n` rows from the columns' sums and the expected value. */
static void write_values(const rk_shap *shap, const double *sums, double expected, double *out, size_t rows, size_t n) {
    for (uint32_t f = 0; f < shap->source->n_features; f++) {
        memset(out + f * rows, 0, n * sizeof *out);
    }
    for (uint32_t c = 0; c < shap->n_columns; c++) {
        memcpy(out + shap->columns[c] * rows, sums + (size_t)c * RK_SHAP_BLOCK_ROWS, n * sizeof *out);
    }
    for (size_t r = 0; r < n; r++) {
        out[shap->source->n_features * rows + r] = expected;
    }
}

/* Adds, for interactions, the rows [f][g] of the matrix; the diagonal still lacks the values themselves. */
static void write_interactions(const rk_shap *shap, const double *sums, double *out, size_t rows, size_t n) {
    size_t width = shap->source->n_features + (size_t)1;
    for (size_t f = 0; f < width * width; f++) {
        memset(out + f * rows, 0, n * sizeof *out);
    }
    for (size_t c = 0; c < shap->n_columns; c++) {
        for (size_t d = 0; d < shap->n_columns; d++) {
            const double *from = sums + (c * shap->n_columns + d) * RK_SHAP_BLOCK_ROWS;
            const double *mirror = sums + (d * shap->n_columns + c) * RK_SHAP_BLOCK_ROWS;
            double *to = out + (shap->columns[c] * width + shap->columns[d]) * rows;
            for (size_t r = 0; r < n; r++) {
                to[r] = 0.5 * (from[r] + mirror[r]);
            }
        }
    }
}

static int explain(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                   ptrdiff_t row_stride, int interactions, double *out) {
    const rk_forest_source *s = shap->source;
    block b = {.walk = tier == RK_SHAP_AUTO ? fastest() : walk_of(tier), .interactions = interactions};
    if (!rk_shap_has_tier(tier) || open_block(&b, shap)) {
        return -1;
    }
    size_t width = s->n_features + (size_t)1, per_output = interactions ? width * width : width;
    int vector = (s->flags & RK_FOREST_VECTOR_LEAVES) != 0, failed = 0;
    b.job.stride = vector ? s->n_outputs : 1;
    b.job.fixed = RK_SHAP_NONE;
    for (size_t begin = 0; begin < rows && !failed; begin += RK_SHAP_BLOCK_ROWS) {
        b.rows = rows - begin < RK_SHAP_BLOCK_ROWS ? rows - begin : RK_SHAP_BLOCK_ROWS;
        b.job.rows = (uint32_t)b.rows;
        rk_forest_conditions(shap->forest, matrix + (ptrdiff_t)begin * row_stride, b.rows, feature_stride, row_stride,
                             b.conditions);
        for (uint32_t o = 0; o < s->n_outputs && !failed; o++) {
            uint32_t first = vector ? 0 : shap->output_begin[o], last = vector ? s->n_trees : shap->output_begin[o + 1];
            memset(b.job.sums, 0, b.n_sums * sizeof(double));
            b.job.values = shap->leaf_value + (vector ? o : 0);
            for (uint32_t i = first; i < last && !failed; i++) {
                failed = explain_tree(&b, shap->output_trees[i], o);
            }
            double *to = out + o * per_output * rows + begin;
            if (interactions) {
                write_interactions(shap, b.job.sums, to, rows, b.rows);
            } else {
                write_values(shap, b.job.sums, shap->expected[o], to, rows, b.rows);
            }
        }
    }
    free(b.memory);
    return failed;
}

int rk_shap_values(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                   ptrdiff_t row_stride, double *out) {
    return explain(shap, tier, matrix, rows, feature_stride, row_stride, 0, out);
}

int rk_shap_interactions(const rk_shap *shap, rk_shap_tier tier, const float *matrix, size_t rows,
                         ptrdiff_t feature_stride, ptrdiff_t row_stride, double *out) {
    size_t n_features = shap->source->n_features, width = n_features + 1;
    double *values = malloc(shap->source->n_outputs * width * rows * sizeof *values + 1);
    int failed = !values || explain(shap, tier, matrix, rows, feature_stride, row_stride, 0, values) ||
                 explain(shap, tier, matrix, rows, feature_stride, row_stride, 1, out);
    for (size_t o = 0; o < shap->source->n_outputs && !failed; o++) {
        for (size_t f = 0; f < width; f++) {
            double *line = out + (o * width + f) * width * rows, *own = line + f * rows;
            for (size_t r = 0; r < rows; r++) {
                double rest = values[(o * width + f) * rows + r];
                for (size_t g = 0; g < width; g++) {
                    rest -= g == f ? 0.0 : line[g * rows + r];
                }
                own[r] = rest;
            }
        }
    }
    free(values);
    return failed ? -1 : 0;
}
