/* Order by comparing pairs: the oracle. */
#include "rk_order.h"

#include <stdlib.h>
#include <string.h>

int rk_id_compare(rk_id a, rk_id b) {
    int bytes = memcmp(a.bytes, b.bytes, a.length < b.length ? a.length : b.length);
    return bytes ? bytes : (a.length > b.length) - (a.length < b.length);
}

/* < 0: a comes first; 0: equal in score and rank. */
static int compare_scores(const rk_order_list *list, int64_t a, int64_t b) {
    double x = list->scores[a], y = list->scores[b];
    int x_missing = x != x, y_missing = y != y;
    if (x_missing | y_missing) {
        if (x_missing != y_missing) return x_missing - y_missing;
    } else if (x != y) {
        return x > y ? -1 : 1;
    }
    if (!list->ranks) return 0;
    return (list->ranks[a] > list->ranks[b]) - (list->ranks[a] < list->ranks[b]);
}

static int comes_first(const rk_order_list *list, int64_t a, int64_t b) {
    int by = compare_scores(list, a, b);
    if (!by && list->ids) by = rk_id_compare(list->ids[a], list->ids[b]);
    return by ? by < 0 : a < b;
}

/* Merge sort from the bottom: runs of `width` are sorted, pairs of them are merged from one array to the other. */
int rk_order_top_scalar(const rk_order_list *list, size_t k, int64_t *order, int *tied) {
    size_t n = list->n, taken = k < n ? k : n;
    if (n > RK_ORDER_MOST) return -1;
    int64_t *from = malloc((2 * n + 1) * sizeof *from);
    if (!from) return -1;
    int64_t *memory = from, *to = from + n;
    for (size_t i = 0; i < n; i++) from[i] = (int64_t)i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t start = 0; start < n; start += 2 * width) {
            size_t middle = start + width < n ? start + width : n;
            size_t stop = middle + width < n ? middle + width : n;
            size_t left = start, right = middle;
            for (size_t i = start; i < stop; i++) {
                int take_left = right == stop || (left < middle && comes_first(list, from[left], from[right]));
                to[i] = take_left ? from[left++] : from[right++];
            }
        }
        int64_t *sorted = to;
        to = from;
        from = sorted;
    }
    if (tied) *tied = 0;
    for (size_t i = 0; tied && i < taken && i + 1 < n; i++) *tied |= !compare_scores(list, from[i], from[i + 1]);
    if (taken) memcpy(order, from, taken * sizeof *order);
    free(memory);
    return 0;
}
