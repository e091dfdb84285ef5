/* BITS: 64 rows at a time, a row being a bit of a word.
 *
 * 1. Every condition of the forest is evaluated once for the block: a word of the rows that meet it. For a rule, a row's
 *    bin is found by binary search over the rule's thresholds; rows are put in their bin's word, and as
 *    meeting a threshold means meeting all larger ones, a running OR gives all words.
 * 2. Per tree, breadth first: the rows that reach a node, AND the condition, AND NOT it, reach its children.
 * 3. A leaf's rank has a few bits; the word of such a bit is the OR of the words of a precomputed cover: the
 *    largest subtrees all of whose leaves have it.
 * 4. The words are turned into a byte per row, and leaf values are added, tree after tree.
 *
 * Related: QuickScorer (Lucchese et al., SIGIR 2015) keeps a word of leaves per row; this keeps a word of rows per node.
 */
#include <string.h>

#include "rk_forest_internal.h"

size_t rk_bits_scratch(const rk_forest *forest) {
    return ((size_t)forest->fast.n_conditions + forest->fast.max_slots) * sizeof(uint64_t);
}

static void rule_conditions(const rk_compiled *f, const rk_rule *rule, const float *column, size_t rows,
                            uint64_t *conditions) {
    const float *thresholds = f->thresholds + rule->condition;
    uint64_t *met = conditions + rule->condition;
    float values[RK_BLOCK_ROWS];
    uint32_t bins[RK_BLOCK_ROWS];
    for (size_t r = 0; r < rows; r++) {
        values[r] = rk_rule_value(rule, column[r]);
        bins[r] = 0;
    }
    uint32_t length = rule->count;
    while (length > 1) {
        uint32_t half = length / 2;
        for (size_t r = 0; r < rows; r++) {
            bins[r] += !(values[r] <= thresholds[bins[r] + half - 1]) ? half : 0;
        }
        length -= half;
    }
    memset(met, 0, ((size_t)rule->count + 1) * sizeof *met);
    for (size_t r = 0; r < rows; r++) {
        met[bins[r] + !(values[r] <= thresholds[bins[r]])] |= (uint64_t)1 << r;
    }
    for (uint32_t i = 1; i < rule->count; i++) {
        met[i] |= met[i - 1];
    }
}

static void block_conditions(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride,
                             uint64_t *conditions) {
    const rk_compiled *f = &forest->fast;
    for (uint32_t i = 0; i < f->n_rules; i++) {
        const float *column = matrix + (ptrdiff_t)f->rules[i].feature * feature_stride;
        rule_conditions(f, &f->rules[i], column, rows, conditions);
    }
    uint64_t *met = conditions + (f->n_conditions - f->n_memberships);
    for (uint32_t i = 0; i < f->n_memberships; i++) {
        const float *column = matrix + (ptrdiff_t)f->memberships[i].feature * feature_stride;
        uint64_t rows_in = 0;
        for (size_t r = 0; r < rows; r++) {
            rows_in |= (uint64_t)rk_in_set(forest, f->memberships[i].set, column[r]) << r;
        }
        met[i] = rows_in;
    }
}

/* The rows that reach every slot of a tree. */
static void reach_slots(const rk_forest *forest, uint32_t tree, const uint64_t *conditions, uint64_t *reach) {
    const rk_branch *branches = forest->fast.branches + forest->node_begin[tree];
    uint32_t n_nodes = forest->node_begin[tree + 1] - forest->node_begin[tree];
    reach[0] = ~(uint64_t)0;
    for (uint32_t c = 0; c < n_nodes; c++) {
        uint64_t here = reach[branches[c].slot], met = conditions[branches[c].condition];
        reach[2 * c + 1] = here & met;
        reach[2 * c + 2] = here & ~met;
    }
}

/* Bits 0 .. 8 of every row's rank, from up to eight of the tree's planes. */
static void ranks_of(const rk_compiled *f, uint32_t plane, uint32_t planes, const uint64_t *reach, uint64_t *ranks) {
    memset(ranks, 0, RK_BLOCK_ROWS);
    for (uint32_t p = 0; p < planes; p++) {
        uint64_t rows = 0;
        for (uint32_t i = f->cover_begin[plane + p]; i < f->cover_begin[plane + p + 1]; i++) {
            rows |= reach[f->covers[i]];
        }
        for (uint32_t k = 0; k < 8; k++) {
            ranks[k] |= f->spread[(rows >> (8 * k)) & 255] << p;
        }
    }
}

void rk_bits_block(const rk_forest *forest, const float *matrix, size_t rows, ptrdiff_t feature_stride, double *out,
                   size_t out_rows, void *scratch) {
    const rk_compiled *f = &forest->fast;
    uint64_t *conditions = scratch;
    uint64_t *reach = conditions + f->n_conditions;
    block_conditions(forest, matrix, rows, feature_stride, conditions);
    for (uint32_t t = 0, o = 0; t < forest->n_trees; t++) {
        const double *values = f->ranked_values + forest->node_begin[t] + t;
        double *sums = out + o * out_rows;
        uint64_t words[8], high_words[8];
        uint8_t ranks[RK_BLOCK_ROWS], high_ranks[RK_BLOCK_ROWS];
        uint32_t plane = f->plane_begin[t], planes = f->plane_begin[t + 1] - plane;
        reach_slots(forest, t, conditions, reach);
        ranks_of(f, plane, planes < 8 ? planes : 8, reach, words);
        memcpy(ranks, words, sizeof ranks);
        if (planes > 8) {
            ranks_of(f, plane + 8, planes - 8, reach, high_words);
            memcpy(high_ranks, high_words, sizeof high_ranks);
            for (size_t r = 0; r < rows; r++) {
                sums[r] += values[ranks[r] | (uint32_t)high_ranks[r] << 8];
            }
        } else {
            for (size_t r = 0; r < rows; r++) {
                sums[r] += values[ranks[r]];
            }
        }
        o = o + 1 == forest->n_outputs ? 0 : o + 1;
    }
}
