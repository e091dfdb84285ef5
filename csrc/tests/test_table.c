/* rk_table by one thread: what comes out is what went in, statuses, limits, a full disk, files that are no table. */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "minunit.h"
#include "table_rows.h"

static char path[64];
static row_batch batch;
static int first_ids[ROW_MOST];

static rk_table *created(uint64_t max_bytes)
{
    rk_table_options options = row_options(max_bytes);
    rk_table *table = NULL;
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    return table;
}

static char *file(const char *suffix)
{
    static char name[96];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return name;
}

/* How many of `count` ids from `first` on are found, each right and of this stamp; -1 if one is not. */
static int right_rows(const rk_table *table, int first, int count, int64_t stamp)
{
    static char bytes[ROW_MOST][ROW_ID_BYTES];
    rk_id ids[ROW_MOST];
    uint8_t found[ROW_MOST];
    rk_column columns[ROW_COLUMNS];
    int64_t written_ms[ROW_MOST], keys[ROW_MOST];
    rk_arena *arena = rk_arena_new();
    rk_table_reading *reading = row_reading(table);
    int right = 0;
    for (int i = 0; i < count; i++) ids[i] = row_id(first + i, bytes[i]);
    if (rk_table_read_rows(reading, ids, (size_t)count, 0, arena, columns, found, written_ms, keys)) right = -1;
    for (int i = 0; i < count && right >= 0; i++) {
        if (!found[i]) {
            right = written_ms[i] || keys[i] != RK_TABLE_NO_KEY ? -1 : right;
        } else {
            int is_right = row_check(columns, (size_t)i, first + i) == stamp && written_ms[i] == stamp && keys[i] == stamp;
            right = is_right ? right + 1 : -1;
        }
    }
    rk_table_reading_free(reading);
    rk_arena_free(arena);
    return right;
}

static void test_write_read_attach(void)
{
    rk_table *table = created(1 << 26), *reader, *second;
    rk_table_options options = row_options(1 << 26);
    CHECK(rk_table_open(path, &reader) == RK_TABLE_OK);
    for (int64_t stamp = 1; stamp < 40; stamp++) CHECK(row_upsert(table, &batch, first_ids, 60, stamp) == RK_TABLE_OK);
    CHECK(right_rows(reader, 0, 64, 39) == 60 && right_rows(table, 0, 64, 39) == 60);
    CHECK(rk_table_attach(path, &options, &second) == RK_TABLE_IN_USE && second == NULL);
    CHECK(rk_table_create(path, &options, &second) == RK_TABLE_IN_USE);
    CHECK(rk_table_delete(table, batch.views, 20) == 20 && rk_table_delete(table, batch.views, 20) == 0);
    CHECK(right_rows(reader, 0, 64, 39) == 40 && rk_table_count(reader) == 40);
    rk_table_set_applied(table, 77);
    rk_table_retire(table);
    rk_table_close(table);
    CHECK(rk_table_attach(path, &options, &table) == RK_TABLE_OK);
    CHECK(right_rows(table, 0, 64, 39) == 40 && rk_table_count(table) == 40);
    CHECK(rk_table_applied(reader) == 77 && rk_table_is_retired(reader));
    CHECK(row_upsert(table, &batch, first_ids, 64, 40) == RK_TABLE_OK && right_rows(reader, 0, 64, 40) == 64);
    CHECK(rk_table_used_bytes(reader) == rk_table_used_bytes(table));
    CHECK(rk_table_flush(table) == RK_TABLE_OK);
    rk_table_close(reader);
    rk_table_close(table);
}

