/* Rows as bits: the kernel itself, compiled once for every width of a vector.
 *
 * A file that includes this is a tier. Before each inclusion it defines, for one width:
 *   NAME(x)         x with a suffix of the width
 *   ROWS            rows of a block: bits of a vector, a multiple of 64
 *   VECTOR          the vector's type, with V_LOAD(words), V_STORE(words, v) (of ROWS / 64 aligned uint64_t), V_ZERO, V_ONES,
 *                   V_AND(a, b), V_ANDNOT(a, b) (a and not b), V_OR(a, b), V_XOR(a, b), V_BOUND(lo, hi, met) = lo & (hi | ~met)
 * and once, for all widths (rows is a multiple of 64):
 *   quantise(axis, table, values, rows, limit, bins, nans, zeros)   the bin of every value (of NaN, any), and
 *                   a bit a row: NaN; NaN or |x| <= limit
 *   slice(bins, rows, levels, planes)             bit b of every bin as rows / 64 words at planes + b * rows / 64
 *   codes_of(planes, n, rows, codes)              the reverse, of n <= 8 planes
 *   add_doubles(table, planes, codes, rows, sums), add_floats(...)   to the sum of every row, table[its code]
 *   double_at(r)    where in its sums add_doubles keeps row r (floats stand in order)
 * What each step does is told in docs/kernels.md.
 */

/* Masks are WORDS words each. */
#define WORDS (ROWS / 64)

typedef struct {
    uint64_t *conditions; /* the rows that meet each condition; the one always met is not kept */
    uint64_t *right_of;   /* per boundary of a tree */
    double *sums;         /* n_outputs * ROWS; floats in it with float sums */
    float *column;        /* a column of a matrix whose rows are not side by side */
} NAME(scratch);

/* The block's values of a feature: the matrix itself, or a copy where it has no ROWS rows or they stand apart. */
static const float *NAME(column)(const rk_batch *batch, size_t first, size_t rows, uint32_t feature, float *copy) {
    const float *from = batch->matrix + (ptrdiff_t)feature * batch->feature_stride + (ptrdiff_t)first * batch->row_stride;
    if (rows == ROWS && batch->row_stride == 1) {
        return from;
    }
    for (size_t r = 0; r < rows; r++) {
        copy[r] = from[(ptrdiff_t)r * batch->row_stride];
    }
    memset(copy + rows, 0, (ROWS - rows) * sizeof *copy);
    return copy;
}

/* Masks of a rule's conditions from its axis' bit planes (missing values already put in their bin): with the low
 * four bits, at_most[i] is "low bits <= i"; with the high ones, below[h] and same[h]; bin <= cut is then
 * below[cut / 16] | (same[cut / 16] & at_most[cut % 16]). */
static void NAME(rule_conditions)(const rk_rule *rule, const uint8_t *cuts, uint32_t levels, const VECTOR *planes,
                                  uint64_t *conditions) {
    VECTOR at_most[16], same[16], below[16];
    at_most[0] = V_ONES;
    for (uint32_t b = 0, n = 1; b < 4 && b < levels; b++, n *= 2) {
        for (uint32_t i = 0; i < n; i++) {
            at_most[n + i] = V_OR(at_most[i], V_ANDNOT(V_ONES, planes[b]));
            at_most[i] = V_ANDNOT(at_most[i], planes[b]);
        }
    }
    if (levels <= 4) {
        for (uint32_t i = 0; i < rule->count; i++) {
            V_STORE(conditions + i * WORDS, at_most[cuts[i]]);
        }
        return;
    }
    same[0] = V_ONES;
    for (uint32_t b = levels, n = 1; b-- > 4; n *= 2) {
        for (uint32_t i = n; i-- > 0;) {
            same[2 * i + 1] = V_AND(same[i], planes[b]);
            same[2 * i] = V_ANDNOT(same[i], planes[b]);
        }
    }
    below[0] = V_ZERO;
    for (uint32_t h = 1; h < 1u << (levels - 4); h++) {
        below[h] = V_OR(below[h - 1], same[h - 1]);
    }
    for (uint32_t i = 0; i < rule->count; i++) {
        uint32_t high = cuts[i] >> 4, low = cuts[i] & 15;
        V_STORE(conditions + i * WORDS, V_OR(below[high], V_AND(same[high], at_most[low])));
    }
}

