/* When the values of a row were set: one time for all of them, or times in the heap. */
#include "rk_table_internal.h"

int64_t rk_time_of(const rk_table *table, uint64_t word, uint32_t order)
{
    uint64_t how = word & 3, at = rk_times_at(word), count = rk_times_listed(word);
    if (how < RK_TIMES_LISTED) return (int64_t)word >> 2;
    if (!rk_heap_is_there(table, at, rk_times_bytes(table, word))) return RK_NO_TIME;
    const rk_word *words = rk_heap_at(table, at);
    if (how == RK_TIMES_EACH) return (int64_t)rk_load(words + order);
    uint64_t which = rk_load(words + count + order / 8) >> order % 8 * 8 & 0xff;
    return which && which <= count ? (int64_t)rk_load(words + which - 1) : RK_NO_TIME;
}

static int has_value(const rk_table *table, uint32_t c)
{
    return rk_has_value(&table->cells[c], (const uint8_t *)table->writer->image + table->places[c].at);
}

void rk_writer_spread_times(rk_table *table)
{
    uint64_t word = table->writer->image[table->times_word];
    int64_t *times = table->writer->times;
    for (uint32_t c = 0; c < table->cell_count; c++) {
        if (table->cells[c].timed) continue;
        int is_none = (word & 3) == RK_TIMES_ONE && !has_value(table, c);
        *times++ = is_none ? RK_NO_TIME : rk_time_of(table, word, table->places[c].order);
    }
}

/* Whether all that have a time have the same; it, and whether there are some without. */
static int is_one_time(const rk_table *table, int64_t *time_ms, int *is_any_without)
{
    const int64_t *times = table->writer->times;
    *time_ms = RK_NO_TIME;
    *is_any_without = 0;
    for (uint32_t k = 0; k < table->untimed_count; k++) {
        if (times[k] == RK_NO_TIME) *is_any_without = 1;
        else if (*time_ms == RK_NO_TIME) *time_ms = times[k];
        else if (*time_ms != times[k]) return 0;
    }
    return 1;
}

static int is_any_clear(const rk_table *table)
{
    for (uint32_t c = 0; c < table->cell_count; c++) {
        if (table->cells[c].timed || has_value(table, c)) continue;
        if (table->writer->times[table->places[c].order] != RK_NO_TIME) return 1;
    }
    return 0;
}

/* Which of at most RK_MOST_LISTED distinct times each cell has; how many there are, 0: more. */
static uint64_t list_times(const rk_table *table, int64_t *listed, uint8_t *which)
{
    const int64_t *times = table->writer->times;
    uint64_t count = 0;
    for (uint32_t k = 0; k < table->untimed_count; k++) {
        uint64_t i = 0;
        while (i < count && listed[i] != times[k]) i++;
        if (i == count && times[k] != RK_NO_TIME) {
            if (count == RK_MOST_LISTED) return 0;
            listed[count++] = times[k];
        }
        which[k] = times[k] == RK_NO_TIME ? 0 : (uint8_t)(i + 1);
    }
    return count;
}

static void put_times(rk_table *table)
{
    rk_writer *writer = table->writer;
    int64_t listed[RK_MOST_LISTED];
    uint8_t *which = (uint8_t *)(writer->times + table->untimed_count);
    uint64_t count = list_times(table, listed, which), word = count << 2 | RK_TIMES_LISTED;
    if (!count || rk_times_bytes(table, word) >= 8 * (uint64_t)table->untimed_count) word = RK_TIMES_EACH;
    uint64_t at = rk_writer_take_heap(table, rk_times_bytes(table, word));
    if (word == RK_TIMES_EACH) {
        rk_put_bytes(rk_heap_at(table, at), writer->times, 8 * (size_t)table->untimed_count);
    } else {
        rk_put_bytes(rk_heap_at(table, at), listed, 8 * count);
        rk_put_bytes(rk_heap_at(table, at + 8 * count), which, table->untimed_count);
    }
    writer->image[table->times_word] = at >> 3 << 24 | word;
}

void rk_writer_gather_times(rk_table *table)
{
    int64_t time_ms;
    int is_any_without;
    if (!is_one_time(table, &time_ms, &is_any_without) || (is_any_without && is_any_clear(table))) {
        put_times(table);
        return;
    }
    if (time_ms == RK_NO_TIME) time_ms = 0; /* nobody's */
    table->writer->image[table->times_word] = rk_times_one(time_ms, is_any_without ? RK_TIMES_ONE : RK_TIMES_BOTH);
}
