/* Values as of a moment: decayed, summed over a window of time, as ratios. */
#include "rk_table_reading.h"

double rk_decay(const rk_read_column *column, const uint64_t *row, int64_t now_ms)
{
    int64_t time_ms = (int64_t)row[column->time_word];
    return now_ms > time_ms ? exp2(((double)time_ms - (double)now_ms) / column->asked.half_life_ms) : 1;
}

static int64_t floor_divided(int64_t number, int64_t by) { return number / by - (number % by < 0); }

/* The sum of a map's values of the buckets up to now, from the oldest on; 0: the map is missing. */
static int sum_window(const rk_read *read, const rk_read_window *window, const uint64_t *row, double *sum)
{
    const rk_table_window *asked = &window->asked;
    uint64_t ref = row[window->word], count = rk_ref_length(ref), at = rk_ref_at(ref);
    uint64_t bytes = rk_value_bytes(RK_CELL_MAP, count);
    *sum = 0;
    if (asked->ttl_ms && rk_is_past(read->now_ms, row[window->time_word], asked->ttl_ms)) return 0;
    if (ref == RK_REF_MISSING || !rk_heap_is_there(read->table, at, bytes)) return 0;
    const rk_word *codes = rk_heap_at(read->table, at), *values = rk_heap_at(read->table, at + bytes / 2);
    int64_t last = floor_divided(read->now_ms, asked->bucket_ms);
    for (uint64_t i = 0; i < count; i += 2) {
        uint64_t pair = rk_load(codes + i / 2), numbers = rk_load(values + i / 2);
        for (uint64_t k = 0; k < 2 && i + k < count; k++, pair >>= 32, numbers >>= 32) {
            int64_t age = (int64_t)((uint64_t)last - (uint64_t)(int32_t)(uint32_t)pair); /* may wrap */
            uint32_t bits = (uint32_t)numbers;
            float number;
            memcpy(&number, &bits, 4);
            if (age >= 0 && age < asked->bucket_count) *sum += (double)number;
        }
    }
    return 1;
}

double rk_sum(const rk_read *read, const rk_read_column *column, const uint64_t *row)
{
    const rk_table_column *asked = &column->asked;
    double sum, below;
    int is_there = sum_window(read, &column->windows[0], row, &sum);
    if (asked->part == RK_PART_WINDOW) return is_there ? sum : asked->missing;
    sum_window(read, &column->windows[1], row, &below);
    if (below == 0 && asked->prior_weight == 0) return asked->missing;
    return (sum + asked->prior_mean * asked->prior_weight) / (below + asked->prior_weight);
}
