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
    rk_column columns[ROW_CELLS];
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

int main(void)
{
    pthread_t threads[READERS];
    work works[READERS] = {{0}};
    const char *scale = getenv("RANKD_FUZZ_SCALE");
    rk_table_options options = row_options(1 << 26);
    table_folder(path);
    CHECK(rk_table_create(path, &options, &writer) == RK_TABLE_OK);
    CHECK(rk_table_open(path, &reader) == RK_TABLE_OK);
    for (int i = 0; i < READERS; i++) {
        works[i] = (work){.table = i ? reader : writer, .seed = (uint64_t)i};
        CHECK(pthread_create(&threads[i], NULL, check_rows, &works[i]) == 0);
    }
    write_rows((int)(4000 * (scale ? atof(scale) : 1)));
    atomic_store(&is_over, 1);
    for (int i = 0; i < READERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(works[i].rows > 0 && works[i].wrong == 0 && works[i].lost == 0 && works[i].old == 0);
    }
    rk_table_close(reader);
    rk_table_close(writer);
    table_remove(path);
    FINISH();
}
