/* One writer and readers at the same time: every row is one version, whole, and not older than what was published before
 * the call; rows, heap and index grow and are cleaned up meanwhile. For ThreadSanitizer, too. */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdatomic.h>

#include "minunit.h"
#include "table_rows.h"

enum { IDS = 3000, READERS = 3, BATCH = 40, PERMANENT = 4 /* one id in so many is never deleted */ };

static char path[64];
static rk_table *writer, *reader;
static _Atomic int64_t published[IDS]; /* the stamp of permanent ids, once it is out */
static atomic_int is_over;

typedef struct {
    const rk_table *table;
    uint64_t seed;
    long rows, wrong, lost, old;
} work;

static uint64_t next_random(uint64_t *state) { return row_mix(*state += UINT64_C(0x9e3779b97f4a7c15)); }

static void *check_rows(void *given)
{
    work *w = given;
    char bytes[BATCH][ROW_ID_BYTES];
    rk_id ids[BATCH];
    int numbers[BATCH];
    int64_t before[BATCH];
    uint8_t found[BATCH];
    rk_column columns[ROW_COLUMNS];
    rk_table_reading *reading = row_reading(w->table);
    rk_arena *arena = rk_arena_new();
    while (!atomic_load(&is_over)) {
        for (int i = 0; i < BATCH; i++) {
            numbers[i] = (int)(next_random(&w->seed) % IDS);
            ids[i] = row_id(numbers[i], bytes[i]);
            before[i] = atomic_load(&published[numbers[i]]);
        }
        rk_arena_reset(arena);
        if (rk_table_read(reading, ids, BATCH, 0, arena, columns, found)) w->wrong++;
        for (size_t i = 0; i < BATCH; i++) {
            int64_t stamp = found[i] ? row_check(columns, i, numbers[i]) : 0;
            w->rows += found[i];
            w->wrong += stamp < 0;
            w->lost += before[i] && !found[i];
            w->old += found[i] && stamp < before[i];
        }
    }
    rk_table_reading_free(reading);
    rk_arena_free(arena);
    return NULL;
}

/* Distinct ids below a bound that rises with the steps. */
static int choose(uint64_t *seed, int bound, int *ids)
{
    int count = 1 + (int)(next_random(seed) % BATCH), first = (int)(next_random(seed) % (uint64_t)bound);
    int step = 1 + (int)(next_random(seed) % 7), taken = 0;
    for (int i = 0; i < count && first + i * step < bound; i++) ids[taken++] = first + i * step;
    return taken;
}

static void write_rows(int steps)
{
    static row_batch batch;
    int ids[BATCH];
    uint64_t seed = 1;
    for (int64_t step = 1; step <= steps; step++) {
        int bound = 10 + (int)(step * (IDS - 10) / steps), count = choose(&seed, bound, ids);
        CHECK(row_upsert(writer, &batch, ids, count, step) == RK_TABLE_OK);
        for (int i = 0; i < count; i++) {
            if (ids[i] % PERMANENT == 0) atomic_store(&published[ids[i]], step);
        }
        for (int i = choose(&seed, bound, ids) - 1; i >= 0 && step % 3 == 0; i--) {
            rk_id id = row_id(ids[i], batch.ids[0]);
            if (ids[i] % PERMANENT) rk_table_delete(writer, &id, 1);
        }
    }
}

static void test_many_rows(double scale)
{
    pthread_t threads[READERS];
    work works[READERS] = {{0}};
    rk_table_options options = row_options(1 << 26);
    CHECK(rk_table_create(path, &options, &writer) == RK_TABLE_OK);
    CHECK(rk_table_open(path, &reader) == RK_TABLE_OK);
    for (int i = 0; i < READERS; i++) {
        works[i] = (work){.table = i ? reader : writer, .seed = (uint64_t)i};
        CHECK(pthread_create(&threads[i], NULL, check_rows, &works[i]) == 0);
    }
    write_rows((int)(4000 * scale));
    atomic_store(&is_over, 1);
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(works[i].rows > 0 && works[i].wrong == 0 && works[i].lost == 0 && works[i].old == 0);
    }
    rk_table_close(reader);
    rk_table_close(writer);
}

/* ---- Few rows, so large that a reader is often interrupted while it copies one. ---- */

enum { LARGE_IDS = 6, LARGE_WIDTH = 4096, LARGE_TEXT = 60000 };