/* A cell that is not named keeps its value; a row that was deleted leaves nothing behind. */
static void test_partial(void)
{
    rk_table *table = created(1 << 24);
    rk_table_room room;
    const int64_t row = 0, time = 2;
    const int32_t code = 17;
    rk_column columns[ROW_COLUMNS];
    uint8_t found;
    CHECK(row_upsert(table, &batch, first_ids, 1, 1) == RK_TABLE_OK);
    rk_table_write write = {.cell = 3, .rows = &row, .count = 1, .values = &code, .value_count = 1};
    rk_table_batch partial = {batch.views, 1, &write, 1, &time, 1, NULL, 0};
    for (int is_new = 0; is_new < 2; is_new++) {
        rk_arena *arena = rk_arena_new();
        rk_table_reading *reading = row_reading(table);
        int64_t written_ms, key;
        CHECK(rk_table_hold(table, &partial, &room) == RK_TABLE_OK);
        rk_table_publish(table, &partial, &room, NULL);
        CHECK(rk_table_read_rows(reading, batch.views, 1, 0, arena, columns, &found, &written_ms, &key) == 0 && found);
        CHECK(*(const int32_t *)columns[3].data == 17 && written_ms == 2 && key == (is_new ? -1 : 1));
        CHECK(*(const int64_t *)columns[2].data == (is_new ? INT64_MIN : 1));
        CHECK(columns[6].lengths[0] == (is_new ? -1 : row_count(row_hash(0, 1))));
        CHECK((*(const float *)columns[4].data != *(const float *)columns[4].data) == is_new);
        CHECK(rk_table_delete(table, batch.views, 1) == 1);
        rk_table_reading_free(reading);
        rk_arena_free(arena);
    }
    rk_table_close(table);
}

/* Numbers, defaults and expiry. */
static void test_numbers(void)
{
    static const rk_cell cells[] = {{RK_CELL_F32, 0, 0, 0}, {RK_CELL_I64, 0, 1, 0}, {RK_CELL_BOOL, 0, 0, 0}, {RK_CELL_TEXT, 0, 1, 0}};
    rk_table_options options = {.cells = cells, .cell_count = 4, .max_rows = 10, .max_bytes = 1 << 20};
    const float floats[] = {1.5f, NAN};
    const int64_t rows[] = {0, 1}, numbers[] = {3000, 5000}, times[] = {100, 200}, lengths[] = {2, 0}, now = 300;
    const int8_t flags[] = {1, 0};
    const rk_table_write writes[] = {
        {.cell = 0, .rows = rows, .count = 2, .values = floats, .value_count = 2},
        {.cell = 1, .rows = rows, .count = 2, .values = numbers, .value_count = 2, .times_ms = times},
        {.cell = 2, .rows = rows, .count = 1, .values = flags, .value_count = 1, .clears = rows + 1, .clear_count = 1},
        {.cell = 3, .rows = rows, .count = 2, .values = "ab", .value_count = 2, .lengths = lengths, .times_ms = times},
    };
    rk_id ids[3] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}, {(const uint8_t *)"", 0}};
    const rk_table_batch two = {ids, 2, writes, 4, &now, 1, NULL, 0};
    const rk_table_column wanted[] = {{.cell = 0, .divisor = 1, .missing = 7},
                                      {.cell = 1, .divisor = 1000, .missing = NAN, .ttl_ms = 150},
                                      {.cell = 2, .divisor = 1, .missing = NAN},
                                      {.cell = 3, .ttl_ms = 150, .part = RK_PART_STORED},
                                      {.cell = 1, .part = RK_PART_TIME},
                                      {.cell = 0, .part = RK_PART_TIME},
                                      {.cell = 1, .part = RK_PART_STORED}};
    rk_table *table;
    rk_table_room room;
    rk_column columns[7];
    uint8_t found[3];
    rk_arena *arena = rk_arena_new();
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    CHECK(rk_table_hold(table, &two, &room) == RK_TABLE_OK);
    rk_table_publish(table, &two, &room, NULL);
    rk_table_reading *reading = rk_table_reading_new(table, wanted, 7);
    CHECK(rk_table_read(reading, ids, 3, 250, arena, columns, found) == 0 && found[0] && found[1] && !found[2]);
    const double *floats_out = columns[0].data, *numbers_out = columns[1].data, *flags_out = columns[2].data;
    CHECK(floats_out[0] == 1.5 && floats_out[1] == 7 && floats_out[2] == 7);
    CHECK(isnan(numbers_out[0]) && numbers_out[1] == 5 && isnan(numbers_out[2])); /* the first has expired: 250 - 100 */
    CHECK(flags_out[0] == 1 && isnan(flags_out[1]) && isnan(flags_out[2]));
    CHECK(columns[3].lengths[0] == -1 && columns[3].lengths[1] == 0 && columns[3].lengths[2] == -1);
    const int64_t *times_out = columns[4].data, *row_times = columns[5].data, *stored = columns[6].data;
    CHECK(times_out[0] == 100 && times_out[1] == 200 && times_out[2] == INT64_MIN);
    CHECK(row_times[0] == 300 && row_times[1] == INT64_MIN && stored[0] == 3000 && stored[2] == INT64_MIN);
    CHECK(rk_table_reading_new(table, &(rk_table_column){.cell = 4}, 1) == NULL);
    rk_table_reading_free(reading);
    rk_arena_free(arena);
    rk_table_close(table);
}