/* All rules of an axis. Returns the first rule after them. */
static size_t NAME(axis_conditions)(const rk_forest *f, size_t rule, const float *values, uint64_t *conditions) {
    const rk_sections *s = &f->s;
    const rk_axis *axis = &s->axis[s->rule[rule].axis];
    uint8_t bins[ROWS] __attribute__((aligned(64)));
    uint64_t planes[8 * WORDS] __attribute__((aligned(64)));
    uint64_t nans[WORDS] __attribute__((aligned(64))), zeros[WORDS] __attribute__((aligned(64)));
    VECTOR filled[8];
    quantise(axis, s->axis_table + axis->table, values, ROWS, rk_zero_limit(f->flags), bins, nans, zeros);
    slice(bins, ROWS, axis->levels, planes);
    for (uint32_t of = s->rule[rule].axis; rule < s->n_rule && s->rule[rule].axis == of; rule++) {
        const rk_rule *r = &s->rule[rule];
        VECTOR absent = V_LOAD(r->missing == RK_MISSING_ZERO ? zeros : nans);
        for (uint32_t b = 0; b < axis->levels; b++) {
            VECTOR plane = V_LOAD(planes + b * WORDS);
            filled[b] = (r->missing_bin >> b) & 1 ? V_OR(plane, absent) : V_ANDNOT(plane, absent);
        }
        NAME(rule_conditions)(r, s->cut + r->condition, axis->levels, filled, conditions + r->condition * WORDS);
    }
    return rule;
}

static void NAME(block_conditions)(const rk_forest *f, const rk_batch *batch, size_t first, size_t rows, float *copy,
                                   uint64_t *conditions) {
    const rk_sections *s = &f->s;
    for (size_t rule = 0; rule < s->n_rule;) {
        const float *values = NAME(column)(batch, first, rows, s->axis[s->rule[rule].axis].feature, copy);
        rule = NAME(axis_conditions)(f, rule, values, conditions);
    }
    for (size_t i = 0; i < s->n_membership; i++) {
        const rk_membership *m = &s->membership[i];
        const float *values = NAME(column)(batch, first, rows, m->feature, copy);
        uint64_t *words = conditions + (s->n_cut + i) * WORDS;
        for (size_t r = 0; r < ROWS; r += 64) {
            uint64_t word = 0;
            for (size_t k = 0; k < 64; k++) {
                word |= (uint64_t)rk_is_member(f, m->set, (int)m->nan_in, values[r + k]) << k;
            }
            words[r / 64] = word;
        }
    }
}

/* The boundaries of a tree, then the planes of its leaves' codes. */
static void NAME(tree_planes)(const rk_forest *f, uint32_t t, const uint64_t *conditions, uint64_t *right_of,
                              uint64_t *planes) {
    const rk_sections *s = &f->s;
    uint32_t begin = s->node_begin[t], n_nodes = s->node_begin[t + 1] - begin, n_planes = s->tree[t].planes;
    const uint32_t *condition = s->cut_condition + begin;
    if (s->tree[t].oblivious) {
        for (uint32_t p = 0; p < n_planes; p++) {
            V_STORE(planes + (n_planes - 1 - p) * WORDS, V_LOAD(conditions + condition[p] * WORDS));
        }
        return;
    }
    const uint16_t *lo = s->cut_lo + begin, *hi = s->cut_hi + begin, *at = s->cut_at + begin;
    V_STORE(right_of, V_ONES);
    for (uint32_t i = n_nodes + 1; i <= 1u << n_planes; i++) {
        V_STORE(right_of + i * WORDS, V_ZERO);
    }
    for (uint32_t i = 0; i < n_nodes; i++) {
        VECTOR met = V_LOAD(conditions + condition[i] * WORDS);
        VECTOR bound = V_BOUND(V_LOAD(right_of + lo[i] * WORDS), V_LOAD(right_of + hi[i] * WORDS), met);
        V_STORE(right_of + at[i] * WORDS, bound);
    }
    for (uint32_t p = 0; p < n_planes; p++) {
        VECTOR plane = V_ZERO;
        for (uint32_t i = 1u << p; i < 1u << n_planes; i += 2u << p) {
            plane = V_XOR(plane, V_LOAD(right_of + i * WORDS));
        }
        V_STORE(planes + p * WORDS, plane);
    }
}