static const rk_cell large_cells[] = {{RK_CELL_VECTOR, LARGE_WIDTH, 0, 0}, {RK_CELL_TEXT, 0, 0, 0}};
static char large_bytes[LARGE_IDS][ROW_ID_BYTES];
static rk_id large_ids[LARGE_IDS];

static void *check_large_rows(void *given)
{
    work *w = given;
    const rk_table_column wanted[] = {{.cell = 0, .divisor = 1}, {.cell = 1, .divisor = 1}};
    size_t count = 1 + w->seed % 2; /* the row alone, or what it refers to, too */
    rk_table_reading *reading = rk_table_reading_new(w->table, wanted, count);
    rk_arena *arena = rk_arena_new();
    while (!atomic_load(&is_over)) {
        rk_column columns[2];
        uint8_t found[LARGE_IDS];
        int64_t written_ms[LARGE_IDS];
        rk_arena_reset(arena);
        w->wrong += rk_table_read_rows(reading, large_ids, LARGE_IDS, 0, arena, columns, found, written_ms, NULL) != 0;
        for (size_t i = 0; i < LARGE_IDS; i++) {
            const float *vector = (const float *)columns[0].data + i * LARGE_WIDTH;
            const uint8_t *text = count == 2 ? (const uint8_t *)columns[1].data + columns[1].offsets[i] : NULL;
            int wrong = found[i] && text && columns[1].lengths[i] != LARGE_TEXT;
            for (size_t k = 0; found[i] && k < LARGE_WIDTH; k++) wrong |= vector[k] != (float)written_ms[i];
            for (size_t k = 0; found[i] && text && !wrong && k < LARGE_TEXT; k++) wrong |= text[k] != (uint8_t)written_ms[i];
            w->rows += found[i];
            w->wrong += wrong;
        }
    }
    rk_table_reading_free(reading);
    rk_arena_free(arena);
    return NULL;
}

static void write_large_rows(int steps)
{
    static float vector[LARGE_WIDTH];
    static uint8_t text[LARGE_TEXT];
    const int64_t row = 0, length = LARGE_TEXT;
    uint64_t seed = 9;
    for (int64_t step = 1; step <= steps; step++) {
        rk_table_room room;
        for (int k = 0; k < LARGE_WIDTH; k++) vector[k] = (float)step;
        memset(text, (uint8_t)step, sizeof text);
        const rk_table_write writes[] = {
            {.cell = 0, .rows = &row, .count = 1, .values = vector, .value_count = LARGE_WIDTH},
            {.cell = 1, .rows = &row, .count = 1, .values = text, .value_count = LARGE_TEXT, .lengths = &length},
        };
        const rk_table_batch batch = {&large_ids[next_random(&seed) % LARGE_IDS], 1, writes, 2, &step, 1, NULL, 0};
        int status = rk_table_hold(writer, &batch, &room);
        CHECK(status == RK_TABLE_OK);
        if (!status) rk_table_publish(writer, &batch, &room, NULL);
    }
}

static void test_large_rows(double scale)
{
    pthread_t threads[READERS];
    work works[READERS] = {{0}};
    const rk_table_options options = {.cells = large_cells, .cell_count = 2, .max_rows = 100, .max_bytes = 1 << 26};
    for (int i = 0; i < LARGE_IDS; i++) large_ids[i] = row_id(i, large_bytes[i]);
    atomic_store(&is_over, 0);
    CHECK(rk_table_create(path, &options, &writer) == RK_TABLE_OK);
    for (int i = 0; i < READERS; i++) {
        works[i] = (work){.table = writer, .seed = (uint64_t)i};
        CHECK(pthread_create(&threads[i], NULL, check_large_rows, &works[i]) == 0);
    }
    write_large_rows((int)(2000 * scale));
    atomic_store(&is_over, 1);
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(works[i].rows > 0 && works[i].wrong == 0);
    }
    CHECK(rk_table_used_bytes(writer) < 20 << 20);
    rk_table_close(writer);
}

int main(void)
{
    const char *scale = getenv("RANKD_FUZZ_SCALE");
    table_folder(path);
    test_many_rows(scale ? atof(scale) : 1);
    test_large_rows(scale ? atof(scale) : 1);
    table_remove(path);
    FINISH();
}