static void test_bad_arguments(void)
{
    rk_table *table = created(1 << 24);
    const int64_t twice[] = {0, 0}, one = 0, negative = -1, two = 2;
    const int32_t codes[2] = {1, 2};
    rk_id id = {(const uint8_t *)"x", 1}, empty = {(const uint8_t *)"", 0};
    rk_table_room room;
    const rk_table_write writes[] = {
        {.cell = ROW_CELLS},
        {.cell = 3, .rows = twice, .count = 2, .values = codes, .value_count = 2},
        {.cell = 3, .rows = &negative, .count = 1, .values = codes, .value_count = 1},
        {.cell = 3, .rows = &two, .count = 1, .values = codes, .value_count = 1},
        {.cell = 3, .rows = &one, .count = 1, .values = codes, .value_count = 2},
        {.cell = 3, .rows = &one, .count = 1, .values = codes, .value_count = 1, .clears = &one, .clear_count = 1},
        {.cell = 6, .rows = &one, .count = 1, .values = codes, .value_count = 1, .lengths = &two},
        {.cell = 6, .rows = &one, .count = 1, .values = codes, .value_count = 2, .lengths = &negative},
    };
    for (size_t w = 0; w < sizeof writes / sizeof *writes; w++) {
        const rk_table_batch bad = {&id, 1, &writes[w], 1, &one, 1, NULL, 0};
        CHECK(rk_table_hold(table, &bad, &room) == RK_TABLE_BAD_ARGUMENT);
    }
    CHECK(rk_table_hold(table, &(rk_table_batch){&empty, 1, NULL, 0, &one, 1, NULL, 0}, &room) == RK_TABLE_BAD_ARGUMENT);
    CHECK(rk_table_hold(table, &(rk_table_batch){&id, 1, NULL, 0, &one, 1, &(int64_t){INT64_C(1) << 40}, 0}, &room) ==
          RK_TABLE_BAD_ARGUMENT);
    CHECK(rk_table_intern(table, &id, 1, &(int32_t){0}) == RK_TABLE_BAD_ARGUMENT);
    CHECK(rk_table_count(table) == 0);
    rk_table_close(table);
}

static void test_long_ids(void)
{
    rk_table_options options = {.max_rows = 1000, .max_bytes = 1 << 26};
    rk_table *table;
    uint8_t *bytes = calloc(RK_TABLE_MAX_ID_BYTES + 1, 1);
    rk_id ids[50];
    int32_t codes[50], again[50];
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    for (size_t i = 0; i < 50; i++) ids[i] = (rk_id){bytes, i < 30 ? i : RK_TABLE_MAX_ID_BYTES - (50 - i - 1)};
    CHECK(rk_table_intern(table, ids, 50, codes) == RK_TABLE_OK && rk_table_count(table) == 50);
    CHECK(rk_table_codes(table, ids, 50, again) == 0 && !memcmp(codes, again, sizeof codes));
    for (int i = 0; i < 50; i++) {
        rk_id text = rk_table_text(table, codes[i]);
        CHECK(text.length == ids[i].length && !memcmp(text.bytes, bytes, text.length));
        CHECK(rk_table_code(table, ids[i]) == codes[i]);
    }
    CHECK(rk_table_text(table, 50).bytes == NULL && rk_table_text(table, -1).bytes == NULL);
    CHECK(rk_table_intern(table, &(rk_id){bytes, RK_TABLE_MAX_ID_BYTES + 1}, 1, codes) == RK_TABLE_BAD_ARGUMENT);
    CHECK(rk_table_code(table, (rk_id){bytes, RK_TABLE_MAX_ID_BYTES + 1}) == -1);
    rk_table_close(table);
    free(bytes);
}

