/* rk_table: when values were set, which of them are late, and what reading makes of times. */
#define _GNU_SOURCE

#include "minunit.h"
#include "table_rows.h"

enum { MANY = 600 };

static char path[64];
static int64_t at_once[MANY]; /* positions */

/* One row, "a", with values of `count` cells from `first` on, all of one number; how many were late, or -1. */
static int64_t put(rk_table *table, uint32_t first, uint32_t count, float number, const int64_t *times_ms, int64_t now_ms,
                   int is_absolute)
{
    static rk_table_write writes[MANY];
    static float values[MANY];
    rk_table_room room;
    rk_id id = {(const uint8_t *)"a", 1};
    for (uint32_t c = 0; c < count; c++) {
        values[c] = number;
        writes[c] = (rk_table_write){.cell = first + c, .rows = at_once, .count = 1, .values = values + c, .value_count = 1,
                                     .times_ms = times_ms ? times_ms + c : NULL};
    }
    const rk_table_batch batch = {&id, 1, writes, count, &now_ms, 1, NULL, is_absolute};
    if (rk_table_hold(table, &batch, &room)) return -1;
    return (int64_t)rk_table_publish(table, &batch, &room, NULL);
}

static int64_t clear(rk_table *table, uint32_t cell, int64_t time_ms)
{
    rk_table_room room;
    rk_id id = {(const uint8_t *)"a", 1};
    int64_t now_ms = 0;
    rk_table_write write = {.cell = cell, .clears = at_once, .clear_count = 1, .clear_times_ms = &time_ms};
    const rk_table_batch batch = {&id, 1, &write, 1, &now_ms, 1, NULL, 0};
    if (rk_table_hold(table, &batch, &room)) return -1;
    return (int64_t)rk_table_publish(table, &batch, &room, NULL);
}

/* What "a" has in a cell: its number, when it was set, when it was set or cleared. */
static int is_cell(const rk_table *table, uint32_t cell, float number, int64_t time_ms, int64_t changed_ms)
{
    const rk_table_column wanted[] = {{.cell = cell, .part = RK_PART_STORED},
                                      {.cell = cell, .part = RK_PART_TIME},
                                      {.cell = cell, .part = RK_PART_CHANGED}};
    rk_arena *arena = rk_arena_new();
    rk_table_reading *reading = rk_table_reading_new(table, wanted, 3);
    rk_id id = {(const uint8_t *)"a", 1};
    rk_column columns[3];
    uint8_t found;
    int is_it = !rk_table_read(reading, &id, 1, 0, arena, columns, &found) && found;
    if (is_it) {
        float there = *(const float *)columns[0].data;
        is_it = isnan(number) ? isnan(there) : there == number;
        is_it &= *(const int64_t *)columns[1].data == time_ms && *(const int64_t *)columns[2].data == changed_ms;
    }
    rk_table_reading_free(reading);
    rk_arena_free(arena);
    return is_it;
}

static rk_table_options options(uint32_t count)
{
    static rk_cell cells[MANY];
    for (uint32_t c = 0; c < count; c++) cells[c] = (rk_cell){RK_CELL_F32, 0, 0, 0};
    return (rk_table_options){.cells = cells, .cell_count = count, .max_rows = 10, .max_bytes = 1 << 24};
}

static void test_newer_wins(void)
{
    rk_table *table;
    rk_table_options wanted = options(4);
    CHECK(rk_table_create(path, &wanted, &table) == RK_TABLE_OK);
    CHECK(put(table, 0, 2, 1, NULL, 10, 0) == 0);
    CHECK(is_cell(table, 1, 1, 10, 10) && is_cell(table, 2, NAN, RK_NO_TIME, RK_NO_TIME));
    CHECK(put(table, 0, 3, 2, NULL, 9, 0) == 2); /* the third never was written */
    CHECK(is_cell(table, 0, 1, 10, 10) && is_cell(table, 2, 2, 9, 9));
    CHECK(put(table, 0, 1, 3, NULL, 10, 0) == 0 && is_cell(table, 0, 3, 10, 10)); /* of the same time */
    CHECK(clear(table, 1, 12) == 0 && is_cell(table, 1, NAN, RK_NO_TIME, 12));
    CHECK(put(table, 1, 1, 4, NULL, 11, 0) == 1 && is_cell(table, 1, NAN, RK_NO_TIME, 12)); /* does not come back */
    CHECK(clear(table, 3, 5) == 0 && is_cell(table, 3, NAN, RK_NO_TIME, 5));
    CHECK(clear(table, 0, RK_NO_TIME) == 1 && is_cell(table, 0, 3, 10, 10));
    rk_table_close(table);
    CHECK(rk_table_attach(path, &wanted, &table) == RK_TABLE_OK);
    CHECK(is_cell(table, 1, NAN, RK_NO_TIME, 12) && is_cell(table, 2, 2, 9, 9) && is_cell(table, 3, NAN, RK_NO_TIME, 5));
    CHECK(put(table, 0, 4, 7, NULL, 20, 0) == 0 && is_cell(table, 3, 7, 20, 20));
    CHECK(put(table, 0, 4, 8, NULL, 1, 1) == 0 && is_cell(table, 0, 8, 1, 1)); /* absolute */
    CHECK(put(table, 0, 1, 8, NULL, RK_TABLE_MOST_TIME, 0) == -1 && clear(table, 0, -RK_TABLE_MOST_TIME) == -1);
    rk_table_close(table);
}

/* Fewer than 256 times are listed, more are not; with one time they take no room. */
static void test_many_times(void)
{
    static int64_t times[MANY];
    rk_table *table;
    rk_table_options wanted = options(MANY);
    CHECK(rk_table_create(path, &wanted, &table) == RK_TABLE_OK);
    for (uint32_t kinds = 1; kinds <= MANY; kinds += kinds < 5 ? 1 : 125) {
        for (uint32_t c = 0; c < MANY; c++) times[c] = 1000 + c % kinds;
        CHECK(put(table, 0, MANY, (float)kinds, times, 0, 1) == 0);
        for (uint32_t c = 0; c < MANY; c += 7) CHECK(is_cell(table, c, (float)kinds, times[c], times[c]));
        CHECK(put(table, 0, MANY, 0, NULL, 999 + kinds, 0) == 0);
        for (uint32_t c = 0; c < MANY; c += 7) CHECK(is_cell(table, c, 0, 999 + kinds, 999 + kinds));
    }
    rk_table_close(table);
}

int main(void)
{
    table_folder(path);
    test_newer_wins();
    test_many_times();
    table_remove(path);
    FINISH();
}
