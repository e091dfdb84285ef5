/* The oracle: Shapley values leaf by leaf, from the definition, in sums of terms >= 0; no quadrature, no division by
 * what may be 0, no state between nodes.
 *
 * A leaf of value v whose path has d distinct features adds to the value of feature i
 *     v (o_i - z_i) sum over k of k! (d - 1 - k)! / d! * E_k,
 * o_j being 1 if the row meets all conditions on feature j, z_j the product of the shares, and E_k the sum, over
 * the sets S of k of the other features, of the products of o_j (j in S) and z_j (not in S). Interactions: the same
 * over the sets without i and j, with (o_i - z_i) (o_j - z_j) / 2 in front.
 */
#include <stdlib.h>

#include "rk_shap_internal.h"

typedef struct {
    uint32_t column;
    double one;
    double zero;
} factor;

/* The average of the products over all sets of the factors but `skip` and `other`, weighted as above. */
static double weighted_sets(const factor *factors, uint32_t n, uint32_t skip, uint32_t other, double *sets) {
    uint32_t used = 0;
    sets[0] = 1.0;
    for (uint32_t j = 0; j < n; j++) {
        if (j == skip || j == other) {
            continue;
        }
        sets[++used] = 0.0;
        for (uint32_t k = used; k > 0; k--) {
            sets[k] = sets[k] * factors[j].zero + sets[k - 1] * factors[j].one;
        }
        sets[0] *= factors[j].zero;
    }
    /* k! (used - k)! / (used + 1)! = 1 / ((used + 1) * (used choose k)) */
    double total = 0.0, choose = 1.0;
    for (uint32_t k = 0; k <= used; k++) {
        total += sets[k] / choose;
        choose = choose * (used - k) / (k + 1.0);
    }
    return total / (used + 1.0);
}

/* The distinct features between a leaf and the root, as one row sees them. */
static uint32_t climb(const rk_shap *shap, uint32_t tree, int32_t leaf, const int32_t *parents,
                      const uint64_t *conditions, size_t row, const uint32_t *column_of, factor *factors) {
    const rk_forest_source *s = shap->source;
    uint32_t begin = s->node_begin[tree], n = 0, n_nodes = s->node_begin[tree + 1] - begin;
    int32_t child = ~leaf;
    for (int32_t node = parents[n_nodes + (uint32_t)leaf]; node >= 0; child = node, node = parents[node]) {
        size_t i = begin + (size_t)node;
        uint32_t column = column_of[s->split_feature[i]], at = 0;
        int left = s->left[i] == child, goes_left = (conditions[shap->forest->s.node_condition[i]] >> row) & 1;
        while (at < n && factors[at].column != column) {
            at++;
        }
        if (at == n) {
            factors[n++] = (factor){column, 1.0, 1.0};
        }
        factors[at].one *= left == goes_left;
        factors[at].zero *= left ? shap->shares[i] : 1.0 - shap->shares[i];
    }
    return n;
}

static void add_leaf(const factor *factors, uint32_t n, double value, double *sets, size_t n_columns, int interactions,
                     double *sums) {
    for (uint32_t i = 0; i < n; i++) {
        double edge = value * (factors[i].one - factors[i].zero);
        if (!interactions) {
            sums[(size_t)factors[i].column * RK_SHAP_BLOCK_ROWS] += edge * weighted_sets(factors, n, i, i, sets);
            continue;
        }
        for (uint32_t j = 0; j < n; j++) {
            if (j != i) {
                size_t at = factors[i].column * n_columns + factors[j].column;
                double both = 0.5 * edge * (factors[j].one - factors[j].zero);
                sums[at * RK_SHAP_BLOCK_ROWS] += both * weighted_sets(factors, n, i, j, sets);
            }
        }
    }
}

int rk_shap_scalar_tree(const rk_shap *shap, uint32_t tree, uint32_t output, const uint64_t *conditions, size_t rows,
                        int interactions, double *sums) {
    const rk_forest_source *s = shap->source;
    size_t begin = s->node_begin[tree], n_nodes = s->node_begin[tree + 1] - begin, first_leaf = begin + tree;
    int vector = (s->flags & RK_FOREST_VECTOR_LEAVES) != 0;
    int32_t *parents = malloc((2 * n_nodes + 1) * sizeof *parents);
    uint32_t *column_of = malloc(s->n_features * sizeof *column_of);
    factor *factors = malloc((RK_SHAP_MAX_PATH_FEATURES + 1) * sizeof *factors);
    double *sets = malloc((RK_SHAP_MAX_PATH_FEATURES + 1) * sizeof *sets);
    int failed = !parents || !column_of || !factors || !sets;
    for (uint32_t c = 0; c < shap->n_columns && !failed; c++) {
        column_of[shap->columns[c]] = c;
    }
    for (size_t i = 0; i < n_nodes && !failed; i++) {
        int32_t children[2] = {s->left[begin + i], s->right[begin + i]};
        for (int side = 0; side < 2; side++) {
            parents[children[side] >= 0 ? (size_t)children[side] : n_nodes + (uint32_t)~children[side]] = (int32_t)i;
        }
        parents[0] = -1;
    }
    for (size_t leaf = 0; leaf <= n_nodes && n_nodes && !failed; leaf++) {
        size_t at = vector ? (first_leaf + leaf) * s->n_outputs + output : first_leaf + leaf;
        double value = shap->leaf_value[at];
        for (size_t r = 0; r < rows; r++) {
            uint32_t n = climb(shap, tree, (int32_t)leaf, parents, conditions, r, column_of, factors);
            add_leaf(factors, n, value, sets, shap->n_columns, interactions, sums + r);
        }
    }
    free(parents);
    free(column_of);
    free(factors);
    free(sets);
    return failed ? -1 : 0;
}
