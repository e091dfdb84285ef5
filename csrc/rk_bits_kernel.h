/* Rows as bits: the kernel itself, compiled once for every width of a vector.
 *
 * A file that includes this is a tier. Before each inclusion it defines, for one width:
 *   NAME(x)         x with a suffix of the width
 *   ROWS            rows of a block: bits of a vector, a multiple of 64
 *   VECTOR          the vector's type, with V_LOAD(words) and V_STORE(words, v) (of ROWS / 64 aligned uint64_t),
 *                   V_ZERO, V_ONES, V_AND(a, b), V_ANDNOT(a, b) (a and not b), V_OR(a, b), V_XOR(a, b),
 *                   V_BOUND(lo, hi, met) = lo & (hi | ~met), and V_PREFETCH(address), which fetches early where masks
 *                   are so wide that it helps
 * and once, for all widths (rows is a multiple of 64):
 *   quantise(forest, axis, values, rows, planes, nans, zeros)   bit b of every value's bin (of NaN, any) as rows / 64
 *                   words at planes + b * rows / 64; and a bit a row: NaN; if axis->zeros, NaN or |x| <= the zero limit
 *   codes_of(planes, n, rows, codes)   from n <= 8 planes, a pointer each, the byte of every row
 *   add_doubles(table, planes, codes, rows, sums), add_floats(...)   to the sum of every row, table[its code]
 *   transpose(from, row_stride, rows, columns, stride, out)   out[c * stride + r] = from[r * row_stride + c], for
 *                   columns <= 16
 *   double_at(r)    where in its sums add_doubles keeps row r (floats stand in order)
 * This file undefines the former again. What each step does is told in docs/kernels.md.
 */

/* Masks are WORDS words each. */
#define WORDS (ROWS / 64)
#define NO_PANEL UINT32_MAX

typedef struct {
    uint64_t *conditions; /* the rows that meet each condition; the one always met is not kept */
    uint64_t *right_of;   /* per boundary of a tree */
    double *sums;         /* n_outputs * ROWS; floats in it with float sums */
    float *panel;         /* 16 features * ROWS, of a matrix that has no ROWS values of a feature side by side */
    uint32_t loaded;      /* the first feature in the panel */
} NAME(scratch);

/* The block's values of a feature: the matrix itself, or a copy in the panel, where rows that are not there are 0. */
static const float *NAME(column)(const rk_forest *f, const rk_batch *batch, size_t first, size_t rows, uint32_t feature,
                                 NAME(scratch) * scratch) {
    const float *block = batch->matrix + (ptrdiff_t)first * batch->row_stride;
    const float *from = block + (ptrdiff_t)feature * batch->feature_stride;
    uint32_t panel = feature / 16 * 16, left = f->n_features - panel;
    if (batch->row_stride == 1) {
        if (rows < ROWS) {
            memmove(scratch->panel, from, rows * sizeof *from); /* gcc makes memcpy a slow string instruction here */
        }
        return rows < ROWS ? scratch->panel : from;
    }
    if (batch->feature_stride != 1) {
        for (size_t r = 0; r < rows; r++) {
            scratch->panel[r] = from[(ptrdiff_t)r * batch->row_stride];
        }
        return scratch->panel;
    }
    if (scratch->loaded != panel) {
        transpose(block + panel, batch->row_stride, rows, left < 16 ? left : 16, ROWS, scratch->panel);
        scratch->loaded = panel;
    }
    return scratch->panel + (feature - panel) * ROWS;
}

/* The masks that all conditions of an axis are made of: with the low four bits, at_most[i] is "low bits <= i"; with
 * the high ones, same[h] and below[h], side by side. */
typedef struct {
    uint64_t at_most[16 * WORDS] __attribute__((aligned(64)));
    uint64_t high[32 * WORDS] __attribute__((aligned(64)));
} NAME(nibbles);