/* Adds a tree's leaves where a code has more than a byte or leaves are linear: row by row. */
static void NAME(add_slowly)(const rk_forest *f, uint32_t t, const uint64_t *planes, const rk_batch *batch, size_t first,
                             size_t rows, double *sums) {
    const rk_sections *s = &f->s;
    const rk_tree *tree = &s->tree[t];
    size_t leaves = (size_t)s->node_begin[t] + t;
    for (size_t r = 0; r < rows; r++) {
        uint32_t code = 0;
        for (uint32_t p = 0; p < tree->planes; p++) {
            code |= (uint32_t)(planes[p * WORDS + r / 64] >> (r % 64) & 1) << p;
        }
        for (uint32_t w = 0; w < f->width; w++) {
            size_t o = f->width > 1 ? w : s->tree_output[t], at = tree->table + ((size_t)w << tree->planes) + code;
            if (f->source.linear_begin) {
                const float *row = batch->matrix + (ptrdiff_t)(first + r) * batch->row_stride;
                sums[o * ROWS + double_at(r)] += rk_linear_leaf(f, leaves + s->table_leaf[at], row, batch->feature_stride);
            } else if (f->flags & RK_FOREST_FLOAT_SUMS) {
                ((float *)sums)[o * ROWS + r] += s->float_table[at];
            } else {
                sums[o * ROWS + double_at(r)] += s->leaf_table[at];
            }
        }
    }
}

static void NAME(add_tree)(const rk_forest *f, uint32_t t, const uint64_t *planes, const rk_batch *batch, size_t first,
                           size_t rows, double *sums) {
    const rk_sections *s = &f->s;
    const rk_tree *tree = &s->tree[t];
    uint8_t codes[ROWS] __attribute__((aligned(64)));
    if (tree->planes > 8 || f->source.linear_begin) {
        NAME(add_slowly)(f, t, planes, batch, first, rows, sums);
        return;
    }
    codes_of(planes, tree->planes, ROWS, codes);
    for (uint32_t w = 0; w < f->width; w++) {
        size_t o = f->width > 1 ? w : s->tree_output[t], at = tree->table + ((size_t)w << tree->planes);
        if (f->flags & RK_FOREST_FLOAT_SUMS) {
            add_floats(s->float_table + at, tree->planes, codes, ROWS, (float *)sums + o * ROWS);
        } else {
            add_doubles(s->leaf_table + at, tree->planes, codes, ROWS, sums + o * ROWS);
        }
    }
}

static void NAME(score_block)(const rk_forest *f, const rk_batch *batch, size_t first, size_t rows,
                              const NAME(scratch) * scratch) {
    const int floats = (f->flags & RK_FOREST_FLOAT_SUMS) != 0;
    double *sums = scratch->sums;
    uint64_t planes[16 * WORDS] __attribute__((aligned(64)));
    NAME(block_conditions)(f, batch, first, rows, scratch->column, scratch->conditions);
    for (uint32_t o = 0; o < f->n_outputs; o++) {
        for (size_t r = 0; r < ROWS; r++) {
            if (floats) {
                ((float *)sums)[o * ROWS + r] = (float)f->s.base[o];
            } else {
                sums[o * ROWS + r] = f->s.base[o];
            }
        }
    }
    for (uint32_t t = 0; t < f->n_trees; t++) {
        NAME(tree_planes)(f, t, scratch->conditions, scratch->right_of, planes);
        NAME(add_tree)(f, t, planes, batch, first, rows, sums);
    }
    for (uint32_t o = 0; o < f->n_outputs; o++) {
        for (size_t r = 0; r < rows; r++) {
            batch->out[o * batch->out_rows + first + r] =
                floats ? (double)((float *)sums)[o * ROWS + r] : sums[o * ROWS + double_at(r)];
        }
    }
}

/* Scores rows [first, first + rows) in blocks of ROWS; -1 if memory is short. */
static int NAME(score)(const rk_forest *f, const rk_batch *batch, size_t first, size_t rows) {
    size_t n_boundaries = 2 * ((size_t)f->max_nodes + 1), n_sums = (size_t)f->n_outputs * ROWS;
    size_t bytes = (f->n_conditions + n_boundaries) * (ROWS / 8) + n_sums * sizeof(double) + ROWS * sizeof(float);
    char *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!memory) {
        return -1;
    }
    NAME(scratch) scratch;
    scratch.conditions = (uint64_t *)(void *)memory;
    scratch.right_of = scratch.conditions + f->n_conditions * WORDS;
    scratch.sums = (double *)(void *)(scratch.right_of + n_boundaries * WORDS);
    scratch.column = (float *)(void *)(scratch.sums + n_sums);
    for (size_t r = 0; r < rows; r += ROWS) {
        NAME(score_block)(f, batch, first + r, rows - r < ROWS ? rows - r : ROWS, &scratch);
    }
    free(memory);
    return 0;
}

#undef WORDS