/* Rows that are superseded and deleted all the time: the files stay about as large as what is in them. */
static void test_space_is_used_again(void)
{
    rk_table *table = created(1 << 25);
    rk_table_options options = row_options(1 << 25);
    int ids[ROW_MOST];
    for (int64_t stamp = 1; stamp < 4000; stamp++) {
        for (int i = 0; i < ROW_MOST; i++) ids[i] = (int)(stamp * 37 % 40) * ROW_MOST + i;
        CHECK(row_upsert(table, &batch, ids, ROW_MOST, stamp) == RK_TABLE_OK); /* some 30 MB of values in all */
        if (stamp % 5 == 0) rk_table_delete(table, batch.views, ROW_MOST);
        if (stamp % 1000 == 0) {
            rk_table_close(table);
            CHECK(rk_table_attach(path, &options, &table) == RK_TABLE_OK);
        }
    }
    CHECK(rk_table_used_bytes(table) < 16 << 20);
    CHECK(right_rows(table, (int)(3999 * 37 % 40) * ROW_MOST, ROW_MOST, 3999) == ROW_MOST);
    rk_table_close(table);
}

/* Until no more fits: a clear status, nothing changed, and what is there can still be updated and deleted. */
static void test_full(void)
{
    rk_table *table = created(8 << 20);
    int ids[ROW_MOST], next = 0, status = 0;
    while (!status && next < 1 << 20) {
        for (int i = 0; i < ROW_MOST; i++) ids[i] = next + i;
        status = row_upsert(table, &batch, ids, ROW_MOST, 1);
        next += status ? 0 : ROW_MOST;
    }
    CHECK(status == RK_TABLE_FULL_BYTES && rk_table_count(table) == (uint64_t)next && next > 1000);
    CHECK(rk_table_used_bytes(table) <= 8 << 20);
    CHECK(right_rows(table, 0, ROW_MOST, 1) == ROW_MOST && right_rows(table, next, ROW_MOST, 1) == 0);
    CHECK(rk_table_delete(table, batch.views, 1) == 0);
    rk_table_close(table);
    rk_table_options options = row_options(1 << 24);
    options.max_rows = 100;
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    CHECK(row_upsert(table, &batch, first_ids, ROW_MOST, 1) == RK_TABLE_OK);
    for (int i = 0; i < ROW_MOST; i++) ids[i] = ROW_MOST + i;
    CHECK(row_upsert(table, &batch, ids, ROW_MOST, 1) == RK_TABLE_FULL_ROWS && rk_table_count(table) == ROW_MOST);
    CHECK(row_upsert(table, &batch, ids, 36, 1) == RK_TABLE_OK && rk_table_count(table) == 100);
    CHECK(row_upsert(table, &batch, first_ids, ROW_MOST, 2) == RK_TABLE_OK && right_rows(table, 0, ROW_MOST, 2) == ROW_MOST);
    rk_table_close(table);
}

/* Room for several batches at once, published in any order, or dropped. */
static void test_holding(void)
{
    static row_batch batches[4];
    rk_table_options options = row_options(1 << 24);
    rk_table *table;
    rk_table_room rooms[4];
    const int64_t stamp = 3;
    int ids[ROW_MOST];
    options.max_rows = 3 * ROW_MOST;
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_OK);
    for (int b = 0; b < 4; b++) {
        for (int i = 0; i < ROW_MOST; i++) ids[i] = b * ROW_MOST + i;
        row_batch_make(&batches[b], ids, ROW_MOST, &stamp);
        CHECK(rk_table_hold(table, &batches[b].batch, &rooms[b]) == (b < 3 ? RK_TABLE_OK : RK_TABLE_FULL_ROWS));
    }
    rk_table_drop(table, &rooms[0]);
    CHECK(rk_table_hold(table, &batches[3].batch, &rooms[3]) == RK_TABLE_OK);
    for (int b = 3; b > 0; b--) rk_table_publish(table, &batches[b].batch, &rooms[b], NULL);
    CHECK(rk_table_count(table) == 3 * ROW_MOST && right_rows(table, 0, ROW_MOST, 3) == 0);
    for (int b = 1; b < 4; b++) CHECK(right_rows(table, b * ROW_MOST, ROW_MOST, 3) == ROW_MOST);
    rk_table_close(table);
}