static void NAME(split)(uint32_t levels, const VECTOR *planes, NAME(nibbles) * n) {
    VECTOR at_most[16], same[16], below = V_ZERO;
    at_most[0] = V_ONES;
    for (uint32_t b = 0, k = 1; b < 4 && b < levels; b++, k *= 2) {
        for (uint32_t i = 0; i < k; i++) {
            at_most[k + i] = V_OR(at_most[i], V_ANDNOT(V_ONES, planes[b]));
            at_most[i] = V_ANDNOT(at_most[i], planes[b]);
        }
    }
    same[0] = V_ONES;
    for (uint32_t b = levels, k = 1; b-- > 4; k *= 2) {
        for (uint32_t i = k; i-- > 0;) {
            same[2 * i + 1] = V_AND(same[i], planes[b]);
            same[2 * i] = V_ANDNOT(same[i], planes[b]);
        }
    }
    for (uint32_t i = 0; i < 16 && i < 1u << levels; i++) {
        V_STORE(n->at_most + i * WORDS, at_most[i]);
    }
    for (uint32_t h = 0; h == 0 || h < 1u << levels >> 4; h++) {
        V_STORE(n->high + 2 * h * WORDS, same[h]);
        V_STORE(n->high + (2 * h + 1) * WORDS, below);
        below = V_OR(below, same[h]);
    }
}

/* Masks of a rule's conditions: bin <= cut is below[cut / 16] | (same[cut / 16] & at_most[cut % 16]). */
static __attribute__((noinline)) void NAME(rule_conditions)(const rk_rule *rule, const rk_sections *s,
                                                            const NAME(nibbles) * n, uint64_t *conditions) {
    const uint8_t *low = s->cut_low + rule->condition, *high = s->cut_high + rule->condition;
    const uint8_t *lows = (const uint8_t *)n->at_most, *highs = (const uint8_t *)n->high;
    for (uint32_t i = 0; i < rule->count; i++) {
        const void *same = highs + high[i] * WORDS, *below = highs + high[i] * WORDS + 8 * WORDS;
        VECTOR at_most = V_LOAD((const void *)(lows + low[i] * WORDS));
        V_STORE(conditions + i * WORDS, V_OR(V_LOAD(below), V_AND(V_LOAD(same), at_most)));
    }
}

/* Has the values of a feature on their way while others are worked on: columns stand too far apart for the processor
 * to see the next one coming. */
static void NAME(expect)(const rk_batch *batch, size_t first, size_t rows, uint32_t feature) {
    const float *from = batch->matrix + (ptrdiff_t)feature * batch->feature_stride + (ptrdiff_t)first;
    for (size_t r = 0; batch->row_stride == 1 && r < rows; r += 16) {
        __builtin_prefetch(from + r);
    }
}

/* All rules of an axis. Returns the first rule after them. */
static size_t NAME(axis_conditions)(const rk_forest *f, size_t rule, const float *values, uint64_t *conditions) {
    const rk_sections *s = &f->s;
    const rk_axis *axis = &s->axis[s->rule[rule].axis];
    uint64_t planes[8 * WORDS] __attribute__((aligned(64)));
    uint64_t nans[WORDS] __attribute__((aligned(64))), zeros[WORDS] __attribute__((aligned(64)));
    VECTOR filled[8];
    NAME(nibbles) nibbles;
    quantise(f, axis, values, ROWS, planes, nans, zeros);
    for (uint32_t of = s->rule[rule].axis; rule < s->n_rule && s->rule[rule].axis == of; rule++) {
        const rk_rule *r = &s->rule[rule];
        VECTOR absent = V_LOAD(r->missing == RK_MISSING_ZERO ? zeros : nans);
        for (uint32_t b = 0; b < axis->levels; b++) {
            VECTOR plane = V_LOAD(planes + b * WORDS);
            filled[b] = (r->missing_bin >> b) & 1 ? V_OR(plane, absent) : V_ANDNOT(plane, absent);
        }
        NAME(split)(axis->levels, filled, &nibbles);
        NAME(rule_conditions)(r, s, &nibbles, conditions + r->condition * WORDS);
    }
    return rule;
}

static void NAME(block_conditions)(const rk_forest *f, const rk_batch *batch, size_t first, size_t rows,
                                   NAME(scratch) * scratch) {
    uint64_t *conditions = scratch->conditions;
    const rk_sections *s = &f->s;
    for (size_t rule = 0; rule < s->n_rule;) {
        uint32_t axis = s->rule[rule].axis;
        const float *values = NAME(column)(f, batch, first, rows, s->axis[axis].feature, scratch);
        NAME(expect)(batch, first, rows, s->axis[axis + 1 < s->n_axis ? axis + 1 : axis].feature);
        rule = NAME(axis_conditions)(f, rule, values, conditions);
    }
    for (size_t i = 0; i < s->n_membership; i++) {
        const rk_membership *m = &s->membership[i];
        const float *values = NAME(column)(f, batch, first, rows, m->feature, scratch);
        uint64_t *words = conditions + (s->n_cut_threshold + i) * WORDS;
        for (size_t r = 0; r < ROWS; r += 64) {
            uint64_t word = 0;
            for (size_t k = 0; k < 64; k++) {
                word |= (uint64_t)rk_is_member(f, m->set, (int)m->nan_in, values[r + k]) << k;
            }
            words[r / 64] = word;
        }
    }
}

