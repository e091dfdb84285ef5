/* Instructions of rk_table_read, per call: 1,000 ids out of 20,000; and of an upsert of 1,000 rows. */
#define _GNU_SOURCE

#include <math.h>
#include <unistd.h>

#include "counts.h"

#include "../rk_table.h"

enum { ROWS = 20000, IDS = 1000, MOST_CELLS = 50, ID_BYTES = 40, VALUE_BYTES = 24 };

static char names[ROWS][ID_BYTES];
static rk_id ids[ROWS], asked[IDS];
static rk_table *table;
static rk_table_reading *reading;
static rk_arena *arena;
static rk_column columns[MOST_CELLS];
static uint8_t found[IDS];
static int64_t positions[ROWS], lengths[ROWS], now_ms = 1000;
static float values[ROWS];
static uint8_t texts[ROWS * VALUE_BYTES];
static rk_table_write writes[MOST_CELLS];
static rk_table_batch batch;
static int cell_count;

/* Files without a name are enough: unlinked as soon as they are open; no index is replaced while it is counted. */
static void make_table(int32_t kind, int count, const char *id_format)
{
    rk_cell cells[MOST_CELLS];
    rk_table_column wanted[MOST_CELLS];
    rk_table_room room;
    char folder[] = "/tmp/rankd-count-XXXXXX", path[64], name[96];
    cell_count = count;
    for (int c = 0; c < count; c++) {
        cells[c] = (rk_cell){kind, 0, 0, 0};
        wanted[c] = (rk_table_column){.cell = (uint32_t)c, .divisor = 1, .missing = NAN};
        writes[c] = (rk_table_write){.cell = (uint32_t)c, .rows = positions, .count = ROWS, .value_count = ROWS};
        writes[c].values = kind == RK_CELL_TEXT ? (const void *)texts : values;
        writes[c].lengths = kind == RK_CELL_TEXT ? lengths : NULL;
        if (kind == RK_CELL_TEXT) writes[c].value_count = sizeof texts;
    }
    for (int i = 0; i < ROWS; i++) {
        ids[i] = (rk_id){(uint8_t *)names[i], (size_t)snprintf(names[i], ID_BYTES, id_format, i)};
        positions[i] = i;
        lengths[i] = VALUE_BYTES;
        values[i] = (float)i;
    }
    for (int i = 0; i < IDS; i++) asked[i] = ids[count_random() % ROWS];
    rk_table_options options = {.cells = cells, .cell_count = (uint32_t)count, .max_rows = ROWS, .max_bytes = 1 << 28};
    if (!mkdtemp(folder)) abort();
    snprintf(path, sizeof path, "%s/t", folder);
    batch = (rk_table_batch){ids, ROWS, writes, (size_t)count, &now_ms, 1, NULL, 0};
    if (rk_table_create(path, &options, &table) || rk_table_hold(table, &batch, &room)) abort();
    rk_table_publish(table, &batch, &room, NULL);
    for (int i = 0; i < 8; i++) {
        static const char *const ends[] = {"rows", "heap", "index.1", "index.2", "index.3", "index.4", "index.5", "index.6"};
        snprintf(name, sizeof name, "%s.%s", path, ends[i]);
        unlink(name);
    }
    rmdir(folder);
    reading = rk_table_reading_new(table, wanted, (size_t)count);
    arena = rk_arena_new();
    if (!reading || !arena) abort();
}

static void prepare_20(void) { make_table(RK_CELL_F32, 20, "i%d"); }
static void prepare_50(void) { make_table(RK_CELL_F32, 50, "i%d"); }
static void prepare_long_ids(void) { make_table(RK_CELL_F32, 20, "an-id-that-is-too-long-for-its-row-%d"); }
static void prepare_texts(void) { make_table(RK_CELL_TEXT, 5, "i%d"); }

static void prepare_upsert(void)
{
    prepare_20();
    batch.n = IDS;
    for (int c = 0; c < cell_count; c++) writes[c].count = writes[c].value_count = IDS;
}

static void run_read(void)
{
    rk_arena_reset(arena);
    if (rk_table_read(reading, asked, IDS, now_ms, arena, columns, found)) abort();
}

static void run_upsert(void)
{
    rk_table_room room;
    if (rk_table_hold(table, &batch, &room)) abort();
    rk_table_publish(table, &batch, &room, NULL);
}

static const count_case cases[] = {
    {"read_20_floats", prepare_20, run_read, 3},
    {"read_50_floats", prepare_50, run_read, 3},
    {"read_20_floats_long_ids", prepare_long_ids, run_read, 3},
    {"read_5_texts", prepare_texts, run_read, 3},
    {"upsert_20_floats", prepare_upsert, run_upsert, 3},
};

COUNT_MAIN(cases)