/* No file may grow beyond a limit, as on a full disk. */
static void test_full_disk(void)
{
    rk_table *table = created(1 << 26);
    struct rlimit before, lower;
    int ids[ROW_MOST], status = 0, next = 0;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    lower = (struct rlimit){1 << 19, before.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &lower) == 0);
    while (!status && next < 1 << 20) {
        for (int i = 0; i < ROW_MOST; i++) ids[i] = next + i;
        status = row_upsert(table, &batch, ids, ROW_MOST, 1);
        next += status ? 0 : ROW_MOST;
    }
    CHECK(status == RK_TABLE_NO_SPACE && rk_table_count(table) == (uint64_t)next);
    for (int first = 0; first < next; first += ROW_MOST) CHECK(right_rows(table, first, ROW_MOST, 1) == ROW_MOST);
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(row_upsert(table, &batch, ids, ROW_MOST, 1) == RK_TABLE_OK);
    rk_table_close(table);
}

static rk_table_status opened(int is_writer)
{
    rk_table_options options = row_options(1 << 24);
    rk_table *table = NULL;
    rk_table_status status = is_writer ? rk_table_attach(path, &options, &table) : rk_table_open(path, &table);
    rk_table_close(table);
    return status;
}

/* Cuts a file for a moment. */
static rk_table_status opened_cut(const char *suffix, off_t bytes, int is_writer)
{
    struct stat status;
    rk_table_status result;
    static char kept[1 << 20];
    int fd = open(file(suffix), O_RDWR);
    if (fd < 0 || fstat(fd, &status) || pread(fd, kept, sizeof kept, 0) != status.st_size) return RK_TABLE_IO;
    if (ftruncate(fd, bytes)) return RK_TABLE_IO;
    result = opened(is_writer);
    if (pwrite(fd, kept, (size_t)status.st_size, 0) != status.st_size) result = RK_TABLE_IO;
    close(fd);
    return result;
}

static void test_no_table(void)
{
    rk_table *table = created(1 << 24);
    rk_table_options options = row_options(1 << 24);
    rk_cell cells[ROW_CELLS];
    const uint8_t fingerprint[RK_TABLE_FINGERPRINT_BYTES] = {1};
    CHECK(row_upsert(table, &batch, first_ids, ROW_MOST, 1) == RK_TABLE_OK);
    rk_table_close(table);
    const char *index = access(file(".index.2"), F_OK) ? ".index.1" : ".index.2";
    for (int is_writer = 0; is_writer < 2; is_writer++) {
        CHECK(opened(is_writer) == RK_TABLE_OK);
        CHECK(opened_cut(".rows", 0, is_writer) == RK_TABLE_NOT_A_TABLE);
        CHECK(opened_cut(".rows", 100, is_writer) == RK_TABLE_NOT_A_TABLE);
        CHECK(opened_cut(".heap", 0, is_writer) == RK_TABLE_DAMAGED);
        CHECK(opened_cut(index, 0, is_writer) == RK_TABLE_DAMAGED);
        CHECK(opened_cut(index, 100, is_writer) == RK_TABLE_DAMAGED);
    }
    CHECK(opened_cut(".rows", 4096 + 300, 1) == RK_TABLE_DAMAGED); /* rows that the header counts are not there */
    memcpy(cells, row_cells, sizeof cells);
    cells[0].timed = 1;
    options.cells = cells;
    CHECK(rk_table_attach(path, &options, &table) == RK_TABLE_OTHER);
    options = row_options(1 << 25);
    CHECK(rk_table_attach(path, &options, &table) == RK_TABLE_OTHER);
    options = row_options(1 << 24);
    options.fingerprint = fingerprint;
    CHECK(rk_table_attach(path, &options, &table) == RK_TABLE_OTHER);
    CHECK(opened(1) == RK_TABLE_OK);
    unlink(file(".rows"));
    CHECK(opened(0) == RK_TABLE_IO && errno == ENOENT);
    CHECK(opened(1) == RK_TABLE_IO && errno == ENOENT);
    options.max_bytes = 100;
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_FULL_BYTES && table == NULL);
    cells[0].kind = RK_CELL_KINDS;
    options.cells = cells;
    CHECK(rk_table_create(path, &options, &table) == RK_TABLE_BAD_ARGUMENT);
    rk_table_close(NULL);
}

int main(void)
{
    table_folder(path);
    for (int i = 0; i < ROW_MOST; i++) first_ids[i] = i;
    test_write_read_attach();
    test_partial();
    test_numbers();
    test_bad_arguments();
    test_long_ids();
    test_space_is_used_again();
    test_full();
    test_holding();
    test_full_disk();
    test_no_table();
    table_remove(path);
    FINISH();
}
