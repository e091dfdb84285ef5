/* Both orders as the contract reads: the oracles. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rk_diversity_internal.h"

/* Positions that are not placed follow as given. */
void rk_diversity_finish(const uint8_t *is_placed, size_t n, size_t placed, int64_t *order) {
    for (size_t i = 0; i < n; i++) {
        if (!is_placed[i]) order[placed++] = (int64_t)i;
    }
}

int rk_mmr_scalar(const rk_mmr_list *list, size_t k, int64_t *order) {
    size_t n = list->n, placed = 0;
    if (!rk_mmr_is_sound(list)) return -1;
    uint8_t *is_placed = calloc(n + 1, 1);
    float *units = rk_mmr_units(list);
    if (!is_placed || !units) {
        free(is_placed);
        free(units);
        return -1;
    }
    for (; placed < n && placed < k; placed++) {
        size_t best = n;
        double best_value = NAN;
        for (size_t i = 0; i < n; i++) {
            double most = placed ? -INFINITY : 0;
            if (is_placed[i]) continue;
            for (size_t j = 0; j < placed; j++) {
                double similarity = rk_mmr_similarity(list, units, i, (size_t)order[j]);
                most = similarity > most ? similarity : most;
            }
            double value = rk_mmr_value(list, i, most);
            if (best == n || value > best_value || (best_value != best_value && value == value)) {
                best = i;
                best_value = value;
            }
        }
        order[placed] = (int64_t)best;
        is_placed[best] = 1;
    }
    rk_diversity_finish(is_placed, n, placed, order);
    free(is_placed);
    free(units);
    return 0;
}

/* Whether an item of a group may stand at the next place, `placed`. */
static int may_stand(const int32_t *groups, int32_t group, size_t cap, size_t window, const int64_t *order,
                     size_t placed) {
    size_t same = 0;
    if (group < 0 || window == 0) return 1;
    for (size_t back = 1; back < window && back <= placed; back++) same += groups[order[placed - back]] == group;
    return same < cap;
}

int rk_group_caps_scalar(const int32_t *groups, size_t n, size_t cap, size_t window, size_t depth, int64_t *order,
                         size_t *placed) {
    size_t done = 0;
    if (n > RK_DIVERSITY_MOST) return -1;
    uint8_t *is_placed = calloc(n + 1, 1);
    if (!is_placed) return -1;
    for (; done < n && done < depth; done++) {
        size_t i = 0;
        while (i < n && (is_placed[i] || !may_stand(groups, groups[i], cap, window, order, done))) i++;
        if (i == n) break;
        order[done] = (int64_t)i;
        is_placed[i] = 1;
    }
    if (placed) *placed = done;
    rk_diversity_finish(is_placed, n, done, order);
    free(is_placed);
    return 0;
}