/* The bits of the code: plane p is the XOR of the boundaries that are odd multiples of 2^p. */
static inline __attribute__((always_inline)) void NAME(xor_planes)(uint32_t n_planes, const uint64_t *right_of,
                                                                   uint64_t *planes) {
    VECTOR plane[3] = {V_ZERO, V_ZERO, V_ZERO};
    for (uint32_t i = 0; n_planes >= 3 && i < 1u << n_planes; i += 8) {
        const uint64_t *eight = right_of + i * WORDS;
        plane[0] = V_XOR(plane[0], V_XOR(V_LOAD(eight + WORDS), V_LOAD(eight + 3 * WORDS)));
        plane[0] = V_XOR(plane[0], V_XOR(V_LOAD(eight + 5 * WORDS), V_LOAD(eight + 7 * WORDS)));
        plane[1] = V_XOR(plane[1], V_XOR(V_LOAD(eight + 2 * WORDS), V_LOAD(eight + 6 * WORDS)));
        plane[2] = V_XOR(plane[2], V_LOAD(eight + 4 * WORDS));
    }
    for (uint32_t p = 0; n_planes >= 3 && p < 3; p++) {
        V_STORE(planes + p * WORDS, plane[p]);
    }
    for (uint32_t p = n_planes >= 3 ? 3 : 0; p < n_planes; p++) {
        VECTOR other = V_ZERO;
        for (uint32_t i = 1u << p; i < 1u << n_planes; i += 2u << p) {
            other = V_XOR(other, V_LOAD(right_of + i * WORDS));
        }
        V_STORE(planes + p * WORDS, other);
    }
}

