/* rk_diversity: orders in which likes stand apart. Items are given in an order of theirs; positions in it are what
 * `order` gets, all n of them, whatever k or depth.
 *
 * rk_mmr, maximal marginal relevance: the first k places are filled one after another, each with the item of greatest
 *     lambda * relevance - (1 - lambda) * (its greatest similarity to any item placed before)
 * where the first place counts similarity as 0. Ties: the item given earlier. A value that is not a number (a missing
 * relevance) loses to every other. The other items follow as given.
 * J. Carbonell, J. Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing
 * summaries", SIGIR 1998.
 *
 * Similarity is the cosine of two embeddings: each is multiplied in double by the reciprocal of its norm and rounded to
 * float; products of two are summed in float. Both sums, of squares in double and of products, run in
 * RK_DIVERSITY_LANES lanes, element i in lane i % RK_DIVERSITY_LANES, which are added in halves (0 + 8, 1 + 9, ...;
 * then 0 + 4, ...): the same bits on every machine. An embedding with a NaN or infinity in it, or of zeros only, is
 * missing: its similarity to all is 0. Without embeddings, similarity is 1 for two items of the same group and 0 for
 * others; a group below 0 is missing and like no other.
 *
 * rk_group_caps: no group more often than `cap` in any `window` places in a row, among the first `depth` places (so
 * window = depth caps groups in the first `depth`). Greedy and stable: each place gets the earliest item given that
 * may stand there. Where none may, and from place `depth` on, what is left follows as given. An item whose group is
 * missing (below 0) may stand anywhere.
 *
 * Ownership: everything is borrowed for the call; scratch memory is freed before it returns. Threads: nothing is
 * shared. Limits: n <= RK_DIVERSITY_MOST, dimension >= 1, lambda in [0, 1]. Each returns 0, or -1 without memory or
 * beyond a limit (nothing is written).
 */
#ifndef RK_DIVERSITY_H
#define RK_DIVERSITY_H

#include <stddef.h>
#include <stdint.h>

#define RK_DIVERSITY_MOST 2147483647u
enum { RK_DIVERSITY_LANES = 16 };

typedef struct {
    const double *relevance;
    const float *embeddings; /* n rows of `dimension`, or NULL: by group */
    const int32_t *groups;   /* read without embeddings only */
    size_t n;
    size_t dimension;
    double lambda;
} rk_mmr_list;

int rk_mmr(const rk_mmr_list *list, size_t k, int64_t *order);

/* The same with every similarity computed: the oracle. */
int rk_mmr_scalar(const rk_mmr_list *list, size_t k, int64_t *order);

/* `placed` (or NULL) becomes the number of places filled before the rest followed. */
int rk_group_caps(const int32_t *groups, size_t n, size_t cap, size_t window, size_t depth, int64_t *order,
                  size_t *placed);

/* The same by trying every item for every place: the oracle. */
int rk_group_caps_scalar(const int32_t *groups, size_t n, size_t cap, size_t window, size_t depth, int64_t *order,
                         size_t *placed);

#endif
