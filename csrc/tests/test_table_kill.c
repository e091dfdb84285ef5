/* A writer that is killed at random points, again and again: what it published stays, what it was about to publish is
 * there whole or not at all, the next writer goes on from there; readers of other processes look on all the time. */
#define _GNU_SOURCE

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "minunit.h"
#include "table_rows.h"

enum { IDS = 2000, READERS = 2, BATCH = 40, KILLS = 40, CHECKED = 64 };

/* By id: the stamp that was published last, and the one that may be on its way; 0: deleted. What all processes see. */
typedef struct {
    _Atomic int64_t done[IDS], next[IDS];
    _Atomic int64_t stamp; /* of the last batch */
    atomic_int bound, is_over;
} progress;

static char path[64];
static progress *shared;

static uint64_t next_random(uint64_t *state) { return row_mix(*state += UINT64_C(0x9e3779b97f4a7c15)); }

static rk_table_status attach(rk_table **table)
{
    rk_table_options options = row_options(1 << 26);
    return rk_table_attach(path, &options, table);
}

/* ---- The writer's process. ---- */

static void announce(const int *ids, int count, int64_t stamp)
{
    for (int i = 0; i < count; i++) atomic_store(&shared->next[ids[i]], stamp);
}

static void confirm(const int *ids, int count, int64_t stamp)
{
    for (int i = 0; i < count; i++) atomic_store(&shared->done[ids[i]], stamp);
}

static void write_for_ever(uint64_t seed)
{
    static row_batch batch;
    rk_table *table;
    int ids[BATCH];
    if (attach(&table)) _exit(3);
    for (;;) {
        int bound = atomic_load(&shared->bound), count = 1 + (int)(next_random(&seed) % BATCH), taken = 0;
        int first = (int)(next_random(&seed) % (uint64_t)bound), step = 1 + (int)(next_random(&seed) % 9);
        int64_t stamp = atomic_fetch_add(&shared->stamp, 1) + 1;
        for (int i = 0; i < count && first + i * step < bound; i++) ids[taken++] = first + i * step;
        if (next_random(&seed) % 8 == 0) {
            rk_id id = row_id(ids[0], batch.ids[0]);
            announce(ids, 1, 0);
            rk_table_delete(table, &id, 1);
            confirm(ids, 1, 0);
        } else {
            announce(ids, taken, stamp);
            if (row_upsert(table, &batch, ids, taken, stamp)) _exit(4);
            confirm(ids, taken, stamp);
        }
        bound += (int)(next_random(&seed) % 3);
        atomic_store(&shared->bound, bound < IDS ? bound : IDS);
    }
}

/* ---- Readers. ---- */

/* The rows of `count` ids from `first` on: how many are wrong. While the writer lives, an id may have gone on since. */
static int check(const rk_table_reading *reading, int first, int count, int is_quiet)
{
    static char bytes[CHECKED][ROW_ID_BYTES];
    rk_id ids[CHECKED];
    int64_t done[CHECKED], next[CHECKED];
    uint8_t found[CHECKED];
    rk_column columns[ROW_COLUMNS];
    int wrong = 0;
    rk_arena *arena = rk_arena_new();
    for (int i = 0; i < count; i++) {
        ids[i] = row_id(first + i, bytes[i]);
        done[i] = atomic_load(&shared->done[first + i]);
        next[i] = atomic_load(&shared->next[first + i]);
    }
    wrong += rk_table_read(reading, ids, (size_t)count, 0, arena, columns, found) != 0;
    for (int i = 0; i < count; i++) {
        int64_t stamp = found[i] ? row_check(columns, (size_t)i, first + i) : 0;
        wrong += stamp < 0;
        if (is_quiet) wrong += stamp != done[i] && stamp != next[i];
        else if (found[i]) wrong += stamp < done[i];
    }
    rk_arena_free(arena);
    return wrong;
}

static void read_until_over(uint64_t seed)
{
    rk_table *table;
    if (rk_table_open(path, &table)) _exit(5);
    rk_table_reading *reading = row_reading(table);
    while (!atomic_load(&shared->is_over)) {
        if (check(reading, (int)(next_random(&seed) % (IDS - CHECKED)), CHECKED, 0)) _exit(6);
    }
    rk_table_reading_free(reading);
    rk_table_close(table);
    _exit(0);
}

/* ---- The test. ---- */

static pid_t start(void (*run)(uint64_t), uint64_t seed)
{
    pid_t child = fork();
    if (!child) {
        run(seed);
        _exit(7);
    }
    return child;
}

/* What the killed writer left: every row as it was published, or as it was on its way; then that is what is known. */
static void check_all(void)
{
    rk_table *table;
    uint64_t live = 0;
    CHECK(attach(&table) == RK_TABLE_OK);
    if (!table) return;
    rk_table_reading *reading = row_reading(table);
    int wrong = 0;
    for (int first = 0; first < IDS; first += CHECKED) {
        wrong += check(reading, first, IDS - first < CHECKED ? IDS - first : CHECKED, 1);
    }
    CHECK(wrong == 0);
    for (int i = 0; i < IDS; i++) {
        char bytes[ROW_ID_BYTES];
        rk_id id = row_id(i, bytes);
        rk_column columns[ROW_COLUMNS];
        uint8_t found;
        rk_arena *arena = rk_arena_new();
        CHECK(rk_table_read(reading, &id, 1, 0, arena, columns, &found) == 0);
        int64_t stamp = found ? ((const int64_t *)columns[2].data)[0] : 0;
        atomic_store(&shared->done[i], stamp);
        atomic_store(&shared->next[i], stamp);
        live += found;
        rk_arena_free(arena);
    }
    CHECK(rk_table_count(table) == live);
    rk_table_reading_free(reading);
    rk_table_close(table);
}

static void kill_again_and_again(int kills)
{
    uint64_t seed = 7;
    for (int k = 0; k < kills; k++) {
        int status;
        pid_t child = start(write_for_ever, (uint64_t)k * 1000);
        usleep((useconds_t)(next_random(&seed) % (k % 4 ? 20000 : 3000)));
        kill(child, SIGKILL);
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        check_all();
    }
}

int main(void)
{
    rk_table_options options = row_options(1 << 26);
    rk_table *table;
    pid_t readers[READERS];
    const char *scale = getenv("RANKD_FUZZ_SCALE");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    atomic_store(&shared->bound, 30);
    table_folder(path);
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    rk_table_close(table);
    for (int i = 0; i < READERS; i++) readers[i] = start(read_until_over, (uint64_t)i);
    kill_again_and_again((int)(KILLS * (scale ? atof(scale) : 1)));
    atomic_store(&shared->is_over, 1);
    for (int i = 0; i < READERS; i++) {
        int status;
        CHECK(waitpid(readers[i], &status, 0) == readers[i] && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    fprintf(stderr, "%d ids, %lld batches\n", atomic_load(&shared->bound), (long long)atomic_load(&shared->stamp));
    table_remove(path);
    FINISH();
}