/* The boundaries of a bunch's trees. */
static __attribute__((noinline)) void NAME(bunch_bounds)(const rk_sections *s, uint32_t first, uint32_t end,
                                                         const uint64_t *conditions, uint64_t *right_of) {
    uint32_t begin = s->node_begin[first], n_nodes = s->node_begin[end] - begin;
    const uint32_t *condition = s->cut_condition + begin;
    const uint16_t *lo = s->cut_lo + begin, *hi = s->cut_hi + begin, *at = s->cut_at + begin;
    const uint8_t *met = (const uint8_t *)conditions;
    uint8_t *bounds = (uint8_t *)right_of;
    for (uint32_t t = first; t < end; t++) {
        uint64_t *own = right_of + s->tree[t].bound * WORDS;
        V_STORE(own, V_ONES);
        for (uint32_t i = s->node_begin[t + 1] - s->node_begin[t] + 1; i <= 1u << s->tree[t].planes; i++) {
            V_STORE(own + i * WORDS, V_ZERO);
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n_nodes; i++) {
        V_PREFETCH(met + (size_t)condition[i + RK_FETCH_AHEAD] * WORDS);
        VECTOR low = V_LOAD((const void *)(bounds + lo[i] * WORDS));
        VECTOR high = V_LOAD((const void *)(bounds + hi[i] * WORDS));
        VECTOR bound = V_BOUND(low, high, V_LOAD((const void *)(met + (size_t)condition[i] * WORDS)));
        V_STORE((void *)(bounds + at[i] * WORDS), bound);
    }
}

/* The planes of the codes of a tree's leaves: conditions, or made in `room`. */
static __attribute__((noinline)) void NAME(tree_planes)(const rk_sections *s, uint32_t t, const uint64_t *conditions,
                                                        const uint64_t *right_of, uint64_t *room,
                                                        const uint64_t **planes) {
    const rk_tree *tree = &s->tree[t];
    const uint64_t *own = right_of + tree->bound * WORDS;
    const uint32_t *condition = s->cut_condition + s->node_begin[t], last = tree->planes - 1;
    for (uint32_t p = 0; p < tree->planes; p++) {
        planes[p] = tree->oblivious ? conditions + (condition[last - p] / 8) * WORDS : room + p * WORDS;
    }
    if (tree->oblivious) {
        return;
    }
    switch (tree->planes) {
    case 5: NAME(xor_planes)(5, own, room); break;
    case 6: NAME(xor_planes)(6, own, room); break;
    default: NAME(xor_planes)(tree->planes, own, room);
    }
}

/* Adds a tree's leaves where a code has more than a byte or leaves are linear: row by row. */
static void NAME(add_slowly)(const rk_forest *f, uint32_t t, const uint64_t *const *planes, const rk_batch *batch,
                             size_t first, size_t rows, double *sums) {
    const rk_sections *s = &f->s;
    const rk_tree *tree = &s->tree[t];
    size_t leaves = (size_t)s->node_begin[t] + t;
    for (size_t r = 0; r < rows; r++) {
        uint32_t code = 0;
        for (uint32_t p = 0; p < tree->planes; p++) {
            code |= (uint32_t)(planes[p][r / 64] >> (r % 64) & 1) << p;
        }
        for (uint32_t w = 0; w < f->width; w++) {
            size_t o = f->width > 1 ? w : s->tree_output[t], at = tree->table + ((size_t)w << tree->planes) + code;
            if (f->source.linear_begin) {
                const float *row = batch->matrix + (ptrdiff_t)(first + r) * batch->row_stride;
                size_t leaf = leaves + s->table_leaf[at];
                sums[o * ROWS + double_at(r)] += rk_linear_leaf(f, leaf, row, batch->feature_stride);
            } else if (f->flags & RK_FOREST_FLOAT_SUMS) {
                ((float *)sums)[o * ROWS + r] += s->float_table[at];
            } else {
                sums[o * ROWS + double_at(r)] += s->leaf_table[at];
            }
        }
    }
}

static void NAME(add_tree)(const rk_forest *f, uint32_t t, const uint64_t *const *planes, const rk_batch *batch,
                           size_t first, size_t rows, double *sums) {
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
                              NAME(scratch) * scratch) {
    const int floats = (f->flags & RK_FOREST_FLOAT_SUMS) != 0;
    double *sums = scratch->sums;
    uint64_t room[16 * WORDS] __attribute__((aligned(64)));
    const uint64_t *planes[16];
    if (rows < ROWS) {
        memset(scratch->panel, 0, 16 * ROWS * sizeof *scratch->panel);
    }
    scratch->loaded = NO_PANEL;
    NAME(block_conditions)(f, batch, first, rows, scratch);
    for (uint32_t o = 0; o < f->n_outputs; o++) {
        for (size_t r = 0; r < ROWS; r++) {
            if (floats) {
                ((float *)sums)[o * ROWS + r] = (float)f->s.base[o];
            } else {
                sums[o * ROWS + r] = f->s.base[o];
            }
        }
    }
    for (size_t b = 0; b + 1 < f->s.n_bunch; b++) {
        uint32_t begin = f->s.bunch[b], end = f->s.bunch[b + 1];
        if (!f->s.tree[begin].oblivious) {
            NAME(bunch_bounds)(&f->s, begin, end, scratch->conditions, scratch->right_of);
        }
        for (uint32_t t = begin; t < end; t++) {
            NAME(tree_planes)(&f->s, t, scratch->conditions, scratch->right_of, room, planes);
            NAME(add_tree)(f, t, planes, batch, first, rows, sums);
        }
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
    size_t n_sums = (size_t)f->n_outputs * ROWS, masks = (f->n_conditions + (size_t)f->max_bounds) * (ROWS / 8);
    size_t bytes = masks + n_sums * sizeof(double) + 16 * ROWS * sizeof(float);
    char *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    if (!memory) {
        return -1;
    }
    NAME(scratch) scratch;
    scratch.conditions = (uint64_t *)(void *)memory;
    scratch.right_of = scratch.conditions + f->n_conditions * WORDS;
    scratch.sums = (double *)(void *)(scratch.right_of + f->max_bounds * WORDS);
    scratch.panel = (float *)(void *)(scratch.sums + n_sums);
    for (size_t r = 0; r < rows; r += ROWS) {
        NAME(score_block)(f, batch, first + r, rows - r < ROWS ? rows - r : ROWS, &scratch);
    }
    free(memory);
    return 0;
}

#undef WORDS
#undef NO_PANEL
#undef NAME
#undef ROWS
#undef VECTOR
#undef V_LOAD
#undef V_STORE
#undef V_ZERO
#undef V_ONES
#undef V_AND
#undef V_ANDNOT
#undef V_OR
#undef V_XOR
#undef V_BOUND
#undef V_PREFETCH
